import numpy as np
import pytest

from streamsketch import Schema, Sketcher
from streamsketch.errors import ConfigError
from streamsketch.features.moments import QuadraticMap, QuarticMap
from streamsketch.features.spec import Spec


def spec(d, kind):
    return Spec("multiscale", d, 1, map=kind)


@pytest.mark.parametrize(("make", "kind"), [(QuadraticMap, "quadratic"), (QuarticMap, "quartic")])
def test_sums_are_exact_over_any_split_and_within_the_norm_bound(make, kind):
    rng = np.random.default_rng(0)
    fm = make(spec(3, kind))
    rows = rng.uniform(-1.5, 1.5, (2500, 3)).astype(np.float32)
    parts = np.array_split(rows, [1, 700, 701, 2000])
    np.testing.assert_array_equal(sum(fm.sum(p) for p in parts), fm.sum(rows))
    features = fm.features(rows)
    assert features.shape == (2500, fm.width)
    assert np.linalg.norm(features, axis=1).max() <= fm.norm_bound
    corner = fm.features(np.ones((1, 3)))
    assert np.linalg.norm(corner) == pytest.approx(fm.norm_bound)  # the bound is attained
    np.testing.assert_allclose(fm.sum(rows) / 65536, features.sum(0), atol=2500 / 65536)


def test_tensors_are_the_moments():
    rng = np.random.default_rng(1)
    rows = rng.uniform(-1, 1, (50, 3))
    fm = QuarticMap(spec(3, "quartic"))
    found = fm.tensors(fm.features(rows).mean(axis=0))
    np.testing.assert_allclose(found[0], rows.mean(0))
    np.testing.assert_allclose(found[1], np.einsum("ni,nj->ij", rows, rows) / 50)
    np.testing.assert_allclose(found[2], np.einsum("ni,nj,nk->ijk", *[rows] * 3) / 50)
    np.testing.assert_allclose(found[3], np.einsum("ni,nj,nk,nl->ijkl", *[rows] * 4) / 50)


def test_small_coordinates_are_not_biased_by_rounding():
    rows = np.full((10_000, 1), 0.12) * np.random.default_rng(0).choice([-1, 1], (10_000, 1))
    rows = rows + np.random.default_rng(1).uniform(-0.04, 0.04, (10_000, 1))
    fm = QuarticMap(spec(1, "quartic"))
    fourth = fm.sum(rows)[3] / 65536 / 10_000
    assert fourth == pytest.approx(float((rows**4).mean()), rel=0.005)  # truncation: 3% too small


def test_the_sketcher_streams_and_merges_moments_and_private_ones_too():
    rows = np.random.default_rng(0).uniform(0, 10, (1000, 2))
    schema = Schema.vectors(2, 0, 10)
    whole, half, rest = (Sketcher(schema, map="quadratic") for _ in range(3))
    whole.learn_many(rows)
    half.learn_many(rows[:300])
    rest.learn_many(rows[300:])
    np.testing.assert_array_equal(half.merge(rest).sketch.total, whole.sketch.total)
    snapshot = whole.release()
    first, second = snapshot.features.tensors(snapshot.mean)
    encoded = rows / 5 - 1
    np.testing.assert_allclose(first, encoded.mean(0), atol=1e-4)
    np.testing.assert_allclose(second, encoded.T @ encoded / 1000, atol=1e-4)


def test_too_many_monomials_are_refused():
    with pytest.raises(ConfigError, match="fewer columns"):
        QuarticMap(spec(60, "quartic"))
    with pytest.raises(ConfigError, match=r"shape \(2, 2\)"):
        QuadraticMap(spec(3, "quadratic")).features(np.zeros((2, 2)))
