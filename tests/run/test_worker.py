"""The processes of a pipeline, run in place: what each leaves in the store."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from streamsketch import Generator, Schema, Snapshot, sampler
from streamsketch.run.config import load
from streamsketch.run.consume import run_ingest
from streamsketch.run.sample import sample_new
from streamsketch.run.supervisor import finish
from streamsketch.run.train import train_new
from streamsketch.run.worker import main, make_source
from streamsketch.storage.store import Family


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({f"x{j}": rng.uniform(-1, 1, 3000) for j in range(2)})
    pq.write_table(table, tmp_path / "rows.parquet")
    tables = {
        "source": {"type": "files", "path": "rows.parquet"},
        "sketch": {"frequencies": 64},
        "trainer": {"seconds": 1.0, "network": "cl-gn"},
        "sampler": {"rows": 20, "path": "drawn.csv"},
        "store": {"path": "store"},
        "schema": Schema.vectors(2, -1, 1).to_dict(),
    }
    (tmp_path / "p.toml").write_text(tomli_w.dumps(tables))
    return tmp_path / "p.toml"


def table_of_cells(file):
    """The same pipeline with cells: its generator is good however slow the machine is."""
    text = file.read_text().replace("frequencies = 64", "frequencies = 64\ncells = true")
    file.write_text(text.replace('network = "cl-gn"\n', ""))


def test_consume_train_and_sample_one_after_the_other(file):
    table_of_cells(file)
    pipeline = load(file)
    stop = threading.Event()
    progress = run_ingest(pipeline, make_source(pipeline), stop)
    assert progress.rows == 3000
    said = []
    assert train_new(pipeline, stop, watch=False, report=said.append) == 1
    assert "snapshot" in said[0] and "checkpoint" in said[-1]
    assert train_new(pipeline, stop, watch=False) == 0  # nothing new
    finish(pipeline.store().state_dir, "trainer")
    assert sample_new(pipeline, stop, ["trainer"]) == 20
    drawn = list(file.parent.glob("drawn*.csv"))
    assert sum(len(f.read_text().splitlines()) for f in drawn) == 21
    assert (file.parent / "store" / "history" / "history.safetensors").exists()
    name, checkpoint = pipeline.store().checkpoints.newest(Generator.from_bytes)
    _, snapshot = pipeline.store().snapshots.newest(Snapshot.from_bytes)
    assert checkpoint.snapshot.id == snapshot.id


def test_a_trainer_asked_to_end_ends_at_once_and_an_unfinished_training_is_taken_up(file):
    pipeline = load(file)
    run_ingest(pipeline, make_source(pipeline), threading.Event())
    text = file.read_text().replace("seconds = 1.0", "seconds = 600.0\ncheckpoint_seconds = 0.2")
    file.write_text(text)
    stop, store = threading.Event(), pipeline.store()

    def stop_after_a_checkpoint(figures):
        if store.checkpoints.names():
            stop.set()

    assert train_new(load(file), stop, report=stop_after_a_checkpoint) == 0
    assert store.checkpoints.newest(Generator.from_bytes)[1].metrics["stopped"] == "unfinished"
    assert train_new(pipeline, threading.Event(), watch=False) == 1


def test_a_wrong_role_or_file_is_exit_code_2(file, caplog):
    assert main(["dance", str(file)]) == 2
    assert main(["train", str(file.parent / "none.toml")]) == 2
    assert "role 'dance'" in caplog.text and "none.toml" in caplog.text


def test_a_file_is_looked_into_once_and_the_declared_method_is_the_one_used(file, monkeypatch):
    table_of_cells(file)
    file.write_text(file.read_text().replace("rows = 20", 'rows = 20\nmethod = "sobol"'))
    pipeline = load(file)
    run_ingest(pipeline, make_source(pipeline), threading.Event())
    train_new(pipeline, threading.Event(), watch=False)
    reads, used, looks = [], [], []
    read, make = Family.read, sampler.Sampler.__init__

    def counted(self, name):
        reads.append(name)
        return read(self, name)

    def noted(self, *given, **settings):
        used.append(settings["method"])
        make(self, *given, **settings)

    class Twice(threading.Event):
        def wait(self, timeout=None):
            looks.append(timeout)
            if len(looks) == 3:
                self.set()
            return self.is_set()

    monkeypatch.setattr(Family, "read", counted)
    monkeypatch.setattr(sampler.Sampler, "__init__", noted)
    assert sample_new(pipeline, Twice()) == 20
    assert len(reads) == 1 and len(looks) == 3 and used == ["sobol"]
