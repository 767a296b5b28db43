"""Rows under conditions: weights with resampling by steps (sequential Monte Carlo).

A conditioned variable is drawn among what its condition allows, and each row weighs the chance of that,
given its earlier cells (Doucet, de Freitas and Gordon 2001). For variables that come first the weights are
equal and rows are exact draws; elsewhere rows are drawn again by their weights whenever these have become
uneven.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.arrays import F64, I32
from streamsketch.errors import ConfigError
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.law import Law, uniforms
from streamsketch.generator.autoregressive.tilt import Psi, effective, resampled
from streamsketch.schema.conditions import Where, matches

__all__ = ["Allowed", "allowed_cells", "draw_where"]


GRID = 32  # places within a cell at which a condition is looked up
PARTICLES = 4096  # at least so many rows are weighed
TIMES = 4  # and so many for each row that is asked for
NEVER = 1e-20  # chances below it are those of cells that never came together
UNEVEN = 0.5  # rows are drawn again when their effective number falls below this share


@dataclass(frozen=True, eq=False)
class Allowed:
    """What a condition allows of a variable's finest cells.

    Attributes:
        share: (finest,) share of each cell.
        low: (finest,) where in the cell it begins.
    """

    share: F64
    low: F64


def allowed_cells(layout: CellLayout, where: Where) -> dict[int, Allowed]:
    """What conditions allow, by variable; conditions of several variables together are left out.

    Raises:
        ConfigError: No cell meets a condition.
    """
    columns = {c.name: c for c in layout.schema.columns}
    found: dict[int, Allowed] = {}
    for name, condition in where.items():
        column = columns[name]
        read = column.keys[0] if column.kind == "derived" and len(column.keys) == 1 else name
        own = [k for k, v in enumerate(layout.variables) if v.column == read]
        if not own:
            continue  # derived from several columns: rows are weighed by it when they are whole
        whole = _met(layout, own, {name: condition})
        share, low = whole.mean(1), whole.argmax(1) / GRID
        if len(own) > 1:  # a part of a time allows the others as they come
            share, low = (share > 0).astype(float), np.zeros(len(share))
        if not share.any():
            raise ConfigError(
                f"{name} = {condition!r} is met by none of its cells; numbers that are not counted one by one "
                "need a range (low, high)"
            )
        if own[0] in found:
            share, low = share * found[own[0]].share, np.maximum(low, found[own[0]].low)
        found[own[0]] = Allowed(share, low)
    return found


def _met(layout: CellLayout, own: list[int], where: Where) -> NDArray[np.bool_]:
    """Whether the condition is met (finest, GRID) by the first variable's cells at places within."""
    finest = layout.variables[own[0]].finest
    codes = np.zeros((len(layout.variables), finest * GRID), np.int32)
    within = np.zeros(codes.shape)
    codes[own[0]] = np.repeat(np.arange(finest), GRID)
    within[own[0]] = np.tile((np.arange(GRID) + 0.5) / GRID, finest)
    rng = np.random.default_rng(0)
    for k in own[1:]:
        codes[k] = rng.integers(0, layout.variables[k].finest, codes.shape[1])
    table = layout.schema.decode(layout.rows(codes, within))
    return matches(table, where, layout.schema).reshape(finest, GRID)


def draw_where(
    law: Law,
    n: int,
    where: Where,
    allowed: Mapping[int, Allowed],
    seed: int,
    theta: F64 | None = None,
) -> tuple[NDArray[np.float32], pa.Table, F64, float]:
    """Rows that may meet conditions, and their weights.

    Returns:
        Encoded rows (N, d), the same as a table, weights (N,), 0 where a condition is not met, and the
        least effective number of rows on the way.
    """
    many = max(PARTICLES, TIMES * n)
    size = float(many)
    rng = np.random.default_rng(seed)
    u = uniforms(len(law.order), many, rng)
    middle = np.zeros(u.shape, np.int32)
    codes: I32 = np.zeros(u.shape, np.int32)
    within: F64 = np.zeros(u.shape)
    weight: F64 = np.ones(many)
    for place, k in enumerate(law.order):
        one = allowed.get(k)
        code, at, chance = law.step(place, middle, u[k], None if one is None else one.share)
        if one is not None:
            at = one.low[code] + at * np.minimum(one.share[code], 1 - one.low[code])
            weight = np.where(chance > NEVER, weight * chance, 0.0)
        codes[k], within[k] = code, at
        if one is not None:
            size = min(size, effective(weight))
        if one is not None and 0 < effective(weight) < UNEVEN * many:
            again = resampled(weight, many, rng)
            codes, within = codes[:, again], within[:, again]
            middle = np.ascontiguousarray(middle[:, again])
            weight = np.full(many, weight.mean())
    if theta is not None:
        weight = weight * Psi(law.layout).weights(codes, theta)
    x = law.layout.rows(codes, within)
    table = law.layout.schema.decode(x)
    weight = weight * matches(table, where, law.layout.schema)
    return x, table, weight, min(size, effective(weight))
