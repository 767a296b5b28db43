import numpy as np
import pytest
from scipy.stats import levy_stable

from streamsketch import Schema, Sketcher
from streamsketch.decode import StableMixture
from streamsketch.errors import ConfigError


def fitted(rows, bound, components, scale):
    s = Sketcher(Schema.vectors(rows.shape[1], -bound, bound), frequencies=300, scale=scale)
    s.learn_many(rows)
    return StableMixture(components).fit(s.release())


def test_one_dimensional_mixture_of_different_indices():
    rng = np.random.default_rng(0)
    a = levy_stable.rvs(1.2, 0, loc=-10, scale=1, size=24_000, random_state=rng)
    b = levy_stable.rvs(1.8, 0, loc=10, scale=2, size=16_000, random_state=rng)
    model = fitted(np.concatenate([a, b])[:, None], 2000, 2, 0.005)
    np.testing.assert_allclose(model.weights_, [0.6, 0.4], atol=0.02)
    np.testing.assert_allclose(model.locations_[:, 0], [-10, 10], atol=0.2)
    np.testing.assert_allclose(model.scales_, [1, 2], rtol=0.05)
    np.testing.assert_allclose(model.alphas_, [1.2, 1.8], atol=0.08)
    assert model.residual_ <= 1.2 * model.floor_


def test_isotropic_cauchy_in_two_dimensions_and_its_samples():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((20_000, 2)) / np.abs(rng.standard_normal((20_000, 1))) * 3 + 1
    model = fitted(rows, 3000, 1, 0.005)
    assert model.alphas_[0] == pytest.approx(1.0, abs=0.06)
    assert model.scales_[0] == pytest.approx(3.0, rel=0.05)
    drawn, labels = model.sample(40_000)
    assert labels.max() == 0
    for q in (0.1, 0.5, 0.9):
        ours, theirs = np.quantile(drawn[:, 0], q), np.quantile(rows[:, 0], q)
        assert ours == pytest.approx(theirs, abs=0.6)


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="whole number"):
        fitted(np.zeros((10, 1)), 1, "auto", 1.0)
