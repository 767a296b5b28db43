"""The kernel of rows that are mostly zeros: the same bits as the dense one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import DataError
from streamsketch.features import FeatureMap
from streamsketch.features.kernels import cpu

RNG = np.random.default_rng(0)


def rows(n: int, d: int, share: float) -> np.ndarray:
    made = RNG.normal(size=(n, d)) * 10.0 ** RNG.uniform(-30, 4, (n, d))
    return np.where(RNG.random((n, d)) < share, made, 0.0).astype(np.float32)


def both(monkeypatch: pytest.MonkeyPatch, fm: FeatureMap, x: np.ndarray) -> list[np.ndarray]:
    found = []
    for share in (-1.0, 2.0):
        monkeypatch.setattr(cpu, "SPARSE_SHARE", share)
        found.append(fm.sum(x, backend="cpu"))
    return found


@pytest.mark.parametrize("m", [1, 5, 128, 130, 700])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_bits_are_those_of_the_dense_kernel(monkeypatch, m, share) -> None:
    fm = FeatureMap.from_frequencies(RNG.normal(size=(40, m)) * np.geomspace(0.01, 100, m))
    for x in (rows(1500, 40, share), np.asfortranarray(rows(515, 40, share))):
        dense, sparse = both(monkeypatch, fm, x)
        assert (dense == sparse).all()


@given(st.lists(st.integers(0, 900), max_size=4))
@settings(max_examples=15, deadline=None)
def test_any_split_gives_the_same_sum(cuts) -> None:
    fm = FeatureMap.from_frequencies(np.random.default_rng(1).normal(size=(64, 33)))
    x = np.eye(64, dtype=np.float32)[np.random.default_rng(2).integers(0, 64, 900)]
    assert cpu.mostly_zeros(x)
    edges = [0, *sorted(cuts), 900]
    parts = [fm.sum(x[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert (sum(parts) == fm.sum(x)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(monkeypatch, value) -> None:
    monkeypatch.setattr(cpu, "SPARSE_SHARE", 2.0)
    fm = FeatureMap.from_frequencies(RNG.normal(size=(32, 8)))
    x = rows(600, 32, 0.1)
    x[599, 31] = value
    with pytest.raises(DataError, match="not finite"):
        fm.sum(x, backend="cpu")


def test_rows_without_zeros_take_the_dense_kernel() -> None:
    assert not cpu.mostly_zeros(np.ones((9, 100), np.float32))
    assert not cpu.mostly_zeros(np.zeros((9, 3), np.float32))
