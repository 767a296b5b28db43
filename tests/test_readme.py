"""What the README and the page Start show runs, in their order."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from streamsketch import Schema, Sketcher
from tests.cli.conftest import Call, call  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()
START = (ROOT / "docs" / "index.md").read_text()
COLUMNS = ["origin", "distance", "air_time"]


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = parquet.read_table(ROOT / "data" / "nycflights13.parquet", columns=COLUMNS)
    rows = np.random.default_rng(0).choice(table.num_rows, 1500, replace=False)
    table = table.take(pa.array(rows))
    schema = Schema.propose(table)
    Path("pipeline.toml").write_text(schema.to_toml())
    csv.write_csv(table, "rows.csv")
    here, there = Sketcher(schema, 16), Sketcher(schema, 16)
    names = {
        "stream": table.slice(0, 400).to_batches(100),
        "here": here,
        "there": there,
        "held_out": table.slice(400),
    }
    blocks = re.findall(r"```python\n(.*?)```", TEXT + START, re.DOTALL)
    assert len(blocks) == 7
    for block in blocks[:2]:
        exec(compile(block, "README.md", "exec"), names)
    drawn = [names["table"]]
    for block in blocks[2:]:
        exec(compile(block, "docs/index.md", "exec"), names)
    drawn.append(names["rows"])
    for rows in drawn:
        assert isinstance(rows, pa.Table)
        assert rows.num_rows == 1000
        assert rows.column_names == COLUMNS


def test_its_commands_exist(call: Call) -> None:  # noqa: F811
    commands = set(re.findall(r"^streamsketch (\w+)", TEXT, re.MULTILINE))
    assert commands >= {"init", "run", "sample", "evaluate"}
    for command in commands:
        assert call(command, "--help").code == 0


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_manual_names_every_command(call: Call) -> None:  # noqa: F811
    manual = (ROOT / "docs" / "cli.md").read_text()
    told = call("--help").out
    for name in re.findall(r"^│ (\w+)  ", told, re.MULTILINE):
        assert f"`{name} " in manual or f"{name} bash" in manual, name
