"""Frequency laws: radii, kernels (Bochner), structure, covariance, unions."""

import numpy as np
import pytest
from scipy import stats

from streamsketch import Schema
from streamsketch.errors import ConfigError
from streamsketch.features.frequencies import LAWS, advised, draw
from streamsketch.schema.columns import Column


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_deterministic_finite_and_of_its_shape(law):
    a, b = draw(law, 5, 40, seed=3), draw(law, 5, 40, seed=3)
    assert a.shape == (5, 40) and a.dtype == np.float64 and np.isfinite(a).all()
    assert np.array_equal(a, b)
    assert law == "axis" or not np.array_equal(a, draw(law, 5, 40, seed=4))


@pytest.mark.parametrize("law", LAWS)
def test_scale_is_a_length(law):
    assert np.allclose(draw(law, 3, 20, seed=0, scale=4.0) * 4.0, draw(law, 3, 20, seed=0))


RADII = {
    "folded_gaussian": stats.halfnorm().cdf,
    "kmeans": stats.rayleigh().cdf,
    "gaussian": stats.chi(3).cdf,
    "multiscale": stats.loguniform(0.5, 50.0).cdf,
}


@pytest.mark.parametrize("law", RADII)
def test_the_radius_follows_its_law(law):
    radius = np.linalg.norm(draw(law, 3, 4000, seed=1), axis=0)
    assert stats.kstest(radius, RADII[law]).pvalue > 1e-3


def test_adapted_radius_is_drawn_exactly():
    r = np.linspace(0, 8, 20001)
    density = np.sqrt(r**2 + r**4 / 4) * np.exp(-(r**2) / 2)
    cdf = np.cumsum(density) / density.sum()
    radius = np.linalg.norm(draw("adapted_radius", 4, 4000, seed=2), axis=0)
    assert stats.kstest(radius, lambda x: np.interp(x, r, cdf)).pvalue > 1e-3
    assert (
        abs(radius.mean() - 1.3514) < 0.05
    )  # quadrature, published with the study of the toolboxes


KERNELS = {
    "gaussian": lambda u: np.exp(-0.5 * (u**2).sum()),
    "laplace": lambda u: np.exp(-np.abs(u).sum()),
    "cauchy": lambda u: np.prod(1 / (1 + u**2)),
}


@pytest.mark.parametrize("law", KERNELS)
def test_bochner(law):
    omega = draw(law, 2, 40000, seed=5)
    for u in (np.array([0.3, 0.2]), np.array([1.0, -0.5]), np.array([2.0, 2.0])):
        assert abs(np.cos(u @ omega).mean() - KERNELS[law](u)) < 4 / np.sqrt(40000)


def test_directions_are_uniform():
    omega = draw("multiscale", 2, 4000, seed=6)
    angle = np.arctan2(omega[1], omega[0])
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def mixed():
    return Schema(
        [
            Column("a", "numeric", low=0, high=1),
            Column("b", "numeric", low=0, high=1, atoms=(0.5,)),
            Column("c", "categorical", "string", values=("x", "y", "z")),
            Column(
                "t",
                "timestamp",
                "timestamp[s]",
                low="2020-01-01",
                high="2021-01-01",
                periods=("day",),
            ),
        ]
    )


def test_sparse_touches_one_to_three_columns():
    schema = mixed()
    omega = draw("sparse", schema.d, 300, seed=0, blocks=schema.blocks)
    columns = {c: [b.slice for b in schema.blocks if b.column == c] for c in "abct"}
    hit = [
        np.any([np.any(omega[s] != 0, axis=0) for s in cuts], axis=0) for cuts in columns.values()
    ]
    touched = np.sum(hit, axis=0)
    assert set(touched) == {1, 2, 3}


def touched(schema, omega):
    names = dict.fromkeys(b.column for b in schema.blocks)
    cuts = [[b.slice for b in schema.blocks if b.column == name] for name in names]
    return np.array([np.any([np.any(omega[s] != 0, axis=0) for s in own], axis=0) for own in cuts])


def test_multiscale_on_a_table_has_every_order():
    schema = Schema(
        [Column(f"c{k}", "categorical", "string", values=("x", "y")) for k in range(40)]
    )
    omega = draw("multiscale", schema.d, 4000, seed=0, blocks=schema.blocks)
    order = touched(schema, omega).sum(axis=0)
    assert abs((order == 40).mean() - 0.5) < 0.03
    few = order[order < 40]
    assert few.min() == 1 and few.max() == 16
    assert abs((few == 1).mean() - np.log(2) / np.log(17)) < 0.04


def test_multiscale_takes_wide_columns_more_often():
    values = tuple(str(k) for k in range(64))
    schema = Schema(
        [
            Column("wide", "categorical", "string", values=values),
            *(Column(f"c{k}", "boolean", "bool") for k in range(5)),
        ]
    )
    omega = draw("multiscale", schema.d, 4000, seed=0, blocks=schema.blocks)
    hit = touched(schema, omega)
    single = hit[:, hit.sum(axis=0) == 1].mean(axis=1)
    assert abs(single[0] - 8 / (8 + 5 * np.sqrt(2))) < 0.06


@pytest.mark.parametrize("columns", [3, 20, 100])
def test_multiscale_phases_stay_within_a_few_radians(columns):
    schema = Schema(
        [
            *(Column(f"n{k}", "numeric", low=0, high=1) for k in range(columns)),
            *(
                Column(f"c{k}", "categorical", "string", values=("x", "y", "z"))
                for k in range(columns)
            ),
        ]
    )
    omega = draw("multiscale", schema.d, 1000, seed=0, blocks=schema.blocks)
    rng = np.random.default_rng(0)
    x = np.hstack(
        [
            rng.uniform(-1, 1, (300, columns)),
            np.eye(3)[rng.integers(0, 3, (300, columns))].reshape(300, -1),
        ]
    )
    modulus = np.abs(np.exp(1j * x @ omega).mean(axis=0))
    assert (modulus > 0.12).mean() > 0.4  # well above the sampling noise of 300 rows, 0.06


def test_a_union_has_equal_parts_of_its_laws():
    omega = draw("gaussian+laplace", 1, 20000, seed=0)
    far = np.abs(omega).ravel() > 6  # no Gaussian goes there, a tenth of the Cauchy does
    assert abs(far.mean() - stats.cauchy().sf(6)) < 0.01
    halves = far[:10000].mean(), far[10000:].mean()
    assert abs(halves[0] - halves[1]) < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("nope", 2, 2, 0), "unknown"),
        (("gaussian+nope", 2, 2, 0), "unknown"),
        (("gaussian", 0, 2, 0), "d = 0"),
        (("gaussian", 2, 0, 0), "m = 0"),
        (("gaussian", 2, 2, 0, 0.0), "scale"),
        (("gaussian", 2, 2, 0, float("nan")), "scale"),
    ],
)
def test_wrong_calls_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        draw(*call)


def test_the_advised_number_grows_with_the_pairs_of_slots():
    def table(k):
        values = tuple(str(v) for v in range(k))
        return Schema([Column(c, "categorical", "string", values=values) for c in "ab"]).blocks

    assert [advised(table(k)) for k in (5, 50, 70, 500)] == [1024, 4096, 8192, 16384]


def test_points_are_advised_the_square_of_their_dimension_then_ten_each():
    found = [advised(Schema.vectors(d, -1, 1).blocks) for d in (2, 40, 64, 200, 784)]
    assert found == [1024, 2048, 4096, 4096, 8192]


def test_multiscale_is_slower_in_many_dimensions():
    radius = np.linalg.norm(draw("multiscale", 128, 1000, seed=1), axis=0)
    assert radius.min() >= 0.5 and 11 < radius.max() <= 12.5
