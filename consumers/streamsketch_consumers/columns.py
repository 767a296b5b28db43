"""What a schema expects of the columns of a stream, before any row is encoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from streamsketch.errors import SchemaError
from streamsketch.schema import Column, Schema
from streamsketch.schema.columns import arrow_type
from streamsketch.schema.times import is_clock, is_time

__all__ = [
    "Extra",
    "Missing",
    "check_columns",
    "select",
    "sound",
    "Reading",
    "readings",
    "text_types",
    "wanted",
]


Missing = Literal["refuse", "null"]  # a declared column that is not there
Extra = Literal["ignore", "refuse"]  # a column that is not declared


def declared(schema: Schema, event_time: str | None = None) -> frozenset[str]:
    """Names of all columns that a stream may have where others are refused."""
    names = {c.name for c in schema.columns}
    return frozenset(names if event_time is None else names | {event_time})


def wanted(schema: Schema, event_time: str | None = None) -> list[str]:
    """Names of the columns to read: all but the ignored, and the event time."""
    names = [c.name for c in schema.columns if c.read]
    if event_time is not None and event_time not in names:
        names.append(event_time)
    return names


@dataclass(frozen=True)
class Reading:
    """How the values of a column are read, where a format does not type them itself.

    Attributes:
        type: Arrow type of what is read.
        declared: The column's own type: whole numbers in a column of times count its unit.
    """

    type: pa.DataType
    declared: pa.DataType


def readings(schema: Schema, event_time: str | None = None) -> dict[str, Reading]:
    """How to read each wanted column; types are those of `text_types`."""
    own = {c.name: arrow_type(c.type) for c in schema.columns if c.read}
    return {
        name: Reading(kind, own.get(name, kind))
        for name, kind in text_types(schema, event_time).items()
    }


def text_types(schema: Schema, event_time: str | None = None) -> dict[str, pa.DataType]:
    """Arrow type to parse each wanted column of a text format as: declared, never inferred.

    Numbers parse as float64, so that `3` and `3.0` are both fine for an integer column; times
    parse as microseconds (nanoseconds where declared) whatever resolution the column declares,
    times of day and durations as declared.
    """
    types = {c.name: text_type(c) for c in schema.columns if c.read}
    if event_time is not None and event_time not in types:
        types[event_time] = pa.timestamp("us")
    return types


def text_type(column: Column) -> pa.DataType:
    """What a column is read as where a format does not type it."""
    if column.kind == "numeric":
        declared = arrow_type(column.type)
        return declared if is_clock(declared) else pa.float64()
    if column.kind == "boolean":
        return pa.bool_()
    declared = arrow_type(column.type)
    if pa.types.is_timestamp(declared):
        return pa.timestamp("ns" if declared.unit == "ns" else "us", tz=declared.tz)
    return declared


def check_columns(
    schema: Schema,
    found: pa.Schema,
    where: str,
    event_time: str | None = None,
    missing: str = "refuse",
    extra: str = "ignore",
) -> None:
    """Compare the columns of a stream with the schema.

    Args:
        schema: What is declared.
        found: The Arrow schema of a file, stream or batch.
        where: What `found` belongs to, for the message, such as `file 'a.parquet'`.
        event_time: A further column that must be there.
        missing: A column that is not there is `refuse`d, or taken as `null` in every row.
        extra: A column that is not declared is `ignore`d, or `refuse`d.

    Raises:
        SchemaError: A column is missing, not declared, twice there, or of a type that cannot be encoded; the
            message names the column, the place, the expected and the found type.
    """
    names = found.names
    unknown = [n for n in names if n not in declared(schema, event_time)]
    if extra == "refuse" and unknown:
        raise SchemaError(
            f"{where} has columns {_list(unknown)}, which are not declared; declare them (kind = "
            '"ignore" if they do not matter), or set extra = "ignore"'
        )
    for name in wanted(schema, event_time):
        if name not in names and missing == "null" and set(names) & set(wanted(schema)):
            continue
        if name not in names:
            raise SchemaError(
                f"{where} has no column {name!r} (it has {_list(names)}); rename the column in "
                f"the "
                "stream or correct the schema"
            )
        if names.count(name) > 1:
            raise SchemaError(
                f"{where} has {names.count(name)} columns named {name!r}; rename one of them"
            )
    for column in schema.columns:
        if not column.read or column.name not in names:
            continue
        if not _accepts(column, found.field(column.name).type):
            raise SchemaError(
                f"{where} has column {column.name!r} of type {found.field(column.name).type}, "
                f"but the "
                f"schema expects {column.kind} of type {_expected(column)}; correct the schema "
                f"or convert "
                "the column"
            )


def select(
    batch: pa.RecordBatch, names: list[str], types: dict[str, pa.DataType] | None = None
) -> pa.RecordBatch:
    """The named columns of a batch, without copying; with `types`, nulls where one is missing."""
    found = batch.schema.names
    if found == names:
        return batch
    if types is None or set(names) <= set(found):
        return batch.select(names)
    arrays = [
        batch.column(name) if name in found else pa.nulls(batch.num_rows, types[name])
        for name in names
    ]
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _expected(column: Column) -> str:
    return f"{column.type} (or any number)" if column.kind == "numeric" else column.type


def _accepts(column: Column, found: pa.DataType) -> bool:
    is_ = pa.types
    if is_.is_dictionary(found):
        found = found.value_type
    if is_.is_null(found):
        return True
    if column.kind == "vector":
        if is_.is_fixed_size_list(found):
            return bool(found.list_size == arrow_type(column.type).list_size)
        return bool(is_.is_list(found) or is_.is_large_list(found))
    mine = pa.bool_() if column.kind == "boolean" else arrow_type(column.type)
    if column.categorical:
        return any(fits(mine) and fits(found) for fits in _FAMILIES)
    readable = {
        "timestamp": (is_time, _numeric, _texts),
        "numeric": (is_clock, _numeric, _texts) if is_clock(mine) else (_numeric, is_.is_boolean),
        "event_time": (is_time, _numeric, _texts) if is_time(mine) else (is_time, _numeric),
    }
    if column.kind in readable:
        return any(fits(found) for fits in readable[column.kind])
    return not is_.is_nested(found)


def _texts(kind: pa.DataType) -> bool:
    is_ = pa.types
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind))


def _numeric(kind: pa.DataType) -> bool:
    is_ = pa.types
    return bool(is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind))


# categories of one family are compared as what they are
_FAMILIES: tuple[Callable[[pa.DataType], bool], ...] = (
    _texts,
    _numeric,
    pa.types.is_boolean,
    pa.types.is_temporal,
)


def _list(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"


def sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, once its offsets, lengths and codes are known to point inside of it.

    Text that is not UTF-8 is left alone: only its row is to be refused, where rows are judged.

    Raises:
        ArrowInvalid: It is damaged; nothing of it may be read.
    """
    for column in batch.columns:
        _as_bytes(column).validate(full=True)
    return batch


def _as_bytes(column: pa.Array) -> pa.Array:
    """The same array with bytes for text, without copying."""
    is_, kind = pa.types, column.type
    plain = ((is_.is_string, pa.binary()), (is_.is_large_string, pa.large_binary()))
    for is_text, binary in plain:
        if is_text(kind):
            return column.view(binary)
        if is_.is_dictionary(kind) and is_text(kind.value_type):
            values = column.dictionary.view(binary)
            return pa.DictionaryArray.from_arrays(column.indices, values, safe=False)
    return column
