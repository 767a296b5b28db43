"""Conditions on rows: what `where` means, wherever rows are drawn under it.

A condition of a column is a value, None for null, a list of values, or a pair `(low, high)` of
numbers or times, both included and None for an open end. A row has to meet the conditions of all
columns.
"""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.arrays import Mask
from streamsketch.errors import ConfigError
from streamsketch.schema.columns import Column
from streamsketch.schema.schema import Schema
from streamsketch.schema.times import is_clock, is_time, iso_micro, seconds_of

__all__ = ["Where", "check", "label_value", "matches", "parse"]

Where: TypeAlias = Mapping[str, Any]

_NULL = re.compile(r"^(.+?)\s+(?:is|=)\s+null$", re.IGNORECASE)
_COMPARED = re.compile(r"^(.+?)\s*(>=|<=|=)\s*(.*)$", re.DOTALL)


def parse(texts: Sequence[str], schema: Schema) -> dict[str, Any]:
    """Conditions of what a person types: `sex=F`, `sex=F|M`, `age>=30`, `age=30..40`, `y is null`.

    Raises:
        ConfigError: A text is no condition, or does not fit the schema.

    >>> schema = Schema([Column("age", "numeric", low=0, high=99),
    ...                  Column("sex", "categorical", "string", values=("F", "M"))])
    >>> parse(["age>=30", "age<=40", "sex=F|M"], schema)
    {'age': (30.0, 40.0), 'sex': ['F', 'M']}
    """
    where: dict[str, Any] = {}
    for text in texts:
        name, found = _one(text, schema)
        if isinstance(found, tuple) and isinstance(where.get(name), tuple):
            both = zip(where[name], found, strict=True)
            found = tuple(a if b is None else b for a, b in both)
        elif name in where:
            raise ConfigError(
                f"--where has two conditions of {name!r}; write {name}=A|B for either"
            )
        where[name] = found
    check(where, schema)
    return where


def label_value(text: str | None, schema: Schema) -> Any:
    """The declared label that a person types: labels may be numbers or booleans.

    Raises:
        ConfigError: There is no such label.
    """
    if text is None:
        return None
    # null is no text: it is asked for with a condition, `COL is null`
    by_text = {str(value): value for value in schema.label_classes if value is not None}
    if text not in by_text:
        known = (
            f"its values are {', '.join(by_text)}" if by_text else "the schema has no label column"
        )
        raise ConfigError(f"There are no rows of label {text!r} to draw: {known}")
    return by_text[text]


def check(where: Where, schema: Schema) -> None:
    """Refuse conditions that no row can meet, or that name no column.

    Raises:
        ConfigError: The condition, and what would do.
    """
    columns = {c.name: c for c in schema.columns if c.name in schema.names}
    for name, condition in where.items():
        column = columns.get(name)
        if column is None:
            raise ConfigError(
                f"there is no column {name!r} to condition on; columns are {', '.join(columns)}"
            )
        if column.categorical:
            known = [False, True] if column.kind == "boolean" else [*column.values, *column.tail]
            known += [None] if column.nulls != "refuse" else []
            asked = condition if isinstance(condition, list | tuple | set) else [condition]
            for value in asked:
                if value not in known:
                    shown = ", ".join(map(repr, known[:20]))
                    raise ConfigError(f"{name} = {value!r} is not one of its values: {shown}")
        elif condition is None and column.kind != "derived" and column.nulls == "refuse":
            raise ConfigError(f"{name} is never null: the schema refuses nulls there")
        elif isinstance(condition, tuple):
            low, high = _ends(column, condition)
            if low > high:
                raise ConfigError(
                    f"{name} = {condition!r} is empty: the first is above the second"
                )


def matches(table: pa.Table, where: Where, schema: Schema) -> Mask:
    """Which rows of a table meet all conditions, (n,)."""
    columns = {c.name: c for c in schema.columns}
    met = np.ones(table.num_rows, bool)
    for name, condition in where.items():
        values = table[name].combine_chunks()
        met &= _met(values, condition, columns[name])
    return met


def _met(values: pa.Array, condition: Any, column: Column) -> Mask:
    null = np.asarray(values.is_null().to_numpy(zero_copy_only=False))
    if condition is None:
        return null
    if isinstance(condition, list | set):
        parts = [_met(values, one, column) for one in condition]
        return np.logical_or.reduce(parts) if parts else np.zeros(len(values), bool)
    if isinstance(condition, tuple) and not column.categorical:
        low, high = _ends(column, condition)
        number = _numbers(values)
        return np.asarray(~null & (number >= low) & (number <= high))
    if isinstance(condition, tuple):
        return _met(values, list(condition), column)
    if is_time(values.type) or is_clock(values.type):
        return np.asarray(~null & (_numbers(values) == _number(column, condition)))
    if pa.types.is_decimal(values.type):
        return np.asarray(~null & (_numbers(values) == float(condition)))
    same = pc.equal(values, pa.scalar(condition).cast(values.type, safe=False))
    return np.asarray(pc.fill_null(same, False).to_numpy(zero_copy_only=False))


def _ends(column: Column, pair: tuple[Any, ...]) -> tuple[float, float]:
    low, high = pair
    return (
        -np.inf if low is None else _number(column, low),
        np.inf if high is None else _number(column, high),
    )


def _number(column: Column, value: Any) -> float:
    """A number as it is, a time as seconds since 1970, a time of day as seconds of the day."""
    try:
        if isinstance(value, dt.datetime | dt.date):
            value = value.isoformat()
        if isinstance(value, dt.time):
            return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
        if isinstance(value, dt.timedelta):
            return value.total_seconds()
        if isinstance(value, str) and is_time(column.arrow):
            return iso_micro(value) / 1e6
        return float(value)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"{column.name}: {value!r} is not of type {column.type} ({e})") from None


def _numbers(values: pa.Array) -> NDArray[np.float64]:
    if is_time(values.type) or is_clock(values.type):
        return seconds_of(values)[0]
    filled = pc.fill_null(values.cast(pa.float64(), safe=False), 0.0)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.float64)


def _one(text: str, schema: Schema) -> tuple[str, Any]:
    if found := _NULL.match(text):
        return found[1], None
    compared = _COMPARED.match(text)
    if compared is None:
        raise ConfigError(
            f"--where {text!r} is no condition; write COL=VALUE, COL=A|B, COL=LOW..HIGH, COL>=LOW, "
            "COL<=HIGH or 'COL is null'"
        )
    name, sign, value = compared[1], compared[2], compared[3]
    column = next((c for c in schema.columns if c.name == name), None)
    if column is None:
        check({name: value}, schema)
        raise ConfigError(f"there is no column {name!r}")
    if sign == ">=":
        return name, (_typed(column, value), None)
    if sign == "<=":
        return name, (None, _typed(column, value))
    if ".." in value and not column.categorical:
        low, _, high = value.partition("..")
        return name, (_typed(column, low) if low else None, _typed(column, high) if high else None)
    if "|" in value and value not in map(str, column.values):
        return name, [_typed(column, part) for part in value.split("|")]
    return name, _typed(column, value)


def _typed(column: Column, text: str) -> Any:
    """The value that a text stands for: one of the declared ones, or a number or time."""
    if column.kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if column.categorical:
        return {str(v): v for v in (*column.values, *column.tail)}.get(text, text)
    kind = column.arrow
    if is_time(kind) or pa.types.is_string(kind):
        return text
    if is_clock(kind):
        from streamsketch.schema.times import from_text

        read, bad = from_text(pa.array([text]), kind)
        return text if bad[0] else seconds_of(read)[0][0]
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{column.name}: {text!r} is not a number") from None
