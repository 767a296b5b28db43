"""HAW-C: the numbers that issue and study state, and the mutants that must fail them."""

import numpy as np
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate import energy_distance
from streamsketch.sampler import (
    GaussianTarget,
    MixtureTarget,
    SampleTarget,
    energy_points,
    signed_measure,
    squared_distance,
)
from streamsketch.sampler import energy as module
from streamsketch.sampler.kernels import power, ratio, squared_distances
from testing.toys import GRID

MIXTURE = MixtureTarget(GRID, np.ones(16))
GAUSSIAN = GaussianTarget(2)


def mean_kernel(x, y):
    return float(MIXTURE.kernel.value(squared_distances(x, y)).mean())


def measure_distance(x, on_target, y, on_history):
    """``d(delta_X, eta)^2`` for ``eta = on_target mu + on_history delta_Y``, by the definition."""
    cross = on_target * float(MIXTURE.potential(x).mean())
    own = on_target**2 * MIXTURE.spread
    if len(y):
        cross += on_history * mean_kernel(x, y)
        own += on_history**2 * mean_kernel(y, y)
        own += 2.0 * on_target * on_history * float(MIXTURE.potential(y).mean())
    return cross - 0.5 * mean_kernel(x, x) - 0.5 * own


def printed_measure(k, history_size):
    """The slide's eta, with denominator Kp + K: the mutant."""
    total = k + history_size
    return total / total, -history_size / total


def literal_loss(k, history_size):
    """The slide's displayed loss, (Kp + 1) mu - sum of histories, whatever k is: a mutant."""
    return history_size + 1.0, -float(history_size)


def test_signed_measure_has_mass_one_and_the_identity_holds():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((12, 2)) + 1.0
    total = np.vstack([y, x])
    for k, history in ((5, 12), (5, 0)):
        masses = signed_measure(k, history)
        assert sum(masses) == pytest.approx(1.0)
        everything = total if history else x
        left = measure_distance(x, masses[0], y[:history], masses[1])
        right = ((k + history) / k) ** 2 * squared_distance(everything, MIXTURE)
        assert abs(left - right) < 1e-10 * max(1.0, abs(right))


def test_the_printed_weights_break_the_identity():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((12, 2)) + 1.0
    masses = printed_measure(5, 12)
    left = measure_distance(x, masses[0], y, masses[1])
    right = (17 / 5) ** 2 * squared_distance(np.vstack([y, x]), MIXTURE)
    assert abs(left - right) > 0.1 * right


def test_squared_distance_is_the_evaluation_module_s_convention():
    rng = np.random.default_rng(1)
    points, sample = rng.standard_normal((30, 2)), rng.standard_normal((400, 2))
    target = SampleTarget(sample)
    assert squared_distance(points, target) == pytest.approx(
        energy_distance(points, sample), abs=3e-6
    )


def test_force_is_the_gradient_of_the_objective():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((4, 2)), rng.standard_normal((9, 2))
    force = module.force(GAUSSIAN, x, y)
    for i in range(4):
        for j in range(2):
            shift = np.zeros_like(x)
            shift[i, j] = 1e-5
            up = squared_distance(np.vstack([y, x + shift]), GAUSSIAN)
            down = squared_distance(np.vstack([y, x - shift]), GAUSSIAN)
            assert force[i, j] == pytest.approx((up - down) / 2e-5 * 13, abs=2e-5)


def test_sixteen_gaussians_get_three_points_each():
    exact, distances = 0, []
    for seed in range(10):
        points = energy_points(MIXTURE, 48, seed=seed, steps=300)
        nearest = squared_distances(points, GRID).argmin(axis=1)
        exact += int((np.bincount(nearest, minlength=16) == 3).all())
        distances.append(squared_distance(points, MIXTURE))
    assert exact >= 9
    assert max(distances) <= 0.0055
    assert MIXTURE.spread / 96 == pytest.approx(0.107, abs=5e-4)


def layers(points):
    radii = np.sort(np.linalg.norm(points, axis=1))
    cuts = np.sort(np.argsort(np.diff(radii))[-2:]) + 1
    return tuple(np.diff([0, *cuts, len(radii)]).tolist())


def test_seventeen_points_lie_in_the_paper_s_three_layers():
    for seed in range(5):
        points = energy_points(GAUSSIAN, 17, seed=seed)
        assert squared_distance(points, GAUSSIAN) <= 0.0072
        assert layers(points) in {(2, 7, 8), (3, 7, 7)}


def recursive(k, seed):
    history = np.zeros((0, 2))
    for batch in range(10):
        new = energy_points(GAUSSIAN, k, history, seed=100 * seed + batch, steps=300)
        history = np.vstack([history, new])
    return history


@pytest.mark.parametrize(("k", "limit"), [(1, 0.026), (10, 0.0009)])
def test_ten_recursive_batches(k, limit):
    assert max(squared_distance(recursive(k, seed), GAUSSIAN) for seed in range(5)) <= limit


@pytest.mark.parametrize("wrong", [printed_measure, literal_loss])
def test_the_printed_weights_fail_the_recursive_bound(monkeypatch, wrong):
    monkeypatch.setattr(module, "signed_measure", wrong)
    assert squared_distance(recursive(10, 0), GAUSSIAN) > 0.0009


def test_a_sample_stands_for_its_measure_also_in_mini_batches():
    sample = GAUSSIAN.sample(np.random.default_rng(3), 3000)
    for batch_size in (4096, 1000):
        target = SampleTarget(sample, batch_size=batch_size)
        points = energy_points(target, 20, seed=0, steps=300)
        assert squared_distance(points, GAUSSIAN) < GAUSSIAN.spread / 40 / 4


@pytest.mark.parametrize("kernel", [power(0.5, 0.3), ratio(1.0, 0.5)], ids=lambda k: k.name)
def test_other_kernels_choose_better_than_independent_draws(kernel):
    target = GaussianTarget(2, kernel)
    points = energy_points(target, 20, seed=0, steps=200)
    assert squared_distance(points, target) < target.spread / 40 / 4


def test_coincident_points_separate_without_nan():
    one_place = SampleTarget(np.zeros((50, 2)))
    assert np.isfinite(energy_points(one_place, 8, seed=0, steps=50)).all()
    twice = np.zeros((30, 2))
    points = energy_points(GAUSSIAN, 6, history=twice, seed=0, steps=200)
    assert np.isfinite(points).all()
    apart = squared_distances(points, points) + np.eye(6)
    assert apart.min() > 1e-4


def test_no_points_asked_for():
    assert energy_points(GAUSSIAN, 0).shape == (0, 2)


def test_same_seed_same_points():
    a, b = (energy_points(GAUSSIAN, 5, seed=7, steps=50) for _ in range(2))
    assert (a == b).all()


@pytest.mark.parametrize(
    ("k", "history", "error"),
    [
        (-1, None, ConfigError),
        (3, np.zeros((4, 3)), ConfigError),
        (3, np.array([[np.nan, 0.0]]), DataError),
    ],
)
def test_bad_calls_are_refused(k, history, error):
    with pytest.raises(error):
        energy_points(GAUSSIAN, k, history)


def test_the_solver_s_objective_is_the_squared_distance():
    """D2 of all points is (K / N) times the objective, up to what no new point changes."""
    rng = np.random.default_rng(4)
    y = rng.standard_normal((9, 2))
    for history in (y, y[:0]):
        total, scaled = [], []
        for _ in range(2):
            x = rng.standard_normal((4, 2))
            total.append(squared_distance(np.vstack([history, x]), GAUSSIAN))
            scaled.append(module._objective(GAUSSIAN, x, history) * 4 / (4 + len(history)))
        assert total[0] - total[1] == pytest.approx(scaled[0] - scaled[1], abs=1e-9)
