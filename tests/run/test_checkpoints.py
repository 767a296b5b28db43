"""What becomes of a generator that is of no use: it is marked, and never put over a better one."""

import numpy as np
import pytest

from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.run.checkpoints import put
from streamsketch.storage.store import Store
from streamsketch.verdict import verdict


@pytest.fixture(scope="module")
def snapshot():
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.9, 0.9, (20_000, 1))
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=256, seed=1)
    s.learn_many(np.hstack([x, x + rng.normal(0, 0.02, x.shape)]).clip(-1, 1))
    return s.release()


@pytest.fixture(scope="module")
def good(snapshot):
    return fit(snapshot, steps=300, network="cl-gn", config={"restarts": 1})


def test_a_trained_generator_is_of_use_and_one_after_five_steps_is_not(snapshot, good):
    assert good.metrics["useful"] and verdict(good.metrics)[0]
    hardly = fit(snapshot, steps=5, network="cl-gn", config={"restarts": 1})
    assert verdict(hardly.metrics)[1].endswith(
        "no better than noise: train longer ([trainer] seconds)"
    )


def test_no_step_is_marked_but_no_step_from_a_good_generator_is_good(snapshot, good):
    cold = fit(snapshot, seconds=1e-9)
    assert cold.metrics["useful"] is False and verdict(cold.metrics)[0] is False
    warm = fit(snapshot, seconds=1e-9, start=good)
    assert warm.metrics["steps"] == 0 and verdict(warm.metrics)[0]


def test_the_mark_is_in_the_file_and_nothing_is_put_over_a_better_one(tmp_path, snapshot, good):
    cold, store = fit(snapshot, seconds=1e-9), Store(tmp_path)
    first = put(store, cold, keep=3)
    assert first.name == "checkpoint-00000000.safetensors" and not first.good
    assert store.checkpoints.newest(Generator.from_bytes)[1].metrics["useful"] is False
    assert put(store, cold, keep=3).name == "checkpoint-00000001.safetensors"  # none is better
    assert put(store, good, keep=3).good
    kept = put(store, cold, keep=3)
    assert kept.name is None and "checkpoint-00000002.safetensors is better" in kept.said
    assert store.checkpoints.newest(Generator.from_bytes)[0] == "checkpoint-00000002.safetensors"


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, snapshot, good):
    store = Store(tmp_path)
    put(store, good, keep=3)
    store.checkpoints.put(b"torn")
    assert put(store, fit(snapshot, seconds=1e-9), keep=3).name is None
