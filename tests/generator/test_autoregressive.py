"""The autoregressive model of tables: its fits, its draws, its files."""

from itertools import product

import numpy as np
import pytest

from streamsketch import Schema
from streamsketch.features.cells import CellLayout, layout_of
from streamsketch.generator.autoregressive.columns import (
    Features,
    Problem,
    fit_column,
    order_of,
    raked,
)
from streamsketch.generator.autoregressive.softmax import draw, moments
from streamsketch.generator.autoregressive.targets import Targets
from streamsketch.generator.autoregressive.tilt import Psi, fit_tilt
from streamsketch.schema import Column


def categories(*sizes: int, label: bool = False) -> Schema:
    """Columns a, b, c ... of so many categories; the last may be the label."""
    kinds = ["categorical"] * len(sizes)
    kinds[-1] = "label" if label else "categorical"
    return Schema(
        [
            Column("abcdefg"[k], kind, "string", values=tuple(f"v{v}" for v in range(size)))
            for k, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
        ]
    )


def shares_of(joint: np.ndarray, layout: CellLayout) -> np.ndarray:
    """The relative counts of a joint table with one axis a column."""
    cells = np.zeros(layout.size)
    axes = range(joint.ndim)
    for k in axes:
        layout.single(cells, k)[:] = joint.sum(tuple(a for a in axes if a != k))
    for j, k in layout.pairs:
        layout.pair(cells, j, k)[:] = joint.sum(tuple(a for a in axes if a not in (j, k)))
    for q, triple in enumerate(layout.triples):
        layout.triple(cells, q)[:] = joint.sum(tuple(a for a in axes if a not in triple))
    return cells


def targets_of(joint: np.ndarray, schema: Schema, coarse: int = 0, **options) -> Targets:
    layout = layout_of(schema, 8, coarse)
    given = {"count": 1e9, "ridge": 1e-6, "exact": True} | options
    return Targets(layout, shares_of(joint, layout), **given)


def random_joint(*sizes: int, seed: int = 0) -> np.ndarray:
    joint = np.random.default_rng(seed).gamma(0.5, size=sizes) + 0.01
    return joint / joint.sum()


def all_cells(*sizes: int) -> np.ndarray:
    return np.array(list(product(*map(range, sizes))), np.int32).T


def test_kernels_agree_with_their_definition() -> None:
    rng = np.random.default_rng(0)
    weights = np.zeros((12, 8), np.float32)
    weights[:, :5] = rng.normal(size=(12, 5))
    index = rng.integers(0, 12, (200, 3)).astype(np.int32)
    gradient = np.zeros_like(weights)
    total = moments(index, weights, 5, gradient)
    logits = weights[index, :5].sum(1).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    slow = np.zeros((12, 5))
    for j in range(3):
        np.add.at(slow, index[:, j], p)
    assert total == pytest.approx(np.log(np.exp(logits).sum(1)).sum(), rel=1e-6)
    assert np.allclose(gradient[:, :5], slow, atol=1e-4) and not gradient[:, 5:].any()

    u, allowed = rng.random(200), np.array([1.0, 0.5, 0.0, 1.0, 0.0])
    code, rest, chance = np.empty(200, np.int32), np.empty(200), np.empty(200)
    draw(index, weights, 5, allowed, u, code, rest, chance)
    held = p * allowed
    edges = np.cumsum(held, 1) / held.sum(1, keepdims=True)
    assert (code == (edges <= u[:, None]).sum(1)).all() and not np.isin(code, (2, 4)).any()
    assert np.allclose(chance, held.sum(1), atol=1e-6)
    low = np.where(code > 0, edges[np.arange(200), code - 1], 0)
    assert np.allclose(rest, (u - low) / (edges[np.arange(200), code] - low), atol=1e-4)


def test_weights_of_a_tilt_are_exponentials_of_its_cells() -> None:
    layout = layout_of(categories(3, 4, 2), 8, 2)
    psi, rng = Psi(layout), np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 50) for size in (3, 4, 2)]).astype(np.int32)
    theta, mean = rng.normal(size=psi.size), np.zeros(psi.size)
    weight, level = psi.weigh(psi.cells(codes), theta, mean)
    rows = np.zeros((50, psi.size))
    for i, code in enumerate(codes.T):
        joint = np.zeros((3, 4, 2))
        joint[tuple(code)] = 1
        rows[i] = shares_of(joint, layout)[psi.first :]
    raw = np.exp(rows @ theta)
    assert np.allclose(weight, raw / raw.sum()) and level == pytest.approx(np.log(raw.mean()))
    assert np.allclose(mean, weight @ rows)


def test_a_tilt_meets_the_tables() -> None:
    """Rows of independent columns, weighed, have the pairs that were asked for."""
    joint = random_joint(3, 4, 2)
    targets = targets_of(joint, categories(3, 4, 2), ridge=1e-6)
    psi, rng = Psi(targets.layout), np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 200_000) for size in (3, 4, 2)]).astype(np.int32)
    mean = np.zeros(psi.size)
    psi.weigh(psi.cells(codes), fit_tilt(psi, targets, codes), mean)
    assert np.abs(mean - targets.cells[psi.first :]).max() < 0.003


def test_a_tilt_is_no_closer_to_the_tables_than_its_ridge() -> None:
    """Where it ends, what is missing is the ridge's share; cells that no row has are left alone."""
    targets = targets_of(random_joint(3, 4, 2), categories(3, 4, 2), ridge=0.01)
    psi, rng = Psi(targets.layout), np.random.default_rng(1)
    codes = np.stack([rng.integers(0, size, 50_000) for size in (3, 4, 2)]).astype(np.int32)
    codes[1][codes[0] == 0] = 1  # of the first pair, three cells never come
    have, mean = np.zeros(psi.size), np.zeros(psi.size)
    psi.weigh(psi.cells(codes), np.zeros(psi.size), have)
    theta = fit_tilt(psi, targets, codes)
    psi.weigh(psi.cells(codes), theta, mean)
    missing = np.where(have > 0, targets.cells[psi.first :], 0) - mean
    assert (have == 0).sum() == 3 and not theta[have == 0].any()
    assert np.abs(missing).max() > 0.01 and np.allclose(missing, 4 * 0.01 * theta, atol=1e-3)


@pytest.mark.parametrize("coarse", [0, 2])
def test_the_gradient_is_the_function_s(coarse: int) -> None:
    schema = categories(3, 4, 3)
    targets = targets_of(random_joint(3, 4, 3), schema, coarse, ridge=0.03)
    features = Features(targets.layout, (0, 1), 2)
    cells = np.random.default_rng(1).integers(0, 3, (3, 4000)).astype(np.int32)
    problem = Problem(features, targets, features.index(cells))
    point = 0.5 * np.random.default_rng(2).normal(size=len(problem.start(None)))
    gradient = problem.value(point)[1]
    step = 3e-2
    for k in range(len(point)):
        e = np.zeros(len(point))
        e[k] = step
        slope = (problem.value(point + e)[0] - problem.value(point - e)[0]) / (2 * step)
        assert slope == pytest.approx(gradient[k], abs=1e-3)


def test_a_chain_is_recovered() -> None:
    """a -> b -> c: pairs suffice, so the model's joint is the data's."""
    rng = np.random.default_rng(3)
    a, b, c = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4), 3), rng.dirichlet(np.ones(3), 4)
    joint = a[:, None, None] * b[:, :, None] * c[None]
    targets = targets_of(joint, categories(3, 4, 3))
    given = all_cells(3, 4)
    # rows of the earlier columns as frequent as they are
    cells = np.repeat(given, np.round(2e5 * joint.sum(2).ravel()).astype(int), axis=1)
    features = Features(targets.layout, (0, 1), 2)
    (single, _), _ = fit_column(
        features, targets, features.index(np.vstack([cells, cells[:1]])), None, 300
    )
    index = features.index(np.vstack([given, given[:1]]))
    logits = single[index].sum(1).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.abs(p - c[given[1]]).max() < 0.01


def test_odds_and_shares_are_learned_from_rows_of_other_shares() -> None:
    """The model's earlier rows may be off: its odds ratios and the column's own shares are right."""
    joint = random_joint(3, 4)
    targets = targets_of(joint, categories(3, 4))
    features = Features(targets.layout, (0,), 1)
    cells = np.repeat(np.arange(3), (2000, 1500, 1890))[None].astype(np.int32)
    (single, _), _ = fit_column(
        features, targets, features.index(np.vstack([cells, cells])), None, 300
    )
    logits = single[0] + single[1:].astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mass = np.array([2000, 1500, 1890]) / 5390
    assert np.abs(mass @ p - joint.sum(0)).max() < 0.003
    odds, wanted = (np.log(t) - np.log(t)[:1] - np.log(t)[:, :1] for t in (p, joint))
    assert (
        np.abs(odds[1:, 1:] + np.log(p)[0, 0] - wanted[1:, 1:] - np.log(joint)[0, 0]).max() < 0.1
    )


def test_raking_keeps_odds_and_meets_sums() -> None:
    table = random_joint(3, 4)
    rows, columns = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.2, 0.3, 0.4])
    made = raked(table, rows, columns, 200)
    assert np.allclose(made.sum(1), rows) and np.allclose(made.sum(0), columns)
    for t, o in ((made, table),):
        assert t[0, 0] * t[1, 1] / t[0, 1] / t[1, 0] == pytest.approx(
            o[0, 0] * o[1, 1] / o[0, 1] / o[1, 0]
        )
    table[1] = 0  # nothing is known of it
    assert (raked(table, rows, columns, 200)[1] > 0).all()


def test_a_triple_is_learned_where_it_is_counted() -> None:
    """c = a xor b: no pair says anything."""
    joint = np.zeros((2, 2, 2))
    for a, b in product(range(2), repeat=2):
        joint[a, b, a ^ b] = 0.25
    cells = np.tile(all_cells(2, 2), 1000)
    for coarse, chance in ((0, 0.5), (2, 1.0)):
        targets = targets_of(joint, categories(2, 2, 2), coarse, exact=False)
        features = Features(targets.layout, (0, 1), 2)
        index = features.index(np.vstack([cells, cells[:1]]))
        weights, _ = fit_column(features, targets, index, None, 200)
        logits = features.expand(weights)[index, :2].sum(1).astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert p[np.arange(4), cells[0, :4] ^ cells[1, :4]] == pytest.approx(chance, abs=0.01)


def test_what_never_came_is_never_drawn() -> None:
    joint = random_joint(3, 4)
    joint[1, 2] = 0
    joint /= joint.sum()
    cells = np.repeat(np.arange(3), 1000)[None].astype(np.int32)
    for exact in (True, False):
        targets = targets_of(joint, categories(3, 4), exact=exact, ridge=1e-4, count=1e4)
        features = Features(targets.layout, (0,), 1)
        weights, _ = fit_column(features, targets, features.index(np.vstack([cells, cells])))
        logits = weights[0][0] + weights[0][2]
        assert (np.exp(logits - logits.max())[2] > 0) != exact
    few = targets_of(joint, categories(3, 4), count=3)  # 0 of 3 rows says nothing
    assert Problem(features, few, features.index(np.vstack([cells, cells]))).free[0].all()


def test_the_label_comes_first_and_conditions_before_it() -> None:
    layout = layout_of(categories(2, 3, 2, label=True), 8, 0)
    assert order_of(layout) == (2, 0, 1)
    assert order_of(layout, ["b"]) == (1, 2, 0)
