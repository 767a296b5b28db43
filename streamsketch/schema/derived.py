"""Columns that others determine: looked up when rows are decoded, never read and never sketched."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import SchemaError
from streamsketch.schema.columns import Column, arrow_type
from streamsketch.schema.times import is_time, iso_seconds, seconds_of

__all__ = ["Lookup"]

ORDERED = ("numeric", "timestamp")  # kinds whose nearest value stands for an unknown one
_AT_ONCE = 1 << 20  # distances of keys to entries held at a time


class Lookup:
    """The values of a derived column, from those of its keys.

    The entry taken is the one that agrees in most keys; among these the one whose number or time is
    nearest; among these the first. So every row has a value, and a row with keys of the table has
    exactly the declared one. A null key makes the value null.

    Args:
        column: A column of kind `derived`.
        keys: The declarations of its keys, in order.

    Raises:
        SchemaError: A key cannot be looked up, or a value is not of the column's type.

    Example:
        >>> grade = Column("grade", "categorical", "string", values=("low", "high"))
        >>> years = Column("years", "derived", "int64", keys=("grade",), table=(("low", 9), ("high", 13)))
        >>> Lookup(years, [grade])({"grade": pa.array(["high", "low", None])}).to_pylist()
        [13, 9, None]
    """

    def __init__(self, column: Column, keys: Sequence[Column]) -> None:
        self.column = column
        for key in keys:
            if key.kind not in ORDERED and not key.categorical:
                raise SchemaError(
                    f"column {column.name!r}: key {key.name!r} is of kind {key.kind}; keys are numeric, "
                    "timestamp, categorical, boolean or label"
                )
        ordered = [key.name for key in keys if key.kind in ORDERED]
        if len(ordered) > 1:
            raise SchemaError(
                f"column {column.name!r}: keys {ordered} are all numbers or times; at most one can be"
            )
        self.keys = tuple(keys)
        entries = list(zip(*column.table, strict=True))
        try:
            self.values = pa.array(entries[-1], arrow_type(column.type))
            self._entries = [
                _key_values(key, values)
                for key, values in zip(self.keys, entries[:-1], strict=True)
            ]
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, ValueError) as e:
            raise SchemaError(
                f"column {column.name!r}: the table does not fit the declared types ({e})"
            ) from None

    def __call__(self, columns: Mapping[str, pa.Array]) -> pa.Array:
        """An Arrow array of the column's type, from the columns (n,) that are its keys."""
        arrays = [columns[key.name] for key in self.keys]
        missing = np.zeros(len(arrays[0]), bool)
        asked, known = [], []
        for key, array, entries in zip(self.keys, arrays, self._entries, strict=True):
            missing |= array.is_null().to_numpy(zero_copy_only=False)
            if key.kind in ORDERED:
                asked.append(_floats(array))
                known.append(_floats(entries))
            else:
                distinct = entries.unique()
                asked.append(_codes(array, distinct))
                known.append(_codes(entries, distinct))
        rows, inverse = np.unique(np.stack(asked, axis=1), axis=0, return_inverse=True)
        entry = self._nearest(rows, np.stack(known, axis=1))[inverse.reshape(-1)]
        return self.values.take(pa.array(entry, mask=missing if missing.any() else None))

    def _nearest(self, rows: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the entry for each of the rows (k, keys), of the entries (e, keys)."""
        out = []
        step = max(_AT_ONCE // len(known), 1)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            distance = np.zeros((len(part), len(known)))
            for j, key in enumerate(self.keys):
                gap = np.abs(part[:, j, None] - known[None, :, j])
                # the gap of numbers stays below one disagreement
                distance += gap / (1 + gap.max()) if key.kind in ORDERED else gap > 0
            out.append(np.argmin(distance, axis=1))
        return np.concatenate(out) if out else np.empty(0, np.int64)


def _key_values(key: Column, values: Sequence[Any]) -> pa.Array:
    """The entries of a key: times as seconds since 1970, other values in the key's type."""
    if key.kind == "timestamp":
        return pa.array([iso_seconds(value) for value in values], pa.float64())
    if key.kind == "numeric":
        return pa.array(values, pa.float64())
    return pa.array(values, key.arrow)


def _floats(values: pa.Array) -> NDArray[np.float64]:
    """Numbers as float64, times as seconds, nulls as 0."""
    if is_time(values.type):
        return seconds_of(values)[0]
    filled = pc.fill_null(values.cast(pa.float64(), safe=False), 0.0)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.float64)


def _codes(values: pa.Array, distinct: pa.Array) -> NDArray[np.float64]:
    """Place of each value in `distinct`, -1 where it has none."""
    return _floats(pc.fill_null(pc.index_in(values, value_set=distinct), -1))
