"""Factors against closed forms, Monte Carlo and frozen values of jax-privacy 2.0.0."""

import math

import numpy as np
import pytest

from streamsketch.errors import ConfigError
from streamsketch.privacy import factorization as fx
from streamsketch.privacy.mechanisms import MECHANISMS, Plan, noise_multiplier, planned
from streamsketch.privacy.noise import seeded_entropy
from streamsketch.privacy.settings import Settings


def tree(releases: int) -> float:
    """Worst factor of the binary tree mechanism: the reference it is compared with."""
    t = np.arange(1, releases + 1)
    nodes = np.array([int(k).bit_count() for k in t])
    return math.sqrt(math.floor(math.log2(releases)) + 1) * math.sqrt(nodes.max())


@pytest.mark.parametrize(("releases", "factor"), [(10, 1.791), (100, 2.531), (1000, 3.265)])
def test_toeplitz_factor(releases, factor):
    assert noise_multiplier("toeplitz", releases=releases) == pytest.approx(factor, abs=6e-4)


def test_toeplitz_beats_the_references_by_what_the_study_says():
    assert math.sqrt(100) == 10.0
    assert tree(100) == pytest.approx(6.48, abs=0.01)
    assert noise_multiplier("toeplitz", releases=100) < tree(100) / 2.5
    closed_form = (math.log(1000) + np.euler_gamma + 4 * math.log(2)) / math.pi
    assert noise_multiplier("toeplitz", releases=1000) == pytest.approx(closed_form, rel=1e-4)


# Frozen from jax-privacy 2.0.0, buffered_toeplitz.optimize(n=..., error="max").
GOLDEN_BLT = {
    100: ((0.98886, 0.77299), (0.14603, 0.32354), 2.537),
    1000: ((0.998952, 0.978231, 0.741555), (0.044871, 0.121107, 0.310793), 3.270),
}


@pytest.mark.parametrize("releases", GOLDEN_BLT)
def test_blt_fit_equals_jax_privacy(releases):
    theta, omega, factor = GOLDEN_BLT[releases]
    blt = fx.fit_blt(releases)
    order = np.argsort(blt.theta)[::-1]
    np.testing.assert_allclose(np.array(blt.theta)[order], theta, atol=2e-5)
    np.testing.assert_allclose(np.array(blt.omega)[order], omega, atol=2e-5)
    assert noise_multiplier("blt", releases=releases) == pytest.approx(factor, abs=6e-4)


@pytest.mark.parametrize(("decay", "factor"), [(0.9, 1.45), (0.99, 2.14), (0.999, 2.86)])
def test_decayed_is_bounded_for_ever(decay, factor):
    from scipy.special import ellipk

    exact = 2 / math.pi * ellipk(decay**2)
    assert exact == pytest.approx(factor, abs=0.006)
    assert noise_multiplier("decayed", decay=decay) == pytest.approx(exact, rel=4e-3)
    # The exact square root of the decayed sum attains it.
    c = fx.square_root(40_000, decay)
    assert float(c @ c) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("panes", "releases", "factor"), [(10, 100, 1.92), (24, 100, 2.28), (100, 1000, 2.86)]
)
def test_sliding_factor(panes, releases, factor):
    assert noise_multiplier("sliding", releases, panes=panes) == pytest.approx(factor, abs=0.006)


def test_one_window_mechanisms_have_factor_one():
    assert noise_multiplier("gaussian") == pytest.approx(1.0)
    assert noise_multiplier("tumbling") == pytest.approx(1.0)


def test_strict_mode_costs_nothing_in_noise():
    strict = noise_multiplier("toeplitz", releases=100, strict=True)
    assert strict == pytest.approx(2.53135, abs=2e-4)
    assert noise_multiplier("decayed", None, decay=0.9, strict=True) == pytest.approx(
        1.45, abs=0.01
    )


@pytest.mark.parametrize(
    ("windows", "separation", "ratio"),
    [(5, 1, 4.30), (10, 1, 8.05), (10, 10, 5.49), (100, 1, 50.28)],
)
def test_user_windows(windows, separation, ratio):
    c = fx.square_root(100)
    found = fx.participation_norm(c, windows=windows, separation=separation)
    assert found / fx.participation_norm(c) == pytest.approx(ratio, abs=0.02)


def test_participation_is_the_worst_pattern():
    """The closed form is attained, and no pattern of windows exceeds it."""
    from itertools import combinations

    for c in (fx.square_root(12), fx.square_root_sliding(12, 3)):
        encoder = np.array([np.concatenate([np.zeros(j), c[: 12 - j]]) for j in range(12)])
        for windows, separation in ((2, 1), (3, 2), (3, 4)):
            bound = fx.participation_norm(c, windows=windows, separation=separation)
            patterns = [
                p
                for n in range(1, windows + 1)
                for p in combinations(range(12), n)
                if all(b - a >= separation for a, b in zip(p, p[1:], strict=False))
            ]
            # A unit may add vectors of any direction: signs are enough for the worst case here.
            worst = max(
                np.linalg.norm(np.array(signs) @ encoder[list(p)])
                for p in patterns
                for signs in np.ndindex(*(2,) * len(p))
                for signs in [1 - 2 * np.array(signs)]
            )
            assert worst <= bound * (1 + 1e-9)
            if np.all(c >= 0):
                assert worst == pytest.approx(bound)


def noisy(noiser, entropy, windows):
    """The noise of so many windows of zeros."""
    past, found = noiser.start(), []
    for _ in range(windows):
        value, past = noiser.next(past, np.zeros(noiser.width, np.int64), entropy)
        found.append(value)
    return found


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("toeplitz", {"releases": 30}),
        ("blt", {"releases": 30}),
        ("unbounded", {"releases": None}),
        ("decayed", {"releases": None, "decay": 0.8}),
        ("tumbling", {"releases": None}),
        ("sliding", {"releases": 30, "panes": 7}),
        ("toeplitz", {"releases": 30, "strict": True}),
        ("blt", {"releases": 30, "strict": True}),
        ("decayed", {"releases": None, "decay": 0.8, "strict": True}),
        ("sliding", {"releases": 30, "panes": 7, "strict": True}),
    ],
)
def test_noise_generator_has_the_covariance_the_plan_promises(name, settings):
    """The released values' noise: B z with the planned standard deviation at every release."""
    plan = planned(name, "landmark", {"rho": 1.0, **settings})[1]
    width, sigma = 40_000, 1000.0
    noiser = plan.noiser(width, sigma)
    entropy = seeded_entropy(np.random.default_rng(1))
    windows = np.array(noisy(noiser, entropy, 20))
    a = plan.memory.weights(20)
    A = np.array([np.concatenate([a[t::-1], np.zeros(19 - t)]) for t in range(20)])
    measured = (A @ windows).std(axis=1) / sigma
    promised = [plan.error(t) for t in range(20)]
    np.testing.assert_allclose(measured, promised, rtol=0.02)
    assert plan.error(29) * plan.participation <= plan.factor * (1 + 1e-6)


@pytest.mark.parametrize("strict", [False, True])
def test_worst_noise_at_rho_half_is_eighty(strict):
    """The issue's figure: m = 1000, T = 100, rho = 0.5: 80 +- 2 % (naive 316, tree 205)."""
    settings = Settings(rho=0.5, releases=100, strict=strict)
    plan = Plan("toeplitz", settings)
    sigma = settings.unit_norm(math.sqrt(1000)) / math.sqrt(2 * 0.5) * plan.participation
    assert sigma * plan.error(99) == pytest.approx(80.0, rel=0.02)
    noiser = plan.noiser(2001, sigma * 65536)
    entropy = seeded_entropy(np.random.default_rng(0))
    total = sum(noisy(noiser, entropy, 100))
    assert np.std(total) / 65536 == pytest.approx(80.0, rel=0.06)


def test_registry_is_covered_and_errors_name_the_remedy():
    assert set(MECHANISMS) == {
        "none", "gaussian", "toeplitz", "blt", "unbounded", "decayed", "tumbling", "sliding",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="choose one of none, gaussian"):
        noise_multiplier("laplace")
    with pytest.raises(ConfigError, match="no noise"):
        noise_multiplier("none")
    for name in ("toeplitz", "blt", "sliding"):
        with pytest.raises(ConfigError, match="set releases"):
            noise_multiplier(name)
    with pytest.raises(ConfigError, match="makes one release"):
        noise_multiplier("gaussian", releases=5)
    with pytest.raises(ConfigError, match="blt"):
        noise_multiplier("toeplitz", releases=50_000)
    assert noise_multiplier("blt", releases=1_000_000) < 5.5
    with pytest.raises(ConfigError, match="keep"):
        noise_multiplier("decayed", decay=1.5)
    with pytest.raises(ConfigError, match="panes"):
        noise_multiplier("sliding", 3, panes=0)
    with pytest.raises(ConfigError, match="endless"):
        fx.fit_blt(None)


def planned_variance(releases: int) -> float:
    """Worst variance of the square root planned for so many releases, in its closed form."""
    return ((math.log(releases) + np.euler_gamma + 4 * math.log(2)) / math.pi) ** 2


def test_unbounded_stays_near_the_bounded_optimum_at_every_release():
    plan = Plan("unbounded", Settings(rho=1.0, releases=None))
    horizon = planned_variance(2**24) ** 0.5
    for k in range(7, 25):
        variance = (plan.participation * plan.error(2**k - 1)) ** 2
        # the square root planned for 2**24, at the same release; and the one planned for 2**k
        assert variance <= 1.5 * horizon * planned_variance(2**k) ** 0.5
        assert variance <= 2.1 * planned_variance(2**k)
    assert (plan.participation * plan.error(2**40 - 1)) ** 2 < 3 * planned_variance(2**40)


def test_unbounded_is_one_mechanism_for_ever_with_smooth_noise_and_bounded_memory():
    plan = Plan("unbounded", Settings(rho=1.0, releases=None))
    c = plan.encoder.coefficients(2**16)
    assert np.linalg.norm(c) < plan.participation  # over all releases, not the first ones
    b = np.cumsum(fx.inverse(c))
    norms = fx.row_norms(b)
    assert np.allclose([plan.error(t) for t in (0, 9, 999, 65535)], norms[[0, 9, 999, 65535]])
    assert np.all(np.diff(norms) >= 0) and np.diff(norms)[1:].max() < 0.1
    noiser = plan.noiser(3, 1.0)
    entropy = seeded_entropy(np.random.default_rng(0))
    past = noiser.start()
    for _ in range(100):
        past = noiser.next(past, np.zeros(3, np.int64), entropy)[1]
    assert sum(a.size for a in past.values()) == 20 * 3
    with pytest.raises(ConfigError, match="strict"):
        Plan("unbounded", Settings(rho=1.0, releases=None, strict=True))


@pytest.mark.parametrize(("windows", "separation"), [(1, 1), (3, 2), (5, 100)])
def test_several_participations_without_end_in_closed_form(windows, separation):
    blt = fx.Blt((0.9, 0.5), (0.2, 0.3))
    long = fx.participation_norm(blt.coefficients(3000), windows=windows, separation=separation)
    assert blt.participation_norm(windows, separation) == pytest.approx(long, rel=1e-12)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("rho", [1e-20, 1e-24, 1e-30])
def test_noise_that_the_arithmetic_cannot_hold_is_refused(rho, strict):
    settings = Settings(rho=rho, releases=1, strict=strict)
    plan = Plan("gaussian", settings)
    sigma = settings.unit_norm(4.0) * 2**16 / math.sqrt(2 * rho)
    with pytest.raises(ConfigError, match="larger epsilon or rho"):
        plan.noiser(17, sigma)
