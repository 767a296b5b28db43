import numpy as np
import pytest
from sklearn.cluster import KMeans as Lloyd

from streamsketch import Schema, Sketcher
from streamsketch.decode import KMeans, Target
from streamsketch.errors import ConfigError
from streamsketch.features import FeatureMap
from streamsketch.features.signature import GAIN, SignatureMap
from streamsketch.features.spec import Spec


def test_gain_is_the_first_harmonic_of_the_square_wave():
    t = np.linspace(0, 2 * np.pi, 100_001)[:-1]
    slope = 2 * np.mean(np.where(np.cos(t) >= 0, 1, -1) * np.cos(t))
    assert pytest.approx(slope, rel=1e-4) == GAIN


def test_sums_are_exact_signs_within_the_norm_bound():
    fm = SignatureMap.from_spec(Spec("multiscale", 3, 20, map="signature"))
    rows = np.random.default_rng(0).uniform(-1, 1, (9000, 3)).astype(np.float32)
    np.testing.assert_array_equal(fm.sum(rows[:11]) + fm.sum(rows[11:]), fm.sum(rows))
    features = fm.features(rows)
    assert set(np.unique(features)) == {-1.0, 1.0}
    np.testing.assert_array_equal(fm.sum(rows), (features.sum(0) * 65536).astype(np.int64))
    assert np.linalg.norm(features, axis=1).max() <= fm.norm_bound


def test_turned_back_signatures_estimate_the_fourier_sketch_without_bias():
    rng = np.random.default_rng(0)
    spec = Spec("gaussian", 2, 2000, scale=0.3, map="signature")
    fm = SignatureMap.from_spec(spec)
    rows = rng.normal(size=(4000, 2)) * 0.2 + 0.1
    z = fm.unquantised(fm.sum(rows) / 65536 / 4000)
    exact = FeatureMap.from_frequencies(fm.omega).features(rows).mean(0)
    exact = exact[:2000] + 1j * exact[2000:]
    slope = float((z * exact.conj()).real.sum() / (np.abs(exact) ** 2).sum())
    assert slope == pytest.approx(1.0, abs=0.02)
    target = Target.from_snapshot(_snapshot(rows, 2000))
    error = np.abs(target.z - np.exp(1j * rows @ target.omega).mean(0)) ** 2
    stated = 2 * target.noise_std**2
    assert error.mean() == pytest.approx(stated, rel=0.35)


def _snapshot(rows, m):
    s = Sketcher(Schema.vectors(rows.shape[1], -1, 1), frequencies=m, map="signature")
    s.learn_many(np.clip(rows, -1, 1))
    return s.release()


def test_the_same_decoder_finds_clusters_from_one_bit_features():
    rng = np.random.default_rng(1)
    centers = rng.uniform(-0.7, 0.7, (5, 4))
    rows = centers[rng.integers(5, size=10_000)] + 0.08 * rng.normal(size=(10_000, 4))
    best = Lloyd(5, n_init=5, random_state=0).fit(rows).inertia_
    model = KMeans(5).fit(_snapshot(rows, 800))
    assert -model.score(rows) <= 1.05 * best


def test_wrong_shapes_are_refused():
    with pytest.raises(ConfigError, match="do not fit"):
        SignatureMap(Spec("gaussian", 2, 3, map="signature"), np.ones((2, 4)), np.ones(3))
    with pytest.raises(ConfigError, match=r"shape \(1, 3\)"):
        SignatureMap.from_spec(Spec("gaussian", 2, 3, map="signature")).sum(np.ones((1, 3)))
