"""A job of Structured Streaming for kill tests: files of rows, a pipeline over them, its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from streamsketch.ingest.parts import State
from streamsketch.run.config import Pipeline, load

ROOT = Path(__file__).parent.parent
PIPELINE = """
[source]
type = "spark"
format = "parquet"
columns = "x double, colour string"
options = {{ path = "{folder}/rows", maxFilesPerTrigger = "1" }}
merge_tasks = 0
{more}
[schema.x]
kind = "numeric"
low = -4.0
high = 4.0
[schema.colour]
kind = "categorical"
type = "string"
values = ["red", "green", "blue"]
[sketch]
frequencies = 16
[store]
path = "{folder}/store"
"""
CONF = """
spark.master local[2]
spark.ui.enabled false
spark.driver.host 127.0.0.1
spark.driver.bindAddress 127.0.0.1
spark.log.level OFF
spark.sql.shuffle.partitions 1
"""


def make(folder: Path, files: int, rows: int, more: str = "", seed: int = 0) -> Pipeline:
    """Write rows in so many files, one a batch, and the pipeline file beside them."""
    rng = np.random.default_rng(seed)
    (folder / "rows").mkdir(parents=True)
    for k in range(files):
        table = pa.table(
            {
                "x": rng.normal(0, 1, rows).clip(-4, 4),
                "colour": rng.choice(["red", "green", "blue", "pink"], rows, p=[0.5, 0.3, 0.19, 0.01]),
            }
        )  # fmt: skip
        parquet.write_table(table, folder / "rows" / f"{k:05d}.parquet")
    (folder / "conf").mkdir()
    (folder / "conf" / "spark-defaults.conf").write_text(CONF)
    (folder / "pipeline.toml").write_text(PIPELINE.format(folder=folder, more=more))
    return load(folder / "pipeline.toml")


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """`streamsketch spark pipeline.toml` in a process group of its own."""
    command = [sys.executable, "-m", "streamsketch", "spark", str(folder / "pipeline.toml")]
    with (folder / "job.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                "SPARK_CONF_DIR": str(folder / "conf"),
                "PYSPARK_PYTHON": sys.executable,
            },
        )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL for the driver, its virtual machine and its workers at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def saved(pipeline: Pipeline) -> tuple[int, int, NDArray[np.int64]]:
    """Last batch, rows that were set apart, and the sums, as saved; -1 before the first."""
    store = pipeline.store()
    parts = State(store.state_dir, pipeline.features(), store.records).parts()
    if not parts or parts[0].position is None:
        return -1, 0, np.zeros(0, np.int64)
    return parts[0].position["batch"], parts[0].dead, parts[0].sketch.total


def expected(pipeline: Pipeline) -> tuple[int, NDArray[np.int64]]:
    """Rows that are refused, and the sum of the others, in one pass."""
    table = parquet.read_table(pipeline.folder / "rows")
    rows, features = pipeline.schema.encode(table), pipeline.features()
    total: NDArray[np.int64] = features.sum(rows.x)
    return table.num_rows - len(rows.x), total
