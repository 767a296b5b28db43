"""The herding residual: weights, choice, drift, constant state."""

import numpy as np
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.features import FeatureMap
from streamsketch.features.frequencies import draw
from streamsketch.sampler import (
    GaussianTarget,
    Herding,
    MixtureTarget,
    energy_frequencies,
    energy_weights,
    squared_distance,
)
from streamsketch.sampler.herding import energy_map
from streamsketch.sampler.kernels import squared_distances
from testing.toys import GRID

GAUSSIAN = GaussianTarget(2)


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_energy_weights_of_chosen_frequencies_give_the_norm(d):
    length = GaussianTarget(d).spread
    omega, v = energy_frequencies(d, 2048, length)
    x = np.random.default_rng(0).standard_normal((50, d)) * 1.5
    apart = (1.0 - np.cos(x @ omega)) @ v
    norm = np.linalg.norm(x, axis=1)
    assert np.abs(apart - norm).max() < 0.1 * norm.mean()


@pytest.mark.parametrize("law", ["multiscale", "gaussian"])
def test_energy_weights_of_a_law_s_frequencies_order_distances_like_the_norm(law):
    omega = draw(law, 2, 4000, seed=0, scale=0.1 if law == "gaussian" else 1.0)
    v = energy_weights(omega)
    x = np.array([[0.2, 0.0], [0.5, 0.5], [-1.0, 0.3], [1.2, -1.0]])
    apart = (1.0 - np.cos(x @ omega)) @ v
    assert np.allclose(apart / np.linalg.norm(x, axis=1), 1.0, atol=0.2)


def test_frequency_zero_and_equal_radii_are_harmless():
    v = energy_weights(np.array([[0.0, 1.0, 1.0, -1.0]]))
    assert v[0] == 0.0
    assert np.isfinite(v).all()
    assert (v[1:] > 0).all()
    assert np.isfinite(energy_weights(np.zeros((2, 3)))).all()


def stream(target, n, *, candidates=200, k=8, seed=0, m=2048, guard=0.5, length=None):
    """``n`` outputs against a fixed closed-form target."""
    fm, v = energy_map(target.d, m, length or target.spread)
    selector = Herding(fm, v, guard=guard)
    z = target.mean_features(fm.omega)
    rng = np.random.default_rng(seed)
    residual, out = np.zeros(fm.width), np.zeros((0, target.d))
    for _ in range(n // k):
        x = target.sample(rng, candidates)
        choice = selector.choose(residual, z, x, k, out[-256:])
        residual, out = choice.residual, np.vstack([out, x[choice.rows]])
    return out, residual, selector, z


@pytest.mark.parametrize(
    "target", [GAUSSIAN, MixtureTarget(GRID, np.ones(16))], ids=["gaussian", "16 gaussians"]
)
def test_gain_at_1024_is_at_least_twenty(target):
    out, *_ = stream(target, 1024)
    assert target.spread / 2048 / squared_distance(out, target) >= 20.0


def test_gain_from_the_sketch_is_one_for_independent_draws():
    fm, v = energy_map(2, 512, GAUSSIAN.spread)
    selector = Herding(fm, v)
    z = GAUSSIAN.mean_features(fm.omega)
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(20):
        residual = selector.after(np.zeros(fm.width), z, GAUSSIAN.sample(rng, 200))
        gains.append(1.0 / selector.gain(residual, 200, z))
    assert 0.7 < np.mean(gains) < 1.3


def test_sketch_distance_is_the_energy_distance():
    fm, v = energy_map(2, 2048, GAUSSIAN.spread)
    selector = Herding(fm, v)
    x = np.random.default_rng(1).standard_normal((10, 2)) + 0.5
    z = GAUSSIAN.mean_features(fm.omega)
    exact = squared_distance(x, GAUSSIAN)
    assert selector.distance(fm.features(x).mean(axis=0), z) == pytest.approx(exact, rel=0.08)
    assert selector.spread(z) == pytest.approx(GAUSSIAN.spread, rel=0.02)


def test_choice_is_the_greedy_minimum_and_the_residual_is_what_it_says():
    rng = np.random.default_rng(2)
    fm = FeatureMap.from_frequencies(rng.standard_normal((2, 40)) * 2.0)
    v = rng.random(40)
    selector = Herding(fm, v, guard=0.0)
    x, z = rng.standard_normal((30, 2)), fm.features(rng.standard_normal((500, 2))).mean(axis=0)
    residual = rng.standard_normal(80)
    choice = selector.choose(residual, z, x, 3)
    twice, w, left = np.concatenate([v, v]), residual.copy(), list(range(30))
    for row in choice.rows:
        after = [(twice * (w + z - fm.features(x[i : i + 1])[0]) ** 2).sum() for i in left]
        assert left[int(np.argmin(after))] == row
        w = w + z - fm.features(x[row : row + 1])[0]
        left.remove(row)
    assert np.allclose(choice.residual, w)


def test_forgetting_fades_the_residual_per_output():
    fm = FeatureMap.from_frequencies([[1.0, 2.0, 0.5]])
    selector = Herding(fm, np.ones(3), forget=0.9)
    z = np.full(6, 0.3)
    x = np.array([[0.1], [0.7], [-2.0]])
    w = np.arange(6.0)
    expected = w.copy()
    for row in fm.features(x):
        expected = 0.9 * expected + z - row
    assert np.allclose(selector.after(w, z, x), expected)


def drifting(rule, seed):
    """1024 outputs while the target's mean walks from 0 to 3; D2 to the mixture over time."""
    steps, k = 64, 16
    means = np.stack([np.linspace(0.0, 3.0, steps), np.zeros(steps)], axis=1)
    over_time = MixtureTarget(means, np.ones(steps))
    fm, v = energy_map(2, 512, over_time.spread)
    selector = Herding(fm, v)
    rng = np.random.default_rng(seed)
    residual, out = np.zeros(fm.width), np.zeros((0, 2))
    for mean in means:
        now = MixtureTarget(mean[None], [1.0])
        z = now.mean_features(fm.omega)
        x = now.sample(rng, 300)
        if rule == "iid":
            out = np.vstack([out, x[:k]])
            continue
        if rule == "literal":
            residual = len(out) * z - (fm.features(out).sum(axis=0) if len(out) else 0.0)
        choice = selector.choose(residual, z, x, k, out[-256:])
        residual, out = choice.residual, np.vstack([out, x[choice.rows]])
    return squared_distance(out, over_time)


def test_under_drift_the_residual_beats_iid_fivefold_and_the_literal_rule_is_far_worse():
    residual, iid, literal = (
        np.mean([drifting(rule, seed) for seed in (0, 1)])
        for rule in ("residual", "iid", "literal")
    )
    assert residual < iid / 5
    assert literal > 10 * iid


def test_duplicates_and_a_collapsed_set_of_candidates_stay_finite():
    fm, v = energy_map(2, 128, 1.0)
    selector = Herding(fm, v)
    z = GAUSSIAN.mean_features(fm.omega)
    x = np.zeros((20, 2))
    choice = selector.choose(np.zeros(fm.width), z, x, 20, x)
    assert sorted(choice.rows.tolist()) == list(range(20))
    assert np.isfinite(choice.residual).all()


def test_the_window_keeps_near_duplicates_away():
    fm, v = energy_map(2, 64, GAUSSIAN.spread)
    z = GAUSSIAN.mean_features(fm.omega)
    rng = np.random.default_rng(5)
    x = GAUSSIAN.sample(rng, 100)
    recent = x[:60] + 1e-4
    kept = Herding(fm, v).choose(np.zeros(fm.width), z, x, 8, recent).rows
    assert (kept >= 60).all()
    loose = Herding(fm, v, guard=0.0).choose(np.zeros(fm.width), z, x, 8, recent).rows
    assert (loose < 60).any()


def test_where_every_candidate_is_near_the_farthest_is_taken():
    fm, v = energy_map(1, 16, 1.0)
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    recent = x + np.array([[0.01], [0.02], [0.3], [0.01]])
    z = np.zeros(fm.width)
    assert Herding(fm, v).choose(z, z, x, 1, recent).rows.tolist() == [2]


def test_bad_calls_are_refused():
    fm = FeatureMap.from_frequencies([[1.0, 2.0]])
    selector = Herding(fm, np.ones(2))
    with pytest.raises(ConfigError, match="k=3 of 2"):
        selector.choose(np.zeros(4), np.zeros(4), np.zeros((2, 1)), 3)
    with pytest.raises(DataError, match="NaN"):
        selector.choose(np.zeros(4), np.zeros(4), np.array([[np.nan]]), 1)
    with pytest.raises(ConfigError):
        Herding(fm, np.ones(3))
    with pytest.raises(ConfigError):
        Herding(fm, np.ones(2), forget=0.0)
    with pytest.raises(ConfigError):
        Herding(fm, np.ones(2), guard=-1.0)
    with pytest.raises(ConfigError):
        energy_frequencies(2, 64, 0.0)


def test_nearest_neighbours_are_farther_apart_than_in_independent_draws():
    def median_gap(x):
        gaps = squared_distances(x, x)
        np.fill_diagonal(gaps, np.inf)
        return np.median(np.sqrt(gaps.min(axis=1)))

    out, *_ = stream(GAUSSIAN, 512)
    assert median_gap(out) > median_gap(GAUSSIAN.sample(np.random.default_rng(0), 512)) * 1.2


def test_the_slowest_frequencies_stand_for_all_slower_ones():
    """The first cell takes int (r / r_1)^2 r^-2 dr from 0: the norm is right at its own scale."""
    rng = np.random.default_rng(0)
    for d in (1, 2, 4):
        theta = rng.standard_normal((d, 60_000))
        omega = theta / np.linalg.norm(theta, axis=0) * np.exp(rng.uniform(0.0, 5.0, 60_000))
        v = energy_weights(omega)
        x = np.eye(d)[:1] * np.array([[0.8]])
        apart = (1.0 - np.cos(x @ omega)) @ v
        assert np.allclose(apart / x[:, 0], 1.0, atol=0.025)


def test_of_candidates_chosen_together_none_are_near_duplicates():
    """All of the target lies where six candidates nearly coincide: one of them is enough."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (60, 2))
    x[:6] = 1e-5 * rng.standard_normal((6, 2))
    fm, v = energy_map(2, 256, 1.0)
    z = fm.features(np.zeros((1, 2)))[0]
    rows = Herding(fm, v).choose(np.zeros(fm.width), z, x, 8).rows
    assert (rows < 6).sum() == 1
    assert (Herding(fm, v, guard=0.0).choose(np.zeros(fm.width), z, x, 8).rows < 6).sum() > 1
