"""Files that format 1 wrote stay readable, and mean what they meant."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from streamsketch import Generator, Sampler, Schema, Sketch, Snapshot, Store
from streamsketch.features import FeatureMap
from streamsketch.features.kernels.counts import add_counts
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import release_now
from streamsketch.privacy.release import Releaser
from streamsketch.storage.files import read_file
from tests.golden.make import points, table, table_schema

FILES = Path(__file__).parent / "golden" / "format-1"
SCHEMA = Schema.vectors(2, -1, 1)


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FILES, tmp_path / "f")
    return tmp_path / "f"


def test_a_sketch_is_the_sum_it_was(folder):
    sketch = Sketch.from_bytes(read_file(folder / "sketch.safetensors"))
    fm = FeatureMap.from_spec(sketch.spec, SCHEMA.blocks)
    again = fm.sum(SCHEMA.encode_array(points()), backend="reference")
    # the file was written by the compiled backend: a unit or two per row apart
    assert np.abs(again - sketch.total).max() <= 2 * 50 and sketch.count == 50


def test_a_snapshot_draws_the_same_frequencies(folder):
    snapshot = Snapshot.load(folder / "snapshot.safetensors")
    mean = snapshot.features.features(SCHEMA.encode_array(points())).mean(axis=0)
    assert np.abs(mean - snapshot.mean).max() < 1e-4
    assert snapshot.schema == SCHEMA and snapshot.release.mechanism == "none"


def test_a_snapshot_counts_the_same_cells(folder):
    """The layout is made again from schema and spec: what a cell means must never change."""
    snapshot = Snapshot.load(folder / "cells-snapshot.safetensors")
    schema, layout = snapshot.schema, snapshot.layout
    assert schema == table_schema()
    counts = np.zeros(layout.size, np.int64)
    add_counts(layout, layout.codes(schema.encode(table()).x), counts)
    assert (np.rint(snapshot.cells * snapshot.count) == counts).all()
    sketch = Sketch.from_bytes(read_file(folder / "cells-sketch.safetensors"))
    assert (sketch.total[16:] == counts).all() and sketch.spec == snapshot.spec
    assert len(layout.pairs) == 6 and len(layout.triples) == 2


def test_a_checkpoint_generates_and_its_history_goes_on(folder):
    generator = Generator.load(folder / "checkpoint.safetensors")
    assert generator.snapshot.id == Snapshot.load(folder / "snapshot.safetensors").id
    sampler = Sampler(generator, history=folder / "history.safetensors", seed=0, recent=8)
    assert sampler.history.count == 5
    assert sampler.sample(3).num_rows == 3 and sampler.history.count == 8


def test_saved_state_goes_on(folder):
    fm = Snapshot.load(folder / "snapshot.safetensors").features
    state = State(folder / "state", fm)
    part = state.claim("rows")
    assert part.position == {"row": 50} and part.sketch.count == 50
    part.sketch.update(fm, SCHEMA.encode_array(points(7)))
    part.position = {"row": 57}
    state.save(part)
    store = Store(folder / "store")
    snapshot = release_now(state, store, lambda: Releaser(fm, SCHEMA))
    assert snapshot.count == 57 and snapshot.release.index == 1
    assert store.snapshots.names()[-1] == "snapshot-00000001.safetensors"
