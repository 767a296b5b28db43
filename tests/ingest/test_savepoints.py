"""Going back to a named state: the sums are those of then, to the last bit, and so is what follows."""

import subprocess
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from streamsketch import Schema, Sketcher, Snapshot
from streamsketch.cli import main
from streamsketch.errors import ConfigError, PrivacyError, StoreError
from streamsketch.ingest.parts import State
from streamsketch.ingest.savepoints import BEFORE, named, rewind, save_as
from streamsketch.run.config import load
from streamsketch.run.consume import run_ingest
from streamsketch.run.status import Status
from streamsketch.run.worker import make_source

SCHEMA = Schema.vectors(2, -1, 1)
X = np.random.default_rng(0).uniform(-1, 1, (900, 2))


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "in").mkdir()

    def write(mechanism="none", **privacy):
        tables = {
            "source": {"type": "files", "path": "in"},
            "sketch": {"frequencies": 16},
            "store": {"path": "store"},
            "schema": SCHEMA.to_dict(),
            "privacy": {"mechanism": mechanism, **privacy},
        }
        (tmp_path / "p.toml").write_text(tomli_w.dumps(tables))
        return tmp_path / "p.toml"

    return write


def consume(path, part):
    rows = X[300 * part : 300 * (part + 1)]
    pq.write_table(
        pa.table({f"x{j}": rows[:, j] for j in range(2)}), path.parent / f"in/{part}.parquet"
    )
    loaded = load(path)
    run_ingest(loaded, make_source(loaded), threading.Event())


def state_of(path):
    loaded = load(path)
    return State(loaded.store().state_dir, loaded.features())


def total(rows):
    s = Sketcher(SCHEMA, frequencies=16)
    s.learn_many(rows)
    return s.sketch.total


def call(*argv):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in argv])
    return ended.value.code or 0


def test_back_to_a_named_state_and_on_from_there(pipeline):
    path = pipeline()
    consume(path, 0)
    assert call("savepoint", path, "monday") == 0
    consume(path, 1)
    assert (state_of(path).cut()[0].total == total(X[:600])).all()
    assert call("rewind", path, "monday") == 0
    state = state_of(path)
    sketch, positions, rows = state.cut()
    assert (sketch.total == total(X[:300])).all() and rows == 300
    assert named(state) == [BEFORE, "monday"]
    consume(path, 2)  # reads 1 again as well, as at that time it had not been read
    assert (state_of(path).cut()[0].total == total(X)).all()
    store = load(path).store()
    name, snapshot = store.snapshots.newest(Snapshot.from_bytes)
    assert snapshot.count == 900 and store.snapshots.number(name) == 2  # above what was published
    assert call("rewind", path, BEFORE) == 0
    assert (state_of(path).cut()[0].total == total(X[:600])).all()


def test_a_former_owner_cannot_save_and_a_newer_part_is_forgotten(pipeline, tmp_path):
    features = load(pipeline()).features()
    state = State(tmp_path / "state", features)
    with pytest.raises(StoreError, match="nothing was saved"):
        save_as(state, "empty")
    first = state.claim("a")
    first.sketch.update(features, SCHEMA.encode_array(X[:10]))
    state.save(first)
    save_as(state, "then")
    state.save(state.claim("b"))
    assert rewind(state, "then") == ["a"]
    assert [p.part for p in state.parts()] == ["a"]
    with pytest.raises(StoreError, match="taken over"):
        state.save(first)


def test_names(pipeline, tmp_path):
    state = State(tmp_path / "state", load(pipeline()).features())
    state.save(state.claim("a"))
    for name in ("", "../x", ".hidden", "a/b", "x.tmp"):
        with pytest.raises(ConfigError, match="no name"):
            save_as(state, name)
    save_as(state, "a")
    with pytest.raises(ConfigError, match="already"):
        save_as(state, "a")
    with pytest.raises(ConfigError, match="there are: a"):
        rewind(state, "b")


def test_a_budget_forbids_it(pipeline, capsys):
    path = pipeline("gaussian", epsilon=1.0, delta=1e-5, releases=1)
    consume(path, 0)
    assert call("savepoint", path, "monday") == 1
    assert "the budget has paid for once" in capsys.readouterr().err
    # the state knows its promise, whatever the pipeline file says now
    with pytest.raises(PrivacyError, match="paid for once"):
        save_as(State(path.parent / "store" / "state", load(path).features()), "monday")


def test_a_running_pipeline_is_not_rewound(pipeline, capsys):
    path = pipeline()
    consume(path, 0)
    call("savepoint", path, "monday")
    status = Status(load(path).store().state_dir, "consumer-0")
    status.write({"rows": 1})  # this process: alive, not ended
    assert call("rewind", path, "monday") != 0
    assert "consumer-0 is running" in capsys.readouterr().err
    ended = subprocess.Popen(["true"])
    ended.wait()
    text = status.path.read_text().replace(
        f'"pid": {__import__("os").getpid()}', f'"pid": {ended.pid}'
    )
    status.path.write_text(text)
    assert call("rewind", path, "monday") == 0
