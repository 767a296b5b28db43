"""An Arrow IPC stream from standard input, a named pipe or a TCP socket.

Delivery: at most once. A pipe or socket cannot be read again: what was summed after the last save
is lost when this process dies, and never counted twice. With `replayed = true` the producer
promises to send the same rows from the beginning each time; then the rows that were counted before
are passed over, and each row counts exactly once. Where neither will do, use Flight.

Nobody is asked who they are: listen on a loopback address, or use Flight with a token.
"""

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamsketch.errors import DataError, SchemaError, SourceError, StreamSketchError
from streamsketch.ingest.streams import Chunk, Dead, Ownership, Position
from streamsketch.schema import Schema
from streamsketch.tables import takes
from streamsketch_consumers.arrow.crowd import Crowd
from streamsketch_consumers.arrow.reading import Reading
from streamsketch_consumers.arrow.settings import ArrowSettings
from streamsketch_consumers.arrow.wire import Stopped, Wire, connections, listen

__all__ = ["ArrowSettings", "ArrowSource", "make"]

log = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class _Rows:
    """A batch, and the number of rows of the stream before it."""

    batch: pa.RecordBatch
    before: int


@dataclass(frozen=True)
class _Fault:
    """What went wrong, and the number of rows of the stream before it."""

    error: Exception
    before: int


class ArrowSource:
    """A stream of Arrow record batches that cannot be read twice; position `{"rows": n}`.

    A thread reads ahead by at most two batches, so that a fast producer waits in its own write.

    Args:
        settings: Where from.
        schema: Declares the columns.

    Attributes:
        finished: The stream has ended (never with `keep_open`).
        address: Where it listens, as (host, port); None if it does not.
    """

    def __init__(self, settings: ArrowSettings, schema: Schema) -> None:
        self.settings = settings
        self.finished = False
        self.address: tuple[str, int] | None = None
        self._schema = schema
        self._rows = 0
        self._held: _Rows | None = None
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._crowd = Crowd(self._stop)
        self._ahead: queue.Queue[_Rows | _Fault | None] = queue.Queue(maxsize=2)
        self._thread: threading.Thread | None = None

    def open(self, owner: Ownership) -> None:
        """Take the part over and begin to read in a thread."""
        saved = owner.claim(self.settings.part)
        self._rows = int(saved["rows"]) if saved else 0
        if self._rows and not self.settings.replayed:
            log.warning(
                "%d rows were counted before; going on with what the producer sends now (set "
                "replayed "
                "= true if it sends them again)",
                self._rows,
            )
        server = None
        if self.settings.listen:
            server = listen(self.settings.path)
            self.address = server.getsockname()[:2]
            if not self.address[0].startswith(_LOOPBACK):
                log.warning(
                    "anyone who reaches %s:%d can feed rows; use Flight with a token",
                    *self.address,
                )
        self._thread = threading.Thread(target=self._read, args=(server,), daemon=True)
        self._thread.start()

    def poll(self, timeout: float) -> Sequence[Chunk]:
        """The next rows; nothing after about `timeout` seconds without any."""
        if self._held is None:
            try:
                item = self._ahead.get(timeout=timeout)
            except queue.Empty:
                return ()
            if item is None:
                self.finished = True
                return ()
            if isinstance(item, _Fault):
                return self._broken(item)
            self._held = item
        batch, before = self._held.batch, self._held.before
        head = batch.slice(0, self.settings.batch_rows)
        after = before + head.num_rows
        rest = batch.slice(head.num_rows)
        self._held = _Rows(rest, after) if rest.num_rows else None
        where = {"stream": self.settings.path, "row": before}
        return (Chunk(self.settings.part, {"rows": after}, head, where=where),)

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Nothing to do: nobody waits for it."""

    def lag(self) -> dict[str, int | None]:
        """Unknown: the producer does not say."""
        return {self.settings.part: 0 if self.finished else None}

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        self._crowd.close(5.0)

    # --- in the reading threads

    def _read(self, server: Any) -> None:
        """Read the connections: one after the other, or, where several may come, side by side."""
        s = self.settings
        try:
            found = connections(s.path, server, s.keep_open, s.connect_seconds, self._stop)
            with closing(found):
                for fd in found:
                    if server is not None and s.keep_open and not s.replayed:
                        wire = Wire(fd, threading.Event(), s.max_message_bytes)
                        self._crowd.serve(wire, self._read_apart)
                    else:
                        self._read_wire(Wire(fd, self._stop, s.max_message_bytes))
            self._put(None)
        except Stopped:
            pass
        except Exception as e:  # whatever ends the thread must reach the one who polls
            log.debug("the reading thread ends", exc_info=True)
            self._put(_Fault(e, self._rows))
        finally:
            if server is not None:
                server.close()

    def _read_apart(self, wire: Wire) -> None:
        """Read one of several connections."""
        try:
            self._read_wire(wire)
        except Stopped:
            pass
        except Exception as e:  # as in `_read`
            with suppress(Stopped):
                self._put(_Fault(e, self._rows))

    def _read_wire(self, wire: Wire) -> None:
        """Read one connection: stream after stream until the other side closes."""
        with wire:
            reading = Reading(self._add, self.settings, self._schema, wire)
            try:
                reading.to_end(self._rows if self.settings.replayed else 0)
            except (DataError, SchemaError) as e:
                reading.hand_over()
                self._put(_Fault(e, self._rows))

    def _add(self, batch: pa.RecordBatch) -> None:
        """Queue rows; from several connections one after the other."""
        with self._counting:
            self._put(_Rows(batch, self._rows))
            self._rows += batch.num_rows

    def _put(self, item: _Rows | _Fault | None) -> None:
        while True:
            try:
                return self._ahead.put(item, timeout=0.1)
            except queue.Full:
                if self._stop.is_set():
                    raise Stopped from None

    # --- errors

    def _broken(self, fault: _Fault) -> Sequence[Chunk]:
        error, path = fault.error, self.settings.path
        if not isinstance(error, DataError | SchemaError) or self.settings.on_error == "fail":
            if isinstance(error, StreamSketchError):
                raise error
            raise SourceError(f"the Arrow stream {path!r} failed: {error}") from error
        log.warning("%s", error)
        if self.settings.on_error == "skip":
            return ()
        where = {"stream": path, "row": fault.before}
        dead = Dead(raw=b"", reason=str(error), where=where)
        return (Chunk(self.settings.part, {"rows": fault.before}, dead=(dead,), where=where),)


@takes(ArrowSettings, "source 'arrow'")
def make(settings: ArrowSettings, schema: Schema) -> ArrowSource:
    """The Arrow stream source of these settings; the entry point `arrow`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    return ArrowSource(settings, schema)
