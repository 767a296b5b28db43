"""The calls of Arrow Flight, handed to the source that owns the server."""

import hmac
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.flight as fl

from streamsketch.errors import StreamSketchError
from streamsketch_consumers.flight.settings import file_bytes

if TYPE_CHECKING:
    from streamsketch_consumers.flight import FlightSource

__all__ = ["FlightServer"]

log = logging.getLogger(__name__)


class FlightServer(fl.FlightServerBase):  # type: ignore[misc]
    """Flight's calls, handed to the source."""

    def __init__(self, source: "FlightSource", location: str, token: str | None) -> None:
        s = source.settings
        extra: dict[str, Any] = {}
        if s.tls_cert is not None and s.tls_key is not None:
            extra["tls_certificates"] = [(file_bytes(s.tls_cert), file_bytes(s.tls_key))]
        if s.tls_client_ca is not None:
            extra |= {"verify_client": True, "root_certificates": file_bytes(s.tls_client_ca)}
        if token is not None:
            extra["middleware"] = {"token": _TokenFactory(token)}
        self._source = source
        self._telling: set[threading.Thread] = set()
        super().__init__(location, **extra)

    def stop(self, seconds: float = 5.0) -> None:
        """Stop serving; calls that do not end by themselves lose their connection."""
        for thread in list(self._telling):
            thread.join(timeout=1.0)
        waiting = threading.Thread(target=self.shutdown, daemon=True)
        waiting.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            waiting.join(timeout=0.05)
            if not waiting.is_alive():
                return
            _cut_connections(self.port)
        log.warning("some Flight calls have not ended within %g s", seconds)

    def do_put(
        self,
        context: fl.ServerCallContext,
        descriptor: fl.FlightDescriptor,
        reader: fl.MetadataRecordBatchReader,
        writer: fl.FlightMetadataWriter,
    ) -> None:
        """Take batches, and acknowledge them as they become durable."""
        source = self._source
        name, connection = source.connect(descriptor, reader.schema)
        done = threading.Event()
        acks = threading.Thread(target=self._acknowledge, args=(name, writer, done), daemon=True)
        self._telling.add(acks)
        acks.start()
        try:
            last = 0
            for chunk in reader:
                last = source.accept(name, connection, chunk)
            source.wait_durable(name, last, context.is_cancelled)
        finally:
            done.set()
            source.wake()
            acks.join()
            self._telling.discard(acks)

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> list[fl.Result]:
        """Answer `open`."""
        if action.type != "open":
            raise fl.FlightServerError(f"action {action.type!r} is not known; use open")
        client = _json(action.body.to_pybytes(), "client")
        if not isinstance(client, str):
            raise fl.FlightServerError(f"client = {client!r:.200} must be a text")
        durable, accepted = self._source.enter(client)
        return [fl.Result(json.dumps({"durable": durable, "accepted": accepted}).encode())]

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        """The actions there are."""
        return [("open", "begin or resume a client's stream: answers its last durable number")]

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.RecordBatchStream:
        """Fresh samples."""
        most = self._source.settings.max_sample_rows
        rows = _json(ticket.ticket, "rows")
        if not isinstance(rows, int) or not 1 <= rows <= most:
            raise fl.FlightServerError(f"rows = {rows!r} must be a number from 1 to {most}")
        if self._source.samples is None:
            raise fl.FlightServerError(
                "this server has no samples; set samples to a store with checkpoints"
            )
        try:
            return fl.RecordBatchStream(self._source.samples(rows))
        except StreamSketchError as e:
            raise fl.FlightServerError(str(e)) from None

    def _acknowledge(
        self, name: str, writer: fl.FlightMetadataWriter, done: threading.Event
    ) -> None:
        try:
            for seq in self._source.acknowledgements(name, done):
                writer.write(str(seq).encode())
        except (pa.ArrowException, OSError):
            log.debug("client %r went away before it was told", name)


class _TokenFactory(fl.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses calls without the token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._expected = f"Bearer {token}".encode()

    def start_call(self, info: fl.CallInfo, headers: Mapping[str, list[str]]) -> None:
        """Check a call's header, in constant time."""
        shown = next((v for k, v in headers.items() if k.lower() == "authorization"), [""])
        if not hmac.compare_digest(shown[0].encode(), self._expected):
            raise fl.FlightUnauthenticatedError(
                "the token is missing or wrong; send authorization: Bearer TOKEN"
            )


def _cut_connections(port: int) -> None:
    """Shut down the TCP connections that were accepted at a port.

    Flight's shutdown waits for calls in progress without end, a call waits for its client without
    end, and pyarrow has no deadline for either: a silent client would keep this process alive.
    """
    for name in [p.name for p in Path("/dev/fd").iterdir()]:
        try:
            with socket.socket(fileno=os.dup(int(name))) as s:
                internet = s.family in (socket.AF_INET, socket.AF_INET6)
                if internet and s.getsockname()[1] == port:
                    s.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue  # gone, not a socket, or not connected


def _json(body: bytes, key: str) -> Any:
    try:
        return json.loads(body)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise fl.FlightServerError(
            f"the request must be a JSON object with the key {key!r}"
        ) from None
