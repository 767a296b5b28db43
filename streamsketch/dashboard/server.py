"""The server: uvicorn, with a time limit for requests that do not end and readers that do not read."""

import asyncio
from collections import OrderedDict
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["config"]

REQUEST_SECONDS = (
    10.0  # from the connection, or the answer before, to the whole of a request's head
)
READ_SECONDS = 60.0  # that a client takes nothing of its answer
# As many are accepted at once, before the oldest is cut off: fewer than there are descriptors, or
# asyncio writes a traceback for each, and stops once nobody reads them.
BACKLOG = 128
MOST_WAITING = 200  # connections whose request has not come; the oldest goes for a new one


class Patient(H11Protocol):
    """One connection. Those that keep others waiting are cut off."""

    waiting: ClassVar["OrderedDict[Patient, None]"] = OrderedDict()
    _limit: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected: its request must come."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Bytes came; a request is there when it is handled as a cycle."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not None and self.cycle is not before:
            self._arrived()

    def on_response_complete(self) -> None:
        """An answer was sent: the next request on the connection must come."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._arrived()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(READ_SECONDS, self._cut)

    def resume_writing(self) -> None:
        """The client has taken it."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        super().resume_writing()

    def _await_request(self) -> None:
        self._arrived()
        self._limit = self.loop.call_later(REQUEST_SECONDS, self._cut)
        self.waiting[self] = None
        if len(self.waiting) > MOST_WAITING:
            next(iter(self.waiting))._cut()

    def _arrived(self) -> None:
        self.waiting.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _cut(self) -> None:
        self._arrived()
        self.transport.abort()


def config(app: Any, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Config:
    """How `streamsketch serve` runs an application."""
    return uvicorn.Config(
        app, host=host, port=port, http=Patient, ws="none", lifespan="off", log_level="error",
        server_header=False, timeout_graceful_shutdown=1, timeout_keep_alive=8, backlog=BACKLOG,
    )  # fmt: skip
