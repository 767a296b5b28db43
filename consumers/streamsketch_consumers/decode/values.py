"""Python values to Arrow columns of declared types, strictly, with the bad values found."""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.schema.times import casted, from_text, in_unit, is_clock, is_time
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.base import Bad, Rows

__all__ = ["ERRORS", "Columns", "split"]

ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)
NONE = type(None)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


class Columns:
    """Builds batches of the declared columns out of mappings.

    Args:
        readings: Column name to how its values are read.
        missing: A key that is not there is `refuse`d, or taken as `null`.
        declared: The only keys that a record may have; None for any.
        unwrap: The field that holds the row, such as `after`, or `payload.after` for one in
            another; empty where the record is the row.
    """

    def __init__(
        self,
        readings: Mapping[str, Reading],
        missing: str,
        declared: frozenset[str] | None = None,
        unwrap: str = "",
    ) -> None:
        types = {name: reading.type for name, reading in readings.items()}
        self._types = types
        self._readings = readings
        self._unwrap = unwrap.split(".") if unwrap else []
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
        records, index, bad = self._mappings(self._unwrapped(records), index)
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
        for (name, reading), column in zip(self._readings.items(), columns, strict=True):
            kind = reading.declared if pa.types.is_temporal(reading.type) else reading.type
            array, rows = values_of(column, reading)
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

    def _unwrapped(self, records: Sequence[Any]) -> Sequence[Any]:
        for name in self._unwrap:
            records = [r.get(name) if type(r) is dict else None for r in records]
        return records

    def _mappings(
        self, records: Sequence[Any], index: Sequence[int]
    ) -> tuple[Sequence[Any], Sequence[int], list[Bad]]:
        if set(map(type, records)) <= {dict}:
            return records, index, []
        bad = [
            Bad(i, self._no_object(record))
            for i, record in zip(index, records, strict=True)
            if type(record) is not dict
        ]
        kept = [j for j, record in enumerate(records) if type(record) is dict]
        return [records[j] for j in kept], [index[j] for j in kept], bad

    def _no_object(self, record: Any) -> str:
        if self._unwrap and record is None:
            return f"no object at {'.'.join(self._unwrap)!r}, where unwrap says the row is"
        return f"{_shown(record)} is not an object with the schema's fields"

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


def values_of(values: Sequence[Any], reading: Reading) -> tuple[pa.Array, list[int]]:
    """The array of Python values, null where one does not fit, and those places.

    Nothing is guessed from other types: numbers may be int, float or Decimal for a floating
    column, and text for one that is declared decimal. Times may be ISO text (UTC where no zone is
    named), numbers in the column's unit, or Python's own.
    """
    kind = reading.type
    if is_time(kind) or is_clock(kind):
        return _times(values, reading)
    texts = pa.types.is_floating(kind) and pa.types.is_decimal(reading.declared)
    return split(values, partial(convert, kind=kind, texts=texts), kind)


def convert(values: Sequence[Any], kind: pa.DataType, texts: bool = False) -> pa.Array:
    """An array of exactly `kind`, of values that are no times.

    Raises:
        ArrowException, TypeError, ValueError, OverflowError: A value does not fit.
    """
    found = set(map(type, values)) - {NONE}
    if pa.types.is_floating(kind):
        if texts and str in found:
            values = [_number(v) if type(v) is str else v for v in values]
            found = found - {str} | {float}
        _only(found, int, float, Decimal)
        return _floats(values, kind)
    if pa.types.is_integer(kind):
        _only(found, int)
    elif pa.types.is_boolean(kind):
        _only(found, bool)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _only(found, str)
    return pa.array(values, kind)


def _only(found: set[type], *allowed: type) -> None:
    if not found <= set(allowed):
        raise TypeError(f"{found} besides {allowed}")


def _number(text: str) -> float:
    if not _DECIMAL.match(text):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _floats(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a whole number beyond 2**53, or a Decimal
        return pa.array([None if v is None else float(v) for v in values], kind)


def _times(values: Sequence[Any], reading: Reading) -> tuple[pa.Array, list[int]]:
    """Times of text, numbers and Python's own times, each kind of value at once."""
    kind, found = reading.type, set(map(type, values)) - {NONE}
    parts: list[pa.Array] = []
    bad = np.zeros(len(values), bool)
    for one in sorted(found, key=lambda t: t.__name__):
        part = values if len(found) == 1 else [v if type(v) is one else None for v in values]
        if one is str:
            text, wrong = split(part, partial(pa.array, type=pa.string()), pa.string())
            array, unread = from_text(text, kind, reading.declared)
        elif one in (int, float, Decimal):
            exact = pa.int64() if one is int else pa.float64()
            numbers, wrong = split(part, partial(convert, kind=exact), exact)
            array, unread = in_unit(numbers, reading.declared)
            array, far = casted(array, lambda ticks: ticks.cast(kind, safe=True), kind)
            unread |= far
        else:
            own = one if one in (dt.datetime, dt.date, dt.time, dt.timedelta) else NONE
            array, wrong = split(part, partial(_own, kind=kind, allowed=own), kind)
            unread = np.zeros(len(values), bool)
        parts.append(array)
        bad |= unread
        bad[wrong] = True
    whole = pc.coalesce(*parts) if parts else pa.nulls(len(values), kind)
    return whole, np.flatnonzero(bad).tolist()


def _own(values: Sequence[Any], kind: pa.DataType, allowed: type) -> pa.Array:
    _only(set(map(type, values)) - {NONE}, allowed)
    if pa.types.is_timestamp(kind) and kind.tz is None:
        values = [_naive(v) if isinstance(v, dt.datetime) else v for v in values]
    return pa.array(values, kind)


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
