"""The metrics against closed forms, brute force, and the anchors measured on the Adult table."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate import (
    association_difference,
    associations,
    binned_auc,
    energy_distance,
    marginals,
    mmd2,
    pair_tv,
    tstr,
    two_sample_auc,
)
from streamsketch.evaluate.frame import MAX_CATEGORIES, OTHER, frames

Array = NDArray[np.float64]


def norms(x: Array, y: Array) -> Array:
    distances: Array = np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))
    return distances


def brute_energy(a: Array, b: Array) -> float:
    return float(norms(a, b).mean() - norms(a, a).mean() / 2 - norms(b, b).mean() / 2)


@given(
    n=st.integers(1, 40),
    k=st.integers(1, 40),
    d=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    shift=st.sampled_from([0.0, 3.0, 1e6]),
)
@settings(max_examples=60, deadline=None)
def test_energy_distance_is_its_definition(
    n: int, k: int, d: int, seed: int, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(k, d)) * 2
    found = energy_distance(a + shift, b + shift)
    assert found == pytest.approx(brute_energy(a, b), abs=1e-6)


def test_energy_distance_of_a_sample_to_its_law() -> None:
    # E D2 = E|Z-Z'| / (2n) for n draws from the law; 2-D normal: E|Z-Z'| = sqrt(pi).
    rng = np.random.default_rng(0)
    law = rng.normal(size=(4000, 2))
    found = np.mean([energy_distance(rng.normal(size=(25, 2)), law) for _ in range(60)])
    assert found == pytest.approx(np.sqrt(np.pi) * (1 / 50 + 1 / 8000), rel=0.12)


def test_energy_distance_crosses_blocks_in_constant_memory() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2500, 2)), rng.normal(size=(1500, 2)) + 0.5
    assert energy_distance(a, b) == pytest.approx(brute_energy(a, b), abs=1e-7)
    tracemalloc.start()
    energy_distance(rng.normal(size=(6000, 2)), rng.normal(size=(6000, 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # the full matrix of one pair of samples takes 288 MB


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_mmd2_is_its_definition(scale: float) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(1200, 3)), rng.normal(size=(70, 3)) + 1

    def kernel(x: Array, y: Array) -> float:
        return float(np.exp(-(norms(x, y) ** 2) / (2 * scale**2)).mean())

    expected = kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
    assert mmd2(a, b, scale) == pytest.approx(expected, abs=1e-9)


def test_mmd2_is_the_limit_of_random_features() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(60, 2)), rng.normal(size=(50, 2)) + 1
    omega = rng.normal(size=(2, 40_000)) / 1.7
    gap = np.exp(1j * a @ omega).mean(0) - np.exp(1j * b @ omega).mean(0)
    assert mmd2(a, b, 1.7) == pytest.approx(float((np.abs(gap) ** 2).mean()), rel=0.02)


@pytest.mark.parametrize("distance", [energy_distance, mmd2])
def test_distances_refuse_what_they_cannot_measure(distance: object) -> None:
    assert callable(distance)
    good = np.zeros((3, 2))
    for bad, words in [
        (np.zeros((0, 2)), "n > 0"),
        (np.zeros((3, 4)), "one dimension"),
        (np.array([[np.nan, 0.0]]), "NaN"),
        (np.array([[np.inf, 0.0]]), "infinity"),
    ]:
        with pytest.raises(DataError, match=words):
            distance(good, bad)
    with pytest.raises(DataError, match="scale > 0"):
        mmd2(good, good, 0.0)


def mixed(n: int, seed: int, dependence: float = 1.0) -> pa.Table:
    """Numbers, nulls, categories and a boolean; `dependence` 0 makes them independent."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = dependence * x + 0.3 * rng.normal(size=n)
    label = (x + 0.2 * rng.normal(size=n) > 0) if dependence else rng.random(n) > 0.5
    kind = np.where(y > 0.5, "high", np.where(y < -0.5, "low", "mid"))
    holes = pa.array(np.where(rng.random(n) < 0.1, np.nan, y), from_pandas=True)
    return pa.table(
        {"x": x, "y": holes, "kind": pa.array(kind).dictionary_encode(), "label": label}
    )


def test_anchors_separate() -> None:
    real, same = mixed(1500, 0), mixed(1500, 1)
    a, b = frames(real, same)
    floor = b.shuffled(np.random.default_rng(2))
    assert two_sample_auc(a, b) < 0.55 < 0.9 < two_sample_auc(a, floor)
    assert binned_auc(a, b) < 0.55
    assert binned_auc(a, floor) < 0.55  # right marginals: a linear model of them sees nothing
    assert tstr(b, a, "label") > 0.95
    assert abs(tstr(floor, a, "label") - 0.5) < 0.2
    assert pair_tv(a, b) < 0.5 * pair_tv(a, floor)
    assert association_difference(a, b) < 0.05 < 0.2 < association_difference(a, floor)


def test_wrong_marginals_are_seen() -> None:
    real = mixed(900, 0)
    moved = mixed(900, 1).set_column(
        0, "x", pa.array(np.random.default_rng(1).normal(size=900) + 1)
    )
    assert binned_auc(real, moved) > 0.65
    by_name = {m.column: m for m in marginals(real, moved)}
    ks = by_name["x"].ks
    assert ks is not None
    assert ks == pytest.approx(0.383, abs=0.06)  # 2 Phi(1/2) - 1
    assert by_name["x"].tv == pytest.approx(0.383, abs=0.08)
    assert by_name["kind"].ks is None
    assert by_name["kind"].tv < 0.06


def test_two_sample_auc_is_never_below_one_half() -> None:
    # Alternate rows of a sorted sample anticorrelate across folds: the raw area is below 1/2.
    x = np.repeat(np.arange(30.0), 2)
    assert 0.5 <= two_sample_auc(x[::2], x[1::2]) <= 1.0


def test_tstr_of_several_classes_and_of_a_missing_one() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 1200)
    real = pa.table({"v": label + 0.1 * rng.normal(size=1200), "digit": label})
    assert tstr(real, real, "digit") > 0.99
    without = real.filter(pa.array(label < 2))
    assert 0.6 < tstr(without, real, "digit") < 0.95
    assert tstr(real.filter(pa.array(label == 1)), real, "digit") == 0.5
    with pytest.raises(ConfigError, match="no column 'nothing'"):
        tstr(real, real, "nothing")
    with pytest.raises(DataError, match="one value in the real rows"):
        tstr(real, real.filter(pa.array(label == 1)), "digit")


def test_associations_are_the_textbook_ones() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    side = pa.array(np.where(x > 0, "r", "l"))
    noise = pa.array(rng.integers(0, 4, 3000).astype(str))
    table = pa.table(
        {"x": x, "minus": -(x**3), "side": side, "noise": noise, "one": np.ones(3000)}
    )
    found = associations(table)
    assert found[0, 1] == pytest.approx(-1.0)
    assert found[0, 2] == pytest.approx(1.0, abs=0.05)
    assert found[2, 3] < 0.05
    assert found[0, 4] == 0.0
    assert np.allclose(found, found.T)


def test_pairs_are_drawn_where_there_are_too_many() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 12)), rng.normal(size=(300, 12))
    assert pair_tv(a, b, pairs=20, seed=1) == pair_tv(a, b, pairs=20, seed=1)
    assert pair_tv(a, b, pairs=20, seed=1) != pair_tv(a, b, pairs=20, seed=2)
    assert np.isnan(pair_tv(a[:, :1], b[:, :1]))


def test_codes_do_not_depend_on_the_order_of_rows() -> None:
    table = mixed(200, 0)
    back = table.take(pa.array(np.arange(200)[::-1]))
    a, _ = frames(table, back)
    c, _ = frames(back, table)
    assert np.array_equal(a.values, c.values[::-1], equal_nan=True)


def test_rare_categories_share_a_code() -> None:
    many = pa.table({"tail": [f"N{i}" for i in range(600)]})
    (frame,) = frames(many)
    names = frame.categories[0]
    assert names is not None
    assert len(names) == MAX_CATEGORIES + 1
    assert names[-1] == OTHER
    assert (frame.values == MAX_CATEGORIES).sum() == 400


def test_every_column_type_becomes_numbers() -> None:
    table = pa.table(
        {
            "when": pa.array([0, 10**6], pa.timestamp("ns", tz="UTC")),
            "day": pa.array([1, 2], pa.date32()),
            "pixels": pa.array([[1, 2], [3, 4]], pa.list_(pa.uint8(), 2)),
            "number": pa.array([1, 2]).dictionary_encode(),
        }
    )
    (frame,) = frames(table)
    assert frame.names == ("when", "day", "pixels[0]", "pixels[1]", "number")
    day = 86_400_000_000  # times of every type are microseconds
    assert frame.values.tolist() == [[0, day, 1, 2, 1], [1000, 2 * day, 3, 4, 2]]
    with pytest.raises(DataError, match="'bag' has the type list"):
        frames(pa.table({"bag": [[1], [2, 3]]}))


def test_tables_with_other_columns_are_refused() -> None:
    with pytest.raises(DataError, match="Column 'b' of the first table is missing"):
        marginals(pa.table({"a": [1], "b": [2]}), pa.table({"a": [1], "c": [2]}))


def test_cramers_v_of_few_rows_is_not_inflated() -> None:
    # Uncorrected, 60 rows of two independent columns of six categories give 0.28 on average.
    rng = np.random.default_rng(0)
    found = [
        associations(pa.table({n: rng.integers(0, 6, 60).astype(str) for n in "ab"}))[0, 1]
        for _ in range(30)
    ]
    assert np.mean(found) < 0.12


def test_kolmogorov_smirnov_with_ties() -> None:
    a, b = np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 2.0, 2.0])
    ks = [marginals(a, x)[0].ks for x in (a, b, np.full(3, np.nan))]
    assert ks == [0.0, 0.25, 1.0]
