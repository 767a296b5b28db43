"""The sampler as a whole, on generators whose law is known."""

import dataclasses

import numpy as np
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate import energy_distance
from streamsketch.sampler import METHODS, MixtureTarget, Sampler, SampleTarget, squared_distance
from streamsketch.schema import Schema
from streamsketch.snapshot import Release
from testing.toys import (
    MixtureGenerator,
    ToyGenerator,
    gaussian_generator,
    grid_points,
    snapshot_of,
)

GENERATOR = gaussian_generator(frequencies=512)
LAW = MixtureTarget([[0.0, 0.0]], [0.25])


def gain(x):
    return LAW.spread / (2 * len(x)) / squared_distance(x, LAW)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_obeys_the_contract(method, tmp_path):
    a = Sampler(GENERATOR, seed=5, method=method)
    table = a.sample(12)
    assert table.schema.equals(GENERATOR.schema.decode(np.zeros((1, 2), np.float32)).schema)
    assert table.num_rows == 12
    assert len(set(a.ids)) == 12
    assert a.history.count == 12
    b = Sampler(GENERATOR, seed=5, method=method)
    assert b.sample(12).equals(table)
    assert not a.sample(12).equals(table)
    assert a.sample(0).num_rows == 0
    assert a.history.count == 24
    path = tmp_path / "h"
    unique = Sampler(GENERATOR, method=method, unique=True, unique_capacity=500, history=path)
    rows = [tuple(r.values()) for _ in range(3) for r in unique.sample(20).to_pylist()]
    assert len(set(rows)) == 60


@pytest.mark.parametrize("target", ["data", "generator", "latent"])
def test_history_aware_outputs_gain_over_independent_ones(target):
    x = Sampler(GENERATOR, target=target, seed=0).sample_encoded(256)
    assert gain(x) > 6.0
    assert gain(Sampler(GENERATOR, method="iid").sample_encoded(256)) < 3.0


def test_energy_and_sobol_gain_too_and_batches_add_up():
    for method in ("energy", "sobol"):
        sampler = Sampler(GENERATOR, method=method)
        x = np.concatenate([sampler.sample_encoded(64) for _ in range(4)])
        assert gain(x) > 5.0


def test_optimised_latents_beat_the_greedy_start():
    greedy = Sampler(GENERATOR, target="latent", history_frequencies=512).sample_encoded(32)
    moved = Sampler(GENERATOR, target="latent", history_frequencies=512, solver="optimize")
    assert gain(moved.sample_encoded(32)) > gain(greedy)


def test_optimised_outputs_gain_against_the_data_sketch():
    assert gain(Sampler(GENERATOR, solver="optimize").sample_encoded(64)) > 5.0


def test_choice_against_the_data_sketch_repairs_an_imbalanced_generator():
    schema = Schema.vectors(2, -1.0, 1.0)
    rng = np.random.default_rng(0)
    balanced = np.ones(16)
    snapshot = snapshot_of(grid_points(balanced, 20_000, rng), schema, 512)
    generator = MixtureGenerator(0.8 ** np.arange(16), snapshot, schema)
    held = grid_points(balanced, 4000, rng)
    repaired = Sampler(generator, target="data").sample_encoded(512)
    faithful = Sampler(generator, target="generator", history_frequencies=256).sample_encoded(512)
    real = np.mean([energy_distance(grid_points(balanced, 512, rng), held) for _ in range(5)])
    assert energy_distance(repaired, held) < real
    assert energy_distance(faithful, held) > 5 * real


def test_the_generator_s_own_sketch_is_refined_and_survives_an_update(tmp_path):
    path = tmp_path / "h"
    sampler = Sampler(GENERATOR, target="generator", history_frequencies=128, history=path)
    sampler.sample(8)
    rows = sampler.history.pools["generator"]["rows"]
    sampler.sample(8)
    assert sampler.history.pools["generator"]["rows"] > rows
    sampler.update(gaussian_generator(scale=0.1, version="toy-2"))
    sampler.sample(8)
    assert sampler.history.pools["generator"]["generator"] == "toy-2"
    assert np.isfinite(sampler.history.residual("generator", 256)).all()


def test_refining_the_estimate_revises_what_was_owed():
    sampler = Sampler(GENERATOR, target="generator", history_frequencies=128, seed=2)
    x = np.concatenate([sampler.sample_encoded(16) for _ in range(3)])
    key, history = "generator", sampler.history
    held = history.operators[key]
    from streamsketch.sampler.herding import energy_map

    fm, _ = energy_map(2, held["m"], held["length"], held["seed"])
    expected = len(x) * history.pool_means[key] - fm.features(x).sum(axis=0)
    assert np.allclose(history.residual(key, expected.size), expected, atol=1e-3)


def collapsed():
    schema = Schema.vectors(2, -1.0, 1.0)
    snapshot = snapshot_of(np.zeros((100, 2)), schema, 64)
    return ToyGenerator(lambda z: 0.0 * z, 2, schema, snapshot)


@pytest.mark.parametrize("target", ["data", "generator", "latent"])
def test_a_generator_that_collapsed_to_a_point_gives_finite_rows(target):
    sampler = Sampler(collapsed(), target=target, history_frequencies=64)
    assert (sampler.sample_encoded(40) == 0.0).all()
    assert all(np.isfinite(p.residuals[target]).all() for p in sampler.history.parts.values())


@pytest.mark.parametrize("method", METHODS)
def test_unique_rows_of_a_collapsed_generator_run_out_with_a_reason(method):
    sampler = Sampler(collapsed(), method=method, unique=True, unique_capacity=100)
    with pytest.raises(DataError, match="only 1 of 5 unique rows"):
        sampler.sample(5)
    assert sampler.history.count == 0


def test_a_generator_that_draws_nan_is_refused():
    broken = ToyGenerator(lambda z: z * float("nan"), 2, GENERATOR.schema, GENERATOR.snapshot)
    for method in METHODS:
        with pytest.raises(DataError, match="NaN"):
            Sampler(broken, method=method).sample(3)


def test_more_rows_than_candidates_are_served_in_rounds():
    assert Sampler(GENERATOR, candidates=3).sample(50).num_rows == 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "nothing"},
        {"target": "nothing"},
        {"solver": "nothing"},
        {"candidates": 0},
        {"recent": -1},
        {"seed": -1},
        {"history_frequencies": 0},
        {"unique_capacity": 0},
    ],
)
def test_wrong_settings_are_refused_at_once(wrong):
    with pytest.raises(ConfigError):
        Sampler(GENERATOR, **wrong)


def test_wrong_calls_are_refused():
    with pytest.raises(ConfigError, match="n = -1"):
        Sampler(GENERATOR).sample(-1)
    with pytest.raises(ConfigError, match="forget"):
        Sampler(GENERATOR, forget=2.0).sample(1)
    bare = ToyGenerator(lambda z: z, 2, GENERATOR.schema, None)
    with pytest.raises(ConfigError, match='target="generator"'):
        Sampler(bare).sample(1)
    assert Sampler(bare, target="latent", history_frequencies=64).sample(2).num_rows == 2


def test_gain_is_read_off_the_history():
    sampler = Sampler(GENERATOR)
    assert np.isnan(sampler.gain())
    sampler.sample(64)
    assert sampler.gain() > 5.0


def test_without_a_history_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Sampler(GENERATOR).sample(4)
    assert list(tmp_path.iterdir()) == []


def test_sample_target_of_the_same_points_agrees():
    x = Sampler(GENERATOR).sample_encoded(64)
    pool = GENERATOR.sample_encoded(4000, seed=123)
    assert squared_distance(x, SampleTarget(pool)) < 0.25 * LAW.spread / 128


def noisy(generator, sigma):
    """The same generator with a release that noise of ``sigma`` per mean feature protects."""
    kept = generator.snapshot
    noise = sigma * np.random.default_rng(1).standard_normal(kept.mean.size)
    release = Release(mechanism="gaussian", noise_std=sigma * kept.count)
    snapshot = dataclasses.replace(kept, mean=kept.mean + noise, release=release)
    return ToyGenerator(generator.map, 2, generator.schema, snapshot)


def test_the_noise_of_a_private_release_is_not_chased():
    sampler = Sampler(noisy(GENERATOR, 0.2))
    assert gain(sampler.sample_encoded(512)) > 4.0


def test_taken_for_data_the_noise_would_make_it_worse_than_independent(monkeypatch):
    monkeypatch.setattr("streamsketch.sampler.matching.without_noise", lambda noisy, *rest: noisy)
    assert gain(Sampler(noisy(GENERATOR, 0.2)).sample_encoded(512)) < 1.0


def test_a_release_that_the_generator_contradicts_keeps_its_repair():
    schema = Schema.vectors(2, -1.0, 1.0)
    rng = np.random.default_rng(0)
    snapshot = snapshot_of(grid_points(np.ones(16), 20_000, rng), schema, 512)
    plain = MixtureGenerator(0.8 ** np.arange(16), snapshot, schema)
    release = Release(mechanism="gaussian", noise_std=0.01 * snapshot.count)
    mean = snapshot.mean + 0.01 * rng.standard_normal(snapshot.mean.size)
    private = dataclasses.replace(snapshot, mean=mean, release=release)
    held = grid_points(np.ones(16), 2000, rng)
    repaired = Sampler(MixtureGenerator(plain.weights, private, schema)).sample_encoded(256)
    assert energy_distance(repaired, held) < 0.2 * energy_distance(plain.sample_encoded(256), held)
