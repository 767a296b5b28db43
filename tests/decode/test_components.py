import numpy as np
import pytest
from sklearn.decomposition import PCA as Exact

from streamsketch import Schema, Sketcher
from streamsketch.decode import ICA, PCA
from streamsketch.errors import ConfigError


def snapshot(rows, kind, low, high, **more):
    s = Sketcher(Schema.vectors(rows.shape[1], low, high), map=kind, **more)
    s.learn_many(rows)
    return s.release()


def test_pca_of_the_quadratic_sketch_is_that_of_the_rows():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 4)) + 5
    exact = Exact(3).fit(rows)
    model = PCA(3).fit(snapshot(rows, "quadratic", -20, 30))
    np.testing.assert_allclose(model.explained_variance_, exact.explained_variance_, rtol=1e-2)
    overlap = np.abs((model.components_ * exact.components_).sum(1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-3)
    np.testing.assert_allclose(model.mean_, rows.mean(0), atol=1e-2)
    assert model.transform(rows).shape == (3000, 3)
    full = PCA().fit(snapshot(rows, "quadratic", -20, 30))
    np.testing.assert_allclose(full.inverse_transform(full.transform(rows)), rows, atol=1e-8)
    assert full.explained_variance_ratio_.sum() == pytest.approx(1)


def test_pca_of_a_fourier_sketch_by_its_decoded_mixture():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10_000, 3)) * [0.3, 0.15, 0.05]
    exact = Exact(2).fit(rows)
    model = PCA(2).fit(snapshot(np.clip(rows, -1, 1), "fourier", -1, 1, frequencies=300))
    np.testing.assert_allclose(model.explained_variance_, exact.explained_variance_, rtol=0.05)
    assert np.abs((model.components_ * exact.components_).sum(1)).min() > 0.99


def test_pca_of_rank_deficient_rows_and_a_constant_column():
    rng = np.random.default_rng(0)
    one = rng.uniform(-1, 1, (2000, 1))
    rows = np.hstack([one, one, np.full_like(one, 0.3)])
    model = PCA().fit(snapshot(rows, "quadratic", -1, 1))
    assert model.explained_variance_ratio_[0] == pytest.approx(1, abs=1e-3)
    assert (model.explained_variance_ >= 0).all()


def test_ica_unmixes_sources_that_pca_cannot():
    rng = np.random.default_rng(2)
    n = 30_000
    sources = np.column_stack(
        [rng.uniform(-1, 1, n), np.clip(rng.laplace(size=n), -6, 6), rng.choice([-1.0, 1.0], n)]
    )
    sources /= sources.std(0)
    mixing = np.array([[1.0, 0.5, -0.3], [-0.4, 1.0, 0.6], [0.2, -0.7, 1.0]])
    rows = sources @ mixing.T + 2
    bound = float(np.abs(rows).max())
    model = ICA().fit(snapshot(rows, "quartic", -bound, bound))
    gain = np.abs(model.components_ @ mixing)
    np.testing.assert_allclose(np.sort(gain.max(axis=1)), 1.0, atol=0.05)
    np.fill_diagonal(rest := gain[:, np.argmax(gain, axis=1)], 0.0)
    assert rest.max() < 0.08  # each row holds one source
    np.testing.assert_allclose(np.sort(model.kurtosis_), [-2.0, -1.2, 2.3], atol=0.3)
    np.testing.assert_allclose(model.transform(rows).std(0), 1.0, atol=0.02)
    np.testing.assert_allclose(model.inverse_transform(model.transform(rows)), rows, atol=1e-8)


def test_bad_input_is_refused_with_the_remedy():
    rows = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    with pytest.raises(ConfigError, match="'quartic'"):
        ICA().fit(snapshot(rows, "quadratic", -1, 1))
    rows[:, 1] = 0.5
    with pytest.raises(ConfigError, match="constant"):
        ICA().fit(snapshot(rows, "quartic", -1, 1))
    with pytest.raises(ConfigError, match="n_components = 3"):
        PCA(3).fit(snapshot(rows, "quadratic", -1, 1))


def test_a_stream_too_narrow_for_its_limits_warns():
    rows = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    with pytest.warns(UserWarning, match="tighter limits"):
        ICA().fit(snapshot(rows, "quartic", -60, 60))
