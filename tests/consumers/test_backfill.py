"""Rows of the past from files, then live from Kafka: each row once, none twice, however often broken off."""

import threading

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from kafka import KafkaProducer

from streamsketch import Schema, Sketcher, Snapshot
from streamsketch.errors import ConfigError
from streamsketch.ingest.parts import State
from streamsketch.run.config import load
from streamsketch.run.consume import run_ingest
from streamsketch.run.worker import make_source
from testing.kafka_tools import new_topic
from testing.tansu import SESSION_TIMEOUT_MS

FIRST = 1_790_000_000  # seconds since 1970
CUT = "2026-09-21T14:38:20+00:00"  # 1,500 s later
ROWS = [
    {"x": float(x), "at": FIRST + i}
    for i, x in enumerate(np.random.default_rng(0).uniform(0, 1, 3000))
]
SCHEMA = Schema.from_dict({
    "x": {"kind": "numeric", "low": 0, "high": 1},
    "at": {"kind": "event_time", "type": "int64"},
})  # fmt: skip


def write(folder, name, **source):
    tables = {
        "source": {"name": "orders", **source},
        "sketch": {"frequencies": 16},
        "store": {"path": "store"},
        "schema": SCHEMA.to_dict(),
    }
    (folder / name).write_text(tomli_w.dumps(tables))
    return load(folder / name)


def run(pipeline, most=None):
    """Consume; with `most`, broken off after so many rows."""
    stop, source = threading.Event(), make_source(pipeline)
    poll = source.poll

    def counted(timeout):
        nonlocal most
        chunks = poll(timeout)
        if most is not None:
            most -= sum(0 if c.batch is None else c.batch.num_rows for c in chunks)
            if most <= 0:
                stop.set()
        return chunks

    source.poll = counted
    run_ingest(pipeline, source, stop)


def test_the_hand_over_is_exact(tmp_path, own_broker):
    pq.write_table(
        pa.Table.from_pylist(ROWS[:2000]), tmp_path / "past.parquet"
    )  # longer than needed
    topic = new_topic(own_broker.bootstrap, 2)
    producer = KafkaProducer(bootstrap_servers=own_broker.bootstrap)
    for i, row in enumerate(ROWS[1000:]):  # Kafka has kept a part of the past as well
        value, stamp = orjson.dumps(row), row["at"] * 1000
        producer.send(topic, value, partition=i % 2, timestamp_ms=stamp)
    producer.flush(20)
    producer.close()
    past = write(
        tmp_path, "past.toml", type="files", path="past.parquet", event_time="at", until=CUT,
        batch_rows=200,
    )  # fmt: skip
    live = write(
        tmp_path, "live.toml", type="kafka", topic=topic, bootstrap_servers=own_broker.bootstrap,
        start=CUT, until="end", group=f"g-{topic}", session_timeout_ms=SESSION_TIMEOUT_MS,
        max_records=100,
    )  # fmt: skip
    for pipeline in (past, live):
        run(pipeline, most=500)
        run(pipeline)
    state = State(past.store().state_dir, past.features())
    sketch = state.cut()[0]
    whole = Sketcher(SCHEMA, frequencies=16)
    whole.learn_many(pa.Table.from_pylist(ROWS))
    assert sketch.count == 3000 and (sketch.total == whole.sketch.total).all()
    assert past.store().snapshots.newest(Snapshot.from_bytes)[1].count == 3000


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_files_start_and_end_at_a_time(tmp_path, kind):
    from pyarrow import csv

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet") if kind == "parquet" else csv.write_csv(
        table, tmp_path / "a.csv"
    )
    pipeline = write(
        tmp_path, "p.toml", type="files", path=f"a.{kind}", event_time="at", until=CUT,
        start="2026-09-21T14:21:40Z",
    )  # fmt: skip
    run(pipeline)
    total = State(pipeline.store().state_dir, pipeline.features()).cut()[0]
    whole = Sketcher(SCHEMA, frequencies=16)
    whole.learn_many(pa.Table.from_pylist(ROWS[500:1500]))
    assert total.count == 1000 and (total.total == whole.sketch.total).all()


@pytest.mark.parametrize("wrong", [{"until": CUT}, {"until": "soon", "event_time": "at"}])
def test_wrong_times_are_told(tmp_path, wrong):
    pq.write_table(pa.Table.from_pylist(ROWS[:10]), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="until"):
        make_source(write(tmp_path, "p.toml", type="files", path="a.parquet", **wrong))
