"""Text columns of CSV to typed ones, value by value: the one reading of files, messages and `init`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.schema.times import from_text, is_clock, is_time
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.base import Bad, Rows
from streamsketch_consumers.decode.values import split

__all__ = ["Dialect", "array_of", "typed"]


@dataclass(frozen=True)
class Dialect:
    """How numbers are written in a text file.

    Attributes:
        decimal: Between whole and part.
        thousands: Between groups of three digits; empty for nothing.
        null_numbers: Texts that mean null where no text is expected.
    """

    decimal: str = "."
    thousands: str = ""
    null_numbers: tuple[str, ...] = ()


PLAIN = Dialect()


def typed(
    texts: pa.Table, readings: Mapping[str, Reading], dialect: Dialect = PLAIN
) -> tuple[list[Rows], list[Bad]]:
    """Rows of a table of text, and the rows that hold a value of another type."""
    arrays = []
    wrong: dict[int, str] = {}
    for name, reading in readings.items():
        text = texts.column(name).combine_chunks()
        array, rows = array_of(text, reading, dialect)
        arrays.append(array)
        for row in rows:
            wrong.setdefault(
                row,
                f"column {name!r}: value {text[row].as_py()!r} is not of type {reading.declared}",
            )
    batch = pa.RecordBatch.from_arrays(arrays, names=list(readings))
    keep: NDArray[np.int64] = np.arange(batch.num_rows)
    if wrong:
        keep = np.setdiff1d(keep, np.fromiter(wrong, np.int64))
        batch = batch.take(pa.array(keep))
    bad = [Bad(row, reason) for row, reason in sorted(wrong.items())]
    return ([Rows(batch, keep)] if len(keep) else []), bad


def array_of(
    text: pa.Array, reading: Reading, dialect: Dialect = PLAIN
) -> tuple[pa.Array, list[int]]:
    """The values of a column of text, null where one does not fit, and those places."""
    kind = reading.type
    if pa.types.is_string(kind):
        return text, []
    if _is_number(kind) and dialect == PLAIN:
        try:  # what is below takes all that this takes, for the same
            return text.cast(kind), []
        except pa.ArrowInvalid:
            pass
    text = pc.utf8_trim_whitespace(text)
    if dialect.null_numbers:
        missing = pc.is_in(text, value_set=pa.array(dialect.null_numbers, pa.string()))
        text = pc.if_else(missing, None, text)
    if is_time(kind) or is_clock(kind):
        array, bad = from_text(text, kind, reading.declared)
        return array, np.flatnonzero(bad).tolist()
    if pa.types.is_boolean(kind):
        text = pc.utf8_lower(text)
    elif _is_number(kind):
        text = plain_numbers(text, dialect)
    return split(text, partial(_cast, kind=kind), kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    )


def plain_numbers(text: pa.Array, dialect: Dialect) -> pa.Array:
    """Numbers as Arrow reads them; a group that has not three digits spoils a number.

    >>> dialect = Dialect(decimal=",", thousands=".")
    >>> plain_numbers(pa.array(["1.234,5", "12,5", "+7"]), dialect).to_pylist()
    ['1234.5', '12.5', '7']
    """
    text = pc.replace_substring_regex(text, r"^\+(\d)", r"\1")
    if dialect.thousands:
        mark = _escaped(dialect.thousands)
        group = rf"^([+-]?\d{{1,3}}(?:{mark}\d{{3}})+)(\D.*)?$"
        grouped = pc.match_substring_regex(text, group)
        held = pc.match_substring(text, dialect.thousands)
        joined = pc.replace_substring(text, dialect.thousands, "")
        text = pc.if_else(
            held, pc.if_else(grouped, joined, pc.binary_join_element_wise(text, "?", "")), text
        )
    if dialect.decimal != ".":
        point = pc.match_substring(text, ".")
        text = pc.replace_substring(text, dialect.decimal, ".")
        text = pc.if_else(point, pc.binary_join_element_wise(text, "?", ""), text)
    return text


def _escaped(text: str) -> str:
    return "\\" + text if text in ".'|" else text


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    return text if kind == pa.string() else text.cast(kind)
