"""The main job on real data: a broker, two consumers, a trainer, a sampler, a report.

`make demo` runs this. The flights that left New York City in 2013 are produced to a broker that
speaks the Kafka protocol, read once by two members of a consumer group over four partitions, and
kept as a sketch only: counts of pairs of cells beside random features. A generator learns them as
they come, and 1000 new flights are drawn that differ from each other. They are judged against
flights held out, which were never in the stream.
"""

import json
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = [
    "month", "carrier", "origin", "dest", "distance", "air_time", "sched_dep_time", "dep_delay", "arr_delay",
]  # fmt: skip
TOPIC = "flights"
PARTITIONS = 4


def say(text: str) -> None:
    print(text, flush=True)


def split() -> tuple[pa.Table, pa.Table]:
    """Flights for the stream, and every tenth at random held out."""
    table = pq.read_table(ROOT / "data" / "nycflights13.parquet", columns=COLUMNS)
    held = np.random.default_rng(0).random(table.num_rows) < 0.1
    return table.filter(pa.array(~held)), table.filter(pa.array(held))


def start_broker() -> Any:
    """The embedded broker, or None where it cannot run."""
    from testing.tansu import TansuProcess, Unavailable

    try:
        return TansuProcess()
    except Unavailable as e:
        say(
            f"No embedded broker on this machine ({e}): the flights are replayed from a file instead."
        )
        return None


def produce(bootstrap: str, table: pa.Table) -> None:
    """Write one JSON message per flight, spread over the partitions."""
    from kafka import KafkaAdminClient, KafkaProducer

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({TOPIC: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    admin.close()
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, batch_size=1 << 18)
    for batch in table.to_batches(max_chunksize=10_000):
        for k, row in enumerate(batch.to_pylist()):
            producer.send(TOPIC, json.dumps(row).encode(), partition=k % PARTITIONS)
    producer.flush()
    producer.close()


def write_pipeline(out: Path, source: dict[str, Any], table: pa.Table, seconds: float) -> Path:
    """The pipeline file: a schema proposed from the stream's first rows, and defaults."""
    import tomli_w

    from streamsketch import Schema

    path = out / "pipeline.toml"
    tables = {
        "source": source,
        "sketch": {"cells": True, "frequencies": 1024},
        "snapshots": {"seconds": 4.0, "save_seconds": 1.0},
        "trainer": {"seconds": seconds},
        "sampler": {"rows": 1000, "path": "flights.parquet"},
        "store": {"path": "store"},
        "schema": Schema.propose(table).to_dict(),
    }
    path.write_text(tomli_w.dumps(tables))
    return path


def run(path: Path) -> int:
    """`streamsketch run pipeline.toml`, with the status of each process now and then."""
    from streamsketch.cli.figures import line
    from streamsketch.run.config import load
    from streamsketch.run.status import Line
    from streamsketch.run.supervisor import Supervisor, children_of

    pipeline = load(path)
    children = children_of(str(path), pipeline.source.members, sample=True)
    shown = 0.0

    def show(lines: list[Line]) -> None:
        nonlocal shown
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            say("\n".join(map(line, lines)) + "\n")

    return Supervisor(children, pipeline.store().state_dir).run(threading.Event(), show)


def report(out: Path, held: pa.Table, stream: pa.Table) -> Path:
    """Score what was drawn between shuffled columns (floor) and other real flights (ceiling)."""
    from rich.console import Console

    from streamsketch.evaluate import evaluate
    from streamsketch.evaluate.report import write_report

    files = sorted(out.glob("flights*.parquet"))
    if not files:
        raise SystemExit(f"no flights were drawn; see {out}/store/state/logs")
    drawn = pq.read_table(files[-1])  # from the last checkpoint
    # a sample of the stream is enough for the anchors
    others = stream.take(np.random.default_rng(1).choice(stream.num_rows, 4000, replace=False))
    scores = evaluate(drawn, held, train=others, categorical=["month"], rows=2000)
    Console().print(scores.table("1000 new flights against flights held out"))
    return write_report(
        out / "report",
        drawn,
        held,
        scores,
        title=f"New flights from a sketch of {stream.num_rows:,} real ones",
    )


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    rows = int(os.environ.get("DEMO_ROWS", "0"))
    seconds = float(os.environ.get("DEMO_SECONDS", "40"))
    out = Path(os.environ.get("DEMO_OUT", ROOT / "demo-out"))
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began = time.monotonic()
    stream, held = split()
    stream = stream.slice(0, rows) if rows else stream
    broker = start_broker()
    try:
        if broker is not None:
            say(
                f"Producing {stream.num_rows:,} flights to a broker at {broker.bootstrap}, {PARTITIONS} partitions."
            )
            produce(broker.bootstrap, stream)
            source = {
                "type": "kafka", "bootstrap_servers": broker.bootstrap, "topic": TOPIC, "group": "demo",
                "members": 2, "until": "end", "session_timeout_ms": 6000,
            }  # fmt: skip
        else:
            pq.write_table(stream, out / "stream.parquet")
            source = {"type": "files", "path": "stream.parquet"}
        say(f"Produced after {time.monotonic() - began:.0f} s. Running the pipeline.")
        code = run(write_pipeline(out, source, stream, seconds))
    finally:
        if broker is not None:
            broker.close()
    if code:
        return code
    page = report(out, held, stream)
    say(
        f"\nThe report: {page}\nIts pictures: {page.parent}/*.png\nThe new flights: {out}/flights*.parquet"
    )
    say(f"Everything took {time.monotonic() - began:.0f} s.")
    command = Path(sys.executable).with_name("streamsketch")
    say(f"Its live page, with the run as it went: {command} serve {out / 'store'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
