"""The containers' files fit the command they call. (No container engine runs here.)"""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from streamsketch.run.config import load
from streamsketch.run.worker import make_source
from tests.cli.conftest import Call, call  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent


def test_the_pipeline_loads_and_takes_the_produced_rows() -> None:
    pipeline = load(ROOT / "docker" / "pipeline.toml")
    from docker.produce import COLUMNS

    table = pq.read_table(ROOT / "data" / "nycflights13.parquet", columns=COLUMNS).slice(0, 2000)
    assert not pipeline.schema.encode(table).rejected
    make_source(pipeline).close()


def test_every_command_of_the_compose_file_exists(call: Call) -> None:  # noqa: F811
    text = (ROOT / "docker" / "compose.yaml").read_text()
    commands = re.findall(r"^    command: \[(\w+), ", text, re.MULTILINE)
    assert {"consume", "train", "serve"} <= set(commands)
    for command in set(commands):
        assert call(command, "--help").code == 0
    mounts = re.findall(r"- \./([\w.]+):/", text)
    assert mounts
    for name in mounts:
        assert (ROOT / "docker" / name).exists()


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "README.md", "LICENSE", "streamsketch", "consumers"]
)
def test_the_image_copies_what_there_is(name: str) -> None:
    assert name in (ROOT / "docker" / "Dockerfile").read_text()
    assert (ROOT / name).exists()
