"""Text formats: JSON, JSON lines, CSV.

JSON goes through orjson, message by message, and not through pyarrow's block reader: that one is
no faster on numbers of full length, cannot say which message of a block is bad, takes two
objects in one message for two rows, and dies of a segmentation fault at a bare `null` (26.0.1).
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from streamsketch.errors import ConfigError
from streamsketch.schema import Schema
from streamsketch_consumers.columns import declared, readings
from streamsketch_consumers.decode.base import Bad, Decoder, Options, Rows, joined
from streamsketch_consumers.decode.csv_values import typed
from streamsketch_consumers.decode.values import Columns
from streamsketch_consumers.uncancelled import uncancelled

__all__ = ["csv", "fields", "json", "ndjson", "object_of", "objects"]

BOM = b"\xef\xbb\xbf"
AT_ONCE = 500  # JSON objects held as Python values: more of them fall out of the processor's cache


def json(schema: Schema, options: Options) -> Decoder:
    """One JSON object a message."""
    columns = fields(schema, options)

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        return objects(columns, values, range(len(values)))

    return decode


def ndjson(schema: Schema, options: Options) -> Decoder:
    """JSON objects, one a line; a bad line does not spoil the others of its message."""
    columns = fields(schema, options)

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        lines = _Lines(values)
        rows, bad = objects(columns, lines.lines, range(len(lines.lines)))
        return lines.place(rows, bad)

    return decode


def fields(schema: Schema, options: Options) -> Columns:
    """What makes rows of mappings, by the schema and by what it does about other fields."""
    if options.missing not in ("refuse", "null"):
        raise ConfigError(f"missing = {options.missing!r} is not known; use refuse or null")
    names = declared(schema, options.event_time) if options.extra == "refuse" else None
    return Columns(readings(schema, options.event_time), options.missing, names, options.unwrap)


def objects(
    columns: Columns, values: Sequence[bytes | None], index: Sequence[int]
) -> tuple[list[Rows], list[Bad]]:
    """Rows of JSON objects, one each of `values`, which are numbered by `index`; and the bad ones."""
    parts = [
        _some(columns, values[i : i + AT_ONCE], index[i : i + AT_ONCE])
        for i in range(0, len(values), AT_ONCE)
    ]
    return joined([row for rows, _ in parts for row in rows]), [b for _, bad in parts for b in bad]


def _some(
    columns: Columns, values: Sequence[bytes | None], index: Sequence[int]
) -> tuple[list[Rows], list[Bad]]:
    import orjson

    try:
        return columns.build(list(map(orjson.loads, values)), index)  # type: ignore[arg-type]
    except orjson.JSONDecodeError:
        pass
    records: list[Any] = []
    kept: list[int] = []
    bad = []
    for i, value in zip(index, values, strict=True):
        try:
            records.append(object_of(value or b""))
            kept.append(i)
        except ValueError as e:
            bad.append(Bad(i, f"not valid JSON: {e}"))
    rows, others = columns.build(records, kept)
    return rows, sorted([*bad, *others], key=lambda b: b.message)


def object_of(value: bytes) -> Any:
    """The value of a JSON text; NaN and Infinity, which Python and others write, are let pass.

    Raises:
        ValueError: It is no JSON.
    """
    import json as plain

    import orjson

    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as e:
        if b"NaN" not in value and b"Infinity" not in value:
            raise
        try:
            return plain.loads(value)
        except (ValueError, RecursionError):
            raise e from None


class _Lines:
    """The lines of messages, and where each came from."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self.lines: list[bytes | None] = []
        self._message: list[int] = []
        self._number: list[int] = []
        self._empty: list[int] = []
        for i, value in enumerate(values):
            before = len(self.lines)
            for number, line in enumerate((value or b"").splitlines()):
                if line.strip():
                    self.lines.append(line)
                    self._message.append(i)
                    self._number.append(number)
            if len(self.lines) == before:
                self._empty.append(i)

    def place(self, rows: list[Rows], bad: list[Bad]) -> tuple[list[Rows], list[Bad]]:
        """From line numbers to message numbers."""
        placed = [
            Bad(self._message[b.message], b.reason, self.lines[b.message], self._number[b.message])
            for b in bad
        ]
        placed += [Bad(i, "no line with a row") for i in self._empty]
        placed.sort(key=lambda b: (b.message, b.line or 0))
        return [row.moved(self._message) for row in rows], placed


def csv(schema: Schema, options: Options) -> Decoder:
    """Lines of values in the order of the schema's columns; an empty value is null."""
    if len(options.delimiter) != 1:
        raise ConfigError(f"delimiter = {options.delimiter!r} must be one character")
    types = readings(schema, options.event_time)
    reader = _CsvLines(list(types), options.delimiter)

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        lines = _Lines(values)
        texts, kept = reader.read([line or b"" for line in lines.lines])
        rows, wrong = typed(texts, types)
        there = set(kept)
        bad = [Bad(i, reader.problem) for i in range(len(lines.lines)) if i not in there]
        return lines.place(
            [row.moved(kept) for row in rows], [*bad, *(b.moved(kept) for b in wrong)]
        )

    return decode


class _CsvLines:
    """Splits lines into text columns, one row a line."""

    def __init__(self, names: list[str], delimiter: str) -> None:
        self._names = names
        self._delimiter = delimiter
        self._separator = delimiter.encode()
        self.problem = f"not {len(names)} values separated by {delimiter!r}, in UTF-8 text"

    def read(self, lines: list[bytes]) -> tuple[pa.Table, list[int]]:
        """The columns of the good lines, and their numbers."""
        table = self._whole(lines) if lines else None
        if table is not None:
            return table, list(range(len(lines)))
        parts: list[pa.Table] = [
            pa.table({name: pa.array([], pa.string()) for name in self._names})
        ]
        kept: list[int] = []
        self._halve(lines, [i for i, line in enumerate(lines) if self._plain(line)], parts, kept)
        for i, line in enumerate(lines):
            # without a quote, too many or too few values are so whatever stands beside them
            if b'"' in line:
                self._halve(lines, [i], parts, kept)
        return pa.concat_tables(parts).take(pa.array(np.argsort(kept))), sorted(kept)

    def _plain(self, line: bytes) -> bool:
        if b'"' in line or BOM in line or line.count(self._separator) + 1 != len(self._names):
            return False
        try:
            line.decode()
        except UnicodeDecodeError:
            return False
        return True

    def _halve(
        self, lines: list[bytes], which: list[int], parts: list[pa.Table], kept: list[int]
    ) -> None:
        table = self._whole([lines[i] for i in which]) if which else None
        if table is not None:
            parts.append(table)
            kept += which
        elif len(which) > 1:
            middle = len(which) // 2
            self._halve(lines, which[:middle], parts, kept)
            self._halve(lines, which[middle:], parts, kept)

    def _whole(self, lines: list[bytes]) -> pa.Table | None:
        """The lines as a table, None unless each of them is one whole row."""
        data = b"\n".join(lines)
        # A byte order mark would be skipped at the head of a block, and only there.
        if BOM in data:
            return None
        try:
            table = uncancelled(
                lambda: pacsv.read_csv(
                    io.BytesIO(data),
                    pacsv.ReadOptions(
                        use_threads=False, block_size=len(data) + 1, column_names=self._names
                    ),
                    pacsv.ParseOptions(delimiter=self._delimiter),
                    pacsv.ConvertOptions(
                        column_types=dict.fromkeys(self._names, pa.string()),
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                        null_values=[""],
                    ),
                )
            )
        except (pa.ArrowException, UnicodeError):
            return None
        # A row never ends inside a line, so as many rows as lines means one row a line.
        return table if table.num_rows == len(lines) else None
