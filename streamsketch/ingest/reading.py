"""Reading a batch's rows as the schema declares, whatever they hold: a row that cannot be read is refused."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import DataError, SchemaError
from streamsketch.ingest.admission import Admission, Facts
from streamsketch.ingest.refusal import Refusal
from streamsketch.schema import Schema
from streamsketch.schema.rows import Encoded

__all__ = ["Readable", "read"]


@dataclass(frozen=True)
class Readable:
    """What could be read of a batch.

    Attributes:
        encoded: The rows that the schema admits; their numbers are those in the batch.
        facts: Their times and record ids.
        refused: The others.
    """

    encoded: Encoded
    facts: Facts
    refused: list[Refusal]


def read(schema: Schema, admission: Admission, batch: pa.RecordBatch) -> Readable:
    """Encode a batch, and set apart the rows that cannot be.

    What nobody foresaw in a row (an error of Arrow or Python while it is read) refuses that row:
    the batch is halved until the row stands alone.

    Raises:
        SchemaError, DataError: The columns do not fit; no row can be read.
    """
    batch = _without_views(batch)
    bad = {
        row: f"column {name!r}: the text is not UTF-8" for row, name in _not_text(schema, batch)
    }
    index = np.delete(np.arange(batch.num_rows), list(bad))
    try:
        return _read(schema, admission, batch, index, bad)
    except (SchemaError, DataError, MemoryError):
        raise
    except Exception:  # whatever a row can bring about
        bad |= dict(_unreadable(lambda rows: _read(schema, admission, batch, rows, {}), index))
        index = np.delete(np.arange(batch.num_rows), list(bad))
        return _read(schema, admission, batch, index, bad)


def _read(
    schema: Schema,
    admission: Admission,
    batch: pa.RecordBatch,
    index: NDArray[np.int64],
    bad: dict[int, str],
) -> Readable:
    """Read these rows of a batch; `bad` are those that are refused already."""
    refused = [Refusal(row, reason) for row, reason in bad.items()]
    part = batch if len(index) == batch.num_rows else batch.take(pa.array(index))
    encoded = schema.encode(part)
    facts = admission.read(part, encoded.rows)
    refused += [
        Refusal(int(index[r.row]), f"column {r.column!r}: {r.reason}") for r in encoded.rejected
    ]
    refused += [replace(r, row=int(index[r.row])) for r in facts.bad]
    return Readable(
        replace(encoded, rows=index[encoded.rows]), replace(facts, rows=index[facts.rows]), refused
    )


def _unreadable(
    attempt: Callable[[NDArray[np.int64]], object], rows: NDArray[np.int64]
) -> list[tuple[int, str]]:
    """The rows at which reading fails, each with the reason."""
    try:
        attempt(rows)
    except MemoryError:
        raise
    except Exception as e:  # see `read`
        if len(rows) == 1:
            return [(int(rows[0]), f"it cannot be read ({type(e).__name__})")]
        half = len(rows) // 2
        return _unreadable(attempt, rows[:half]) + _unreadable(attempt, rows[half:])
    return []


def _not_text(schema: Schema, batch: pa.RecordBatch) -> list[tuple[int, str]]:
    """Rows, and the first column, whose text is not UTF-8: Parquet and Arrow let it pass."""
    found: dict[int, str] = {}
    read = {c.name for c in schema.columns if c.read}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in read and _textual(column.type) and not _valid(column):
            for row in np.flatnonzero(_broken(column)).tolist():
                found.setdefault(row, name)
    return sorted(found.items())


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch with plain text for string views, of which Arrow cannot take some."""
    for i, kind in enumerate(batch.schema.types):
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            column = batch.column(i)
            if pa.types.is_string_view(kind):  # as bytes: a cast to text asks for UTF-8
                column = column.cast(pa.binary_view()).cast(pa.large_binary())
                column = column.view(pa.large_string())
            else:
                column = column.cast(pa.large_binary())
            batch = batch.set_column(i, batch.schema.names[i], column)
    return batch


def _textual(kind: pa.DataType) -> bool:
    is_ = pa.types
    kind = kind.value_type if is_.is_dictionary(kind) else kind
    return bool(is_.is_string(kind) or is_.is_large_string(kind))


def _valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _broken(column: pa.Array) -> NDArray[np.bool_]:
    """(n,) which texts are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        values = np.append(_broken(column.dictionary), False)
        codes = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(values[codes])
    return np.fromiter((not _decodes(value) for value in column), bool, len(column))


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
