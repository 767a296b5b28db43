"""Shares from noisy counts: what is noise goes, what is not stays."""

import numpy as np
import pytest

from streamsketch import Schema
from streamsketch.features.cells import CellLayout, layout_of
from streamsketch.generator.autoregressive.denoise import denoised
from streamsketch.schema import Column

SD = 1e-3


def columns(*sizes: int) -> Schema:
    return Schema(
        [
            Column(f"c{k}", "categorical", "string", values=tuple(f"v{v}" for v in range(size)))
            for k, size in enumerate(sizes)
        ]
    )


def independent(layout: CellLayout, shares: list[np.ndarray]) -> np.ndarray:
    """Relative counts of columns that know nothing of each other, by shares of finest cells."""
    cells = np.zeros(layout.size)
    middles = []
    for k, (v, share) in enumerate(zip(layout.variables, shares, strict=True)):
        layout.single(cells, k)[:] = share
        middles.append(np.bincount(v.middle_of, share, minlength=v.middle))
    for j, k in layout.pairs:
        layout.pair(cells, j, k)[:] = np.outer(middles[j], middles[k])
    return cells


def noisy(cells: np.ndarray, seed: int = 0) -> np.ndarray:
    return cells + SD * np.random.default_rng(seed).normal(size=len(cells))


def test_independent_columns_stay_independent() -> None:
    """Chance passes two standard deviations for one table in forty: no more than a few of 66 do."""
    layout = layout_of(columns(*[6] * 12), 8, 0)
    share = np.random.default_rng(1).dirichlet(np.full(6, 5.0), 12)
    found, informed = denoised(layout, noisy(independent(layout, list(share))), SD)
    assert informed < 0.12
    exact = [
        np.allclose(layout.pair(found, j, k), np.outer(layout.single(found, j), layout.single(found, k)))
        for j, k in layout.pairs
    ]  # fmt: skip
    assert np.mean(exact) == pytest.approx(1 - informed)


def test_weak_dependence_is_shrunk_not_taken_as_it_is() -> None:
    layout = layout_of(columns(20, 20), 32, 0)
    joint = np.full((20, 20), 1 / 400) * (1 + 0.3 * np.random.default_rng(2).normal(size=(20, 20)))
    joint /= joint.sum()
    cells = np.zeros(layout.size)
    layout.single(cells, 0)[:], layout.single(cells, 1)[:] = joint.sum(1), joint.sum(0)
    layout.pair(cells, 0, 1)[:] = joint
    given = noisy(cells)
    found, informed = denoised(layout, given, SD)
    error, raw = (
        np.square(layout.pair(a, 0, 1) - joint).sum() for a in (found, np.maximum(given, 0))
    )
    assert informed == 1 and error < 0.6 * raw  # half of the spread is signal


def test_a_value_that_never_came_gets_no_share() -> None:
    layout = layout_of(columns(*[12] * 6), 16, 0)
    share = np.repeat([0.0, 1 / 6], 6)
    found, _ = denoised(layout, noisy(independent(layout, [share] * 6)), SD)
    absent = np.concatenate([layout.single(found, k)[:6] for k in range(6)])
    assert np.mean(absent == 0) > 0.9
    assert min(layout.single(found, k)[6:].min() for k in range(6)) > 0.15


def test_fine_cells_that_never_came_get_little() -> None:
    """Noise of mean zero, cut at zero, would give .4 deviations to each; a threshold leaves .08."""
    schema = Schema([Column("x", "numeric", low=-1, high=1), *columns(3).columns])
    layout = layout_of(schema, 4, 0)
    v = layout.variables[0]
    assert v.finest >= 16 * v.middle
    rng, share = np.random.default_rng(3), np.zeros(v.finest)
    full = rng.permutation(v.finest)[: v.finest // 4]
    share[full] = 1 / len(full)
    found, _ = denoised(layout, noisy(independent(layout, [share, np.full(3, 1 / 3)])), SD)
    empty = np.delete(layout.single(found, 0), full)
    assert 0 < empty.mean() < 0.2 * SD
