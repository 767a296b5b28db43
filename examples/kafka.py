"""Kafka, exactly once: produce rows, consume them with a crash in between, learn, sample.

    python -m examples.kafka [--rows 20000] [--seconds 30] [--bootstrap HOST:PORT] [--out DIR]

Without --bootstrap a small broker that speaks the Kafka protocol is started for the example. The
consumer is stopped half-way and started again; it goes on at the row where its sums stand, and
the sketch is the one of an undisturbed pass, bit for bit.
"""

import argparse
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch import Schema, Sketcher, Snapshot, fit
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.run.config import Pipeline, parse
from streamsketch.run.consume import run_ingest
from streamsketch.run.worker import make_source

TOPIC = "readings"
SCHEMA = Schema.from_dict(
    {
        "room": {
            "kind": "categorical",
            "type": "string",
            "values": ["attic", "cellar", "kitchen"],
        },
        "hour": {"kind": "numeric", "low": 0, "high": 24},
        "celsius": {"kind": "numeric", "low": 0, "high": 40},
    }
)


def readings(n: int, seed: int) -> pa.Table:
    """Temperatures of three rooms over the day."""
    rng = np.random.default_rng(seed)
    room = rng.integers(0, 3, n)
    hour = rng.uniform(0, 24, n)
    swing = np.array([9.0, 1.0, 4.0])[room] * np.sin((hour - 9) * np.pi / 12)
    celsius = np.array([22.0, 11.0, 21.0])[room] + swing + rng.normal(size=n)
    names = np.array(["attic", "cellar", "kitchen"])[room]
    return pa.table({"room": names, "hour": hour, "celsius": celsius})


def produce(bootstrap: str, table: pa.Table) -> None:
    """One JSON message for each row, over two partitions."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({TOPIC: {"num_partitions": 2, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)
    for k, row in enumerate(table.to_pylist()):
        producer.send(TOPIC, json.dumps(row).encode(), partition=k % 2)
    producer.flush()
    producer.close()


def pipeline(bootstrap: str, folder: Path) -> Pipeline:
    """What pipeline.toml would hold."""
    tables: dict[str, Any] = {
        "source": {
            "type": "kafka", "bootstrap_servers": bootstrap, "topic": TOPIC, "until": "end",
            "session_timeout_ms": 6000, "max_records": 500,
        },
        "sketch": {"frequencies": 1024},
        "snapshots": {"rows": 2000, "save_seconds": 0.2},
        "store": {"path": "store"},
        "schema": SCHEMA.to_dict(),
    }  # fmt: skip
    return parse(tables, folder)


def consume(made: Pipeline, most: int | None = None) -> int:
    """Read to the end of the topic, or stop after about `most` rows as SIGTERM would."""
    stop = threading.Event()
    source = make_source(made)
    if most is not None:
        source = StopAfter(source, most, stop)
    return run_ingest(made, source, stop).rows


class StopAfter:
    """A source that asks its reader to stop: what a signal does, at a chosen row."""

    def __init__(self, source: Any, rows: int, stop: threading.Event) -> None:
        self._source, self._left, self._stop = source, rows, stop

    def poll(self, timeout: float) -> Any:
        """As the source does, until enough rows have passed."""
        for chunk in self._source.poll(timeout):
            self._left -= chunk.batch.num_rows if chunk.batch is not None else 0
            if self._left <= 0:
                self._stop.set()
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=30, help="training time")
    parser.add_argument("--bootstrap", help="a broker; one is started without it")
    parser.add_argument("--out", type=Path, default=Path("example-out"))
    given = parser.parse_args()
    table = readings(given.rows, seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        broker = None
        if given.bootstrap is None:
            from testing.broker.process import BrokerProcess

            broker = BrokerProcess(Path(scratch) / "broker")
        try:
            bootstrap = given.bootstrap or broker.bootstrap
            produce(bootstrap, table)
            made = pipeline(bootstrap, Path(scratch))
            first = consume(made, most=given.rows // 2)
            print(f"stopped after {first:,} rows; starting again")
            rest = consume(made)
        finally:
            if broker is not None:
                broker.close()
        store = made.store()
        snapshots = [Snapshot.from_bytes(store.snapshots.read(n)) for n in store.snapshots.names()]

    undisturbed = Sketcher(SCHEMA, frequencies=1024)
    undisturbed.learn_many(table)
    same = np.array_equal(snapshots[-1].mean, undisturbed.release().mean)
    print(f"{first:,} + {rest:,} rows; equal to an undisturbed pass: {same}")
    if not same:
        raise SystemExit("the sketch differs from that of an undisturbed pass")

    generator = fit(snapshots[-1], seconds=given.seconds)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "kafka.png").write_bytes(picture(snapshots, table, generator.sample(3000)))
    print(f"picture: {given.out / 'kafka.png'}")


def picture(snapshots: list[Snapshot], table: pa.Table, drawn: pa.Table) -> bytes:
    """How the snapshots approach the whole stream, and rows of both."""
    last = snapshots[-1]
    figure = new_figure(12, 3.9)
    axes = figure.add_subplot(1, 3, 1)
    gaps = [float(np.square(s.mean - last.mean).sum() / last.spec.m) for s in snapshots[:-1]]
    axes.semilogy([s.count for s in snapshots[:-1]], gaps, "o-", color="#27313d")
    axes.set(xlabel="rows so far", title="squared distance of each snapshot to the last")
    colours = {"attic": "#d95f02", "kitchen": "#7570b3", "cellar": "#1b9e77"}
    for place, (rows, title) in enumerate(((table, "the stream"), (drawn, "from its sketch"))):
        axes = figure.add_subplot(1, 3, place + 2)
        rows = rows.slice(0, 3000)
        for room, colour in colours.items():
            mask = np.array(rows["room"].to_pylist()) == room
            hour, celsius = (rows[n].to_numpy()[mask] for n in ("hour", "celsius"))
            axes.scatter(hour, celsius, s=4, alpha=0.4, color=colour, linewidths=0, label=room)
        axes.set(xlabel="hour", ylabel="celsius", title=title, xlim=(0, 24), ylim=(0, 40))
    axes.legend(markerscale=3, frameon=False, fontsize=8)
    return png(figure)


if __name__ == "__main__":
    main()
