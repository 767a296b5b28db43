import numpy as np
import pytest

from streamsketch.decode.atoms import (
    DiagonalGaussians,
    Diracs,
    FullGaussians,
    SphericalGaussians,
    StableLaws,
)

ATOMS = [Diracs, DiagonalGaussians, SphericalGaussians, FullGaussians, StableLaws]


def parameters(family, rng, d):
    low, high = np.full(d, -1.0), np.ones(d)
    box = family.box(low, high)
    assert box.shape == (family.size, 2)
    width = box[:, 1] - box[:, 0]
    return box[:, 0] + width * rng.uniform(0.3, 0.6, (2, family.size))


@pytest.mark.parametrize("make", ATOMS)
def test_gradient_and_rates_match_differences(make):
    rng = np.random.default_rng(3)
    d, m = 3, 7
    family = make(rng.normal(size=(d, m)))
    theta = parameters(family, rng, d)
    d_re, d_im = rng.normal(size=(2, m)), rng.normal(size=(2, m))

    def value(t):
        re, im = family.atoms(t)
        return float((re * d_re + im * d_im).sum()), re + 1j * im

    re, im = family.atoms(theta)
    gradient = family.gradient(theta, re, im, d_re, d_im)
    slopes = family.rates(theta) * (re + 1j * im)[:, None, :]
    for k in range(2):
        for i in range(family.size):
            step = np.zeros_like(theta)
            step[k, i] = 1e-6
            (up, a), (down, b) = value(theta + step), value(theta - step)
            assert gradient[k, i] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)
            np.testing.assert_allclose(slopes[k, i], ((a - b) / 2e-6)[k], rtol=1e-4, atol=1e-6)


def test_atoms_are_the_mean_features_of_their_laws():
    rng = np.random.default_rng(0)
    omega = rng.normal(size=(2, 5)) * 2
    mean, factor = np.array([0.3, -0.2]), np.array([[0.3, 0.0], [0.2, 0.25]])
    full = FullGaussians(omega)
    theta = np.concatenate([mean, factor[full.rows, full.columns]])[None]
    rows = mean + rng.normal(size=(200_000, 2)) @ factor.T
    re, im = full.atoms(theta)
    np.testing.assert_allclose((re + 1j * im)[0], np.exp(1j * rows @ omega).mean(0), atol=0.01)


def test_stable_law_of_index_one_is_cauchy_and_two_is_gaussian():
    rng = np.random.default_rng(1)
    omega = np.linspace(0.3, 3, 6)[None]
    family = StableLaws(omega)
    cauchy = 0.4 + 0.2 * rng.standard_cauchy((200_000, 1))
    re, im = family.atoms(np.array([[0.4, 0.2, 1.0]]))
    np.testing.assert_allclose((re + 1j * im)[0], np.exp(1j * cauchy @ omega).mean(0), atol=0.01)
    gauss = DiagonalGaussians(omega).atoms(np.array([[0.4, 2 * 0.2**2]]))
    np.testing.assert_allclose(family.atoms(np.array([[0.4, 0.2, 2.0]])), gauss, rtol=1e-12)
