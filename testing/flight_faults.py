"""A Flight run that is disturbed: the sketching process and its clients killed; then the sums."""

import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
from streamsketch_consumers.dead_letter import read_file
from streamsketch_consumers.flight import FlightWriter

from streamsketch.schema import Column, Schema
from testing.broker.process import free_port
from testing.faults import Outcome
from testing.forks import kill, start, stop
from testing.ingest_worker import operator, run, saved

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=1e9),
        Column("c", "categorical", "string", values=("a", "b")),
    ]
)
BAD_EVERY = 997  # every so many rows one without a number
ROWS = 50  # a batch
KIB = 1 << 10


def rows(low: int, high: int) -> pa.RecordBatch:
    """The rows of these numbers."""
    n = np.arange(low, high)
    return pa.record_batch(
        {
            "n": pa.array(n, mask=n % BAD_EVERY == BAD_EVERY - 1),
            "extra": np.zeros(len(n)),
            "c": np.where(n % 3 > 0, "a", "b"),
        }
    )


def send(location: str, name: str, first: int, batches: int) -> None:
    """A client: put so many batches, from the row `first` on; those already durable are not sent."""
    with FlightWriter(location, name, patience=60.0, unacknowledged_bytes=32 * KIB) as writer:
        for number in range(writer.position, batches):
            low = first + number * ROWS
            writer.write(rows(low, low + ROWS))


class FlightRun:
    """A sketching process that listens, and clients that put rows.

    Args:
        folder: Of the state, the store and the dead letters.
        clients: How many.
        batches: Of each client, 50 rows each.
    """

    def __init__(self, folder: Path, clients: int, batches: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.batches = batches
        self.rows = clients * batches * ROWS
        self.port = free_port()
        self.names = [f"client {k}" for k in range(clients)]

    def serve(self, rest: float) -> BaseProcess:
        """Start the sketching process, which rests so many seconds after each chunk."""
        settings = {"port": self.port, "batch_rows": 20, "queue_bytes": 8 * KIB}
        job = {
            "folder": str(self.folder),
            "module": "streamsketch_consumers.flight",
            "settings": settings,
            "schema": SCHEMA.to_dict(),
            "seconds_per_chunk": rest,
        }
        return start(self.folder / "processes.log", run, job)

    def produce(self, k: int) -> BaseProcess:
        """Start client `k`."""
        first = k * self.batches * ROWS
        location = f"grpc://127.0.0.1:{self.port}"
        log = self.folder / "processes.log"
        return start(log, send, location, self.names[k], first, self.batches)

    def read(self) -> int:
        """Rows that are in the saved sums, or set apart."""
        return saved(self.folder, SCHEMA)[2]

    def run_disturbed(
        self,
        kills: int,
        rest: float = 0.01,
        pause: tuple[float, float] = (0.0, 0.2),
        seed: int = 0,
        limit: float = 600.0,
        tell: Callable[[Outcome], None] = lambda so_far: None,
    ) -> Outcome:
        """Kill the server and its clients in turn; returns when all is read.

        Args:
            kills: How often; a client that has come to its end is not counted.
            rest: Seconds the server waits after each chunk of 20 rows, until the kills are over.
            pause: Shortest and longest time from when rows were saved again to the next kill, in
                seconds.
            seed: Of the moments and the victims.
            limit: Seconds, after which the run has failed.
            tell: Called after each kill.
        """
        rng, begin = random.Random(seed), time.monotonic()
        done = Outcome(self.rows)
        server = self.serve(rest)
        clients = [self.produce(k) for k in range(len(self.names))]
        try:
            before = 0
            for turn in range(kills):
                now = self._advance(before, begin + limit, [server, *clients])
                time.sleep(rng.uniform(*pause))
                done.while_running += self.read() < self.rows
                done.advanced += now > before
                if turn % 2:
                    k = rng.randrange(len(clients))
                    if clients[k].exitcode == 0:
                        continue
                    if not kill(clients[k]):
                        raise RuntimeError(f"a client had ended by itself: {clients[k]}")
                    clients[k] = self.produce(k)
                else:
                    if not kill(server):
                        raise RuntimeError(f"the server had ended by itself: {server}")
                    server = self.serve(rest)
                before = self.read()
                what = "client" if turn % 2 else "server"
                done.faults[what] = done.faults.get(what, 0) + 1
                done.seconds = time.monotonic() - begin
                tell(done)
            stop(server)
            server = self.serve(0.0)
            for client in clients:
                client.join(max(1.0, begin + limit - time.monotonic()))
                if client.exitcode != 0:
                    raise RuntimeError(f"a client has not come to its end: {client}")
            stop(server)
        finally:
            for process in (server, *clients):
                process.kill()
                process.join()
        self.check(done)
        done.seconds = time.monotonic() - begin
        return done

    def _advance(self, before: int, end: float, processes: list[BaseProcess]) -> int:
        while (now := self.read()) <= before:
            for process in processes:
                if process.exitcode:
                    raise RuntimeError(f"it ended by itself: {process}")
            if time.monotonic() > end:
                raise TimeoutError(f"{now} of {self.rows} rows were read")
            time.sleep(0.02)
        return now

    def check(self, outcome: Outcome) -> Outcome:
        """Compare the saved sums with the rows, in one go and without the pipeline."""
        sketch, positions, _ = saved(self.folder, SCHEMA)
        bad = range(BAD_EVERY - 1, self.rows, BAD_EVERY)
        letters = read_file(self.folder / "dead.jsonl")
        dead = {(d.where["client"], d.where["batch"], d.where["row"]) for d in letters}
        outcome.rows_expected, outcome.rows_found = self.rows - len(bad), int(sketch.count)
        encoded = SCHEMA.encode(pa.Table.from_batches([rows(0, self.rows)]))
        total = operator(SCHEMA).sum(encoded.x)
        ends = {name: [self.batches, 0] for name in self.names}
        outcome.exact = bool(
            sketch.count == outcome.rows_expected
            and np.array_equal(sketch.total, total)
            and positions["flight"] == {"clients": ends}
        )
        outcome.dead_exact = len(dead) == len(bad)
        return outcome
