import numpy as np
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.features import FeatureMap
from streamsketch.sampler import GaussianTarget, MixtureTarget, SampleTarget
from streamsketch.sampler.kernels import KERNELS, power, ratio, smoothed_norm, squared_distances

MIXTURE = {"means": [[0.0, 1.0], [3.0, -2.0]], "scales": [1.0, 0.4], "weights": [3.0, 1.0]}


@pytest.mark.parametrize(
    "kernel",
    [*(make() for make in KERNELS.values()), power(0.2, 0.3), ratio(0.5, 0.4)],
    ids=lambda k: k.name,
)
def test_closed_form_potential_gradient_and_spread_against_draws(kernel):
    target = MixtureTarget(**MIXTURE, kernel=kernel)
    rng = np.random.default_rng(0)
    z = target.sample(rng, 100_000)
    x = np.array([[0.0, 0.0], [3.0, -2.5], [6.0, 4.0]])
    sample = kernel.value(squared_distances(x, z))
    error = 5.0 * sample.std(axis=1) / np.sqrt(len(z))
    assert (np.abs(target.potential(x) - sample.mean(axis=1)) < error).all()
    step = 1e-5
    for j in range(2):
        e = np.eye(2)[j] * step
        numeric = (target.potential(x + e) - target.potential(x - e)) / (2 * step)
        assert np.allclose(target.gradient(x)[:, j], numeric, atol=2e-6)
    pairs = kernel.value(((z[:50_000] - z[50_000:]) ** 2).sum(axis=1))
    assert abs(target.spread - pairs.mean()) < 5.0 * pairs.std() / np.sqrt(pairs.size)


def test_norm_by_hypergeometric_function_and_by_gaussian_mixture_agree():
    x = np.random.default_rng(1).standard_normal((50, 5)) * 3.0
    exact, mixed = GaussianTarget(5), GaussianTarget(5, power(1e-6, 0.5))
    assert np.allclose(exact.potential(x), mixed.potential(x), atol=5e-6)
    assert np.allclose(exact.gradient(x), mixed.gradient(x), atol=1e-6)


def test_potential_far_outside_the_table_tends_to_the_distance():
    far = np.array([[1e4, 0.0]])
    assert np.isclose(GaussianTarget(2).potential(far)[0], 1e4, rtol=1e-6)
    assert np.allclose(GaussianTarget(2).gradient(far), [[1.0, 0.0]], atol=1e-6)


def test_mean_features_are_those_of_many_draws():
    target = MixtureTarget(**MIXTURE)
    fm = FeatureMap.from_frequencies(np.random.default_rng(2).standard_normal((2, 20)))
    drawn = fm.features(target.sample(np.random.default_rng(3), 100_000)).mean(axis=0)
    assert np.abs(target.mean_features(fm.omega) - drawn).max() < 5 / np.sqrt(100_000)


def test_samples_potential_is_exact_and_mini_batches_only_for_many_points():
    points = np.random.default_rng(4).standard_normal((500, 3))
    target = SampleTarget(points, smoothed_norm(0.0), batch_size=100)
    x = points[:4]
    exact = np.linalg.norm(x[:, None] - points[None], axis=-1).mean(axis=1)
    assert np.allclose(target.potential(x), exact)
    rng = np.random.default_rng(0)
    assert len(target.batch(rng).points) == 100
    assert SampleTarget(points).batch(rng).points is not None
    few = SampleTarget(points)
    assert few.batch(rng) is few


@pytest.mark.parametrize(
    ("means", "scales", "weights"),
    [
        ([[0.0]], [0.0], [1.0]),
        ([[0.0]], [1.0], [0.0]),
        ([[0.0]], [1.0], [1.0, 2.0]),
        ([[np.nan]], [1.0], [1.0]),
        ([[0.0], [1.0]], [1.0, 1.0], [-1.0, 2.0]),
    ],
)
def test_bad_mixtures_are_refused(means, scales, weights):
    with pytest.raises(ConfigError):
        MixtureTarget(means, scales, weights)


def test_bad_points_and_dimensions_are_refused():
    with pytest.raises(DataError, match="no points"):
        SampleTarget(np.zeros((0, 2)))
    with pytest.raises(DataError, match="NaN"):
        SampleTarget([[np.nan]])
    with pytest.raises(ConfigError):
        GaussianTarget(0)
