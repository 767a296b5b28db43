from itertools import permutations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as EM

from streamsketch import Schema, Sketcher
from streamsketch.decode import GaussianMixture, Target
from streamsketch.decode.refine import sketch_covariance
from streamsketch.errors import ConfigError
from streamsketch.features.frequencies import draw


def rows_of(kind, seed, n=20_000, d=10, components=5):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(components, d)) * 0.3
    labels = rng.choice(components, n, p=rng.dirichlet(np.full(components, 5.0)))
    normal = rng.normal(size=(n, d))
    if kind == "diag":
        rows = centers[labels] + rng.uniform(0.03, 0.2, (components, d))[labels] * normal
    else:
        factors = np.array(
            [
                np.linalg.qr(rng.normal(size=(d, d)))[0] * rng.uniform(0.05, 0.2, d)
                for _ in range(components)
            ]
        )
        rows = centers[labels] + np.einsum("nij,nj->ni", factors[labels], normal)
    return rows / np.abs(rows).max()


def sketch(rows, m, seed=0, low=-1.0, high=1.0):
    s = Sketcher(Schema.vectors(rows.shape[1], low, high), frequencies=m, seed=seed)
    s.learn_many(rows)
    return s.release()


@pytest.mark.parametrize("kind", ["diag", "full"])
def test_log_likelihood_is_within_a_hundredth_of_a_nat_of_em(kind):
    rows = rows_of(kind, 0)
    em = EM(5, covariance_type=kind, n_init=2, random_state=0).fit(rows)
    model = GaussianMixture(5, covariance_type=kind).fit(sketch(rows, 1000))
    assert em.score(rows) - model.score(rows) < 0.01
    plain = GaussianMixture(5, covariance_type=kind, efficient=False).fit(sketch(rows, 1000))
    assert plain.score(rows) < model.score(rows)  # the weighting is what does it


def test_density_and_samples_are_in_the_units_of_the_data():
    rows = rows_of("full", 1, n=10_000, d=2, components=2) * 30 + 50
    model = GaussianMixture(2).fit(sketch(rows, 300, low=10, high=90))
    points = rows[:50]
    density = sum(
        w * multivariate_normal(m, c).pdf(points)
        for w, m, c in zip(model.weights_, model.means_, model.covariances_, strict=True)
    )
    np.testing.assert_allclose(model.score_samples(points), np.log(density), rtol=1e-8)
    drawn, labels = model.sample(20_000)
    np.testing.assert_allclose(drawn.mean(0), rows.mean(0), atol=0.5)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(rows.T), rtol=0.1, atol=1.0)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, model.weights_, atol=0.02)
    np.testing.assert_allclose(model.predict_proba(points).sum(1), 1.0)
    assert model.sample_table(5).column_names == ["x0", "x1"]


def test_number_of_components_is_found_from_the_residual():
    rows = rows_of("diag", 2, d=3, components=3)
    assert len(GaussianMixture("auto").fit(sketch(rows, 500)).weights_) == 3


def test_covariance_of_the_sketch_is_that_of_the_features():
    rng = np.random.default_rng(0)
    omega = draw("gaussian", 2, 6, 1, scale=0.5)
    means = np.array([[0.2, 0.1], [-0.4, 0.3]])
    covariances = np.array([[[0.05, 0.02], [0.02, 0.04]], [[0.02, -0.01], [-0.01, 0.03]]])
    alpha = np.array([0.3, 0.7])
    target = Target.of(omega, np.ones(6) + 0j)
    closed = sketch_covariance(target, alpha, means, covariances)
    labels = rng.choice(2, 400_000, p=alpha)
    factors = np.linalg.cholesky(covariances)
    rows = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(400_000, 2)))
    phase = rows @ omega
    drawn = np.cov(np.concatenate([np.cos(phase), np.sin(phase)], axis=1).T)
    np.testing.assert_allclose(closed, drawn, atol=0.004)


def test_narrow_directions_do_not_ruin_the_density():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5000, 3)) * 0.2
    rows[:, 2] = rows[:, 0] + 1e-5 * rng.normal(size=5000)
    model = GaussianMixture(1).fit(sketch(np.clip(rows, -1, 1), 300))
    assert model.score(rows) > GaussianMixture(1, covariance_type="diag").fit(
        sketch(np.clip(rows, -1, 1), 300)
    ).score(rows)


def test_constant_column():
    rows = np.column_stack([np.random.default_rng(0).normal(size=3000) * 0.2, np.full(3000, 0.5)])
    model = GaussianMixture(1).fit(sketch(rows, 200))
    assert model.means_[0, 1] == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(model.score_samples(rows)).all()


def test_bad_arguments_are_refused():
    target = Target.of(draw("gaussian", 2, 50, 0), np.ones(50) + 0j, count=10)
    with pytest.raises(ConfigError, match="covariance_type"):
        GaussianMixture(2, covariance_type="tied").fit(target)
    with pytest.raises(ConfigError, match="n_components"):
        GaussianMixture(0).fit(target)
    with pytest.warns(UserWarning, match="frequencies are few"):
        GaussianMixture(8, covariance_type="diag", n_init=1).fit(target)


def test_subspaces_through_one_point_are_told_apart():
    """Three planes in six dimensions, all about the origin: centres and axes say nothing of them."""
    rng = np.random.default_rng(0)
    planes = [np.linalg.qr(rng.normal(size=(6, 2)))[0] for _ in range(3)]
    which = rng.integers(3, size=20_000)
    x = np.stack([planes[k] @ rng.normal(size=2) * 0.25 for k in which])
    x = (x + 0.02 * rng.normal(size=x.shape)).clip(-1, 1)
    s = Sketcher(Schema.vectors(6, -1, 1), frequencies=2048, seed=0)
    s.learn_many(x)
    mixture = GaussianMixture(3).fit(s.release())
    found = mixture.predict(x)
    counts = np.array([[np.sum((found == a) & (which == b)) for b in range(3)] for a in range(3)])
    best = max(sum(counts[a, p[a]] for a in range(3)) for p in permutations(range(3)))
    assert best / len(x) > 0.95
    for covariance in mixture.covariances_:
        plane = np.linalg.eigh(covariance)[1][:, -2:]
        left = [np.linalg.norm(true - plane @ plane.T @ true) for true in planes]
        assert min(left) < 0.02
