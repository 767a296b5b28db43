"""An Arrow Flight server as a source: clients put batches, and learn when they are durable.

Delivery: exactly once. A client numbers its batches 1, 2, 3, ... A batch that comes twice is counted
once, a gap is refused, and a number is acknowledged only when the sums that hold its rows are saved
to disk. The position holds the last number of each client, so that a server that was killed tells
a client that comes back where to go on. `FlightWriter` does the client's side.

Flow control: a client that is faster than the sketch waits in its own write.

What a client of another language needs:
- `DoAction("open", {"client": id})` answers `{"durable": n, "accepted": n}` and shuts out an older
  connection of the same client; wait until both are equal, then go on with the next number;
- `DoPut` with the descriptor path `[stream, client]`; each batch's application metadata is its
  number in decimal; the server writes back the last durable number, in decimal;
- `DoGet` with the ticket `{"rows": n}` draws fresh samples, where the server has a store.
"""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from streamsketch.errors import SchemaError, SourceError
from streamsketch.ingest.streams import Chunk, Ownership, Position
from streamsketch.schema import Schema
from streamsketch.tables import takes
from streamsketch_consumers.columns import check_columns, select, sound, text_types, wanted
from streamsketch_consumers.flight.server import FlightServer
from streamsketch_consumers.flight.settings import LOOPBACK, FlightSettings

__all__ = ["FlightSource", "make"]

log = logging.getLogger(__name__)

Samples = Callable[[int], pa.Table]
TICK = 0.2  # seconds between looks at whether a client or this server is going away


@dataclass
class _Client:
    """How far a client has come: `row` rows of batch `seq` + 1, and all before."""

    seq: int = 0
    row: int = 0
    durable: int = 0
    connection: object = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Waiting:
    """A batch in the queue; its first row has number `row` within the client's batch."""

    client: str
    seq: int
    row: int
    batch: pa.RecordBatch


class FlightSource:
    """Rows that clients put; one part with the position `{"clients": {id: [number, rows]}}`.

    `rows` counts the rows of the batch after `number` that are summed already: a large batch is
    summed in pieces.

    Args:
        settings: Where to listen, and for whom.
        schema: Declares the columns.
        samples: Draws a table of that many fresh rows for DoGet.

    Attributes:
        finished: Never: a server waits.
        port: The port it listens at, once open.
    """

    def __init__(
        self, settings: FlightSettings, schema: Schema, samples: Samples | None = None
    ) -> None:
        self.settings = settings
        self.schema = schema
        self.samples = samples
        self.finished = False
        self.port = 0
        self._token = settings.token()
        self._names = wanted(schema)
        self._types = text_types(schema)
        self._clients: dict[str, _Client] = {}
        self._position: dict[str, list[int]] = {}
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._closing = False
        self._server: FlightServer | None = None

    # --- the pipeline's side

    def open(self, owner: Ownership) -> None:
        """Take the part over, then listen.

        Raises:
            SourceError: The address is taken or not this machine's.
        """
        self._restore(owner.claim(self.settings.part))
        s = self.settings
        scheme = "grpc+tls" if s.tls_cert is not None else "grpc"
        host = f"[{s.host}]" if ":" in s.host else s.host
        try:
            self._server = FlightServer(self, f"{scheme}://{host}:{s.port}", self._token)
        except (fl.FlightError, pa.ArrowException, OSError) as e:
            raise SourceError(
                f"cannot listen at {s.host}:{s.port} ({e}); free the port or choose another"
            ) from e
        self.port = self._server.port
        if self._token is not None and scheme == "grpc" and s.host not in LOOPBACK:
            log.warning("the token travels in the clear; set tls_cert and tls_key")
        log.info("listening for Flight clients at %s://%s:%d", scheme, s.host, self.port)

    def _restore(self, saved: Position | None) -> None:
        self._position = dict(saved["clients"]) if saved else {}
        for name, (seq, row) in self._position.items():
            self._clients[name] = _Client(seq, row, seq)

    def poll(self, timeout: float) -> Sequence[Chunk]:
        """The next rows; nothing after about `timeout` seconds without any."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue, timeout):
                return ()
            taken = self._take()
            self._changed.notify_all()
        reached = {w.client: [w.seq, 0] for w in taken}
        last, most = taken[-1], self.settings.batch_rows
        batch = last.batch.slice(0, most)
        if last.batch.num_rows > most:
            reached[last.client] = [last.seq - 1, last.row + most]
        if len(taken) > 1:
            batch = pa.concat_batches([w.batch for w in taken])
        self._position = {**self._position, **reached}
        position = {"clients": self._position}
        where = {"client": last.client, "batch": last.seq, "row": last.row}
        if len(taken) > 1:
            where = {
                "rows": [
                    {"client": w.client, "batch": w.seq, "row": w.row + i}
                    for w in taken
                    for i in range(w.batch.num_rows)
                ]
            }
        return (
            Chunk(self.settings.part, position, batch if batch.num_rows else None, where=where),
        )

    def _take(self) -> list[_Waiting]:
        """The first batch of the queue, with more of its kind as long as they fit together.

        A batch that is too long alone stays in the queue with the rows that will be left.
        """
        first = self._queue.popleft()
        most = self.settings.batch_rows
        if first.batch.num_rows > most:
            rest = replace(first, batch=first.batch.slice(most), row=first.row + most)
            self._queue.appendleft(rest)
            self._bytes += rest.batch.nbytes - first.batch.nbytes
            return [first]
        taken, rows = [first], first.batch.num_rows
        self._bytes -= first.batch.nbytes
        while self._queue and rows + self._queue[0].batch.num_rows <= most:
            if not self._queue[0].batch.schema.equals(first.batch.schema):
                break
            taken.append(self._queue.popleft())
            rows += taken[-1].batch.num_rows
            self._bytes -= taken[-1].batch.nbytes
        return taken

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Acknowledge to each client what is durable."""
        position = positions.get(self.settings.part)
        if position is None:
            return
        with self._changed:
            for name, (seq, _) in position["clients"].items():
                self._clients[name].durable = seq
            self._changed.notify_all()

    def lag(self) -> dict[str, int | None]:
        """Rows that wait for the sketch; what waits at the clients is not known."""
        with self._changed:
            return {self.settings.part: sum(w.batch.num_rows for w in self._queue)}

    def close(self) -> None:
        """Stop listening; clients see the connection end, and come back."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.stop()

    # --- the clients' side, in the server's threads

    def enter(self, name: str) -> tuple[int, int]:
        """Shut out an older connection of a client; its last durable and last accepted numbers."""
        client = self._client(name)
        with client.lock:
            client.connection = None
            return client.durable, client.seq

    def connect(self, descriptor: fl.FlightDescriptor, found: pa.Schema) -> tuple[str, object]:
        """Check who puts what; the client's name and what identifies the connection."""
        path = [part.decode(errors="replace") for part in descriptor.path or ()]
        if len(path) != 2 or path[0] != self.settings.stream:
            raise fl.FlightServerError(
                f"descriptor path {path} is not [stream, client] with stream "
                f"{self.settings.stream!r}; correct it"
            )
        try:
            missing, extra = self.settings.missing, self.settings.extra
            check_columns(self.schema, found, f"client {path[1]!r}", missing=missing, extra=extra)
        except SchemaError as e:
            raise fl.FlightServerError(str(e)) from None
        client, connection = self._client(path[1]), object()
        with client.lock:
            client.connection = connection
        return path[1], connection

    def accept(self, name: str, connection: object, chunk: fl.FlightStreamChunk) -> int:
        """Queue a client's batch unless it came before; waits while the queue is full."""
        seq = _number(chunk.app_metadata)
        if chunk.data is None:
            raise fl.FlightServerError(
                f"batch {seq} of client {name!r} holds no rows; send a record batch"
            )
        batch = select(chunk.data, self._names, self._types)
        if batch.nbytes > self.settings.max_batch_bytes:
            raise fl.FlightServerError(
                f"batch {seq} of client {name!r} has {batch.nbytes} bytes, more than the "
                f"{self.settings.max_batch_bytes} allowed; send smaller batches"
            )
        try:
            sound(batch)
        except pa.ArrowInvalid as e:
            raise fl.FlightServerError(
                f"batch {seq} of client {name!r} is damaged ({e})"
            ) from None
        client = self._clients[name]
        with client.lock:
            if client.connection is not connection:
                raise fl.FlightServerError(
                    f"client {name!r} has connected anew; this connection is shut out"
                )
            if seq > client.seq + 1:
                raise fl.FlightServerError(
                    f"batch {seq} of client {name!r} follows batch {client.seq}; send batch "
                    f"{client.seq + 1} "
                    "(ask with the action 'open')"
                )
            if seq == client.seq + 1:
                self._enqueue(_Waiting(name, seq, client.row, batch.slice(client.row)))
                client.seq, client.row = seq, 0
        return seq

    def acknowledgements(self, name: str, done: threading.Event) -> Iterator[int]:
        """Each new durable number of a client, until the connection is done."""
        told = -1
        while True:
            durable, last = self._news(name, told, done)
            if durable != told:
                yield durable
                told = durable
            elif last:
                return

    def wait_durable(self, name: str, seq: int, gone: Callable[[], bool]) -> None:
        """Wait until a client's batch is durable, the client has gone, or this server closes."""
        with self._changed:
            while not (self._clients[name].durable >= seq or self._closing or gone()):
                self._changed.wait(TICK)

    def wake(self) -> None:
        """Let waiting threads look again."""
        with self._changed:
            self._changed.notify_all()

    def _news(self, name: str, told: int, done: threading.Event) -> tuple[int, bool]:
        """A client's durable number, when it is not the one told; and whether it is the last."""
        with self._changed:
            client = self._clients[name]
            self._changed.wait_for(
                lambda: client.durable != told or done.is_set() or self._closing, TICK
            )
            return client.durable, done.is_set() or self._closing

    def _client(self, name: str) -> _Client:
        if not 0 < len(name) <= 128 or not name.isprintable():
            raise fl.FlightServerError(
                f"client id {name[:200]!r} must be 1 to 128 printable characters"
            )
        with self._changed:
            if name not in self._clients and len(self._clients) >= self.settings.max_clients:
                raise fl.FlightServerError(
                    f"client {name!r} is one more than the {self.settings.max_clients} that are "
                    f"remembered; reuse "
                    "ids, or raise max_clients"
                )
            return self._clients.setdefault(name, _Client())

    def _enqueue(self, item: _Waiting) -> None:
        size = item.batch.nbytes
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closing
                    or not self._queue
                    or self._bytes + size <= self.settings.queue_bytes
                )
            )
            if self._closing:
                raise fl.FlightUnavailableError("the server is closing; come back")
            self._queue.append(item)
            self._bytes += size
            self._changed.notify_all()


@takes(FlightSettings, "source 'flight'")
def make(settings: FlightSettings, schema: Schema) -> FlightSource:
    """The Flight source of these settings; the entry point `flight`.

    Raises:
        ConfigError: A setting is unknown or wrong, or the token is not where they say.
    """
    samples = None if settings.samples is None else _newest_of(settings.samples)
    return FlightSource(settings, schema, samples)


def _newest_of(url: str) -> Samples:
    """Draws from the newest checkpoint of a store: a released object, never the sums."""
    lock = threading.Lock()
    kept: dict[str, Any] = {}

    def newest() -> Any:
        from streamsketch.generator import Generator
        from streamsketch.storage.store import Store

        checkpoints = Store(url).checkpoints
        names = checkpoints.names()
        if not names or names[-1] not in kept:
            found = checkpoints.newest(Generator.from_bytes)
            if found is None:
                raise SourceError(f"store {url!r} holds no checkpoint yet; train one first")
            kept.clear()
            kept[found[0]] = found[1]
        return next(iter(kept.values()))

    def draw(rows: int) -> pa.Table:
        with lock:
            generator = newest()
        return generator.sample(rows, seed=secrets.randbits(62))

    return draw


def _number(metadata: pa.Buffer | None) -> int:
    text = b"" if metadata is None else metadata.to_pybytes()
    if not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise fl.FlightServerError(
            f"batch number {text[:40]!r} must be 1, 2, 3, ... in decimal, as application metadata"
        )
    return int(text)
