"""Reading Kafka: the client alone, the source with its decoder, and with sketching (d=10, m=1024).

    python -m benchmarks.kafka_throughput [--rows 200000]

The same topic is read from the start, as JSON rows and as Arrow batches of 2000 rows, by each client:
alone, alone with the messages parsed (orjson, or pyarrow's IPC reader), by the source, and by the
source with sketching. Each figure is the best of the rounds. CPU seconds are those of the reading
process with all its threads, and are the fairer ones on a machine that does other things as well;
the broker runs in a process of its own. The limit of the whole is the client's own time and that of
the sums: it is given as a ratio too.
"""

import argparse
import gc
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
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from rich.console import Console
from rich.table import Table
from streamsketch_consumers.kafka import KafkaSource
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.streams import Chunk, Position
from streamsketch.schema import Schema
from streamsketch.sketch import Sketch
from testing.broker import BrokerProcess

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


Parse = Callable[[list[bytes]], object]


def raw(bootstrap: str, topic: str, messages: int, parse: Parse) -> Callable[[], None]:
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
                parse([record.value for record in records])
                found += len(records)
        consumer.close()

    return read


def raw_confluent(bootstrap: str, topic: str, messages: int, parse: Parse) -> Callable[[], None]:
    """confluent-kafka's consume, as fast as it goes; checksums are verified, as ours are."""

    def read() -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "alone",
                "enable.auto.commit": False,
                "check.crcs": True,
                "fetch.max.bytes": 16 << 20,
                "max.partition.fetch.bytes": 16 << 20,
                "queued.max.messages.kbytes": 16 << 10,
            }
        )
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        found = 0
        while found < messages:
            records = consumer.consume(5000, 1.0)
            parse([record.value() for record in records])
            found += len(records)
        consumer.close()

    return read


def parse_json(values: list[bytes]) -> object:
    """Python objects, a few hundred at a time as the decoder does it."""
    for i in range(0, len(values), 500):
        list(map(orjson.loads, values[i : i + 500]))
    return None


def parse_arrow(values: list[bytes]) -> object:
    """Arrow batches, as views of the messages."""
    return [list(pa.ipc.open_stream(value)) for value in values]


def source(
    bootstrap: str, topic: str, form: str, client: str, learn: Callable[[Chunk], None]
) -> Callable[[], None]:
    """Our source to the end of the topic."""

    def read() -> None:
        stream = KafkaSource(
            KafkaSettings(
                bootstrap_servers=bootstrap,
                topic=topic,
                client=client,
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


def best(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, tuple[float, float]]:
    """Least wall and CPU seconds of each way; in each round every way has its turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, read in ways.items():
            wall, cpu = time.monotonic(), time.process_time()
            read()
            found[name].append((time.monotonic() - wall, time.process_time() - cpu))
    return {
        name: (min(wall for wall, _ in times), min(cpu for _, cpu in times))
        for name, times in found.items()
    }


def measure(bootstrap: str, form: str, rows: np.ndarray, rounds: int) -> dict[str, Any]:
    """Seconds of the ways to read one topic, by each client."""
    fm = FeatureMap.from_spec(Spec("gaussian", D, M, schema_hash=SCHEMA.hash))
    sketch = Sketch.zero(fm)
    messages = json_messages(rows) if form == "json" else arrow_messages(rows)
    fill(bootstrap, form, messages)

    def learn(chunk: Chunk) -> None:
        if chunk.batch is not None:
            sketch.update(fm, SCHEMA.encode(chunk.batch).x)

    fm.sum(np.zeros((1, D), np.float32))  # compile
    parse = parse_json if form == "json" else parse_arrow
    x = SCHEMA.encode(pa.table({f"x{j}": rows[:, j] for j in range(D)})).x
    parts = np.array_split(x, 1 + len(x) // 5000)
    gc.collect()
    gc.freeze()  # as the sketching process does it
    _, sums = best({"": lambda: [fm.sum(part) for part in parts] and None}, rounds)[""]
    found: dict[str, Any] = {
        "rows": len(rows),
        "bytes": sum(map(len, messages)),
        "sums_cpu_s": round(sums, 4),
    }
    for client, alone in (("kafka-python", raw), ("confluent", raw_confluent)):
        ways = {
            "client alone": alone(bootstrap, form, len(messages), len),
            "client and parser": alone(bootstrap, form, len(messages), parse),
            "source": source(bootstrap, form, form, client, lambda chunk: None),
            "source and sketch": source(bootstrap, form, form, client, learn),
        }
        before = sketch.count
        times = best(ways, rounds)
        assert sketch.count - before == rounds * len(rows), "rows were lost"
        cpu = {name: seconds for name, (_, seconds) in times.items()}
        whole = cpu["source and sketch"]
        found[client] = {
            "wall_s": {name: round(seconds, 3) for name, (seconds, _) in times.items()},
            "cpu_s": {name: round(seconds, 3) for name, seconds in cpu.items()},
            "whole : client alone": round(whole / cpu["client alone"], 3),
            "whole : client and parser": round(whole / cpu["client and parser"], 3),
            "limit : client alone": round(1 + sums / cpu["client alone"], 3),
            "limit : client and parser": round(1 + sums / cpu["client and parser"], 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rows", type=int, default=200_000, help="as JSON; 20 times that as Arrow"
    )
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    results: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine(), "m": M}
    table = Table("format", "client", "way", "rows/s (wall)", "rows/s (CPU)", "CPU : client alone")
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder))
        for form in ("json", "arrow"):
            count = given.rows * (20 if form == "arrow" else 1)
            rows = np.random.default_rng(0).standard_normal((count, D))
            found = results[form] = measure(broker.bootstrap, form, rows, given.rounds)
            for client in ("kafka-python", "confluent"):
                base = found[client]["cpu_s"]["client alone"]
                for way, cpu in found[client]["cpu_s"].items():
                    wall = found[client]["wall_s"][way]
                    speeds = (f"{len(rows) / wall:,.0f}", f"{len(rows) / cpu:,.0f}")
                    table.add_row(form, client, way, *speeds, f"{cpu / base:.2f}")
                limit = found[client]["limit : client alone"]
                table.add_row(form, client, "(limit: client and sums)", "", "", f"{limit:.2f}")
        broker.close()
    Console().print(table)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
