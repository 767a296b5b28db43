"""Rows per second of each source, alone and with sketching; memory over ten million rows.

    python -m benchmarks.sources [--rows 500000] [--frequencies 1024] [--memory-rows 10000000]

Ten float32 columns. `alone` polls the source and drops the rows; `sketching` also encodes and sums
them, as the pipeline does. Pipes, sockets and Flight are fed by another process on this machine.
The table counts processor seconds of the consuming process, all threads, which a busy machine
does not change much; the JSON file also has rows per second on the clock.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from streamsketch_consumers import arrow, files, flight

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.schema import Schema

D = 10
SCHEMA = Schema.vectors(D, -1, 1)
RESULTS = Path(__file__).parent / "results" / "sources.json"
CONSOLE = Console(width=110)

SEND_TCP = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s, open(sys.argv[2], "rb") as f:
    s.sendfile(f)
"""
SEND_FLIGHT = """
import sys, pyarrow as pa
from streamsketch_consumers.flight.client import FlightWriter
with FlightWriter(f"grpc://127.0.0.1:{sys.argv[1]}", "bench") as writer:
    for batch in pa.ipc.open_stream(sys.argv[2]):
        writer.write(batch)
"""


class Owner:
    """Takes every part from its beginning."""

    def claim(self, part: str) -> None:
        return None


def table(rows: int, seed: int = 0) -> pa.Table:
    x = np.random.default_rng(seed).uniform(-1, 1, (D, rows)).astype(np.float32)
    return pa.table({f"x{j}": x[j] for j in range(D)})


def write_files(folder: Path, rows: int) -> None:
    data = table(rows)
    pq.write_table(data, folder / "rows.parquet", row_group_size=100_000)
    pyarrow.csv.write_csv(data, folder / "rows.csv")
    with pa.ipc.new_file(folder / "rows.arrow", data.schema) as w:
        w.write_table(data, max_chunksize=8192)
    with pa.ipc.new_stream(folder / "rows.arrows", data.schema) as w:
        w.write_table(data, max_chunksize=8192)
    with (folder / "rows.jsonl").open("w") as f:
        for batch in data.to_batches(max_chunksize=10_000):
            f.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())


def drain(source: Any, rows: int, learn: Callable[[pa.RecordBatch], None]) -> tuple[float, float]:
    """Processor seconds, and seconds from the first row to the last."""
    n, begin, used = 0, None, time.process_time()
    while n < rows:
        for chunk in source.poll(1.0):
            if chunk.batch is not None:
                begin = begin or time.perf_counter()
                learn(chunk.batch)
                n += chunk.batch.num_rows
            source.saved({chunk.part: chunk.position})
    return time.process_time() - used, time.perf_counter() - (begin or 0.0)


def opened(kind: str, folder: Path) -> tuple[Any, list[str] | None]:
    """A source that is open, and the command that feeds it."""
    stream = str(folder / "rows.arrows")
    feeder: list[str] | None = None
    if kind == "named pipe":
        pipe = folder / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        source: Any = arrow.make({"path": str(pipe)}, SCHEMA)
        feeder = ["sh", "-c", f"cat {stream} > {pipe}"]
    elif kind == "TCP":
        source = arrow.make({"path": "tcp://127.0.0.1:0", "listen": True}, SCHEMA)
    elif kind == "Flight":
        source = flight.make({"port": 0}, SCHEMA)
    else:
        source = files.make({"path": str(folder / f"rows.{kind}")}, SCHEMA)
    source.open(Owner())
    if kind == "TCP":
        feeder = [sys.executable, "-c", SEND_TCP, str(source.address[1]), stream]
    elif kind == "Flight":
        feeder = [sys.executable, "-c", SEND_FLIGHT, str(source.port), stream]
    return source, feeder


def rate(
    kind: str, folder: Path, rows: int, learn: Callable[[pa.RecordBatch], None]
) -> tuple[float, float]:
    """Rows per processor second, and per second."""
    source, feeder = opened(kind, folder)
    process = subprocess.Popen(feeder) if feeder else None
    used, seconds = drain(source, rows, learn)
    if process is not None:
        process.wait(30)
    source.close()
    return rows / used, rows / seconds


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_curve(folder: Path, rows: int, fm: FeatureMap) -> list[tuple[int, float]]:
    """Resident memory (MB) against rows, over a folder that holds one file many times."""
    size = min(rows, 1_000_000)
    pq.write_table(table(size), folder / "part-000.parquet", row_group_size=200_000)
    for k in range(1, rows // size):
        os.link(folder / "part-000.parquet", folder / f"part-{k:03d}.parquet")
    source = files.make({"path": str(folder)}, SCHEMA)
    source.open(Owner())
    total, n, curve = np.zeros(fm.width, np.int64), 0, []
    while not source.finished:
        for chunk in source.poll(1.0):
            total += fm.sum(SCHEMA.encode(chunk.batch).x)
            n += chunk.batch.num_rows
            if n >= (len(curve) + 1) * rows // 20:
                curve.append((n, resident_mb()))
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--frequencies", type=int, default=1024)
    parser.add_argument("--memory-rows", type=int, default=10_000_000)
    args = parser.parse_args()
    spec = Spec("multiscale", D, args.frequencies, schema_hash=SCHEMA.hash)
    fm = FeatureMap.from_spec(spec, SCHEMA.blocks)
    total = np.zeros(fm.width, np.int64)

    def sketch(batch: pa.RecordBatch) -> None:
        np.add(total, fm.sum(SCHEMA.encode(batch).x), out=total)

    sketch(table(20_000).to_batches()[0])  # compile
    batch = table(8192).to_batches()[0]
    begin = time.process_time()
    for _ in range(40):
        sketch(batch)
    alone = 40 * 8192 / (time.process_time() - begin)

    shown = Table(
        title=f"{args.rows:,} rows, d = {D}, m = {args.frequencies}, {os.cpu_count()} cores"
    )
    for name in ("source", "alone, rows/cpu s", "sketching, rows/cpu s", "ratio"):
        shown.add_column(name, justify="left" if name == "source" else "right")
    results: dict[str, Any] = {"rows": args.rows, "m": args.frequencies, "sketch_only": alone}
    shown.add_row("(sketch only)", "", f"{alone:,.0f}", "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, args.rows)
        for kind in ("parquet", "arrow", "arrows", "csv", "jsonl", "named pipe", "TCP", "Flight"):
            raw, raw_clock = rate(kind, folder, args.rows, lambda batch: None)
            full, full_clock = rate(kind, folder, args.rows, sketch)
            results[kind] = {
                "alone": raw,
                "sketching": full,
                "alone_by_clock": raw_clock,
                "sketching_by_clock": full_clock,
            }
            shown.add_row(kind, f"{raw:,.0f}", f"{full:,.0f}", f"{full / raw:.3f}")
    CONSOLE.print(shown)
    with tempfile.TemporaryDirectory() as name:
        curve = memory_curve(Path(name), args.memory_rows, fm)
    results["memory"] = curve
    first, last = curve[len(curve) // 10][1], curve[-1][1]
    CONSOLE.print(
        f"resident memory over {args.memory_rows:,} rows: {first:.0f} MB after {curve[len(curve) // 10][0]:,}, "
        f"{max(mb for _, mb in curve):.0f} MB at most, {last:.0f} MB at the end"
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
