import warnings

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans as Lloyd

from streamsketch import Schema, Sketcher
from streamsketch.decode import KMeans, Target
from streamsketch.errors import ConfigError
from streamsketch.features.frequencies import draw


def clustered(seed, n=20_000, d=10, clusters=10, spread=0.1):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-0.7, 0.7, (clusters, d))
    return centers[rng.integers(clusters, size=n)] + spread * rng.normal(size=(n, d))


def sketch(rows, m, low=-1.0, high=1.0, seed=0):
    s = Sketcher(Schema.vectors(rows.shape[1], low, high), frequencies=m, seed=seed)
    s.learn_many(rows)
    return s.release()


def sse(rows, centers):
    return float(np.min([((rows - c) ** 2).sum(1) for c in centers], axis=0).sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sse_is_within_five_percent_of_the_best_of_ten_lloyd_runs(seed):
    rows = clustered(seed)
    best = Lloyd(10, n_init=10, random_state=0).fit(rows).inertia_
    model = KMeans(10, random_state=seed).fit(sketch(rows, 1000, seed=seed))
    assert sse(rows, model.cluster_centers_) <= 1.05 * best
    assert model.inertia_ == pytest.approx(best, rel=0.05)
    assert model.residual_ <= model.floor_


def test_centres_are_in_the_units_of_the_data():
    rows = clustered(3, n=5000, d=2, clusters=3, spread=0.05)
    scaled = rows * 50 + 200
    model = KMeans(3).fit(sketch(scaled, 200, low=100, high=300))
    best = Lloyd(3, n_init=5, random_state=0).fit(scaled)
    assert sse(scaled, model.cluster_centers_) <= 1.02 * best.inertia_
    np.testing.assert_array_equal(
        model.predict(scaled), np.argmin(model.transform(scaled), axis=1)
    )
    table = model.centers_table()
    assert table.column_names == ["x0", "x1"]
    np.testing.assert_array_equal(
        model.predict(pa.table({"x0": scaled[:, 0], "x1": scaled[:, 1]})), model.predict(scaled)
    )
    assert model.score(scaled) == pytest.approx(-sse(scaled, model.cluster_centers_), rel=1e-6)


def test_number_of_clusters_is_found_from_the_residual():
    rows = clustered(4, n=10_000, d=3, clusters=4, spread=0.05)
    assert len(KMeans("auto").fit(sketch(rows, 400)).cluster_centers_) == 4


def test_diracs_decode_point_masses_exactly():
    omega = draw("gaussian", 2, 100, 0, scale=0.5)
    points = np.array([[-0.5, 0.2], [0.4, 0.4], [0.1, -0.6]])
    z = np.exp(1j * points @ omega).mean(axis=0)
    found = KMeans(3, atoms="dirac").fit(Target.of(omega, z)).cluster_centers_
    order = np.argsort(found[:, 0])
    np.testing.assert_allclose(found[order], points[[0, 2, 1]], atol=1e-4)


def test_too_few_frequencies_warn_with_the_number_needed():
    rows = clustered(5, n=500)
    with pytest.warns(UserWarning, match="at least 500 frequencies"):
        KMeans(10, n_init=1).fit(sketch(rows, 60))


def test_more_clusters_than_distinct_points_warn_and_stay_finite():
    rows = np.repeat([[0.5, 0.5], [-0.5, 0.1]], 500, axis=0)
    with pytest.warns(UserWarning, match="distinct clusters"):
        model = KMeans(4).fit(sketch(rows, 200))
    assert np.isfinite(model.cluster_centers_).all()
    assert sse(rows, model.cluster_centers_) < 1e-2 * len(rows)


def test_constant_column_and_rank_deficient_rows():
    rows = clustered(6, n=5000, d=3, clusters=3, spread=0.03)
    rows[:, 1] = 0.25
    rows[:, 2] = rows[:, 0]
    best = Lloyd(3, n_init=5, random_state=0).fit(rows).inertia_
    model = KMeans(3).fit(sketch(rows, 300))
    np.testing.assert_allclose(model.cluster_centers_[:, 1], 0.25, atol=0.01)
    assert sse(rows, model.cluster_centers_) <= 1.1 * best


def test_private_noise_raises_the_floor_and_is_survived():
    rows = clustered(7, n=20_000, d=3, clusters=3, spread=0.05)
    clean = Target.from_snapshot(sketch(rows, 300))
    rng = np.random.default_rng(0)
    noise = 0.02 * (rng.normal(size=300) + 1j * rng.normal(size=300))
    noisy = Target(clean.omega, clean.z + noise, clean.count, clean.low, clean.high, 0.02)
    assert noisy.floor > clean.floor + 2 * 300 * 0.02**2 * 0.99
    best = Lloyd(3, n_init=5, random_state=0).fit(rows).inertia_
    assert sse(rows, KMeans(3).fit(noisy).cluster_centers_) <= 1.05 * best


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "many"])
def test_bad_numbers_of_clusters_are_refused(bad):
    with pytest.raises(ConfigError, match="n_clusters"):
        KMeans(bad).fit(sketch(np.zeros((3, 2)), 20))


def test_other_bad_arguments_are_refused():
    omega = draw("gaussian", 2, 10, 0)
    with pytest.raises(ConfigError, match="atoms"):
        KMeans(2, atoms="cubes").fit(Target.of(omega, np.ones(10) + 0j))
    with pytest.raises(ConfigError, match=r"shape \(9,\).*10 frequencies"):
        Target.of(omega, np.ones(9) + 0j)
    with pytest.raises(ConfigError, match="finite"):
        Target.of(omega, np.full(10, np.nan) + 0j)
    with pytest.raises(ConfigError, match="counts 0 rows"):
        Target.of(omega, np.ones(10) + 0j, count=0)
    model = KMeans(1).fit(Target.of(draw("gaussian", 2, 100, 0), np.ones(100) + 0j, count=10))
    with pytest.raises(ConfigError, match=r"shape \(3, 3\)"):
        model.predict(np.zeros((3, 3)))


def test_scikit_learn_can_clone_it():
    model = clone(KMeans(3, n_init=2))
    assert model.get_params() == {
        "n_clusters": 3,
        "n_init": 2,
        "atoms": "gaussian",
        "random_state": 0,
    }
    with pytest.raises(ConfigError, match="no parameter"):
        model.set_params(k=3)


def test_same_seed_same_centres():
    snapshot = sketch(clustered(8, n=2000, d=2, clusters=3), 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a, b = (KMeans(3, random_state=5).fit(snapshot).cluster_centers_ for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("scale", "remedy"), [(0.01, "larger scale"), (100.0, "smaller scale")])
def test_frequencies_of_the_wrong_scale_warn_with_the_remedy(scale, remedy):
    rows = clustered(9, n=20_000, d=3, clusters=5, spread=0.1)
    s = Sketcher(Schema.vectors(3, -2, 2), frequencies=200, scale=scale)
    s.learn_many(rows)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        KMeans(5).fit(s.release())
    assert any(remedy in str(w.message) for w in caught)
