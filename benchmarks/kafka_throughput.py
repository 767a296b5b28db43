"""Reading Kafka: kafka-python alone, the source with its decoder, and with sketching (d=10, m=1024).

    python -m benchmarks.kafka_throughput [--rows 200000]

The same topic is read three times from the start, as JSON rows and as Arrow batches of 2000 rows;
each figure is the best of the rounds. CPU seconds are those of the reading process with all its
threads, and are the fairer ones on a machine that does other things as well; the broker runs in a
process of its own.
"""

import argparse
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from rich.console import Console
from rich.table import Table

from consumers.kafka import KafkaSource
from consumers.kafka.settings import KafkaSettings
from streamsketch.features import FeatureMap
from streamsketch.schema import Schema
from streamsketch.sketch import Sketch
from streamsketch.spec import Spec
from streamsketch.streams import Chunk, Position
from tests.broker import BrokerProcess

RESULTS = Path(__file__).parent / "results" / "kafka_throughput.json"
D, M, BATCH = 10, 1024, 2000
SCHEMA = Schema.vectors(D, -4, 4)


class Owner:
    """Owns every part; goes on where it was when the group deals the same part again."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}

    def claim(self, part: str) -> Position | None:
        """The position after the last chunk."""
        return self.positions.get(part)

    def revoke(self, part: str) -> None:
        """Nothing to save."""

    lose = revoke


def fill(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """One partition with these messages."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=1 << 19)
    for value in values:
        producer.send(topic, value, partition=0)
    producer.flush(timeout=120)
    producer.close()


def json_messages(rows: np.ndarray) -> list[bytes]:
    """One object a row."""
    names = [f"x{j}" for j in range(D)]
    return [orjson.dumps(dict(zip(names, row, strict=True))) for row in rows.tolist()]


def arrow_messages(rows: np.ndarray) -> list[bytes]:
    """An IPC stream of float32 columns every 2000 rows."""
    found = []
    for part in np.split(rows.astype(np.float32), range(BATCH, len(rows), BATCH)):
        batch = pa.record_batch({f"x{j}": part[:, j] for j in range(D)})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        found.append(sink.getvalue())
    return found


def raw(bootstrap: str, topic: str, messages: int) -> Callable[[], None]:
    """kafka-python's poll, as fast as it goes."""

    def read() -> None:
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            group_id=None,
            fetch_max_bytes=16 << 20,
            max_partition_fetch_bytes=16 << 20,
        )
        found = 0
        while found < messages:
            for records in consumer.poll(1000, max_records=5000).values():
                found += len(records)
        consumer.close()

    return read


def source(
    bootstrap: str, topic: str, form: str, learn: Callable[[Chunk], None]
) -> Callable[[], None]:
    """Our source to the end of the topic."""

    def read() -> None:
        stream = KafkaSource(
            KafkaSettings(
                bootstrap_servers=bootstrap,
                topic=topic,
                group=f"{topic}-{time.monotonic_ns()}",
                format=form,
                until="end",
                commit=False,
            ),
            SCHEMA,
        )
        owner = Owner()
        stream.open(owner)
        while not stream.finished:
            for chunk in stream.poll(0.5):
                learn(chunk)
                owner.positions[chunk.part] = chunk.position
        stream.close()

    return read


def best(read: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Least wall and CPU seconds."""
    found = []
    for _ in range(rounds):
        wall, cpu = time.monotonic(), time.process_time()
        read()
        found.append((time.monotonic() - wall, time.process_time() - cpu))
    return min(w for w, _ in found), min(c for _, c in found)


def measure(bootstrap: str, form: str, rows: np.ndarray, rounds: int) -> dict[str, Any]:
    """Seconds of the three ways to read one topic."""
    fm = FeatureMap.from_spec(Spec("gaussian", D, M, schema_hash=SCHEMA.hash))
    sketch = Sketch.zero(fm)
    messages = json_messages(rows) if form == "json" else arrow_messages(rows)
    fill(bootstrap, form, messages)

    def learn(chunk: Chunk) -> None:
        if chunk.batch is not None:
            sketch.update(fm, SCHEMA.encode(chunk.batch).x)

    fm.sum(np.zeros((1, D), np.float32))  # compile
    ways = {
        "kafka-python alone": raw(bootstrap, form, len(messages)),
        "source": source(bootstrap, form, form, lambda chunk: None),
        "source and sketch": source(bootstrap, form, form, learn),
    }
    found = {name: best(read, rounds) for name, read in ways.items()}
    assert sketch.count == rounds * len(rows), "rows were lost"
    x = SCHEMA.encode(pa.table({f"x{j}": rows[:, j] for j in range(D)})).x
    _, alone = best(
        lambda: [fm.sum(part) for part in np.array_split(x, 1 + len(x) // 5000)], rounds
    )
    return {
        "rows": len(rows),
        "bytes": sum(map(len, messages)),
        "wall_s": {name: round(wall, 3) for name, (wall, _) in found.items()},
        "cpu_s": {name: round(cpu, 3) for name, (_, cpu) in found.items()},
        "sums_alone_cpu_s": round(alone, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rows", type=int, default=200_000, help="as JSON; 20 times that as Arrow"
    )
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine(), "m": M}
    table = Table("format", "way", "rows/s (wall)", "rows/s (CPU)", "CPU : kafka-python alone")
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder))
        for form in ("json", "arrow"):
            count = given.rows * (20 if form == "arrow" else 1)
            rows = np.random.default_rng(0).standard_normal((count, D))
            found = results[form] = measure(broker.bootstrap, form, rows, given.rounds)
            base = found["cpu_s"]["kafka-python alone"]
            for way, cpu in found["cpu_s"].items():
                wall = found["wall_s"][way]
                speeds = (f"{len(rows) / wall:,.0f}", f"{len(rows) / cpu:,.0f}")
                table.add_row(form, way, *speeds, f"{cpu / base:.2f}")
        broker.close()
    Console().print(table)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
