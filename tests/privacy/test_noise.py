"""The samplers draw what they claim, exactly where they claim it."""

import logging
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from streamsketch.errors import ConfigError
from streamsketch.privacy import noise


def source(seed: int = 0):
    return np.random.default_rng(seed).bytes


@pytest.mark.parametrize("sigma", [1, 3, 17])
def test_discrete_gaussian_frequencies(sigma):
    n = 200_000
    y = noise.discrete_gaussian(n, sigma, source(sigma))
    k = np.arange(-4 * sigma, 4 * sigma + 1)
    p = np.exp(-(k**2) / (2 * sigma**2))
    p /= np.exp(-(np.arange(-40 * sigma, 40 * sigma + 1) ** 2) / (2 * sigma**2)).sum()
    observed = np.array([(y == i).sum() for i in k])
    inside, expected = observed.sum(), n * p
    chi = ((observed - expected) ** 2 / expected).sum() + (n - inside - n * (1 - p.sum())) ** 2 / (
        n * (1 - p.sum())
    )
    assert stats.chi2.sf(chi, len(k)) > 1e-6
    # A continuous Gaussian rounded to integers of the same sigma is told apart at sigma = 1.
    if sigma == 1:
        wrong = np.rint(noise.gaussian(n, 1.0, source(9)))
        observed = np.array([(wrong == i).sum() for i in k])
        assert ((observed - expected) ** 2 / expected).sum() > 5 * len(k) + 200


def test_large_sigma_is_gaussian():
    sigma = 10**10
    y = noise.discrete_gaussian(50_000, sigma, source(2))
    assert stats.kstest(y / sigma, "norm").pvalue > 1e-4
    assert stats.kstest(noise.gaussian(50_001, 2.0, source(3)) / 2, "norm").pvalue > 1e-4


def test_exact_path_agrees_with_the_fast_path():
    """Forcing every decision through rational arithmetic gives the same decisions."""
    gamma = np.random.default_rng(5).random(400) * 3
    fast = noise._bernoulli_exp(gamma, source(1), lambda i: Fraction(float(gamma[i])))
    slow = noise._bernoulli_exp(gamma, source(1), lambda i: Fraction(float(gamma[i])), doubt=2.0)
    assert (fast == slow).all()


def test_a_tie_draws_more_bits():
    """A uniform whose 64 bits straddle the probability is settled by further bits, either way."""
    import math

    word = int(math.exp(-1) * 2**64)
    low, high = noise._exp_bounds(Fraction(1), 64)
    straddling = next(
        w
        for w in range(word - 4096, word + 4096)
        if Fraction(w, 2**64) < low and Fraction(w + 1, 2**64) > high
    )
    assert noise._settle(straddling, Fraction(1), lambda n: b"\0" * n) is True
    assert noise._settle(straddling, Fraction(1), lambda n: b"\xff" * n) is False


def test_uniform_below_has_no_modulo_bias():
    u = noise._below(60_000, 3, source(4))
    assert stats.chisquare(np.bincount(u, minlength=3)).pvalue > 1e-6
    assert (noise._below(10, 1, source(4)) == 0).all()


def test_sigma_is_checked():
    for bad in (0, -1, 1.5, 2**53, float("nan")):
        with pytest.raises(ConfigError, match="whole number"):
            noise.discrete_gaussian(1, bad)


def test_operating_system_noise_never_repeats_and_test_mode_is_loud(caplog):
    assert (noise.gaussian(100, 1.0) != noise.gaussian(100, 1.0)).all()
    assert (noise.discrete_gaussian(64, 2**30) != noise.discrete_gaussian(64, 2**30)).all()
    with caplog.at_level(logging.WARNING):
        noise.seeded_entropy(np.random.default_rng(0))
    assert "PRIVACY IS OFF" in caplog.text


def test_global_seed_does_not_reach_the_noise():
    np.random.seed(0)  # noqa: NPY002
    a = noise.gaussian(10, 1.0)
    np.random.seed(0)  # noqa: NPY002
    assert (noise.gaussian(10, 1.0) != a).all()
