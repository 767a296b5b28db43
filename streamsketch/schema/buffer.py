"""Rows that come one by one, kept until there are enough of them to be encoded together."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamsketch.schema.columns import Column

if TYPE_CHECKING:
    from streamsketch.schema.schema import Schema

__all__ = ["RowBuffer"]

ROWS = 1024
NUMBERS = 1 << 22  # of encoded rows
EXACT = 1 << 53  # whole numbers below it are floats exactly


class RowBuffer:
    """Keeps rows that are certain to be accepted, column by column.

    A row of which that is not certain at a glance (a null, a value at odds with its column, a time)
    is for whoever encodes it at once, and can refuse it.

    Args:
        schema: The columns.

    >>> from streamsketch.schema import Schema
    >>> buffer = RowBuffer(Schema.vectors(1, -1, 1))
    >>> buffer.add({"x0": 0.5}), buffer.add({"x0": float("nan")}), buffer.add({})
    (True, False, False)
    >>> buffer.take().to_pydict()
    {'x0': [0.5]}
    """

    def __init__(self, schema: "Schema") -> None:
        columns = [c for c in schema.columns if c.encoded]
        known = schema.user_column is None
        self._certain = [(c.name, _certain(c)) for c in columns] if known else []
        self._types = [c.arrow for c in columns]
        self._most = max(1, min(ROWS, NUMBERS // max(schema.d, 1)))
        self._rows: list[list[Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether the rows should be taken now."""
        return len(self._rows) >= self._most

    def add(self, row: Mapping[str, Any]) -> bool:
        """Keep the values of a row, if they are certain to be accepted."""
        values = []
        try:
            for name, certain in self._certain:
                value = row[name]
                if not certain(value):
                    return False
                values.append(value)
        except (KeyError, TypeError, IndexError):
            return False
        if not values:
            return False
        self._rows.append(values)
        return True

    def take(self) -> pa.RecordBatch:
        """All rows, which are forgotten."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._types)
        arrays = [pa.array(c, kind) for c, kind in zip(columns, self._types, strict=True)]
        self._rows = []
        return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in self._certain])


def _certain(column: Column) -> Callable[[Any], bool]:
    """Whether a value is accepted whatever the settings say of values beyond limits."""
    if column.kind == "boolean":
        return _boolean
    if column.categorical and column.type == "string":
        return partial(_text, frozenset(column.values))
    if column.kind == "numeric" and pa.types.is_integer(column.arrow):
        return partial(_whole, column.low, column.high)
    if column.kind == "numeric" and pa.types.is_float64(column.arrow):
        return partial(_number, float(column.low), float(column.high))
    return _never


def _boolean(value: Any) -> bool:
    return value is True or value is False


def _text(declared: frozenset[str], value: Any) -> bool:
    return type(value) is str and value in declared


def _whole(low: float, high: float, value: Any) -> bool:
    return type(value) is int and low <= value <= high


def _number(low: float, high: float, value: Any) -> bool:
    exact = isinstance(value, float) or (type(value) is int and -EXACT < value < EXACT)
    return exact and low <= value <= high


def _never(value: Any) -> bool:
    return False
