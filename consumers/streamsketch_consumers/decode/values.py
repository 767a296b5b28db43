"""Python values to Arrow columns of declared types, strictly, with the bad values found."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch_consumers.decode.base import Bad, Rows

__all__ = ["ERRORS", "Columns", "split"]

ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
NONE = type(None)


class Columns:
    """Builds batches of the declared columns out of mappings.

    Args:
        types: Column name to Arrow type.
        missing: A key that is not there is `refuse`d, or taken as `null`.
        declared: The only keys that a record may have; None for any.
    """

    def __init__(
        self,
        types: dict[str, pa.DataType],
        missing: str,
        declared: frozenset[str] | None = None,
    ) -> None:
        self._types = types
        self._declared = declared
        self._refuse = missing == "refuse"
        self._get = itemgetter(*types)
        self._numbers = len(types) > 1 and set(types.values()) == {pa.float64()}

    def build(self, records: Sequence[Any], index: Sequence[int]) -> tuple[list[Rows], list[Bad]]:
        """Rows of the records, and those that do not fit.

        Args:
            records: Parsed messages; what is no mapping is bad.
            index: The message number of each record.
        """
        records, index, bad = self._mappings(records, index)
        if self._declared is not None:
            records, index, others = self._known(records, index, self._declared)
            bad += others
        try:
            found = list(map(self._get, records))
        except KeyError:
            records, index, lacking = self._complete(records, index)
            bad += lacking
            found = list(map(self._get, records))
        if not records:
            return [], sorted(bad, key=lambda b: b.message)
        batch = self._at_once(found)
        if batch is not None:
            rows_found = [Rows(batch, np.asarray(index, np.int64))]
            return rows_found, sorted(bad, key=lambda b: b.message)
        if len(self._types) == 1:
            columns: Sequence[Sequence[Any]] = [found]
        else:
            columns = list(zip(*found, strict=True))
        arrays = []
        wrong: dict[int, str] = {}
        for (name, kind), column in zip(self._types.items(), columns, strict=True):
            array, rows = split(column, partial(convert, kind=kind), kind)
            arrays.append(array)
            for row in rows:
                wrong.setdefault(
                    row, f"field {name!r} is {_shown(column[row])}, not {_noun(kind)}"
                )
        batch = pa.RecordBatch.from_arrays(arrays, names=list(self._types))
        origin = np.asarray(index, np.int64)
        if wrong:
            keep = np.setdiff1d(np.arange(len(records)), np.fromiter(wrong, np.int64))
            bad += [Bad(int(origin[row]), reason) for row, reason in wrong.items()]
            batch, origin = batch.take(pa.array(keep)), origin[keep]
        rows_found = [Rows(batch, origin)] if len(origin) else []
        return rows_found, sorted(bad, key=lambda b: b.message)

    def _at_once(self, found: Sequence[Sequence[Any]]) -> pa.RecordBatch | None:
        """The rows where all columns are numbers and so are all values, which is faster."""
        if not self._numbers:
            return None
        flat = list(chain.from_iterable(found))
        if not set(map(type, flat)) <= {float, int}:
            return None
        try:
            values = np.fromiter(flat, np.float64, len(flat))
        except OverflowError:
            return None
        columns = np.ascontiguousarray(values.reshape(-1, len(self._types)).T)
        return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], names=list(self._types))

    def _mappings(
        self, records: Sequence[Any], index: Sequence[int]
    ) -> tuple[Sequence[Any], Sequence[int], list[Bad]]:
        if set(map(type, records)) <= {dict}:
            return records, index, []
        bad = [
            Bad(i, f"{_shown(record)} is not an object with the schema's fields")
            for i, record in zip(index, records, strict=True)
            if type(record) is not dict
        ]
        kept = [j for j, record in enumerate(records) if type(record) is dict]
        return [records[j] for j in kept], [index[j] for j in kept], bad

    def _known(
        self, records: Sequence[dict[str, Any]], index: Sequence[int], names: frozenset[str]
    ) -> tuple[list[dict[str, Any]], list[int], list[Bad]]:
        """Set records apart that have a field which is not declared."""
        kept, where, bad = [], [], []
        for i, record in zip(index, records, strict=True):
            other = next((key for key in record if key not in names), None)
            if other is None:
                kept.append(record)
                where.append(i)
            else:
                bad.append(Bad(i, f"field {_shown(other)} is not declared"))
        return kept, where, bad

    def _complete(
        self, records: Sequence[dict[str, Any]], index: Sequence[int]
    ) -> tuple[list[dict[str, Any]], list[int], list[Bad]]:
        """Handle records that lack a field."""
        kept, where, bad = [], [], []
        for i, record in zip(index, records, strict=True):
            absent = next((name for name in self._types if name not in record), None)
            if absent is None or not self._refuse:
                kept.append({name: record.get(name) for name in self._types})
                where.append(i)
            else:
                bad.append(Bad(i, f"no field {absent!r}"))
        return kept, where, bad


def split(
    values: Sequence[Any], build: Callable[[Sequence[Any]], pa.Array], kind: pa.DataType
) -> tuple[pa.Array, list[int]]:
    """The array of `values`, null where a value cannot be built, and those places.

    Halves what fails, so that a few bad values among many cost a few more calls. `build` must
    work element by element for the outcome not to depend on how values are grouped.

    >>> split(["1", "x", "3"], lambda v: pa.array([int(x) for x in v]), pa.int64())[1]
    [1]
    """
    try:
        return build(values), []
    except ERRORS:
        pass
    parts: list[pa.Array] = []
    bad: list[int] = []
    _halve(values, 0, len(values), build, kind, parts, bad)
    return pa.concat_arrays(parts), bad


def _halve(
    values: Sequence[Any],
    low: int,
    high: int,
    build: Callable[[Sequence[Any]], pa.Array],
    kind: pa.DataType,
    parts: list[pa.Array],
    bad: list[int],
) -> None:
    if high - low == 1:
        bad.append(low)
        parts.append(pa.nulls(1, kind))
        return
    middle = (low + high) // 2
    for a, b in ((low, middle), (middle, high)):
        try:
            parts.append(build(values[a:b]))
        except ERRORS:
            _halve(values, a, b, build, kind, parts, bad)


def convert(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """An array of exactly `kind`; nothing is guessed from other types.

    Numbers may be int or float for a floating column. Times may be ISO text (UTC where no zone
    is named), whole numbers in the column's unit, or datetimes.

    Raises:
        ArrowException, TypeError, ValueError, OverflowError: A value does not fit.
    """
    found = set(map(type, values)) - {NONE}
    if pa.types.is_floating(kind):
        _only(found, int, float)
        return _floats(values, kind)
    if pa.types.is_integer(kind):
        _only(found, int)
    elif pa.types.is_boolean(kind):
        _only(found, bool)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _only(found, str)
    elif pa.types.is_timestamp(kind):
        _only(found, str, int, dt.datetime)
        if str in found:
            return _times(values, kind)
        if dt.datetime in found and kind.tz is None:
            values = [_naive(v) if isinstance(v, dt.datetime) else v for v in values]
    elif pa.types.is_date(kind) and str in found:
        _only(found, str)
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


def _only(found: set[type], *allowed: type) -> None:
    if not found <= set(allowed):
        raise TypeError(f"{found} besides {allowed}")


def _floats(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except pa.ArrowInvalid:  # a whole number beyond 2**53
        return pa.array([None if v is None else float(v) for v in values], kind)


def _times(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if all(v is None or type(v) is str for v in values):
        try:
            return pa.array(values, pa.string()).cast(kind)
        except pa.ArrowInvalid:
            pass
    return pa.concat_arrays([_time(v, kind) for v in values])


def _time(value: Any, kind: pa.DataType) -> pa.Array:
    if type(value) is not str:
        return convert([value], kind)
    try:
        return pa.array([value], pa.string()).cast(kind)
    except pa.ArrowInvalid:
        stamp = dt.datetime.fromisoformat(value)
    stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
    return pa.array([_naive(stamp) if kind.tz is None else stamp], kind)


def _naive(stamp: dt.datetime) -> dt.datetime:
    return stamp.astimezone(dt.UTC).replace(tzinfo=None) if stamp.tzinfo else stamp


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _noun(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return "a number"
    if pa.types.is_integer(kind):
        return f"a whole number of type {kind}"
    if pa.types.is_boolean(kind):
        return "true or false"
    return "text" if pa.types.is_string(kind) else f"of type {kind}"
