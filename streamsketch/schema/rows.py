"""Rows as they come: tables of any kind, their columns, and the rows that a schema refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import DataError, SchemaError

__all__ = ["Encoded", "Rejected", "as_table", "column_of", "columns_of", "floats_of", "refusal"]


@dataclass(frozen=True)
class Rejected:
    """A row that the schema refuses: its number in the batch, the column and the reason."""

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column!r}: {self.reason}"


@dataclass(frozen=True)
class Encoded:
    """Encoded rows of one batch.

    Attributes:
        x: (n, d) float32, finite; in Fortran order when it was filled column by column.
        rows: (n,) int64 numbers of the rows kept, in the batch.
        rejected: The rows refused.
        labels: (n,) int64 category number of the label column, or None.
        users: Arrow array of the user-id column of the rows kept, or None.
    """

    x: NDArray[np.float32]
    rows: NDArray[np.int64]
    rejected: tuple[Rejected, ...] = ()
    labels: NDArray[np.int64] | None = None
    users: pa.Array | None = None


def as_table(data: Any) -> pa.Table:
    """An Arrow table of a table, record batch, data frame, or a list of mappings.

    Args:
        data: One of these: anything with `__arrow_c_stream__`; polars' lazy frames are collected, and
            the data sets of Hugging Face read as Arrow.

    Raises:
        SchemaError: It is none of these.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, list | tuple) and data and all(isinstance(r, Mapping) for r in data):
        return pa.Table.from_pylist(list(data))
    of = type(data).__module__.partition(".")[0]
    if of == "polars" and hasattr(data, "collect"):
        data = data.collect()
    if of == "datasets" and hasattr(data, "with_format"):
        data = data.with_format("arrow")[:]
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pa.table(data)
    raise SchemaError(
        f"a {type(data).__name__} is not a table; pass an Arrow table or batch, a data frame, a list of "
        "mappings, an object with __arrow_c_stream__, or an (n, d) array"
    )


def columns_of(batch: pa.RecordBatch | pa.Table) -> dict[str, pa.Array]:
    """The columns by name; names that occur twice are left out."""
    names = batch.schema.names
    found = dict(zip(names, batch.columns, strict=True))
    if len(found) == len(names):
        return found
    return {name: array for name, array in found.items() if names.count(name) == 1}


def column_of(columns: Mapping[str, pa.Array], name: str) -> pa.Array:
    """The one column of a name, in one piece.

    Raises:
        SchemaError: There is none.
    """
    if name not in columns:
        found = ", ".join(list(columns)[:20]) or "none"
        raise SchemaError(
            f"the stream has no single column {name!r}, which the schema declares (found: {found}); "
            "correct the stream, or declare the column ignored"
        )
    column = columns[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def floats_of(name: str, values: list[Any]) -> pa.Array:
    """Values as float64.

    Raises:
        DataError: One is not a number.
    """
    try:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    except (TypeError, ValueError):
        raise DataError(f"column {name!r}: a value is not a number") from None


def refusal(rejected: Sequence[Rejected], rows: int) -> str:
    """The message for refused rows when nothing sets them apart."""
    more = f" (and {len(rejected) - 1} more)" if len(rejected) > 1 else ""
    return (
        f"{rejected[0]}{more}: none of the {rows} rows was learned; correct them, declare what they "
        "hold in the schema, or pass dead_letters= to set them apart"
    )
