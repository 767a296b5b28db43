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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamsketch.errors import ConfigError, DataError, SchemaError, SourceError, StreamSketchError
from streamsketch.ingest.streams import Chunk, Dead, Ownership, Position
from streamsketch.schema import Schema
from streamsketch_consumers.arrow.wire import Stopped, Wire, address, connections, listen
from streamsketch_consumers.columns import (
    check_columns,
    evolution_problem,
    select,
    text_types,
    wanted,
)
from streamsketch_consumers.files.pieces import DAMAGE
from streamsketch_consumers.settings import parse

__all__ = ["ArrowSettings", "ArrowSource", "make"]

log = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class ArrowSettings:
    """Settings of the Arrow stream source.

    Attributes:
        path: `-` for standard input, the path of a named pipe or file, or `tcp://host:port`.
        listen: Wait at the TCP address for the producer instead of connecting to it.
        keep_open: Wait for the next producer when one has ended (pipe and TCP).
        replayed: The producer sends the same rows from the beginning whenever it connects.
        part: Name of the stream's one part in the store.
        batch_rows: Largest number of rows of a batch; longer ones are cut.
        max_message_bytes: A longer message is refused before memory is taken for it.
        connect_seconds: How long to try to connect.
        on_error: A stream that is cut or damaged, or whose columns do not fit: `fail` stops, `dlq`
            writes one dead letter about it, `skip` says so in the log. Rows before it are kept.
        missing: A column that is not there is `refuse`d, or taken as `null` in every row.
        extra: A column that is not declared is `ignore`d, or `refuse`d.
    """

    path: str
    listen: bool = False
    keep_open: bool = False
    replayed: bool = False
    part: str = "arrow"
    batch_rows: int = 8192
    max_message_bytes: int = 1 << 30
    connect_seconds: float = 30.0
    on_error: str = "fail"
    missing: str = "refuse"
    extra: str = "ignore"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"source 'arrow': {problem}")
        if self.path.startswith("tcp://"):
            address(self.path)

    def _problem(self) -> str | None:
        for name in ("batch_rows", "max_message_bytes", "connect_seconds"):
            if not getattr(self, name) > 0:
                return f"{name} = {getattr(self, name)} must be above 0"
        if self.on_error not in ("fail", "skip", "dlq"):
            return f"on_error = {self.on_error!r} is not one of fail, skip, dlq"
        if self.listen and not self.path.startswith("tcp://"):
            return f"listen needs path = tcp://host:port, not {self.path!r}"
        if self.keep_open and self.path == "-":
            return "keep_open makes no sense for standard input, which ends once; remove it"
        return evolution_problem(self.missing, self.extra)


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
        self._names = wanted(schema)
        self._types = text_types(schema)
        self._rows = 0
        self._small: list[pa.RecordBatch] = []
        self._small_rows = 0
        self._first: pa.Schema | None = None
        self._held: _Rows | None = None
        self._stop = threading.Event()
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

    # --- in the reading thread

    def _read(self, server: Any) -> None:
        s = self.settings
        try:
            found = connections(s.path, server, s.keep_open, s.connect_seconds, self._stop)
            with closing(found):
                for fd in found:
                    with Wire(fd, self._stop, s.max_message_bytes) as wire:
                        self._read_wire(wire)
            self._put(None)
        except Stopped:
            pass
        except Exception as e:  # whatever ends the thread must reach the one who polls
            log.debug("the reading thread ends", exc_info=True)
            self._put(_Fault(e, self._rows))
        finally:
            if server is not None:
                server.close()

    def _read_wire(self, wire: Wire) -> None:
        """Read one connection: stream after stream until the other side closes."""
        again = self._rows if self.settings.replayed else 0
        wire.before_wait = self._hand_over
        try:
            for batch in self._batches(wire):
                passed = min(again, batch.num_rows)
                again -= passed
                self._gather(batch.slice(passed))
            self._hand_over()
            if again:
                raise DataError(
                    f"the stream has {again} rows fewer than were counted before "
                    f"({self._rows}), but replayed = true says that it begins at the beginning; "
                    "correct the producer or the setting"
                )
        except (DataError, SchemaError) as e:
            self._hand_over()
            self._put(_Fault(e, self._rows))

    def _gather(self, batch: pa.RecordBatch) -> None:
        """Put small batches that come together into one; a long one is not copied."""
        if self._small and not self._small[0].schema.equals(batch.schema):
            self._hand_over()
        if self._small_rows + batch.num_rows > self.settings.batch_rows:
            self._hand_over()
        if batch.num_rows:
            self._small.append(batch)
            self._small_rows += batch.num_rows

    def _hand_over(self) -> None:
        """Queue what was gathered."""
        if self._small:
            small, self._small, self._small_rows = self._small, [], 0
            whole = pa.concat_batches(small) if len(small) > 1 else small[0]
            self._put(_Rows(whole, self._rows))
            self._rows += whole.num_rows

    def _batches(self, wire: Wire) -> Iterator[pa.RecordBatch]:
        n = 0
        try:
            while not wire.at_end():
                reader = pa.ipc.open_stream(wire)
                self._check(reader.schema)
                for whole in reader:
                    batch = select(whole, self._names, self._types)
                    batch.validate(full=True)
                    n += batch.num_rows
                    yield batch
                if wire.ended:
                    log.warning(
                        "the stream ended without its end mark after %d rows; the producer may "
                        "have died",
                        n,
                    )
                    return
        except (*DAMAGE, DataError) as e:
            self._check_change(wire, n)
            raise DataError(
                f"the Arrow stream {self.settings.path!r} is cut or damaged after {n} rows at "
                f"byte {wire.offset} "
                f"({e}); the rows before are kept; look at the producer"
            ) from e

    def _check(self, found: pa.Schema) -> None:
        """Compare a stream's columns with the schema: what that admits may also change."""
        where = f"stream {self.settings.path!r}"
        missing, extra = self.settings.missing, self.settings.extra
        check_columns(self._schema, found, where, missing=missing, extra=extra)
        if self._first is not None and not found.equals(self._first):
            log.warning(
                "the columns changed from (%s) to (%s); the schema admits both",
                _line(self._first), _line(found),
            )  # fmt: skip
        self._first = found

    def _check_change(self, wire: Wire, rows: int) -> None:
        """Say so if the message that was refused is a new schema inside of a stream."""
        message = b"\xff\xff\xff\xff" + len(wire.last).to_bytes(4, "little") + wire.last
        try:
            found = pa.ipc.read_schema(pa.py_buffer(message))
        except DAMAGE:
            return
        if self._first is not None:
            raise SchemaError(
                f"the columns changed in mid-stream after {rows} rows, from "
                f"({_line(self._first)}) to ({_line(found)}), without the end of the stream; end "
                "it and begin another on the same connection"
            )

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


def make(settings: Mapping[str, Any], schema: Schema) -> ArrowSource:
    """The Arrow stream source of these settings; the entry point `arrow`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    return ArrowSource(parse(ArrowSettings, settings, "source 'arrow'"), schema)


def _line(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}" for f in schema)
