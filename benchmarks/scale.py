"""What engines and second processes cost: processor time for the same rows and the same bits.

    python -m benchmarks.scale

On a machine that is shared nothing can be said of the wall clock, so all is processor time: a second
process is worth as much as the work it takes over without adding any. Run it on idle cores for times.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from streamsketch import Schema, Sketcher

RESULTS = Path(__file__).parent / "results" / "scale.json"
COLUMNS, FREQUENCIES = 10, 1024


def used(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of this process and of children that have ended, and what came of it."""

    def now() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    begun = now()
    found = work()
    return now() - begun, found


def sketch_files(paths: list[str]) -> Sketcher:
    """Sketch files in this process."""
    sketcher = Sketcher(Schema.vectors(COLUMNS, -5, 5), frequencies=FREQUENCIES)
    for path in paths:
        sketcher.learn_many(parquet.read_table(path))
    return sketcher


def apart(*arguments: str) -> "subprocess.Popen[bytes]":
    """This program in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.scale", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def child(how: str, paths: list[str]) -> None:
    """Do a part of the work and print the sum's digest."""
    if how == "spark":
        from pyspark.sql import SparkSession

        from streamsketch.spark import sketch

        os.environ["PYSPARK_PYTHON"] = sys.executable
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.log.level", "OFF")
            .getOrCreate()
        )
        schema = Schema.vectors(COLUMNS, -5, 5)
        if paths:
            made = sketch(
                session.read.parquet(*paths), schema, merge_tasks=0, frequencies=FREQUENCIES
            )
            print(json.dumps(made.sketch.total.tolist()))
        session.stop()
    elif how == "train":
        train(*map(int, paths))
    else:
        print(json.dumps(sketch_files(paths).sketch.total.tolist() if paths else []))


def train(rank: int, size: int, steps: int, port: int) -> None:
    """Train as one of `size` ranks."""
    import torch
    import torch.distributed as dist

    from streamsketch import fit

    torch.set_num_threads(1)
    rows = np.random.default_rng(0).normal(0, 0.3, (3000, 10)).clip(-1, 1)
    sketcher = Sketcher(Schema.vectors(10, -1, 1), frequencies=1024)
    sketcher.learn_many(rows)
    if size > 1:
        url = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=url, rank=rank, world_size=size)
    fit(sketcher.release(), steps=steps, seed=3, device="cpu", config={"batch": 4096})
    if size > 1:
        dist.destroy_process_group()


def together(*calls: list[str]) -> tuple[float, list[Any]]:
    """Run processes at the same time; their processor seconds, and what each printed."""

    def work() -> list[Any]:
        running = [apart(*call) for call in calls]
        said = [process.communicate()[0] for process in running]
        assert all(process.returncode == 0 for process in running)
        return [json.loads(text.splitlines()[-1]) if text else None for text in said]

    return used(work)


def main() -> None:
    """Measure, and write down."""
    if len(sys.argv) > 1 and sys.argv[1] in ("files", "spark", "train"):
        child(sys.argv[1], sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--steps", type=int, default=300)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for k in range(8):
            x = rng.normal(size=(asked.rows // 8, COLUMNS))
            table = pa.table({f"x{j}": x[:, j] for j in range(COLUMNS)})
            paths.append(f"{folder}/{k}.parquet")
            parquet.write_table(table, paths[-1])
        idle, _ = together(["files"])
        one, whole = together(["files", *paths])
        two, halves = together(["files", *paths[:4]], ["files", *paths[4:]])
        bare, _ = together(["spark"])
        spark, sparks = together(["spark", *paths])
    total = np.array(whole[0])
    assert (np.array(halves).sum(axis=0) == total).all() and (np.array(sparks[0]) == total).all()
    few = [together(["train", "0", "1", str(n), "0"])[0] for n in (1, asked.steps)]
    port = 20_000 + os.getpid() % 10_000
    pair = [
        together(*[["train", str(r), "2", str(n), str(port + n)] for r in (0, 1)])[0]
        for n in (1, asked.steps)
    ]
    found = {
        "rows": asked.rows,
        "one process, cpu s": one - idle,
        "two processes, cpu s": two - 2 * idle,
        "speed-up of two idle cores at most": 2 * (one - idle) / (two - 2 * idle),
        "spark with 2 cores, cpu s": spark - bare,
        "spark starts, cpu s": bare,
        "spark's share beyond one process": (spark - bare) / (one - idle) - 1,
        "training, 1 rank, cpu s": few[1] - few[0],
        "training, 2 ranks, cpu s": pair[1] - pair[0],
        "efficiency of 2 ranks at most": (few[1] - few[0]) / (pair[1] - pair[0]),
        "peak memory of a child, MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        >> 10,
        "load": os.getloadavg(),
    }
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
