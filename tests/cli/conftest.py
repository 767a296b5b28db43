"""Calling the command in this process, and a store with something in it."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsketch.cli import main


class Called(NamedTuple):
    """What a call of the command came to."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Run `streamsketch ARGUMENTS...` and return its exit code and both outputs."""
    monkeypatch.setenv("COLUMNS", "200")
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        shown = capsys.readouterr()
        code = ended.value.code
        return Called(code if isinstance(code, int) else 0, shown.out, shown.err)

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


def rows(n: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    sort = pa.array(np.where(x + 0.3 * rng.normal(size=n) > 0, "up", "down"))
    return pa.table({"x": x, "y": x + 0.2 * rng.normal(size=n), "sort": sort})


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    parquet.write_table(rows(3000, 0), folder / "rows.parquet")
    parquet.write_table(rows(600, 1), folder / "held.parquet")
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, data: Path, call: Call) -> Path:
    """A pipeline file of small settings; its store is `tmp_path/store`."""
    made = call("init", data / "rows.parquet", "--label", "sort", "--store", "store")
    text = made.out.replace("frequencies = 1024 ", "frequencies = 128 ")
    text = text.replace("seconds = 60.0 ", "seconds = 1.0 ")
    path = tmp_path / "pipeline.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A store with two snapshots and a checkpoint, made once."""
    from streamsketch import Schema, Sketcher, Store, fit

    table = parquet.read_table(data / "rows.parquet")
    sketcher = Sketcher(Schema.propose(table, label="sort"), frequencies=128, conditional=True)
    store = Store(tmp_path_factory.mktemp("trained"))
    for part in (table.slice(0, 1000), table.slice(1000)):
        sketcher.learn_many(part)
        store.snapshots.put(sketcher.release().to_bytes())
    generator = fit(sketcher.release(), steps=5)
    store.checkpoints.put(generator.to_bytes())
    return Path(store.root)
