"""What a stream needs that no machine here can hold: 10^6 rows/s, 10^4 partitions, 10^12 rows, 500 columns.

    python -m benchmarks.planning           the plan, from sizes and speeds that are measured here
    python -m benchmarks.planning --check   the same plan for a hundredth, against the real thing (a minute)

Sizes follow from the operator; speeds are measured on this machine by processor time. Prices are
declared, not looked up: replace them by yours.
"""

import argparse
import json
import math
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.parts import State
from streamsketch.schema import Schema
from streamsketch.sketch import MOST_ROWS, Sketch

RESULTS = Path(__file__).parent / "results" / "planning.json"
DOCS = Path(__file__).parents[1] / "docs" / "concepts" / "planning.md"
COLUMNS = 500


@dataclass(frozen=True)
class Stream:
    """A stream, its operator, and what is assumed of the place where it is sketched."""

    rows_per_second: float = 1e6
    partitions: int = 10_000
    rows: float = 1e12
    columns: int = COLUMNS
    frequencies: int = 1024
    row_bytes: int = 8 * COLUMNS
    save_seconds: float = 60.0
    release_seconds: float = 600.0
    keep: int = 100
    core_hour: float = 0.04  # dollars
    million_puts: float = 5.0  # dollars
    million_gets: float = 0.4  # dollars
    fetched: float = (
        2e8  # bytes/s and core from Kafka in Arrow batches: benchmarks.kafka_throughput
    )


@dataclass(frozen=True)
class Speeds:
    """What one core of this machine does, by processor time.

    Attributes:
        row: Seconds to sketch a row.
        encode: Seconds to check and encode a row of an Arrow batch.
        part: Seconds to read a part's state (checksum included) and add it up.
        file: Bytes of a part's state beyond its sums.
    """

    row: float
    encode: float
    part: float
    file: float


def operator(columns: int, frequencies: int) -> tuple[Schema, FeatureMap]:
    """Columns of numbers, and their operator."""
    schema = Schema.vectors(columns, 0, 1)
    return schema, FeatureMap.from_spec(
        Spec("multiscale", columns, frequencies, schema_hash=schema.hash)
    )


def arrow(x: NDArray[np.float32]) -> pa.RecordBatch:
    """Rows as they come: columns of float64."""
    return pa.record_batch({f"x{j}": x[:, j].astype(np.float64) for j in range(x.shape[1])})


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Least processor time of a few tries."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def filled(folder: Path, features: FeatureMap, parts: int) -> State:
    """A state of so many parts."""
    state = State(folder, features)
    x = np.full((1, features.spec.d), 0.5, np.float32)
    for k in range(parts):
        part = state.claim(f"kafka:rows:{k}")
        part.sketch.update(features, x)
        part.position = {"offset": 1, "topic_id": "0" * 22, "epoch": 0}
        state.save(part)
    return state


def measured(columns: int, frequencies: int) -> Speeds:
    """The speeds of this machine."""
    schema, features = operator(columns, frequencies)
    rows = 4096
    x = np.random.default_rng(0).random((rows, columns), np.float32)
    batch = arrow(x)
    features.sum(schema.encode(batch).x[:64])  # compiles
    with tempfile.TemporaryDirectory() as folder:
        state = filled(Path(folder), features, 20)
        (first, *_) = (Path(folder) / "parts").glob("*.safetensors")
        return Speeds(
            seconds(lambda: features.sum(x)) / rows,
            seconds(lambda: schema.encode(batch)) / rows,
            seconds(state.cut) / 20,
            first.stat().st_size - 16 * frequencies,
        )


def plan(stream: Stream, speeds: Speeds) -> dict[str, float]:
    """Every number of the plan."""
    s = stream
    sums = 2 * s.frequencies * 8
    part = sums + speeds.file
    sketching = s.rows_per_second * speeds.row
    encoding = s.rows_per_second * speeds.encode
    fetching = s.rows_per_second * s.row_bytes / s.fetched
    cores = sketching + encoding + fetching
    hosts = math.ceil(cores / 16)
    fan = math.ceil(math.sqrt(s.partitions))
    return {
        "sums of one part, bytes": sums,
        "state of one part, bytes": part,
        "state of all parts, bytes": part * s.partitions,
        "rows read, bytes/s": s.rows_per_second * s.row_bytes,
        "cores that sketch": sketching,
        "cores that check and encode": encoding,
        "cores that fetch from Kafka": fetching,
        "hosts of 16 cores": hosts,
        "rows of a partition, rows/s": s.rows_per_second / s.partitions,
        "parts of a host": math.ceil(s.partitions / hosts),
        "sums in memory of a host, bytes": part * math.ceil(s.partitions / hosts),
        "written by saves, bytes/s": part * s.partitions / s.save_seconds,
        "requests of saves, 1/s": 2 * s.partitions / s.save_seconds,
        "rows read again after a crash of all": s.rows_per_second * s.save_seconds,
        "a release reads, bytes": part * s.partitions,
        "a release takes, core seconds": speeds.part * s.partitions,
        "Spark's driver receives without a tree, bytes": part * s.partitions,
        "tasks of a merge tree of two levels": fan,
        "Spark's driver receives with it, bytes": part * fan,
        "one snapshot, bytes": sums,
        "snapshots kept, bytes": sums * s.keep,
        "rows that int64 holds": MOST_ROWS,
        "times as many as the stream": MOST_ROWS / s.rows,
        "years until it is full": MOST_ROWS / s.rows_per_second / (365.25 * 86400),
        "days of the stream": s.rows / s.rows_per_second / 86400,
        "cores, dollars/day": cores * 24 * s.core_hour,
        "puts and gets of saves, dollars/day": 86400
        * s.partitions
        / s.save_seconds
        * (s.million_puts + s.million_gets)
        / 1e6,
        "gets of releases, dollars/day": 86400
        * s.partitions
        / s.release_seconds
        * s.million_gets
        / 1e6,
    }


def check(stream: Stream, speeds: Speeds) -> dict[str, tuple[float, float]]:
    """The plan's numbers beside what a hundredth of the stream does here: (planned, found)."""
    said = plan(stream, speeds)
    schema, features = operator(stream.columns, stream.frequencies)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tracemalloc.start()
        state = filled(Path(folder), features, stream.partitions)
        held = [state.claim(f"kafka:rows:{k}") for k in range(stream.partitions)]
        tracemalloc.clear_traces()
        before = tracemalloc.get_traced_memory()[0]
        held = [state.claim(part.part) for part in held]
        memory = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        sizes = [p.stat().st_size for p in (Path(folder) / "parts").glob("*.safetensors")]
        found["state of all parts, bytes"] = (said["state of all parts, bytes"], sum(sizes))
        found["sums in memory, bytes"] = (said["sums of one part, bytes"] * len(held), memory)
        found["a release takes, core seconds"] = (
            said["a release takes, core seconds"],
            seconds(state.cut, 1),
        )
        parts = [p.sketch for p in state.parts()]
    fan = int(said["tasks of a merge tree of two levels"])
    branches = [reduce(Sketch.merge, parts[k::fan]) for k in range(fan)]
    tree, flat = reduce(Sketch.merge, branches), reduce(Sketch.merge, parts)
    found["merge tree and flat sum, differing bits"] = (
        0, int((tree.total != flat.total).sum()),
    )  # fmt: skip
    received = sum(len(b.to_bytes()) for b in branches)
    found["Spark's driver receives with a tree, bytes"] = (
        said["Spark's driver receives with it, bytes"],
        received,
    )
    rows = int(stream.rows_per_second)
    x = np.random.default_rng(1).random((rows, stream.columns), np.float32)
    found["core seconds to sketch a second of the stream"] = (
        said["cores that sketch"],
        seconds(lambda: features.sum(x), 1),
    )
    batch = arrow(x)
    found["core seconds to encode a second of it"] = (
        said["cores that check and encode"],
        seconds(lambda: schema.encode(batch), 1),
    )
    whole = Sketch.zero(features)
    whole.update(features, x[:1])
    one = whole.total.copy()
    for _ in range(33):  # doubled to 8.6e9 rows, as many as a hundredth of the stream: still exact
        whole = whole.merge(whole)
    found["2^33 rows of one kind, differing bits"] = (
        0, int((whole.total != one * 2**33).sum()),
    )  # fmt: skip
    return found


def table(numbers: dict[str, float]) -> str:
    """The plan as a table of the page."""
    lines = ["| | |", "|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {shown(value)} |" for name, value in numbers.items())]
    )


def beside(found: dict[str, list[float]]) -> str:
    """The check as a table of the page."""
    lines = ["| | planned | found |", "|---|---|---|"]
    rows = (f"| {name} | {shown(a)} | {shown(b)} |" for name, (a, b) in found.items())
    return "\n".join([*lines, *rows])


def written(page: str, results: dict[str, Any]) -> str:
    """The page with both tables as the results have them."""
    for mark, text in (
        ("plan", table(results["plan"])),
        ("hundredth", beside(results["hundredth"])),
    ):
        before, _, rest = page.partition(f"<!-- {mark} -->\n")
        page = f"{before}<!-- {mark} -->\n{text}\n<!-- end {mark} -->{rest.partition(f'<!-- end {mark} -->')[2]}"
    return page


def shown(value: float) -> str:
    """Three digits."""
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-2):
        digits, power = f"{value:.2e}".split("e")
        return f"{digits} x 10^{int(power)}"
    return f"{value:.3g}" if value < 1000 else f"{round(value):,}"


def main() -> None:
    """Print the plan, or check it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    stream = Stream()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if asked.check:
        small = Stream(1e4, 100, 1e10)
        found = check(small, measured(small.columns, small.frequencies))
        results["hundredth"] = {name: list(both) for name, both in found.items()}
        for name, (planned, real) in found.items():
            print(f"{name:<50} planned {shown(planned):>14} found {shown(real):>14}")
    else:
        speeds = measured(stream.columns, stream.frequencies)
        results |= {"speeds": vars(speeds), "plan": plan(stream, speeds)}
        print(table(results["plan"]))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    DOCS.write_text(written(DOCS.read_text(), results))


if __name__ == "__main__":
    main()
