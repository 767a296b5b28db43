"""Rows a CPU second from a file or a topic into the sums of a table, with default settings.

    OMP_NUM_THREADS=1 python -m benchmarks.end_to_end FILE [--rows 200000] [--rounds 3] [--only csv,jsonl]

FILE is the Parquet file of Adult, repeated to that many rows. *Raw* is pyarrow's own reader (orjson or
pyarrow's IPC reader after the client, for Kafka); *source* is ours, with its rows dropped; *whole* is the
sketching process, down to a saved state: 1024 frequencies and the counts of all pairs. Peers, where they
are installed, count all pairs: polars and DuckDB by a `GROUP BY` a pair, from the file; RBFSampler is the mean
of 1024 features of one-hot rows. CPU seconds of the process with all its threads, the least of the rounds, in
turns. Writes benchmarks/results/end_to_end.json and the table of docs/performance.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from rich.console import Console
from streamsketch_consumers import files

from benchmarks.kernels import DOCS, markdown
from streamsketch import Schema, Sketcher
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.privacy.release import Releaser
from streamsketch.storage.store import Store

HERE = Path(__file__).parent
KINDS = ("parquet", "arrow", "csv", "jsonl", "kafka json", "kafka arrow")
Way = Callable[[], object]


class Owner:
    """Takes every part from its beginning."""

    def claim(self, part: str) -> None:
        return None

    def revoke(self, part: str) -> None:
        return None

    lose = revoke


def repeated(path: Path, rows: int) -> pa.Table:
    table = pq.read_table(path)
    return pa.concat_tables([table] * -(-rows // table.num_rows)).slice(0, rows).combine_chunks()


def write(folder: Path, table: pa.Table) -> None:
    """The table as each kind of file; texts are plain where the format has no dictionaries."""
    plain = pa.table(
        [c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for c in table.columns],
        table.column_names,
    )
    pq.write_table(table, folder / "rows.parquet", row_group_size=100_000)
    with pa.ipc.new_file(folder / "rows.arrow", plain.schema) as out:
        out.write_table(plain, max_chunksize=8192)
    pyarrow.csv.write_csv(plain, folder / "rows.csv")
    with (folder / "rows.jsonl").open("wb") as lines:
        lines.writelines(orjson.dumps(row) + b"\n" for row in plain.to_pylist())


def raw(kind: str, path: Path) -> int:
    """The rows as pyarrow's own reader finds them."""
    if kind == "parquet":
        return sum(b.num_rows for b in pq.ParquetFile(path).iter_batches())
    if kind == "arrow":
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_file(mapped) as file:
            return sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))
    if kind == "csv":
        return sum(b.num_rows for b in pyarrow.csv.open_csv(path))
    return int(pyarrow.json.read_json(path).num_rows)


def alone(make: Callable[[], Any]) -> int:
    """Our source, its rows dropped."""
    source, rows = make(), 0
    source.open(Owner())
    while not source.finished:
        for chunk in source.poll(0.5):
            rows += chunk.batch.num_rows if chunk.batch is not None else 0
            source.saved({chunk.part: chunk.position})
    source.close()
    return rows


def whole(make: Callable[[], Any], schema: Schema, features: Any) -> int:
    """The sketching process from the first row to a saved state."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Ingest(
            make(), schema, features, State(folder / "state", features), Store(folder / "store"),
            lambda: Releaser(features, schema), schedule=Schedule(seconds=None),
        )  # fmt: skip
        run.run(threading.Event())
        return run.state.cut()[0].count


def in_memory(schema: Schema, features: Any, table: pa.Table) -> Way:
    """Encoding and sums of rows that are in memory, in pieces as a source brings them."""
    batches = table.to_batches(max_chunksize=16_384)

    def learn() -> int:
        sketcher = Sketcher(schema)
        for batch in batches:
            sketcher.learn_many(batch)
        return sketcher.sketch.count

    return learn


def by_polars(kind: str, path: Path, names: list[str]) -> int:
    import polars as pl

    read = {"parquet": pl.read_parquet, "arrow": pl.read_ipc, "csv": pl.read_csv}
    frame = read.get(kind, pl.read_ndjson)(path)
    for pair in itertools.combinations(names, 2):
        frame.group_by(pair).len()
    return len(frame)


def by_duckdb(kind: str, path: Path, names: list[str]) -> int:
    import duckdb

    read = {"parquet": "read_parquet", "csv": "read_csv"}.get(kind, "read_json")
    with duckdb.connect(config={"threads": 1}) as base:
        base.execute(f"CREATE TABLE t AS SELECT * FROM {read}('{path}')")
        for one, two in itertools.combinations(names, 2):
            base.execute(f'SELECT "{one}", "{two}", count(*) FROM t GROUP BY 1, 2').fetchnumpy()
        return int(base.execute("SELECT count(*) FROM t").fetchall()[0][0])


def by_rbf(path: Path, schema: Schema) -> int:
    from sklearn.kernel_approximation import RBFSampler

    rows, sampler = 0, RBFSampler(n_components=1024, random_state=0)
    mean = np.zeros(1024)
    for batch in pq.ParquetFile(path).iter_batches(8192):
        x = schema.encode(batch).x
        mean += (
            sampler.fit_transform(x).sum(axis=0) if not rows else sampler.transform(x).sum(axis=0)
        )
        rows += len(x)
    return rows


def rates(ways: dict[str, Way], rows: int, rounds: int) -> dict[str, float]:
    """Rows a CPU second of each way; in each round every way has its turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first warms up
        for name, way in ways.items():
            start = time.process_time()
            got = way()
            found[name].append(time.process_time() - start)
            assert got in (rows, None), f"{name} saw {got} rows of {rows}"
    return {name: rows / min(seconds[1:]) for name, seconds in found.items()}


def ways_of_file(kind: str, path: Path, schema: Schema, features: Any) -> dict[str, Way]:
    def make() -> Any:
        return files.make({"path": str(path)}, schema)

    names = [c.name for c in schema.columns if c.encoded]
    ways: dict[str, Way] = {
        "raw": lambda: raw(kind, path),
        "source": lambda: alone(make),
        "whole": lambda: whole(make, schema, features),
    }
    if find_spec("polars"):
        ways["polars"] = lambda: by_polars(kind, path, names)
    if find_spec("duckdb") and kind != "arrow":
        ways["DuckDB"] = lambda: by_duckdb(kind, path, names)
    if kind == "parquet":
        ways["RBFSampler"] = lambda: by_rbf(path, schema)
    return ways


def ways_of_topic(
    bootstrap: str, form: str, table: pa.Table, schema: Schema, features: Any
) -> dict[str, Way]:
    """A topic of one partition: an object a row, or an IPC stream every 2000 rows."""
    from streamsketch_consumers.kafka import KafkaSource
    from streamsketch_consumers.kafka.settings import KafkaSettings

    from benchmarks import kafka_throughput as kafka

    if form == "json":
        messages = [orjson.dumps(row) for row in table.to_pylist()]
    else:
        messages = []
        for batch in table.to_batches(max_chunksize=2000):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as out:
                out.write_batch(batch)
            messages.append(sink.getvalue().to_pybytes())
    kafka.fill(bootstrap, form, messages)
    parse = kafka.parse_json if form == "json" else kafka.parse_arrow

    def make() -> Any:
        return KafkaSource(
            KafkaSettings(
                bootstrap_servers=bootstrap, topic=form, group=f"{form}-{time.monotonic_ns()}",
                format=form, until="end", commit=False,
            ),
            schema,
        )  # fmt: skip

    return {
        "raw": kafka.raw_confluent(bootstrap, form, len(messages), parse),
        "source": lambda: alone(make),
        "whole": lambda: whole(make, schema, features),
    }


def measured(given: argparse.Namespace) -> list[dict[str, Any]]:
    schema = Schema.from_toml(HERE / "adult_schema.toml")
    features: Any = Sketcher(schema).features
    table = repeated(given.file, given.rows)
    found = []
    wanted = given.only.split(",")

    def add(kind: str, ways: dict[str, Way]) -> None:
        got = rates(ways, given.rows, given.rounds)
        record: dict[str, Any] = {"rows from": kind}
        for name in ("raw", "source", "whole", "polars", "DuckDB", "RBFSampler"):
            record[name] = f"{got[name] / 1e6:.3g} M" if name in got else ""
        found.append(record)
        Console(width=120).print(record)

    learn = in_memory(schema, features, table)
    add("memory (Arrow)", {"whole": learn})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, table)
        for kind in KINDS[:4]:
            if kind in wanted:
                add(kind, ways_of_file(kind, folder / f"rows.{kind}", schema, features))
        topics = [kind for kind in KINDS[4:] if kind in wanted]
        if topics:
            from testing.broker import BrokerProcess

            broker = BrokerProcess(folder / "broker")
            for kind in topics:
                form = kind.removeprefix("kafka ")
                add(kind, ways_of_topic(broker.bootstrap, form, table, schema, features))
            broker.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(KINDS))
    given = parser.parse_args()
    found = measured(given)
    if given.only == ",".join(KINDS):
        (HERE / "results" / "end_to_end.json").write_text(json.dumps(found, indent=1) + "\n")
        text = DOCS.read_text()
        start, end = "<!-- end to end -->", "<!-- end end to end -->"
        head, rest = text.split(start)
        DOCS.write_text(f"{head}{start}\n{markdown(found)}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
