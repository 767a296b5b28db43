"""Which pairs and triples of a table to count, read off a sample of its rows.

This looks at rows: what it names is as public as the limits that `Schema.propose` names, and is written
into the spec like those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.features.cells import (
    MAX_CELLS,
    CellLayout,
    fitting_middle,
    largest_middle,
    layout_of,
)
from streamsketch.schema import Schema

__all__ = ["Advice", "advise", "missed_by_pairs", "strengths", "strongest"]

MIDDLE = 48  # middle cells of an ordered column, where the table is narrow enough
PARTNER_MIDDLE = 16  # where only the strongest pairs are counted
PARTNERS = 16  # of each variable; with fewer, columns of many weak partners fall apart
COARSE = 8  # coarse cells of triples
PILOT = 20_000  # rows that are looked at
MOST_FLOATS = 1 << 25  # of their one-hots for pairs
MISSED = 0.05  # nats that all pairs together must miss for a triple to be counted
CANDIDATES = 5_000  # triples that are looked at
FITS = 15  # rounds of iterative proportional fitting

Codes = NDArray[np.int32]
Names = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Advice:
    """What to count of a table: settings of a sketcher.

    Attributes:
        middle: Middle cells of an ordered column.
        coarse: Coarse cells of an ordered column in triples; 0 for no triples.
        triples: Names of the variables of each triple.
        partners: The variables that each is paired with; empty for all.
    """

    middle: int
    coarse: int = 0
    triples: Names = ()
    partners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def advise(schema: Schema, table: Any, max_cells: int = MAX_CELLS) -> Advice:
    """What to count of the rows of a schema, from a sample of them.

    All pairs while they fit into `max_cells` at `LEAST_MIDDLE` cells or more; else each variable with its
    `PARTNERS` strongest partners. Triples where all pairs together miss most.

    Args:
        schema: The columns.
        table: Rows of the schema, of which at most `PILOT` are looked at.
        max_cells: Counts that a sketch may have.

    Raises:
        ConfigError: Not even the strongest pairs fit.
    """
    at = np.unique(
        np.linspace(0, max(table.num_rows - 1, 0), min(PILOT, table.num_rows)).astype(int)
    )
    x = schema.encode(table.take(at)).x
    layout = layout_of(schema, PARTNER_MIDDLE, 0)
    strength = strengths(layout, layout.codes(x))
    middle, pairs = largest_middle(schema, MIDDLE, max_cells), None
    if not middle:
        pairs = strongest(strength, PARTNERS)
        named = [[layout.variables[k].name for k in pair] for pair in pairs]
        middle = fitting_middle(schema, PARTNER_MIDDLE, max_cells, named)
    room = max_cells - CellLayout(schema, layout_of(schema, middle, 0).columns, (), pairs).size
    layout = layout_of(schema, middle, COARSE)
    triples = missed_by_pairs(layout, layout.codes(x), strength, room // 2)
    names = [v.name for v in layout.variables]
    partners: dict[str, list[str]] = {}
    if pairs is not None:  # the sides of a triple are fitted with it
        for j, k in sorted({*pairs, *(side for t in triples for side in combinations(t, 2))}):
            partners.setdefault(names[j], []).append(names[k])
    return Advice(
        middle,
        COARSE if triples else 0,
        tuple(tuple(names[k] for k in triple) for triple in triples),
        {name: tuple(near) for name, near in partners.items()},
    )


def strengths(layout: CellLayout, codes: Codes) -> F64:
    """Mutual information of middle cells (variables, variables) in nats, less the bias of a sample.

    The bias is that of Miller (1955). Of a variable and itself, or another part of its column, -inf.

    Args:
        layout: The cells.
        codes: Finest cells (variables, n) of a sample.
    """
    v = layout.variables
    starts = np.cumsum([0, *(one.middle for one in v)])
    width = int(starts[-1])
    codes = codes[:, :: max(1, -(-codes.shape[1] * width // MOST_FLOATS))]
    n = max(codes.shape[1], 1)
    hot = np.zeros((n, width), np.float32)
    for one, start, code in zip(v, starts, codes, strict=False):
        hot[np.arange(len(code)), start + one.middle_of[code]] = 1.0
    single = hot.sum(0, dtype=np.float64) / n
    used = np.add.reduceat(single > 0, starts[:-1], dtype=np.int64)
    found = np.empty((len(v), len(v)))
    for j in range(len(v)):
        own = slice(int(starts[j]), int(starts[j + 1]))
        joint = (hot[:, own].T @ hot).astype(np.float64) / n
        product = np.outer(single[own], single)
        ratio = np.divide(joint, product, where=joint > 0, out=np.ones_like(joint))
        seen = np.add.reduceat((joint > 0).sum(0), starts[:-1])
        bias = (seen - used - used[j] + 1) / (2 * n)
        found[j] = np.add.reduceat((joint * np.log(ratio)).sum(0), starts[:-1]) - bias
    columns = np.array([one.column for one in v])
    found[columns[:, None] == columns] = -np.inf
    return found


def strongest(strength: F64, partners: int) -> tuple[tuple[int, int], ...]:
    """Pairs (j < k) of which one is among the strongest partners of the other."""
    best = np.argsort(-strength, axis=1, kind="stable")[:, :partners]
    pairs = {(min(j, int(k)), max(j, int(k))) for j, near in enumerate(best) for k in near}
    return tuple(sorted((j, k) for j, k in pairs if j != k))


def missed_by_pairs(
    layout: CellLayout, codes: Codes, strength: F64, room: int, least: float = MISSED
) -> tuple[tuple[int, int, int], ...]:
    """Triples that their three pair tables do not determine, worst first, in `room` cells.

    What is missed is the divergence of the triple's table from the one of largest entropy with the same
    pairs (by iterative proportional fitting), less the bias of a sample.

    Args:
        layout: The cells, with coarse ones.
        codes: Finest cells (variables, n) of a sample.
        strength: Mutual information of pairs: where there are many variables, only a variable's strongest
            partners are looked at with it.
        room: Cells that the triples may have.
        least: Nats that must be missed.
    """
    v, n = layout.variables, codes.shape[1]
    coarse = [one.coarse_of[one.middle_of[c]] for one, c in zip(v, codes, strict=True)]
    candidates = _candidates(strength)
    missed = np.array([_missed(coarse, v, triple, n) for triple in candidates if n])
    chosen: list[tuple[int, int, int]] = []
    for q in np.argsort(-missed, kind="stable"):
        size = int(np.prod([v[k].coarse for k in candidates[q]]))
        if missed[q] < least:
            break
        if size <= room:
            room -= size
            chosen.append(candidates[q])
    return tuple(sorted(chosen))


def _candidates(strength: F64) -> list[tuple[int, int, int]]:
    """Triples of different columns; of many variables, those of one and two of its strongest partners."""
    many = len(strength)
    near = many
    while near > 2 and many * near * near > 2 * CANDIDATES:
        near -= 1
    best = np.argsort(-strength, axis=1, kind="stable")[:, :near]
    found = set()
    for i, own in enumerate(best):
        for j, k in combinations(own.tolist(), 2):
            a, b, c = sorted((i, j, k))
            if np.isfinite([strength[a, b], strength[a, c], strength[b, c]]).all():
                found.add((a, b, c))
    return sorted(found)


def _missed(coarse: list[Codes], v: Any, triple: tuple[int, int, int], n: int) -> float:
    i, j, k = triple
    shape = (v[i].coarse, v[j].coarse, v[k].coarse)
    at = (coarse[i] * shape[1] + coarse[j]) * shape[2] + coarse[k]
    joint = np.bincount(at, minlength=int(np.prod(shape))).reshape(shape) / n
    fitted = np.full(shape, 1.0 / joint.size)
    for _ in range(FITS):
        for axis in (0, 1, 2):
            have, want = fitted.sum(axis, keepdims=True), joint.sum(axis, keepdims=True)
            fitted *= np.divide(want, have, where=have > 0, out=np.zeros_like(have))
    seen = joint > 0
    divergence = float((joint[seen] * np.log(joint[seen] / fitted[seen])).sum())
    pairs = sum(int((joint.sum(axis) > 0).sum()) for axis in (0, 1, 2))
    singles = sum(int((joint.sum(axes) > 0).sum()) for axes in ((0, 1), (0, 2), (1, 2)))
    free = int((fitted > 0).sum()) - pairs + singles - 1
    return divergence - max(free, 0) / (2 * n)
