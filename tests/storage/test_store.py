"""The store, on local disk and behind fsspec."""

import os
import time
import uuid

import numpy as np
import pytest

from streamsketch import Schema, Sketcher, Snapshot, Store
from streamsketch.errors import ConfigError, DamagedFileError, StoreError


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(tmp_path / "store")
    return Store(f"memory://{uuid.uuid4()}", state=tmp_path / "state")


def snapshot(n=10, seed=0):
    sketcher = Sketcher(Schema.vectors(2, -1, 1), frequencies=8)
    sketcher.learn_many(np.random.default_rng(seed).uniform(-1, 1, (n, 2)))
    return sketcher.release()


def test_files_are_numbered_read_back_and_listed_in_order(store):
    assert store.snapshots.names() == [] and store.snapshots.newest(Snapshot.from_bytes) is None
    first, second = snapshot(10), snapshot(20)
    assert store.snapshots.put(first.to_bytes()) == "snapshot-00000000.safetensors"
    store.snapshots.put(second.to_bytes())
    name, newest = store.snapshots.newest(Snapshot.from_bytes)
    assert name == "snapshot-00000001.safetensors" and newest.id == second.id
    assert Snapshot.from_bytes(store.snapshots.read(store.snapshots.names()[0])).id == first.id


def test_a_damaged_newest_file_is_named_and_the_previous_one_used(store, caplog):
    store.snapshots.put(snapshot().to_bytes())
    store.snapshots.put(snapshot().to_bytes()[:-5])
    name, _ = store.snapshots.newest(Snapshot.from_bytes)
    assert name == "snapshot-00000000.safetensors"
    assert "snapshot-00000001" in caplog.text and "previous" in caplog.text


def test_retention_by_count_never_takes_the_newest(store):
    for _ in range(5):
        store.snapshots.put(b"x")
    assert len(store.snapshots.retain(keep=2)) == 3
    assert [store.snapshots.number(n) for n in store.snapshots.names()] == [3, 4]
    assert store.snapshots.retain(keep=None) == []


def test_retention_takes_nothing_before_there_are_too_many(store):
    for number in range(12):
        store.snapshots.put(b"x")
        assert store.snapshots.retain(keep=10) == (
            [] if number < 10 else [f"snapshot-{number - 10:08d}.safetensors"]
        )


def test_retention_by_age(tmp_path):
    store = Store(tmp_path)
    for _ in range(3):
        store.snapshots.put(b"x")
    for name in store.snapshots.names()[:2]:
        os.utime(store.snapshots.path(name), (0, time.time() - 1000))
    assert store.snapshots.retain(max_age=500) == []  # this process knows when it wrote them
    later = Store(tmp_path).snapshots
    assert len(later.retain(max_age=500)) == 2 and len(later.names()) == 1


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "snapshot-1.safetensors", "checkpoint-00000000.safetensors"]
)
def test_names_cannot_leave_the_folder(store, name):
    with pytest.raises(StoreError, match="not the name"):
        store.snapshots.read(name)


def test_state_is_private_and_a_remote_store_needs_a_local_folder(tmp_path):
    assert Store(tmp_path / "s").state_dir.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="local folder"):
        _ = Store("memory://somewhere").state_dir
    with pytest.raises(ConfigError, match="cannot be opened"):
        Store("nosuchprotocol://x")


# --- snapshots


def test_a_snapshot_survives_a_file_and_knows_its_operator(tmp_path):
    snap = snapshot()
    snap.save(tmp_path / "s")
    again = Snapshot.load(tmp_path / "s")
    assert again.id == snap.id and (again.mean == snap.mean).all() and again.schema == snap.schema
    assert (again.features.omega == snap.features.omega).all()
    assert again.release.mechanism == "none" and not again.release.private
    assert np.allclose(again.z.real, again.mean[:8]) and np.allclose(again.z.imag, again.mean[8:])


def test_a_damaged_snapshot_is_refused(tmp_path):
    (tmp_path / "s").write_bytes(b"garbage")
    with pytest.raises(DamagedFileError, match="damaged"):
        Snapshot.load(tmp_path / "s")


def test_an_empty_sketch_releases_a_finite_mean():
    snap = Sketcher(Schema.vectors(2, -1, 1), frequencies=8).release()
    assert snap.count == 0 and not snap.mean.any()
