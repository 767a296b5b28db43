"""What rows always meet: one column at least another, combinations that exist, one of a group true.

A generator learns these nearly; a row that fails takes the columns in question from a generated row
that does not, so that every value is one that was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.arrays import Mask
from streamsketch.errors import SchemaError
from streamsketch.schema.codecs import typed_values
from streamsketch.schema.columns import Column
from streamsketch.schema.times import is_clock, is_time, iso_seconds, seconds_of

__all__ = ["Constraint", "constraints_of"]

Arrays = dict[str, pa.Array]


@dataclass(frozen=True)
class Constraint:
    """Something that every row meets.

    Attributes:
        columns: The columns it is about.
    """

    columns: tuple[Column, ...]

    def met(self, arrays: Arrays) -> Mask:
        """Which rows meet it, (n,)."""
        raise NotImplementedError

    def forced(self, arrays: Arrays) -> Arrays:
        """Its columns, changed so that every row meets it: for when no row can lend its values."""
        raise NotImplementedError

    def __call__(self, arrays: Arrays) -> Arrays:
        """The arrays, those of its columns so that every row meets it."""
        met = self.met(arrays)
        if met.all():
            return arrays
        names = [c.name for c in self.columns]
        good, bad = np.flatnonzero(met), np.flatnonzero(~met)
        if not len(good):
            return {**arrays, **self.forced(arrays)}
        rows = np.arange(len(met))
        rows[bad] = good[np.arange(len(bad)) % len(good)]
        return {**arrays, **{name: arrays[name].take(pa.array(rows)) for name in names}}


@dataclass(frozen=True)
class Order(Constraint):
    """Columns of which each is at least another; a null is at least anything.

    Attributes:
        pairs: Names of the smaller and the larger.
    """

    pairs: tuple[tuple[str, str], ...]

    def met(self, arrays: Arrays) -> Mask:
        """Which rows meet it, (n,)."""
        met = np.ones(len(next(iter(arrays.values()))), bool)
        for small, large in self.pairs:
            met &= ~(_numbers(arrays[small]) > _numbers(arrays[large]))  # not a number is a null
        return met

    def forced(self, arrays: Arrays) -> Arrays:
        """The larger of each pair, and where its limits forbid that, the smaller of it."""
        out = {c.name: arrays[c.name] for c in self.columns}
        for _ in self.pairs:
            for small, large in self.pairs:
                a, b = out[small], out[large]
                wrong = pa.array(_numbers(a) > _numbers(b))
                out[small], out[large] = pc.if_else(wrong, b, a), pc.if_else(wrong, a, b)
        return out


@dataclass(frozen=True)
class Combination(Constraint):
    """Categories that occur together.

    Attributes:
        table: The combinations, a column of Arrow values each.
    """

    table: tuple[pa.Array, ...]

    def met(self, arrays: Arrays) -> Mask:
        """Which rows meet it, (n,)."""
        known = np.stack([_codes(v, v) for v in self.table], axis=1)
        asked = np.stack(
            [_codes(arrays[c.name], v) for c, v in zip(self.columns, self.table, strict=True)],
            axis=1,
        )
        there = {tuple(row) for row in known.tolist()}
        return np.array([tuple(row) in there for row in asked.tolist()], bool)

    def forced(self, arrays: Arrays) -> Arrays:
        """The listed combinations, one after the other."""
        n = len(arrays[self.columns[0].name])
        rows = pa.array(np.arange(n) % len(self.table[0]))
        return {c.name: v.take(rows) for c, v in zip(self.columns, self.table, strict=True)}


@dataclass(frozen=True)
class OneOf(Constraint):
    """Booleans of which exactly one is true."""

    def met(self, arrays: Arrays) -> Mask:
        """Which rows meet it, (n,)."""
        return np.asarray(sum(_flags(arrays[c.name]).astype(int) for c in self.columns) == 1)

    def forced(self, arrays: Arrays) -> Arrays:
        """The first that is true alone; where none is, one after the other."""
        flags = np.stack([_flags(arrays[c.name]) for c in self.columns])
        turn = np.arange(flags.shape[1]) % len(self.columns)
        which = np.where(flags.any(axis=0), flags.argmax(axis=0), turn)
        return {c.name: pa.array(which == k) for k, c in enumerate(self.columns)}


@dataclass(frozen=True)
class All(Constraint):
    """Constraints that share columns: a row lends its values where it meets all of them."""

    parts: tuple[Constraint, ...]

    def met(self, arrays: Arrays) -> Mask:
        """Which rows meet it, (n,)."""
        return np.asarray(np.logical_and.reduce([part.met(arrays) for part in self.parts]))

    def forced(self, arrays: Arrays) -> Arrays:
        """One after the other."""
        for part in self.parts:
            arrays = {**arrays, **part.forced(arrays)}
        return {c.name: arrays[c.name] for c in self.columns}


def _together(found: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The constraints, those that share columns as one."""
    out: list[Constraint] = []
    for one in found:
        shared = [c for c in out if set(c.columns) & set(one.columns)]
        if shared:
            out = [c for c in out if c not in shared]
            parts = (*shared, one)
            columns = dict.fromkeys(column for part in parts for column in part.columns)
            one = All(tuple(columns), parts)
        out.append(one)
    return tuple(out)


def constraints_of(columns: Sequence[Column]) -> tuple[Constraint, ...]:
    """The constraints that columns declare.

    Raises:
        SchemaError: One names a column that is not there, or of another type.
    """
    by_name = {c.name: c for c in columns if c.encoded}
    found: list[Constraint] = [_combination(c, by_name) for c in columns if c.encoded and c.table]
    found += [_group(columns, name) for name in dict.fromkeys(c.group for c in columns if c.group)]
    pairs = [_pair(c, by_name) for c in columns if c.at_least]
    if pairs:
        names = dict.fromkeys(name for pair in pairs for name in pair)
        found.append(Order(tuple(by_name[n] for n in names), tuple(pairs)))
    return _together(found)


def _group(columns: Sequence[Column], name: str) -> OneOf:
    members = tuple(c for c in columns if c.group == name)
    if len(members) < 2 or any(c.kind != "boolean" or c.nulls != "refuse" for c in members):
        raise SchemaError(
            f"group {name!r} needs at least two boolean columns without nulls, of which one is true"
        )
    return OneOf(members)


def _pair(column: Column, by_name: dict[str, Column]) -> tuple[str, str]:
    other = by_name.get(column.at_least)
    if other is None or other.name == column.name:
        raise SchemaError(
            f"column {column.name!r}: at_least = {column.at_least!r} is not another column that is sketched"
        )
    kinds = {column.kind, other.kind}
    if len(kinds) > 1 or not kinds <= {"numeric", "timestamp"} or column.type != other.type:
        raise SchemaError(
            f"column {column.name!r}: at_least = {other.name!r} is of type {other.type}; both must be "
            "numbers or times of one type"
        )
    if _limit(other.low) > _limit(column.high):
        raise SchemaError(
            f"column {column.name!r}: it cannot be at least {other.name!r}, whose low is above its high"
        )
    return other.name, column.name


def _limit(value: float | str) -> float:
    return iso_seconds(value) if isinstance(value, str) else float(value)


def _combination(column: Column, by_name: dict[str, Column]) -> Combination:
    parts = [by_name.get(name) for name in column.keys]
    if not parts or not all(p is not None and p.categorical for p in (*parts, column)):
        raise SchemaError(
            f"column {column.name!r}: keys = {list(column.keys)} must be categories that are sketched; "
            "table lists which occur together"
        )
    chosen = (*(p for p in parts if p is not None), column)
    entries = list(zip(*column.table, strict=True))
    if len(entries) != len(chosen):
        raise SchemaError(
            f"column {column.name!r}: an entry of table holds a value of each of its keys"
        )
    arrays = tuple(typed_values(c, list(v)) for c, v in zip(chosen, entries, strict=True))
    return Combination(chosen, arrays)


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    """Numbers, times as seconds; null is not a number."""
    if is_time(values.type) or is_clock(values.type):
        seconds, missing = seconds_of(values)
        return seconds if missing is None else np.where(missing, np.nan, seconds)
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), float)


def _codes(values: pa.Array, known: pa.Array) -> NDArray[np.int64]:
    """Place of each value among the distinct known ones, null among them; -1 where it is none."""
    distinct = known.unique()
    found = pc.fill_null(pc.index_in(values, value_set=distinct), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _flags(values: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), bool)
