"""Each example runs as its first lines say, and leaves a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from streamsketch import Schema, Sketcher

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = {
    "shapes": (["--points", "2000", "--seconds", "0.3"], ["shapes.png"]),
    "files": (
        ["--rows", "1200"],
        [
            "flights-columns.png",
            "flights-pairs.png",
            "flights-associations.png",
            "flights.parquet",
        ],
    ),
    "kafka": (["--rows", "2500", "--seconds", "0.5"], ["kafka.png"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path) -> None:
    settings, files = EXAMPLES[name]
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *settings, "--out", str(tmp_path / "new")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    for file in files:
        assert (tmp_path / "new" / file).stat().st_size > 5000
    if name == "kafka":
        assert "equal to an undisturbed pass: True" in done.stdout


def test_the_demo_goes_from_a_stream_to_a_report(tmp_path: Path) -> None:
    small = {"DEMO_ROWS": "4000", "DEMO_SECONDS": "1", "DEMO_OUT": str(tmp_path / "out")}
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env={**os.environ, **small},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert "consumer-0" in done.stdout and "Its live page" in done.stdout
    assert (tmp_path / "out" / "report" / "report.html").stat().st_size > 5000


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_an_engine_sums_to_the_bits_of_one_pass(engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    table = pq.read_table(ROOT / "data" / "adult.parquet").slice(0, 3000)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=700)
    alone = Sketcher(Schema.propose(table), frequencies=256)
    alone.learn_many(table)
    program = (
        f"from examples import {engine}_sketch as e\n"
        + ("e.ray.init(num_cpus=2, include_dashboard=False)\n" if engine == "ray" else "")
        + f"print(e.main([{str(tmp_path / 'rows.parquet')!r}]).total.sum())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split()[-1:] == [str(alone.sketch.total.sum())], done.stderr


def test_every_example_is_tested() -> None:
    # The Flight client needs a server, and runs against one in tests/consumers/test_flight.py.
    found = {p.stem for p in (ROOT / "examples").glob("*.py")}
    found -= {"__init__", "demo", "flight_client", "dask_sketch", "ray_sketch"}
    assert found == set(EXAMPLES)
