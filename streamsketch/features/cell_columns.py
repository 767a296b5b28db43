"""Columns as cells: which cell a value lies in, and a value of a cell.

A cell is one value where a column has at most some thousands of them (categories, levels, a lattice),
an interval between knots otherwise; nulls and atoms have cells of their own. A time has several
variables, as people mean it: week, weekday and time of day. Everything is read off encoded rows, whose
float32 coordinates tell values of a lattice of `MANY` steps apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.arrays import F32, F64
from streamsketch.schema.codecs import CategoryCodec, Codec, TimestampCodec
from streamsketch.schema.numbers import NumericCodec

__all__ = ["CELLS", "MANY", "Cells", "Variable", "cells_of"]

MANY = 4096  # values of a column that have a finest cell each
INTERVALS = 64  # finest cells of a number without knots, levels or lattice
ALONE = 128  # categories up to which each is a middle cell of its own
GROUPED = 32  # middle cells of the rest, where there are more
FEW = 12  # categories that are coarse cells as they are
DAY = 86400
MONDAY = 3  # days from a Monday to 1970-01-01

Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Variable:
    """What has cells: a column, or a part of a time.

    Attributes:
        name: Such as `education` or `departure.weekday`.
        column: The schema's column.
        middle_of: (finest,) int32: the middle cell of each finest cell.
        coarse_of: (middle,) int32: the coarse cell of each middle cell.
    """

    name: str
    column: str
    middle_of: Codes
    coarse_of: Codes

    @property
    def finest(self) -> int:
        """Number of finest cells: single values where there are few, else intervals."""
        return len(self.middle_of)

    @property
    def middle(self) -> int:
        """Number of middle cells, of which pairs are counted."""
        return len(self.coarse_of)

    @property
    def coarse(self) -> int:
        """Number of coarse cells, of which triples are counted."""
        return int(self.coarse_of.max()) + 1


class Cells(Protocol):
    """The cells of one column."""

    variables: tuple[Variable, ...]

    def codes(self, x: F32) -> list[Codes]:
        """Finest cells (n,) of each variable, for encoded values x (n, width)."""
        ...

    def write(self, codes: list[Codes], within: list[F64], x: F32) -> None:
        """Fill x (n, width) with encoded values whose finest cells are `codes`.

        `within` (n,) in [0, 1) for each variable says where in its cell a value lies.
        """
        ...


def cells_of(codec: Codec, middle: int, coarse: int) -> Cells:
    """The cells of a column, at most about `middle` and `coarse` of them where values are ordered."""
    cells: Cells = CELLS[codec.column.kind](codec, middle, coarse)
    return cells


def _ordered(
    name: str,
    column: str,
    at: F64,
    special: int,
    middle: int,
    coarse: int,
    value: F64 | None = None,
) -> Variable:
    """A variable of ordered cells that lie at `at` in [0, 1], then `special` cells of their own.

    Cells of equal shares would put all of a long tail into one: they are cut again by width, at a quarter
    as many equal steps of `value` (in [0, 1]). Where there are no more values than cells, each is one.
    """

    def cut(many: int, wide: int = 1) -> Codes:
        raw = np.arange(len(at))
        if len(at) > many:
            raw = np.minimum((at * many).astype(np.int64), many - 1)
            if value is not None:
                raw = raw * wide + np.minimum((value * wide).astype(np.int64), wide - 1)
        used, code = np.unique(raw, return_inverse=True)
        return np.append(code, len(used) + np.arange(special)).astype(np.int32)

    middle_of = cut(middle, max(middle // 4, 1))
    first = np.unique(middle_of, return_index=True)[1]
    coarse_of = np.unique(cut(coarse)[first], return_inverse=True)[1].astype(np.int32)
    return Variable(name, column, middle_of, coarse_of)


class CategoryCells:
    """One cell a category; beyond `ALONE` of them the later ones are grouped for pairs."""

    def __init__(self, codec: CategoryCodec) -> None:
        self.width = codec.width
        code = np.arange(codec.width)
        if codec.width > ALONE:
            first = ALONE - GROUPED
            rest = codec.width - first
            code = np.where(code < first, code, first + (code - first) * GROUPED // rest)
        middle = int(code.max()) + 1
        coarse = np.arange(middle)
        if middle > FEW:  # the first are the most frequent ones where `init` proposed them
            coarse = np.where(
                coarse < FEW // 2,
                coarse,
                FEW // 2 + (coarse - FEW // 2) * (FEW // 2) // (middle - FEW // 2),
            )
        name = codec.column.name
        self.variables: tuple[Variable, ...] = (
            Variable(name, name, code.astype(np.int32), coarse.astype(np.int32)),
        )

    def codes(self, x: F32) -> list[Codes]:
        """See `Cells.codes`."""
        return [(x @ np.arange(self.width, dtype=np.float32)).astype(np.int32)]

    def write(self, codes: list[Codes], within: list[F64], x: F32) -> None:
        """See `Cells.write`."""
        x[:] = 0.0
        x[np.arange(len(x)), codes[0]] = 1.0


class _Special:
    """The state of a value: regular, or one of the cells after the regular ones."""

    def __init__(self, width: int, start: int, regular: int) -> None:
        self.slots = slice(start, start + width)
        self.many = max(width - 1, 0)
        self.regular = regular
        self._number = np.arange(width, dtype=np.float32)

    def mark(self, x: F32, code: Codes) -> Codes:
        """The codes, with those of special values in their place."""
        if not self.many:
            return code
        state = (x[:, self.slots] @ self._number).astype(np.int32)
        return np.where(state > 0, self.regular - 1 + state, code)

    def write(self, code: Codes, x: F32) -> Any:
        """Write the states of codes; returns which rows are regular."""
        regular = code < self.regular
        if self.many:
            x[:, self.slots] = 0.0
            state = np.where(regular, 0, code - self.regular + 1)
            x[np.arange(len(x)), self.slots.start + state] = 1.0
        return regular


class Edges:
    """Sorted edges in [-1, 1], and the number of them that are at most a value.

    Args:
        edges: (k,) float32, sorted.
    """

    def __init__(self, edges: F32) -> None:
        self.edges = edges
        self.buckets = 4 * len(edges) + 1
        self.scale = np.float32(self.buckets / 2)
        place = ((edges + np.float32(1)) * self.scale).astype(np.int64).clip(0, self.buckets - 1)
        self.first = np.searchsorted(place, np.arange(self.buckets)).astype(np.int32)

    def below(self, x: F32) -> Codes:
        """How many edges (n,) are at most each of x (n,)."""
        from streamsketch.features.kernels.counts import find

        code = np.empty(len(x), np.int32)
        find(x, self.edges, self.first, self.scale, code)
        return code


class NumberCells:
    """One cell a value where there are at most `MANY`, else one an interval between knots."""

    def __init__(self, codec: NumericCodec, middle: int, coarse: int) -> None:
        values = single_values(codec)
        self.exact = values is not None
        if values is not None:
            self.at = codec._position(values)
            edges = (self.at[1:] + self.at[:-1]) / 2
        else:
            ends = codec.positions if len(codec.knots) else np.linspace(-1, 1, INTERVALS + 1)
            self.at, edges = np.asarray(ends, np.float64), np.asarray(ends[1:-1], np.float64)
        self.edges = Edges(edges.astype(np.float32))
        regular = len(edges) + 1
        self.special = _Special(codec.states.width, 1, regular)
        centre = self.at if self.exact else (self.at[1:] + self.at[:-1]) / 2
        value = (codec._value(centre) - codec.low) / (codec.high - codec.low)
        name = codec.column.name
        self.variables: tuple[Variable, ...] = (
            _ordered(name, name, centre / 2 + 0.5, self.special.many, middle, coarse, value),
        )

    def codes(self, x: F32) -> list[Codes]:
        """See `Cells.codes`."""
        return [self.special.mark(x, self.edges.below(x[:, 0]))]

    def write(self, codes: list[Codes], within: list[F64], x: F32) -> None:
        """See `Cells.write`."""
        regular = self.special.write(codes[0], x)
        code = np.where(regular, codes[0], 0)
        place = self.at[code]
        if not self.exact:
            # strictly inside, so that rounding to float32 stays in the cell
            place = place + (0.001 + 0.998 * within[0]) * (self.at[code + 1] - place)
        x[:, 0] = np.where(regular, place, 0.0)


def single_values(codec: NumericCodec) -> F64 | None:
    """All values that a number can have, where there are at most `MANY`."""
    if len(codec.levels):
        return codec.levels if len(codec.levels) <= MANY else None
    step, start = codec.column.resolution, codec.column.offset
    if not step and pa.types.is_integer(codec.type):
        step = 1.0
    if not step:
        return None
    first, last = np.ceil((codec.low - start) / step), np.floor((codec.high - start) / step)
    if not 0 <= last - first < MANY:
        return None
    return np.asarray(start + step * np.arange(first, last + 1))


class TimeCells:
    """Day or week and weekday, and the time of day where there is one."""

    def __init__(self, codec: TimestampCodec, middle: int, coarse: int) -> None:
        self.codec = codec
        self.first_day, last_day = int(codec.low // DAY), int(codec.high // DAY)
        self.by_week = last_day - self.first_day >= 21
        if self.by_week:
            self.first_week = (self.first_day + MONDAY) // 7
            weeks = (last_day + MONDAY) // 7 - self.first_week + 1
            self.group = -(-weeks // MANY)
            whole = -(-weeks // self.group)
        else:
            whole = last_day - self.first_day + 1
        step = codec.column.resolution
        dated = pa.types.is_date(codec.type) or (step and step % DAY == 0)
        self.step = 0.0 if dated else (step if step and DAY % step == 0 else 60.0)
        self.step = max(self.step, DAY / MANY) if self.step else 0.0
        self.special = _Special(codec.states.width, codec.width - codec.states.width, whole)
        many, name = self.special.many, codec.column.name

        def variable(part: str, cells: int, special: int) -> Variable:
            at = (np.arange(cells) + 0.5) / cells
            return _ordered(f"{name}.{part}", name, at, special, middle, coarse)

        found = [variable("week" if self.by_week else "day", whole, many)]
        rest = 1 if many else 0  # a special value has no weekday: a cell that says so
        if self.by_week:
            found.append(variable("weekday", 7, rest))
        if self.step:
            found.append(variable("time", round(DAY / self.step), rest))
        self.variables = tuple(found)

    def codes(self, x: F32) -> list[Codes]:
        """See `Cells.codes`."""
        times = self.codec.decode(x).cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        t = times.fill_null(int(self.codec.low * 1e6)).to_numpy(zero_copy_only=False) / 1e6
        t = np.clip(t, self.codec.low, self.codec.high)
        day = np.floor(t / DAY).astype(np.int64)
        if self.by_week:
            whole = ((day + MONDAY) // 7 - self.first_week) // self.group
        else:
            whole = day - self.first_day
        found = [self.special.mark(x, whole.astype(np.int32))]
        parts = [(day + MONDAY) % 7] if self.by_week else []
        if self.step:
            cells = self.variables[-1].finest - bool(self.special.many)
            parts.append(np.minimum((t - DAY * day) // self.step, cells - 1))
        for part, v in zip(parts, self.variables[1:], strict=True):
            code = part.astype(np.int32)
            if self.special.many:
                code = np.where(found[0] < self.special.regular, code, v.finest - 1)
            found.append(code.astype(np.int32))
        return found

    def write(self, codes: list[Codes], within: list[F64], x: F32) -> None:
        """See `Cells.write`."""
        regular = codes[0] < self.special.regular
        whole = np.where(regular, codes[0], 0).astype(np.int64)
        parts = [np.where(regular, c, 0).astype(np.int64) for c in codes[1:]]
        if self.by_week:
            week = whole * self.group + (within[0] * self.group).astype(np.int64)
            day = (self.first_week + week) * 7 - MONDAY + np.minimum(parts[0], 6)
        else:
            day = self.first_day + whole
        t = day * float(DAY)
        if self.step:
            cells = self.variables[-1].finest - bool(self.special.many)
            exact = self.step == self.codec.column.resolution
            t = t + (np.minimum(parts[-1], cells - 1) + (0.0 if exact else within[-1])) * self.step
        t = np.clip(t, self.codec.low, self.codec.high)
        stamps = pa.array(np.round(t * 1e6).astype(np.int64)).cast(pa.timestamp("us"))
        out = np.zeros((self.codec.width, len(x)), np.float32)
        for _ in self.codec.encode(stamps, out):
            pass  # times within the limits are not refused
        x[:] = out.T
        if not regular.all():
            x[~regular, : self.special.slots.start] = 0.0
        self.special.write(codes[0], x)


def _categories(codec: CategoryCodec, middle: int, coarse: int) -> CategoryCells:
    return CategoryCells(codec)


# kinds of columns whose values are counted in cells; others are sketched without
CELLS: dict[str, Callable[[Any, int, int], Cells]] = {
    "numeric": NumberCells,
    "categorical": _categories,
    "boolean": _categories,
    "label": _categories,
    "timestamp": TimeCells,
}
