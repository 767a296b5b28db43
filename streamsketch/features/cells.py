"""Counts of cells: single values, all pairs of columns, and triples, as a linear sketch of tables.

Each row adds one to one cell of each table. The counts are the sufficient statistics of an
autoregressive softmax model of the rows (`generator.autoregressive`). They are integers: a sum over any
split of the rows is the same to the last bit, and one row's norm is exactly the square root of the
number of tables. The layout is fixed by the schema and three numbers, so it is never sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.features.cell_columns import CELLS, Cells, Codes, Variable, cells_of
from streamsketch.features.spec import Spec
from streamsketch.schema import Schema

__all__ = [
    "MAX_CELLS",
    "CellLayout",
    "Variable",
    "fitting_middle",
    "largest_middle",
    "layout_named",
    "layout_of",
    "suits",
]

MAX_CELLS = 1 << 19  # counts of one sketch: 4 MB
LEAST_MIDDLE = 8  # with fewer middle cells pairs say too little

Vector = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CellLayout:
    """Which counts there are, and where they stand in the vector.

    Attributes:
        schema: The columns.
        columns: Their cells, in the schema's order.
        triples: Variables (i < j < k) whose coarse cells are counted together.
        chosen: Pairs (j < k) of variables that are counted, in order; None counts all.

    Example:
        >>> from streamsketch.schema import Column
        >>> schema = Schema([Column("sex", "categorical", "string", values=("f", "m")),
        ...                  Column("age", "numeric", "int64", low=0, high=9)])
        >>> layout = layout_of(schema, middle=5, coarse=0)
        >>> layout.size, layout.tables
        (22, 3)
    """

    schema: Schema
    columns: tuple[Cells, ...]
    triples: tuple[tuple[int, int, int], ...] = ()
    chosen: tuple[tuple[int, int], ...] | None = None

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """All variables, in order."""
        return tuple(v for column in self.columns for v in column.variables)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (j < k) of variables that are counted."""
        if self.chosen is not None:
            return self.chosen
        return tuple(combinations(range(len(self.variables)), 2))

    def counted(self, j: int, k: int) -> bool:
        """Whether variables j and k, in any order, are counted together."""
        return (min(j, k), max(j, k)) in self._pair_number

    @cached_property
    def tables(self) -> int:
        """Number of tables: a row adds one to a cell of each."""
        return len(self.variables) + len(self.pairs) + len(self.triples)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each table starts in the vector, singles, pairs, triples; last its length."""
        v = self.variables
        sizes = [one.finest for one in v]
        sizes += [v[j].middle * v[k].middle for j, k in self.pairs]
        sizes += [v[i].coarse * v[j].coarse * v[k].coarse for i, j, k in self.triples]
        return np.cumsum([0, *sizes])

    @property
    def size(self) -> int:
        """Length of the vector of counts."""
        return int(self.starts[-1])

    @cached_property
    def _pair_number(self) -> dict[tuple[int, int], int]:
        return {pair: len(self.variables) + q for q, pair in enumerate(self.pairs)}

    def _table(self, counts: Vector, number: int) -> Vector:
        return counts[self.starts[number] : self.starts[number + 1]]

    def single(self, counts: Vector, k: int) -> Vector:
        """Counts (finest,) of variable k, a view."""
        return self._table(counts, k)

    def pair(self, counts: Vector, j: int, k: int) -> Vector:
        """Counts (middle_j, middle_k) of two `counted` variables in any order, a view."""
        if j > k:
            return self.pair(counts, k, j).T
        found = self._table(counts, self._pair_number[j, k])
        return found.reshape(self.variables[j].middle, self.variables[k].middle)

    def triple(self, counts: Vector, number: int) -> Vector:
        """Counts (coarse, coarse, coarse) of `triples[number]`, a view."""
        shape = [self.variables[k].coarse for k in self.triples[number]]
        first = len(self.variables) + len(self.pairs)
        return self._table(counts, first + number).reshape(shape)

    def codes(self, x: NDArray[np.float32]) -> Codes:
        """Finest cells (variables, n) of encoded rows x (n, d)."""
        out = np.empty((len(self.variables), len(x)), np.int32)
        at = 0
        for column, part in zip(self.columns, self._slices, strict=True):
            for code in column.codes(x[:, part]):
                out[at] = code
                at += 1
        return out

    def rows(self, codes: Codes, within: NDArray[np.float64]) -> NDArray[np.float32]:
        """Encoded rows (n, d) whose finest cells are `codes` (variables, n).

        A value that stands alone in its cell is that value; where in its interval another lies is said by
        `within` (variables, n), in [0, 1).
        """
        x = np.zeros((codes.shape[1], self.schema.d), np.float32)
        at = 0
        for column, part in zip(self.columns, self._slices, strict=True):
            own = slice(at, at + len(column.variables))
            column.write(list(codes[own]), list(within[own]), x[:, part])
            at = own.stop
        return x

    @cached_property
    def _slices(self) -> list[slice]:
        edges = np.cumsum([0, *(codec.width for codec in self.schema.codecs.values())])
        return [slice(int(a), int(b)) for a, b in zip(edges, edges[1:], strict=False)]

    def __repr__(self) -> str:
        return (
            f"CellLayout(variables={len(self.variables)}, tables={self.tables}, cells={self.size})"
        )


def layout_of(
    schema: Schema,
    middle: int,
    coarse: int,
    triples: Sequence[Sequence[str]] | None = None,
    pairs: Sequence[Sequence[str]] | None = None,
) -> CellLayout:
    """The layout of a schema.

    Args:
        schema: The columns.
        middle: Cells of an ordered column in its pairs.
        coarse: Cells of an ordered column in triples; 0 counts no triples.
        triples: Names of the variables of each triple; None counts all.
        pairs: Names of the variables of each pair; None counts all.

    Raises:
        ConfigError: A column has no cells, or a pair or triple names no variable.
    """
    without = {c.name: c.kind for c in schema.columns if c.encoded and c.kind not in CELLS}
    if without:
        kinds = ", ".join(dict.fromkeys(without.values()))
        raise ConfigError(
            f"columns {list(without)} are of kind {kinds}, which has no cells; sketch them with cells = false"
        )
    columns = tuple(cells_of(codec, middle, max(coarse, 2)) for codec in schema.codecs.values())
    layout = CellLayout(schema, columns)
    many = range(len(layout.variables))
    chosen: Any = None if pairs is None else _named(layout, pairs, 2)
    threes: Any = ()
    if coarse:
        threes = tuple(combinations(many, 3)) if triples is None else _named(layout, triples, 3)
    return CellLayout(schema, columns, threes, chosen)


def layout_named(spec: Spec, schema: Schema) -> CellLayout:
    """The layout that a spec with cells names."""
    return layout_of(schema, spec.middle, spec.coarse, spec.triples or None, spec.pairs or None)


def _named(
    layout: CellLayout, groups: Sequence[Sequence[str]], size: int
) -> tuple[tuple[int, ...], ...]:
    """Groups of variables by name as sorted numbers, each group once."""
    number = {v.name: k for k, v in enumerate(layout.variables)}
    for names in groups:
        if len(set(names)) != size or not set(names) <= set(number):
            what = "pairs" if size == 2 else "triples"
            most = ", ".join([*number][:20]) + (", ..." if len(number) > 20 else "")
            raise ConfigError(
                f"{what} hold {list(names)}, but each must name {size} of the variables {most}"
            )
    return tuple(sorted({tuple(sorted(number[n] for n in names)) for names in groups}))


def pairs_of(partners: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Pairs of names, of a mapping from variables to their partners; either may name the other."""
    return tuple(
        sorted({tuple(sorted((name, other))) for name, near in partners.items() for other in near})
    )


def suits(schema: Schema) -> bool:
    """Whether a schema is that of a table rather than of plain points or vectors."""
    encoded = [c for c in schema.columns if c.encoded]
    if any(c.kind not in CELLS for c in encoded):
        return False
    return any(
        c.kind != "numeric"
        or c.knots
        or c.atoms
        or c.levels
        or c.resolution
        or c.nulls != "refuse"
        for c in encoded
    )


def largest_middle(
    schema: Schema, middle: int, most: int, pairs: Sequence[Sequence[str]] = ()
) -> int:
    """The largest number of middle cells, `LEAST_MIDDLE` to `middle`, of at most `most` counts; 0 if none."""
    for cells in range(middle, min(LEAST_MIDDLE, middle) - 1, -4):
        if layout_of(schema, cells, 0, None, pairs or None).size <= most:
            return cells
    return 0


def fitting_middle(
    schema: Schema, middle: int, most: int = MAX_CELLS, pairs: Sequence[Sequence[str]] = ()
) -> int:
    """As `largest_middle`, for pairs that must fit.

    Raises:
        ConfigError: Even `LEAST_MIDDLE` cells are too many; the columns that cost most are named.
    """
    found = largest_middle(schema, middle, most, pairs)
    if found:
        return found
    layout = layout_of(schema, LEAST_MIDDLE, 0, None, pairs or None)
    cost = dict.fromkeys((v.name for v in layout.variables), 0)
    for v in layout.variables:
        cost[v.name] += v.finest
    for j, k in layout.pairs:
        a, b = layout.variables[j], layout.variables[k]
        cost[a.name] += a.middle * b.middle
        cost[b.name] += a.middle * b.middle
    widest = sorted(cost, key=lambda name: -cost[name])[:3]
    named = ", ".join(f"{name!r} ({cost[name]} cells)" for name in widest)
    raise ConfigError(
        f"counts of {len(layout.pairs)} pairs of {len(layout.variables)} variables take {layout.size} cells, more than "
        f"the {most} of max_cells; name the pairs that matter (`init` proposes them), ignore columns (the most costly "
        f"are {named}), raise max_cells, or set cells = false"
    )
