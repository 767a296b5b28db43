"""The history store: durable, shared, merged, forked; damage is named and refused."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from streamsketch.errors import DamagedFileError, SpecMismatchError, StoreError
from streamsketch.sampler import History, Sampler
from streamsketch.sampler.history import previous
from testing.toys import gaussian_generator

GENERATOR = gaussian_generator(frequencies=64)


def state(history):
    """Everything that decides what is drawn next."""
    residual = [
        array.tolist() for part in history.parts.values() for array in part.residuals.values()
    ]
    return history.count, history.draws, residual


def test_round_trip_keeps_everything(tmp_path):
    path = tmp_path / "history.safetensors"
    sampler = Sampler(GENERATOR, history=path, unique=True, unique_capacity=1000)
    sampler.sample(20)
    loaded = History.load(path)
    assert state(loaded) == state(sampler.history)
    assert loaded.inspect() == sampler.history.inspect()
    assert (loaded.recent["data"] == sampler.history.recent["data"]).all()
    assert (loaded.rows.bits == sampler.history.rows.bits).all()


def test_going_on_from_the_file_equals_not_stopping(tmp_path):
    path = tmp_path / "h"
    first = Sampler(GENERATOR, history=path, seed=3)
    straight = Sampler(GENERATOR, seed=3)
    for n in (10, 5):
        expected = straight.sample_encoded(n)
        assert (Sampler(GENERATOR, history=path, seed=3).sample_encoded(n) == expected).all()
    assert first.sample_encoded(4).shape == (4, 2)
    assert first.history.count == 19  # the file's outputs, not only its own


def test_state_is_of_constant_size(tmp_path):
    path = tmp_path / "h"
    sampler = Sampler(GENERATOR, history=path, recent=64, candidates=50)
    sampler.sample(300)
    size = path.stat().st_size
    sampler.sample(1200)
    assert abs(path.stat().st_size - size) < 1024  # digits of counts and ids


def test_a_generator_update_goes_on_and_another_operator_is_refused(tmp_path):
    path = tmp_path / "h"
    sampler = Sampler(GENERATOR, history=path)
    sampler.sample(8)
    newer = gaussian_generator(frequencies=64, version="toy-2", scale=0.3)
    sampler.update(newer)
    sampler.sample(8)
    assert [v["id"] for v in sampler.history.inspect()["generators"]] == ["toy-1", "toy-2"]
    other = gaussian_generator(frequencies=64, seed=1)
    with pytest.raises(SpecMismatchError) as refused:
        Sampler(other, history=path)
    assert GENERATOR.fingerprint in str(refused.value)
    assert other.fingerprint in str(refused.value)
    with pytest.raises(SpecMismatchError):
        sampler.update(other)
    assert sampler.sample(2).num_rows == 2


def test_settings_that_change_the_residual_s_map_are_refused():
    sampler = Sampler(GENERATOR, target="latent", history_frequencies=64)
    sampler.sample(4)
    with pytest.raises(SpecMismatchError, match="m=128"):
        Sampler(
            GENERATOR, target="latent", history_frequencies=128, history=sampler.history
        ).sample(4)


def test_forks_merge_and_count_their_common_past_once():
    base = Sampler(GENERATOR, seed=1)
    base.sample(10)
    fork = Sampler(GENERATOR, history=base.history.fork(), seed=1)
    a, b = base.sample_encoded(7), fork.sample_encoded(5)
    assert not {row.tobytes() for row in a} & {row.tobytes() for row in b}
    merged = base.history.merge(fork.history)
    assert merged.count == 22
    assert fork.history.merge(base.history).count == 22
    assert merged.merge(fork.history).count == 22
    z = GENERATOR.snapshot.mean
    both = base.history.residual("data", z.size) + fork.history.residual("data", z.size)
    shared = both - merged.residual("data", z.size)
    rebuilt = Sampler(GENERATOR, seed=1)
    rebuilt.sample(10)
    assert np.allclose(shared, rebuilt.history.residual("data", z.size))
    assert Sampler(GENERATOR, history=merged).sample(3).num_rows == 3


def test_histories_of_different_operators_do_not_merge():
    a, b = Sampler(GENERATOR), Sampler(gaussian_generator(frequencies=64, seed=1))
    a.sample(2)
    b.sample(2)
    with pytest.raises(SpecMismatchError):
        a.history.merge(b.history)


def test_a_damaged_file_is_named_refused_and_the_earlier_one_offered(tmp_path):
    path = tmp_path / "h"
    sampler = Sampler(GENERATOR, history=path)
    sampler.sample(6)
    sampler.sample(4)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError) as refused:
        Sampler(GENERATOR, history=path)
    assert str(path) in str(refused.value)
    assert "holds 6 outputs" in str(refused.value)
    assert History.restore(path).count == 6
    assert Sampler(GENERATOR, history=path).history.count == 6
    path.write_bytes(b"")
    previous(path).unlink()
    with pytest.raises(DamagedFileError, match="no earlier one"):
        History.load(path)
    with pytest.raises(StoreError):
        History.restore(path)


def test_reset_forgets_but_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "h"
    Sampler(GENERATOR, history=path).sample(6)
    History.reset(path)
    assert History.load(path).count == 0
    assert History.restore(path).count == 6


def test_nothing_is_issued_when_the_history_cannot_be_saved(tmp_path, monkeypatch):
    path = tmp_path / "h"
    sampler = Sampler(GENERATOR, history=path)
    sampler.sample(5)
    before = state(History.load(path))

    def full(*args, **kwargs):
        raise StoreError("disk full")

    monkeypatch.setattr("streamsketch.sampler.history.write_atomic", full)
    with pytest.raises(StoreError):
        sampler.sample(5)
    assert sampler.history.count == 5
    assert state(History.load(path)) == before


def _take(path, times):
    sampler = Sampler(GENERATOR, history=path, unique=True, unique_capacity=1000)
    for _ in range(times):
        sampler.sample(3)


def test_samplers_that_share_a_file_lose_nothing(tmp_path):
    path = tmp_path / "h"
    context = get_context("fork")
    workers = [context.Process(target=_take, args=(path, 5)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    history = History.load(path)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert history.count == 45
    assert history.rows.holds([]).size == 0


_VICTIM = """
import sys
sys.path.insert(0, sys.argv[2])
from streamsketch.sampler import Sampler
from testing.toys import gaussian_generator
sampler = Sampler(gaussian_generator(frequencies=64), history=sys.argv[1], candidates=50)
while True:
    sampler.sample(4)
    sys.stdout.write(f"{sampler.history.count}\\n")
    sys.stdout.flush()
"""


def test_kill_9_leaves_a_whole_history_with_all_that_was_returned(tmp_path):
    path = tmp_path / "h"
    root = str(Path(__file__).parents[2])
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(path), root],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    victim.stdout.readline()
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    returned = [int(line) for line in victim.stdout.read().split()]
    victim.wait()
    victim.stdout.close()
    held = History.load(path).count
    assert held % 4 == 0
    assert held >= max(returned, default=4)
    assert Sampler(GENERATOR, history=path).sample(4).num_rows == 4
    assert History.load(path).count == held + 4


def test_a_merged_history_goes_on_from_the_residual_of_all_writers():
    base = Sampler(GENERATOR, seed=1)
    base.sample(10)
    fork = Sampler(GENERATOR, history=base.history.fork(), seed=1)
    base.sample(7)
    fork.sample(5)
    merged = base.history.merge(fork.history)
    z, fm = GENERATOR.snapshot.mean, GENERATOR.snapshot.features
    sampler = Sampler(GENERATOR, history=merged, seed=1)
    x = np.concatenate([sampler.sample_encoded(3) for _ in range(3)])
    expected = merged.residual("data", z.size) + 9 * z - fm.features(x).sum(axis=0)
    assert np.allclose(sampler.history.residual("data", z.size), expected, atol=1e-6)
