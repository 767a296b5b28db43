"""The mechanism inside the real pipeline: write-ahead, ledger copy, users, the end of the budget."""

import re
import threading

import numpy as np
import pyarrow as pa
import pytest

import streamsketch.run.consume as consumer
from streamsketch import Schema, Sketcher, Snapshot, Store
from streamsketch.errors import ConfigError, DamagedFileError, PrivacyError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy import Releaser, Settings
from streamsketch.privacy.clipping import user_limits
from streamsketch.privacy.ledger import LedgerCopy
from streamsketch.schema import Column
from streamsketch.storage.store import Family
from testing.sources import BareSource

SCHEMA = Schema([Column("x", "numeric", low=0, high=1000), Column("who", "user_id", "string")])
FM = FeatureMap.from_spec(Spec("gaussian", 1, 8, schema_hash=SCHEMA.hash))


class Killed(BaseException):
    """The process is gone."""


class Rows(BareSource):
    """Rows 0..n-1 of 7 users, ten per chunk."""

    def __init__(self, n):
        self.n = n

    def open(self, owner):
        self.next = (owner.claim("rows") or {"row": 0})["row"]

    def poll(self, timeout):
        if self.next >= self.n:
            self.finished = True
            return
        rows = range(self.next, min(self.next + 10, self.n))
        self.next += len(rows)
        batch = pa.record_batch(
            {"x": [float(r) for r in rows], "who": [f"u{r % 7}" for r in rows]}
        )
        yield Chunk("rows", {"row": self.next}, batch, (), {"row": rows[0]})


def ingest(folder, n, **more):
    settings = Settings(**{"rho": 0.5, "releases": 5, **more})
    store = Store(folder)
    return Ingest(
        Rows(n), SCHEMA, FM, State(store.state_dir, FM), store,
        lambda: Releaser(FM, SCHEMA, mechanism="toeplitz", settings=settings),
        schedule=Schedule(save_seconds=0.0, seconds=None, rows=20),
        limits=user_limits(settings),
    )  # fmt: skip


def run(folder, n, **more):
    one = ingest(folder, n, **more)
    one.run(threading.Event())
    return one


def snapshots(folder):
    family = Store(folder).snapshots
    return [Snapshot.from_bytes(family.read(name)) for name in family.names()]


def copy_lines(folder):
    return LedgerCopy(Store(folder)).text().splitlines()


def test_the_budget_ends_and_consuming_goes_on(tmp_path, caplog):
    one = run(tmp_path, 200)
    assert [s.release.index for s in snapshots(tmp_path)] == [0, 1, 2, 3, 4]
    assert one.state.cut()[0].count == 200
    assert "is spent" in caplog.text and "consuming goes on" in caplog.text
    assert len(copy_lines(tmp_path)) == 6  # opened once, five releases
    assert all(not s.span for s in snapshots(tmp_path))


def test_killed_between_saving_and_publishing_the_same_release_appears(tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    with monkeypatch.context() as m:
        m.setattr(Family, "put", killed)
        with pytest.raises(Killed):
            run(tmp_path, 40)
    assert snapshots(tmp_path) == []
    kept = Snapshot.from_bytes(
        State(Store(tmp_path).state_dir, FM).load_release()[0]["pending"].tobytes()
    )
    run(tmp_path, 60)
    assert snapshots(tmp_path)[0].id == kept.id
    assert [s.release.index for s in snapshots(tmp_path)] == list(range(len(snapshots(tmp_path))))


def test_killed_between_saving_and_the_copy_the_copy_is_completed(tmp_path, monkeypatch):
    def killed(*_):
        raise Killed

    with monkeypatch.context() as m:
        m.setattr(LedgerCopy, "extend", killed)
        with pytest.raises(Killed):
            run(tmp_path, 40)
    assert copy_lines(tmp_path) == []
    run(tmp_path, 60)
    # A torn last line is mended as well.
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    run(tmp_path, 80)
    assert len(copy_lines(tmp_path)) == 1 + len(snapshots(tmp_path))
    Releaser(FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5}).ledger.check_copy("")


def test_older_or_lost_state_does_not_refund(tmp_path):
    state = tmp_path / "state" / "release.safetensors"
    run(tmp_path, 20)
    old = state.read_bytes()
    run(tmp_path, 60)
    new = state.read_bytes()
    state.write_bytes(old)
    with pytest.raises(PrivacyError, match="older than what was released"):
        run(tmp_path, 80)
    state.unlink()
    with pytest.raises(PrivacyError, match="older than what was released"):
        run(tmp_path, 80)
    state.write_bytes(new[:-9])
    with pytest.raises(DamagedFileError):
        run(tmp_path, 80)
    state.write_bytes(new)
    run(tmp_path, 80)


def test_lost_sums_refuse(tmp_path):
    run(tmp_path, 40)
    for path in (tmp_path / "state" / "parts").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(PrivacyError, match="older than the ledger"):
        run(tmp_path, 20)


def test_changed_settings_refuse(tmp_path):
    run(tmp_path, 40)
    with pytest.raises(PrivacyError, match="cannot be changed"):
        run(tmp_path, 60, rho=5.0)


def test_users_are_limited_across_restarts(tmp_path):
    """Three rows per user and window, two windows: 7 users bring at most 42 rows of 200."""
    more = {"unit": "user", "windows": 2, "rows": 2, "releases": 20}
    for n in (45, 130, 200):
        one = run(tmp_path, n, **more)
    assert one.state.cut()[0].count == 7 * 2 * 2
    assert one.state.rows_since_release() < 20  # rows left out count for the schedule
    with pytest.raises(Exception, match="cannot be changed"):
        run(tmp_path, 210, **(more | {"windows": 3}))


def test_the_sketcher_keeps_the_same_rules():
    table = pa.table({"x": np.arange(50.0), "who": [f"u{i % 5}" for i in range(50)]})
    settings = {"rho": 0.5, "releases": 5, "unit": "user", "windows": 1, "rows": 3}

    def sketcher(**privacy):
        return Sketcher(SCHEMA, 8, mechanism="toeplitz", privacy=privacy)

    users = sketcher(**settings)
    users.learn_many(table)
    assert users.sketch.count == 15
    users.release()
    users.learn_many(table)
    assert users.sketch.count == 15
    with pytest.raises(ConfigError, match="no user ids"):
        users.learn_many(np.zeros((3, 1)))
    with pytest.raises(ConfigError, match="cannot be merged"):
        sketcher(**settings).merge(sketcher(**settings))
    a, b = sketcher(rho=0.5), sketcher(rho=0.5)
    a.learn_many(table)
    merged = a.merge(b)
    merged.release()
    for part in (a, b):
        with pytest.raises(PrivacyError, match="one budget"):
            part.release()
    with pytest.raises(ConfigError, match="released privately"):
        merged.merge(sketcher(rho=0.5))


def test_a_private_run_says_nothing_exact(tmp_path, caplog, capfd):
    with caplog.at_level("DEBUG"):
        one = run(tmp_path, 1237, rho=1e-4)
    said = caplog.text + "".join(capfd.readouterr()) + "\n".join(copy_lines(tmp_path))
    said += str(consumer._Figures(one, private=True)()) + repr(one.releases.new_releaser())
    assert not re.search(
        r"(?<![0-9a-f])1237(?![0-9a-f])", said
    )  # random names may hold the digits
    total = one.state.cut()[0].total
    assert not [v for v in total if len(str(v)) > 6 and str(v) in said]
