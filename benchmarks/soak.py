"""One hour at full speed, and 10^8 rows from files: memory, descriptors, lag, throughput, and `==`.

    python -m benchmarks.soak --minutes 60 [--format ndjson|arrow] [--picture docs/img/soak.png]
    python -m benchmarks.soak --files [--rows 100000000]

`streamsketch consume` reads in a process of its own; this one feeds it through a Kafka topic of
four partitions as fast as it saves (the topic never holds more than `AHEAD` bytes, the broker drops
what was saved) and looks at it every few seconds. The message of an offset is known, so at the end
the saved sums must `==` those of the messages, counted; the same holds for a folder that links to
one file many times.

Rows are counted per second of its processor, which a busy machine changes least.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from rich.console import Console

from streamsketch.ingest.parts import State
from streamsketch.run.config import Pipeline, load
from streamsketch.run.status import read_all
from streamsketch.schema import Schema
from testing.broker import BrokerProcess

D, M, PARTITIONS = 10, 1024, 4
SCHEMA = Schema.vectors(D, -4, 4)
TOPIC, POOL = "rows", 61  # so many different messages
ROWS = {"ndjson": 1000, "arrow": 20_000}  # a message
BAD = b"?\n"  # the first line of every tenth ndjson message
AHEAD = 3 << 26  # bytes that are written and not saved yet
RESULTS = Path(__file__).parent / "results"
CONSOLE = Console(width=110)
WARM_SECONDS = 60.0  # not judged: imports, first fetches, first releases
TICK = 1.0 / os.sysconf("SC_CLK_TCK")


# --- the sketching process, and what is seen of it from outside


class Watched:
    """`streamsketch consume` of a pipeline, in a process of its own.

    Args:
        folder: Of the pipeline file and its store.
        source: Its [source] table.
    """

    def __init__(self, folder: Path, source: dict[str, Any]) -> None:
        tables = {
            "source": source,
            "sketch": {"frequencies": M},
            "snapshots": {"seconds": 10.0, "keep": 20},
            "store": {"path": "store"},
            "schema": SCHEMA.to_dict(),
        }
        file = folder / "pipeline.toml"
        file.write_text(tomli_w.dumps(tables))
        self.pipeline: Pipeline = load(file)
        self.features = self.pipeline.features()
        self.store = self.pipeline.store()
        self.state = State(self.store.state_dir, self.features)
        self.log = (folder / "consume.log").open("wb")
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamsketch", "consume", str(file)],
            stdout=self.log,
            stderr=self.log,
        )

    def look(self) -> dict[str, float]:
        """What /proc, its status file and its store say now."""
        proc = Path(f"/proc/{self.process.pid}")
        stat = (proc / "stat").read_text().rpartition(")")[2].split()
        status = read_all(self.store.state_dir).get("consumer-0", {})
        names = self.store.snapshots.names()
        return {
            "seconds": time.monotonic() - self.begun,
            "cpu_s": (int(stat[11]) + int(stat[12])) * TICK,
            "threads": int(stat[17]),
            "rss_mb": int(stat[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
            "descriptors": len(list((proc / "fd").iterdir())),
            "rows": status.get("rows", 0),
            "dead": status.get("dead", 0),
            "lag": status.get("lag") or 0,
            "snapshots_kept": len(names),
            "snapshots_made": self.store.snapshots.number(names[-1]) + 1 if names else 0,
            "disk_mb": _size(Path(self.store.root)) / 1e6,
        }

    def end(self) -> None:
        """SIGTERM, unless it has ended by itself; the exit must be a clean one."""
        self.process.terminate()
        code = self.process.wait(60)
        if code:
            raise RuntimeError(f"consume ended with {code}: {Path(self.log.name).read_text()}")


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; those that vanish meanwhile count nothing."""
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return found


# --- an hour of Kafka


class Pool:
    """The messages, and what a partition that ends at some offset sums up to."""

    def __init__(self, form: str) -> None:
        rng = np.random.default_rng(0)
        self.tables, self.messages, self.bad = [], [], np.zeros(POOL, np.int64)
        for k in range(POOL):
            x = rng.standard_normal((ROWS[form], D)).astype(np.float32)
            self.tables.append(pa.table({f"x{j}": x[:, j] for j in range(D)}))
            self.bad[k] = form == "ndjson" and k % 10 == 0
            self.messages.append((BAD if self.bad[k] else b"") + _encode(self.tables[-1], form))

    def at(self, partition: int, offset: int) -> bytes:
        """The message of a place."""
        return self.messages[(offset + 7 * partition) % POOL]

    def expected(self, ends: list[int], features: Any) -> tuple[Any, int, int]:
        """Sum, rows and bad rows of partitions with these ends."""
        times = np.zeros(POOL, np.int64)
        for partition, end in enumerate(ends):
            whole, rest = divmod(end, POOL)
            times += whole
            times[(np.arange(rest) + 7 * partition) % POOL] += 1
        sums = np.stack([features.sum(SCHEMA.encode(table).x) for table in self.tables])
        rows = self.tables[0].num_rows
        return times @ sums, int(times.sum()) * rows, int(times @ self.bad)


def _encode(table: pa.Table, form: str) -> bytes:
    if form == "ndjson":
        return b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


class Feeder:
    """Keeps the topic ahead of what is saved, and the broker's disk small."""

    def __init__(self, bootstrap: str, pool: Pool) -> None:
        self.pool = pool
        patient = {"bootstrap_servers": bootstrap, "request_timeout_ms": 300_000}  # a busy machine
        self.admin = KafkaAdminClient(**patient)
        self.admin.create_topics({TOPIC: {"num_partitions": PARTITIONS, "replication_factor": 1}})
        self.producer = KafkaProducer(
            **patient,
            delivery_timeout_ms=3_600_000,
            linger_ms=5,
            batch_size=1 << 20,
            max_request_size=1 << 22,
        )
        self.sent = [0] * PARTITIONS
        self.dropped = 0
        self.most = AHEAD // max(map(len, pool.messages))

    def feed(self, saved: list[int]) -> None:
        """Send as much as fits; let the broker drop what is saved once that is much."""
        while sum(self.sent) - sum(saved) < self.most:
            partition = self.sent.index(min(self.sent))
            value = self.pool.at(partition, self.sent[partition])
            self.producer.send(TOPIC, value, partition=partition)
            self.sent[partition] += 1
        self.producer.flush(timeout=600)
        if sum(saved) - self.dropped > 2 * self.most:
            places = {TopicPartition(TOPIC, p): end for p, end in enumerate(saved)}
            self.admin.delete_records(places, timeout_ms=300_000)
            self.dropped = sum(saved)

    def close(self) -> None:
        self.producer.close()
        self.admin.close()


def offsets(state: State) -> list[int]:
    """The saved position of each partition."""
    found = {part.part: part.position for part in state.parts()}
    parts = [found.get(f"kafka:{TOPIC}:{p}") for p in range(PARTITIONS)]
    return [0 if position is None else int(position["offset"]) for position in parts]


@contextmanager
def a_broker(folder: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(folder)
    try:
        yield broker
    finally:
        broker.close()


def soak(folder: Path, minutes: float, form: str, every: float) -> dict[str, Any]:
    """Feed for so long, wait until all is saved, compare."""
    pool = Pool(form)
    with a_broker(folder / "broker") as broker:
        feeder = Feeder(broker.bootstrap, pool)
        source = {
            "type": "kafka",
            "bootstrap_servers": broker.bootstrap,
            "topic": TOPIC,
            "format": form,
            "max_records": 50,
            "fetch_bytes": 4 << 20,
        }
        watched = Watched(folder, source)
        seen: list[dict[str, float]] = []
        feeding = True
        while feeding or offsets(watched.state) != feeder.sent:
            if watched.process.poll() is not None:
                watched.end()
            feeding = time.monotonic() - watched.begun < 60 * minutes
            if feeding:
                feeder.feed(offsets(watched.state))
            if time.monotonic() - watched.begun >= every * (1 + len(seen)):
                seen.append(watched.look() | {"topic_mb": _size(folder / "broker") / 1e6})
                _say(seen[-1])
            time.sleep(0.2)
        feeder.close()
        watched.end()
    total, rows, bad = pool.expected(feeder.sent, watched.features)
    return {"format": form, "samples": seen, **_compared(watched.state, total, rows, bad)}


def _compared(state: State, total: Any, rows: int, bad: int) -> dict[str, Any]:
    sketch, _, read = state.cut()
    exact = sketch.count == rows and np.array_equal(sketch.total, total) and read == rows + bad
    return {"rows": int(sketch.count), "dead": int(read - sketch.count), "exact": bool(exact)}


# --- a folder of files


def files(folder: Path, rows: int, every: float) -> dict[str, Any]:
    """One file of a million rows, linked until there are so many rows, through the pipeline."""
    (folder / "data").mkdir()
    size = min(rows, 1_000_000)
    x = np.random.default_rng(1).standard_normal((size, D)).astype(np.float32)
    table = pa.table({f"x{j}": x[:, j] for j in range(D)})
    first = folder / "data" / "part-0000.parquet"
    pq.write_table(table, first, row_group_size=100_000)
    links = rows // size
    for k in range(1, links):
        os.link(first, folder / "data" / f"part-{k:04d}.parquet")
    watched = Watched(folder, {"type": "files", "path": "data"})
    seen: list[dict[str, float]] = []
    while watched.process.poll() is None:
        if time.monotonic() - watched.begun >= every * (1 + len(seen)):
            seen.append(watched.look())
            _say(seen[-1])
        time.sleep(0.1)
    watched.end()
    seconds = time.monotonic() - watched.begun
    one = watched.features.sum(SCHEMA.encode(table).x)
    found = _compared(watched.state, links * one, links * size, 0)
    return {"format": "parquet", "samples": seen, "seconds": seconds, **found}


# --- what came of it


def _say(seen: dict[str, float]) -> None:
    CONSOLE.print(
        f"{seen['seconds']:6.0f} s  {seen['rows']:>14,.0f} rows  {seen['rss_mb']:6.0f} MB  "
        f"{seen['descriptors']:.0f} descriptors  {seen['threads']:.0f} threads  "
        f"{seen['rows'] / seen['cpu_s']:>10,.0f} rows/cpu s  lag {seen['lag']:,.0f}"
    )


def drift(samples: list[dict[str, float]], warm: float) -> dict[str, Any]:
    """First and last quarter of the time after the warm-up, and the slope of memory.

    `rss_mb_per_hour` is the least-squares slope over the second half.
    """
    kept = [s for s in samples if s["seconds"] >= warm and s["rows"] > 0]
    while len(kept) > 1 and kept[-2]["rows"] == kept[-1]["rows"]:
        kept.pop()  # all was read
    if len(kept) < 8:
        return {}

    def speed(part: list[dict[str, float]], by: str) -> float:
        return (part[-1]["rows"] - part[0]["rows"]) / (part[-1][by] - part[0][by])

    quarter = len(kept) // 4
    first, last = kept[: quarter + 1], kept[-quarter - 1 :]
    late = kept[len(kept) // 2 :]
    slope = np.polyfit([s["seconds"] for s in late], [s["rss_mb"] for s in late], 1)[0]
    quarters = [kept[k * quarter : (k + 1) * quarter + 1] for k in range(4)]
    return {
        "rows_per_cpu_s": speed(kept, "cpu_s"),
        "rows_per_s": speed(kept, "seconds"),
        "rows_per_cpu_s_by_quarter": [speed(q, "cpu_s") for q in quarters],
        "rows_per_cpu_s_last_to_first": speed(last, "cpu_s") / speed(first, "cpu_s"),
        "rss_mb_first_last_most": [
            kept[0]["rss_mb"],
            kept[-1]["rss_mb"],
            max(s["rss_mb"] for s in kept),
        ],
        "rss_mb_per_hour": slope * 3600,
        "descriptors": [min(s["descriptors"] for s in kept), max(s["descriptors"] for s in kept)],
        "threads": [min(s["threads"] for s in kept), max(s["threads"] for s in kept)],
        "behind": sum(s["lag"] > 0 for s in kept) / len(kept),
    }


def picture(samples: list[dict[str, float]], path: Path) -> None:
    """Memory, rows per processor second, lag, descriptors and threads against minutes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    minutes = np.array([s["seconds"] for s in samples]) / 60
    rows, cpu = (np.array([s[k] for s in samples]) for k in ("rows", "cpu_s"))
    rate = np.diff(rows) / np.maximum(np.diff(cpu), 1e-9)
    figure, axes = plt.subplots(2, 2, figsize=(8, 4.4), sharex=True, layout="constrained")
    (memory, speed), (behind, counts) = axes
    memory.plot(minutes, [s["rss_mb"] for s in samples])
    memory.set(title="resident memory, MB", ylim=(0, None))
    speed.plot(minutes[1:], rate / 1e3)
    speed.set(title="thousand rows a processor second", ylim=(0, None))
    behind.plot(minutes, [s["lag"] for s in samples])
    behind.set(title="messages behind", xlabel="minutes", ylim=(0, None))
    counts.plot(minutes, [s["descriptors"] for s in samples], label="file descriptors")
    counts.plot(minutes, [s["threads"] for s in samples], label="threads")
    counts.plot(minutes, [s["snapshots_kept"] for s in samples], label="snapshots kept")
    counts.set(xlabel="minutes", ylim=(0, None))
    counts.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--format", choices=list(ROWS), default="ndjson")
    parser.add_argument("--files", action="store_true", help="read a folder of Parquet instead")
    parser.add_argument("--rows", type=int, default=10**8, help="of the folder")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between looks")
    parser.add_argument("--warm", type=float, default=WARM_SECONDS, help="seconds not judged")
    parser.add_argument("--name", default="soak", help="of the result file")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.files:
            found = files(folder, given.rows, given.every)
        else:
            found = soak(folder, given.minutes, given.format, given.every)
    found["drift"] = drift(found["samples"], given.warm)
    found |= {"m": M, "d": D, "cores": os.cpu_count(), "machine": platform.machine()}
    CONSOLE.print(
        f"{found['rows']:,} rows and {found['dead']:,} dead letters, sums "
        f"{'==' if found['exact'] else '!='}"
    )
    CONSOLE.print_json(json.dumps(found["drift"]))
    (RESULTS / f"{given.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    if given.picture:
        picture(found["samples"], given.picture)
    if not found["exact"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
