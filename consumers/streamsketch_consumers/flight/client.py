"""The client's side of the Flight source: numbers, acknowledgements, coming back."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.flight as fl

from streamsketch.errors import ConfigError, SchemaError, SourceError

__all__ = ["FlightWriter"]

log = logging.getLogger(__name__)

# the server is away, not unwilling
_AWAY = (
    fl.FlightUnavailableError,
    fl.FlightCancelledError,
    fl.FlightTimedOutError,
    fl.FlightInternalError,
)

# a new connection does not wait out the back-off of an old one
_CHANNEL = [("grpc.use_local_subchannel_pool", 1)]
HANG_UP_SECONDS = 5.0


class FlightWriter:
    """Puts batches to a Flight source so that each row counts exactly once.

    Batches are kept until the server says that they are durable; when the connection breaks or the
    server restarts, the next `write`, `flush` or `close` sends them again under the same numbers.
    A writer that is restarted itself learns from `position` how many of its batches are durable.
    A writer belongs to one thread.

    Args:
        location: `grpc://host:port`, or `grpc+tls://host:port`.
        client: Name of this client, for ever: its numbers count on from run to run. No two
            writers at a time may have the same.
        stream: Name of the stream, as the server has it.
        token: What the server asks for.
        tls_root_certs: PEM of the authority to trust, instead of the system's.
        unacknowledged_bytes: `write` waits while more than this is sent and not durable.
        patience: Seconds without any progress after which to give up.

    Attributes:
        position: Number of the last durable batch: so many need not be sent again.

    Raises:
        SourceError: The server cannot be reached within `patience`, or refuses.
    """

    def __init__(
        self,
        location: str,
        client: str,
        stream: str = "rows",
        token: str | None = None,
        tls_root_certs: bytes | None = None,
        unacknowledged_bytes: int = 1 << 26,
        patience: float = 60.0,
    ) -> None:
        self._location, self._name, self._stream = location, client, stream
        self._tls = {} if tls_root_certs is None else {"tls_root_certs": tls_root_certs}
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ConfigError("the token must be printable ASCII text, as it travels in a header")
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        self._options = fl.FlightCallOptions(headers=headers)
        self._limit, self._patience = unacknowledged_bytes, patience
        self._changed = threading.Condition()
        self._unacknowledged: deque[tuple[int, pa.RecordBatch]] = deque()
        self._bytes = 0
        self._schema: pa.Schema | None = None
        self._connection: Any = None
        self._call: _Call | None = None
        self._progress = time.monotonic()
        self.position = 0
        self.position = self._last = self._first_position()

    def write(self, batch: pa.RecordBatch) -> int:
        """Send a batch and return its number; waits while too much is not durable yet.

        Raises:
            SchemaError: The columns differ from those of the first batch.
            SourceError: The server refuses, or is away for longer than `patience`.
        """
        if self._schema is None:
            self._schema = batch.schema
        if not batch.schema.equals(self._schema):
            raise SchemaError(
                f"the columns changed from ({_line(self._schema)}) to ({_line(batch.schema)}); "
                f"use another writer"
            )
        self._wait(lambda: not self._unacknowledged or self._bytes < self._limit)
        self._last += 1
        with self._changed:
            self._unacknowledged.append((self._last, batch))
            self._bytes += batch.nbytes
        self._send(self._last, batch)
        return self._last

    def write_all(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Send the batches that are not durable yet, and wait until they are.

        Args:
            batches: The same batches in every run, from the first one on.
        """
        first = self.position
        for number, batch in enumerate(batches, 1):
            if number > first:
                self.write(batch)
        self.flush()

    def flush(self) -> None:
        """Wait until all that was written is durable.

        Raises:
            SourceError: The server refuses, or nothing moves for longer than `patience`.
        """
        self._wait(lambda: not self._unacknowledged)

    def close(self) -> None:
        """Flush, and end the connection."""
        try:
            self.flush()
        finally:
            self._hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._hang_up()

    # --- connection

    def _first_position(self) -> int:
        """Shut out an earlier writer of this name, and wait until what it sent is durable."""
        while True:
            try:
                answer = self._open()
            except _AWAY as e:
                self._hang_up()
                self._pause(e)
                continue
            except pa.ArrowException as e:
                raise self._refused(e) from e
            if answer["durable"] == answer["accepted"]:
                return int(answer["durable"])
            self._pause(None)

    def _open(self) -> dict[str, int]:
        if self._connection is None:
            self._connection = fl.connect(self._location, generic_options=_CHANNEL, **self._tls)
        action = fl.Action("open", json.dumps({"client": self._name}).encode())
        (result,) = self._connection.do_action(action, self._options)
        answer: dict[str, int] = json.loads(result.body.to_pybytes())
        return answer

    def _connect(self) -> None:
        """(Re)connect, and send again all that is not durable."""
        while True:
            self._hang_up()
            try:
                self._acknowledged(self._open()["durable"])
                descriptor = fl.FlightDescriptor.for_path(self._stream, self._name)
                writer, reader = self._connection.do_put(descriptor, self._schema, self._options)
                self._call = _Call(writer, reader, self._acknowledged)
                for number, batch in list(self._unacknowledged):
                    self._call.write(number, batch)
                return
            except pa.ArrowException as e:
                error = self._hang_up() or e
                if not isinstance(error, _AWAY):
                    raise self._refused(error) from error
                self._pause(error)

    def _send(self, number: int, batch: pa.RecordBatch) -> None:
        if self._call is None:
            self._connect()  # which sends it
            return
        try:
            self._call.write(number, batch)
        except pa.ArrowException as e:
            self._recover(e)

    def _recover(self, error: Exception) -> None:
        """Come back to a server that went away; raise what one complained of."""
        error = self._hang_up() or error
        if not isinstance(error, _AWAY):
            raise self._refused(error) from error
        log.info("the Flight server is away (%s); coming back to it", type(error).__name__)
        self._connect()

    def _acknowledged(self, number: int) -> None:
        with self._changed:
            while self._unacknowledged and self._unacknowledged[0][0] <= number:
                self._bytes -= self._unacknowledged.popleft()[1].nbytes
                self._progress = time.monotonic()
            self.position = max(self.position, number)
            self._changed.notify_all()

    def _wait(self, until: Callable[[], bool]) -> None:
        self._progress = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: until() or self._fault() is not None, 0.5)
                if until():
                    return
                error = self._fault()
            if time.monotonic() - self._progress > self._patience:
                raise SourceError(
                    f"the Flight server {self._location} has acknowledged nothing for "
                    f"{self._patience:g} s "
                    f"({error or 'it is connected'}); look whether it saves, or raise patience"
                )
            if error is not None:
                self._recover(error)

    def _pause(self, error: Exception | None) -> None:
        if time.monotonic() - self._progress > self._patience:
            what = (
                f"cannot be reached ({error})" if error else "has not saved what was sent before"
            )
            raise SourceError(
                f"the Flight server {self._location} {what} for {self._patience:g} s; start it, "
                "correct the address, or raise patience"
            ) from error
        time.sleep(0.1)

    def _refused(self, error: Exception) -> SourceError:
        return SourceError(
            f"the Flight server {self._location} refuses client {self._name!r}: {_first(error)}"
        )

    def _fault(self) -> Exception | None:
        return None if self._call is None else self._call.error

    def _hang_up(self) -> Exception | None:
        """End the connection; what the server complained of, if it did."""
        call, self._call = self._call, None
        if call is not None:
            call.end()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return None if call is None else call.error


class _Call:
    """One DoPut: gRPC aborts the process when its ends are used by two threads at once."""

    def __init__(self, writer: Any, reader: Any, told: Callable[[int], None]) -> None:
        self._writer, self._reader, self._told = writer, reader, told
        self._lock = threading.Lock()
        self._ended = False
        self.error: Exception | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def write(self, number: int, batch: pa.RecordBatch) -> None:
        """Send a batch; raises what the transport raises."""
        with self._lock:
            if self._ended:
                raise self.error or fl.FlightUnavailableError("the connection has ended")
            self._writer.write_with_metadata(batch, str(number).encode())

    def end(self) -> None:
        """Say that nothing more comes, and wait for the server to agree."""
        with self._lock, suppress(pa.ArrowException):
            if not self._ended:
                self._ended = True
                self._writer.done_writing()
        self._listener.join(timeout=HANG_UP_SECONDS)

    def _listen(self) -> None:
        """Take acknowledgements until the server ends the call, then learn why."""
        error: Exception = fl.FlightUnavailableError("the server ended the connection")
        try:
            while (answer := self._reader.read()) is not None:
                self._told(int(answer.to_pybytes()))
        except Exception as e:
            error = e
        with self._lock:  # a write in progress fails by itself now
            self._ended = True
            try:
                self._writer.close()  # raises what the server complained of
            except Exception as e:
                error = e
            self.error = error
        self._told(0)


def _line(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}" for f in schema)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].split(". Detail:")[0]
