"""The structured laws: what they draw, and their kernels against dense frequencies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import ConfigError
from streamsketch.features import FeatureMap
from streamsketch.features.frequencies import LAWS as LAWS_OF_ALL
from streamsketch.features.frequencies import draw
from streamsketch.features.frequencies_structured import factors, walsh_hadamard
from streamsketch.features.kernels import (
    ONE,
    choose,
    cpu,
    fused,
    fused_structured,
    reference,
    structured,
)
from streamsketch.features.spec import Spec

LAWS = ["harmonic", "hadamard", "multiscale_harmonic", "multiscale_hadamard"]


def kernel(law):
    """The backend of a law."""
    return law.removeprefix("multiscale_")


def rows(n, d, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, d)).astype(np.float32)


SIZES = [(1, 1), (2, 9), (10, 100), (70, 130), (300, 40)]


@pytest.mark.parametrize(
    ("law", "d", "m"),
    [(law, *size) for law in LAWS[::2] for size in SIZES]
    + [(law, *size) for law in LAWS[1::2] for size in [(16, 1), *SIZES[3:]]],
)
def test_agrees_with_the_reference(law, d, m):
    fm = FeatureMap.from_spec(Spec(law, d, m, scale=1.7, seed=5))
    x = rows(200, d)
    difference = np.abs(fm.sum(x, backend=kernel(law)) - fm.sum(x, backend="reference"))
    phase = np.abs(x).astype(float) @ np.abs(fm.omega) + np.linalg.norm(fm.omega, axis=0)
    slack = ONE * (d + 24) * 2.0**-24 * phase.sum(axis=0)
    assert (difference.reshape(2, m) <= slack + 0.2 * len(x) + 3).all()


@settings(max_examples=25, deadline=None)
@given(
    law=st.sampled_from(LAWS),
    d=st.integers(16, 24),
    m=st.integers(1, 20),
    n=st.integers(1, 300),
    cut=st.integers(0, 300),
)
def test_bits_do_not_depend_on_the_split(law, d, m, n, cut):
    fm = FeatureMap.from_spec(Spec(law, d, m))
    x = rows(n, d)
    cut = min(cut, n)
    whole = fm.sum(x, backend=kernel(law))
    assert (
        fm.sum(x[:cut], backend=kernel(law)) + fm.sum(x[cut:], backend=kernel(law)) == whole
    ).all()
    assert (fm.sum(np.asfortranarray(x[::-1]), backend=kernel(law)) == whole).all()


@pytest.mark.parametrize("law", LAWS)
def test_threads_blocks_and_other_types(law, monkeypatch):
    fm = FeatureMap.from_spec(Spec(law, 16, 300))
    x = rows(9001, 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = fm.sum(x, backend=kernel(law))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(cpu, "block_rows", lambda *a, **k: 64)
    assert (fm.sum(x, backend=kernel(law)) == one).all()
    assert (fm.sum(x.astype(np.float64), backend=kernel(law)) == one).all()


@pytest.mark.parametrize("law", LAWS)
def test_phase_zero_and_norm_bound(law):
    fm = FeatureMap.from_spec(Spec(law, 18, 130))
    zero = fm.sum(np.zeros((7, 18), np.float32), backend=kernel(law))
    assert (zero == np.repeat([7 * ONE, 0], 130)).all()
    for value in (1e-45, 0.1, 1e9, 3e38):
        total = fm.sum(np.full((1, 18), value, np.float32), backend=kernel(law))
        assert np.linalg.norm(total / ONE) <= fm.norm_bound


@fused.njit
def harmonics(r, p, out):
    """Units of every phase by itself into out (phases, 2, 8); the largest squared norm of a pair."""
    largest = 0
    for i in range(len(r)):
        out[i] = 0
        fused_structured.sum_harmonics(r[i : i + 1], p, out[i], 0, 0)
        for k in range(8):
            largest = max(largest, out[i, 0, k] ** 2 + out[i, 1, k] ** 2)
    return largest


def test_harmonics_over_every_phase():
    """All phases of the grid 2^-23: no pair leaves the norm bound, and the k-th harmonic is accurate
    to 1e-6 k, since an error of the first turns its angle k times."""
    p, worst = fused.polynomials(1.0), np.zeros(8)
    out = np.zeros((1 << 19, 2, 8), np.int64)
    for start in range(-(1 << 22), 1 << 22, 1 << 19):
        r = (np.arange(start, start + (1 << 19)) / 2**23).astype(np.float32)
        assert harmonics(r, p, out) <= (ONE + 1) ** 2
        some = slice(None, None, 37)
        angle = 2 * np.pi * r[some].astype(float)[:, None] * np.arange(1, 9)
        error = np.abs(out[some] / ONE - np.stack([np.cos(angle), np.sin(angle)], axis=1))
        worst = np.maximum(worst, error.max(axis=(0, 1)))
    assert (worst < 1e-6 * np.arange(1, 9) + 1 / ONE).all()


def test_harmonic_law_is_a_progression():
    omega = draw("harmonic", d=4, m=27, seed=3)
    for j in range(27):
        assert np.allclose(omega[:, j], (j % 8 + 1) * omega[:, j - j % 8], rtol=1e-15)
    base = np.linalg.norm(draw("harmonic", d=4, m=40_000, seed=3)[:, ::8], axis=0)
    assert 0.5 <= base.min() < 0.51 and 6.2 < base.max() <= 6.25
    assert np.log(base).mean() == pytest.approx(np.log(0.5 * 6.25) / 2, abs=0.03)


def test_hadamard_law_has_its_radii_and_orthogonal_blocks():
    omega = draw("hadamard", d=64, m=128, seed=3)
    radius = np.linalg.norm(omega, axis=0)
    want = factors(np.random.default_rng(3), 64, 128).gains * 64**1.5
    assert np.allclose(radius, want)
    assert radius.min() >= 0.5 and radius.max() <= 50
    u = omega / radius
    assert np.allclose(u[:, :64].T @ u[:, :64], np.eye(64), atol=1e-12)


@pytest.mark.parametrize("d", [2, 30, 784])
def test_laws_that_share_work_have_the_radii_of_multiscale(d):
    """At d = 784 the largest is 5, where `hadamard` and `harmonic` draw up to 50."""
    top = np.linalg.norm(draw("multiscale", d, 20_000, seed=1), axis=0)
    radii = np.linalg.norm(draw("multiscale_hadamard", d, 2_000, seed=1), axis=0)
    assert np.quantile(np.log(radii), [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(np.log(top), [0.1, 0.5, 0.9]), abs=0.15
    )
    ends = np.linalg.norm(draw("multiscale_harmonic", d, 16_000, seed=1), axis=0)
    assert ends.max() == pytest.approx(top.max(), rel=0.02)
    assert top.max() == pytest.approx(50 * min(1, np.sqrt(8 / d)), rel=0.01)
    assert np.linalg.norm(draw("hadamard", d, 2_000, seed=1), axis=0).max() > 48


def test_frequencies_of_older_sketches_are_as_they_were():
    """Sums of a fingerprint mean what they meant: the drawn numbers of released laws are fixed."""
    for law, total in (
        ("harmonic", 6706.36016661959),
        ("hadamard", 4490.949115118656),
        ("multiscale", 2917.815090973012),
    ):
        assert float(np.abs(draw(law, 40, 100, seed=2)).sum()) == pytest.approx(total, rel=1e-12)


def test_hadamard_directions_are_uniform():
    """E (u . a)^2 = 1/d and E (u . a)^4 = 3/(d (d+2)) for any fixed direction a."""
    d = 20
    omega = draw("hadamard", d=d, m=50_000, seed=1)
    u = omega / np.linalg.norm(omega, axis=0)
    for a in (np.eye(d)[3], np.ones(d) / d**0.5, np.linspace(-1, 1, d)):
        s = (a / np.linalg.norm(a)) @ u
        assert np.mean(s**2) == pytest.approx(1 / d, rel=0.03)
        assert np.mean(s**4) == pytest.approx(3 / (d * (d + 2)), rel=0.08)


def test_walsh_hadamard_is_the_matrix():
    h = np.array([[1.0]])
    for _ in range(4):
        h = np.block([[h, h], [h, -h]])
    a = np.random.default_rng(0).standard_normal((3, 16))
    assert np.allclose(walsh_hadamard(a), a @ h)


def test_the_choice_of_backend():
    assert choose(2, 1000, "harmonic") == "harmonic"
    assert choose(784, 4096, "hadamard") == "hadamard"
    assert choose(4, 1000, "hadamard") == "cpu"
    assert choose(784, 4096, "multiscale_hadamard") == "hadamard"
    assert choose(10, 4096, "multiscale_harmonic") == "harmonic"
    assert choose(784, 4096, "gaussian") == "cpu"


def test_backends_refuse_other_frequencies():
    omega = draw("gaussian", 3, 16, 0)
    with pytest.raises(ConfigError, match="harmonic"):
        structured.prepare_harmonic(omega)
    for fm in (FeatureMap.from_frequencies(omega), FeatureMap.from_spec(Spec("hadamard", 3, 16))):
        with pytest.raises(ConfigError, match="hadamard"):
            fm.sum(rows(3, 3), backend="hadamard")
        assert fm.sum(rows(3, 3)).shape == (32,)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("d", [1, 2, 5, 15, 16, 17, 64])
def test_frequencies_are_finite_and_not_zero(law, d):
    for m in (0, 1, 500):
        omega = LAWS_OF_ALL[law](np.random.default_rng(d), d, m, ())
        assert omega.shape == (d, m)
        assert np.isfinite(omega).all()
        assert (np.linalg.norm(omega, axis=0) > 0.4).all()


def test_reference_is_what_the_dense_kernel_sums():
    omega = draw("hadamard", 5, 33, 0)
    x = rows(64, 5)
    assert np.abs(cpu.prepare(omega)(x) - reference.sum_features(x, omega)).max() <= 64
