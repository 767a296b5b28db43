"""A Kafka run that is disturbed: members killed, frozen, the broker killed; then the sums."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from kafka import KafkaAdminClient, KafkaProducer
from numpy.typing import NDArray
from streamsketch_consumers.dead_letter import read_file

from streamsketch.ingest.parts import State
from streamsketch.storage.store import Store
from testing.broker import BrokerProcess
from testing.forks import kill, start, stop
from testing.kafka_member import SCHEMA, D, features, ingest
from testing.kafka_member import run as member
from testing.objects import BUCKET, ObjectServer
from testing.two_runs import pipeline_file, two_runs

SESSION_MS = 2000
FROZEN_SECONDS = 3.5  # longer than the session: the group gives its partitions away
MOST = 8  # members at a time
BAD_EVERY = 997  # every so many messages one that is no row


@dataclass
class Outcome:
    """What was done to a run, and what came of it."""

    messages: int
    rows_expected: int = 0
    rows_found: int = 0
    exact: bool = False
    dead_exact: bool = False
    faults: dict[str, int] = field(default_factory=dict)
    while_running: int = 0  # faults before the last row was read
    advanced: int = 0  # faults before which rows were saved since the fault before
    refused: int = 0  # second runs that were refused
    ended: list[str] = field(default_factory=list)  # what members said that ended by themselves
    seconds: float = 0.0


class KafkaRun:
    """A topic full of rows, and the members that sum them into one folder.

    Args:
        folder: Of the state, the store and the broker's log.
        messages: How many to produce; some of them are no rows.
        partitions: Of the topic.
        seed: Of the rows and their partitions.
        objects: A server that holds the state; members then share no folder.
    """

    def __init__(
        self,
        folder: Path,
        messages: int,
        partitions: int = 4,
        seed: int = 0,
        objects: ObjectServer | None = None,
    ) -> None:
        self.folder = folder
        self.objects = objects
        self.shared = None if objects is None else f"s3://{BUCKET}/secret/{folder.name}"
        os.environ.update({} if objects is None else objects.environment)
        self.broker = BrokerProcess(folder / "broker")
        self.topic = "rows"
        self.messages = messages
        self.members: list[BaseProcess] = []
        self.started = 0
        rng = np.random.default_rng(seed)
        self.rows = rng.random((messages, D)).astype(np.float32).astype(np.float64)
        self.bad = {i for i in range(messages) if i % BAD_EVERY == BAD_EVERY - 1}
        self._produce(rng.integers(0, partitions, messages), partitions)

    def _produce(self, where: NDArray[np.int64], partitions: int) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        topic = {"num_partitions": partitions, "replication_factor": 1}
        admin.create_topics({self.topic: topic})
        admin.close()
        producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap, linger_ms=10)
        for i, (row, partition) in enumerate(zip(self.rows.tolist(), where.tolist(), strict=True)):
            value = orjson.dumps({f"x{j}": v for j, v in enumerate(row)})
            producer.send(self.topic, b"?" if i in self.bad else value, partition=partition)
        producer.flush(timeout=60)
        producer.close()

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Settings of a member."""
        return {
            "bootstrap_servers": self.broker.bootstrap,
            "topic": self.topic,
            "session_timeout_ms": SESSION_MS,
            "max_records": 100,
            "fetch_bytes": 1 << 16,
        } | changes

    def start_member(self, rest: float, **changes: Any) -> BaseProcess:
        """Start one more member process."""
        self.started += 1
        log, settings, name = (
            self.folder / "members.log",
            self.settings(**changes),
            str(self.started),
        )
        if self.objects is None:
            return start(log, member, self.folder, settings, rest, name)
        disk = self.folder / f"host-{self.started % 2}"
        there = (self.shared, self.objects.environment)
        return start(log, member, disk, settings, rest, name, *there)

    def read(self) -> int:
        """Messages that are in the saved positions."""
        _, positions, *_ = self._state().cut()
        return sum(int((p or {"offset": 0})["offset"]) for p in positions.values())

    def _state(self) -> State:
        store = Store(self.folder, shared=self.shared)
        return State(store.state_dir, features(), store.records)

    def expected(self) -> NDArray[np.int64]:
        """The sum of all good rows, in one go."""
        good = [i for i in range(self.messages) if i not in self.bad]
        table = pa.table({f"x{j}": self.rows[good, j] for j in range(D)})
        return features().sum(SCHEMA.encode(table).x)

    def check(self, outcome: Outcome) -> Outcome:
        """Compare the saved sums with the rows."""
        sketch, *_ = self._state().cut()
        rows = self.messages - len(self.bad)
        dead = {
            (d.where["partition"], d.where["offset"])
            for path in self.folder.rglob("dead-*.jsonl")
            for d in read_file(path)
        }
        outcome.rows_expected, outcome.rows_found = rows, int(sketch.count)
        outcome.exact = bool(
            sketch.count == rows and np.array_equal(sketch.total, self.expected())
        )
        outcome.dead_exact = len(dead) == len(self.bad)
        return outcome

    def run_undisturbed(self, **changes: Any) -> Outcome:
        """One member in this process, to the end."""
        run = ingest(self.folder, self.settings(until="end", **changes), shared=self.shared)
        run.run(threading.Event())
        return self.check(Outcome(self.messages))

    def run_disturbed(
        self,
        faults: Iterable[str],
        members: int = 2,
        rest: float = 0.02,
        pause: tuple[float, float] = (0.0, 1.0),
        patience: float = 5.0,
        seed: int = 0,
        limit: float = 600.0,
        tell: Callable[[Outcome], None] = lambda so_far: None,
        **changes: Any,
    ) -> Outcome:
        """Several member processes, disturbed at random moments; returns when all is read.

        Args:
            faults: In order: `kill` a member and start another, `freeze` one for longer than its
                session, `join` and `leave` by a member (at most `MOST`, at least one), `broker` is
                killed and started again, `runs`: two `streamsketch run`s are started on the store
                beside the members, the second of which must be refused.
            members: How many processes.
            rest: Seconds a member waits after each chunk, until the faults are over.
            pause: Shortest and longest time from when rows were saved again to the next fault, in
                seconds.
            patience: Seconds after which the next fault comes although no row was saved meanwhile.
            seed: Of the moments and the victims.
            limit: Seconds, after which the run has failed.
            tell: Called after each fault.
            changes: Settings of the members.
        """
        rng = random.Random(seed)
        begin = time.monotonic()
        done = Outcome(self.messages)
        self.members = [self.start_member(rest, **changes) for _ in range(members)]
        try:
            before = 0
            self._wait(1, begin + limit)
            for fault in faults:
                now = self._advance(before, time.monotonic() + patience)
                time.sleep(rng.uniform(*pause))
                for k, process in enumerate(self.members):
                    if not process.is_alive():  # the supervisor would start it again as well
                        done.ended.append(self._last_words(process))
                        self.members[k] = self.start_member(rest, **changes)
                reading = self.read() < self.messages
                if fault == "runs":
                    pipeline = pipeline_file(self.folder, self.settings(**changes))
                    done.refused += two_runs(pipeline, cruel=rng.random() < 0.5)
                if self._disturb(fault, rng, rest, changes):
                    done.faults[fault] = done.faults.get(fault, 0) + 1
                    done.while_running += reading
                    done.advanced += now > before
                before = self.read()
                done.seconds = time.monotonic() - begin
                tell(done)
            for slow in self.members:
                stop(slow)
            self.members = [self.start_member(0.0, **changes)]
            self._wait(self.messages, begin + limit)
            stop(self.members[0])
        finally:
            for process in self.members:
                process.kill()
                process.join()
        self.check(done)
        done.seconds = time.monotonic() - begin
        return done

    def _disturb(
        self, fault: str, rng: random.Random, rest: float, changes: dict[str, Any]
    ) -> bool:
        """Whether it could be done."""
        victim = rng.randrange(len(self.members))
        if fault == "join":
            if len(self.members) == MOST:
                return False
            self.members.append(self.start_member(rest, **changes))
        elif fault == "leave":
            if len(self.members) == 1:
                return False
            stop(self.members.pop(victim))
        elif fault == "kill":
            killed = kill(self.members[victim])
            self.members[victim] = self.start_member(rest, **changes)
            return killed
        elif fault == "freeze":
            frozen = self.members[victim].pid
            assert frozen is not None
            os.kill(frozen, signal.SIGSTOP)
            time.sleep(FROZEN_SECONDS)
            os.kill(frozen, signal.SIGCONT)
        elif fault == "broker":
            self.broker.kill()
            time.sleep(rng.uniform(0, 1))
            self.broker.start()
        return True

    def _last_words(self, process: BaseProcess) -> str:
        with (self.folder / "members.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 600))
            return f"exit code {process.exitcode}: {log.read().decode(errors='replace')}"

    def _advance(self, before: int, end: float) -> int:
        """The messages read, once they are more than before, or time is up."""
        while (now := self.read()) <= before and time.monotonic() < end:
            time.sleep(0.1)
        return now

    def _wait(self, messages: int, end: float) -> None:
        while self.read() < messages:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.read()} of {messages} messages were read")
            time.sleep(0.2)

    def close(self) -> None:
        """Stop the broker."""
        self.broker.close()
