"""How long a budget lasts is told before it is spent, from public facts only."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsketch import Store
from streamsketch.cli.app import main
from streamsketch.privacy.horizon import made_in, outlook, pace_in
from streamsketch.privacy.ledger import Ledger, LedgerCopy

PIPELINE = """
[source]
type = "files"
path = "rows.parquet"
batch_rows = 100
[schema.x]
kind = "numeric"
type = "double"
low = 0
high = 1
[sketch]
frequencies = 8
[privacy]
mechanism = "toeplitz"
rho = 0.5
releases = 7
[snapshots]
rows = 1000
seconds = 3600
[trainer]
seconds = 1
[store]
path = "store"
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parquet.write_table(pa.table({"x": np.linspace(0, 1, 1234)}), "rows.parquet")
    (tmp_path / "p.toml").write_text(PIPELINE)
    return tmp_path / "p.toml"


def said(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert not ended.value.code
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("command", ["consume", "replay", "run"])
def test_a_private_run_tells_how_long_its_budget_lasts(pipeline, capfd, command):
    more = ["rows.parquet", "--pipeline"] if command == "replay" else []
    call = [command, *more, pipeline, *(["--no-sample"] if command == "run" else [])]
    first = " ".join(said(capfd, *call).split())
    told = "7 of 7 planned releases are left, one every 1 h or 1,000 rows read: it lasts at most 7 h or 7,000 rows"
    assert told in first
    made = made_in(Store("store"))
    assert 1 <= made < 7
    again = " ".join(said(capfd, "inspect", "store").split())
    assert f"{7 - made} of 7 planned releases are left" in again
    assert json.loads(said(capfd, "inspect", "store", "--json"))["budget"] in again
    assert f"{7 - made} of 7 planned" in " ".join(said(capfd, "consume", pipeline).split())


def test_without_a_mechanism_there_is_no_budget(pipeline, capfd):
    text = PIPELINE.replace("toeplitz", "none").replace("rho = 0.5\nreleases = 7\n", "")
    pipeline.write_text(text)
    assert "budget" not in said(capfd, "consume", pipeline) + said(capfd, "inspect", "store")


def test_windows_pace_the_releases(pipeline, capfd):
    pipeline.write_text(
        PIPELINE.replace("rows = 1000\nseconds = 3600", "")
        + '[windows]\ntime = "x"\nwidth = 86400\nwatermark = "clock"\n'
    )
    assert "one every 1 d: it lasts 7 d" in " ".join(said(capfd, "consume", pipeline).split())


def test_every_end_is_told():
    assert outlook(5, 2, made=10, seconds=1).startswith("privacy budget: spent, all 10 planned")
    assert outlook(5, 2, made=3, seconds=1).endswith("one every 1 s: it lasts 7 s")
    assert outlook(5).endswith("5 of 5 planned releases are left, one at the end of each run")
    assert outlook(None) == "privacy budget: endless"


def test_a_store_is_told_at_its_own_pace(tmp_path):
    store, ledger = Store(tmp_path), Ledger("s")
    assert pace_in(store) == "" and made_in(store) == 0
    settings = {"releases": 10, "epochs": 1}
    ledger.append("open", at="2026-01-01T00:00:00+00:00", charge=0.5, settings=settings)
    for hour in range(3):
        at = f"2026-01-01T0{hour}:00:00+00:00"
        ledger.append("release", at=at, epoch=0, index=hour)
    LedgerCopy(store).extend(ledger)
    assert pace_in(store).endswith("one every 1 h: it lasts 7 h (at the pace so far)")
    assert made_in(store) == 3
