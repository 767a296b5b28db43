"""A run of rows of one file, what to read of it, and what a damaged file says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import DataError, SourceError
from streamsketch.ingest.streams import Dead
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import PLAIN, Dialect

__all__ = [
    "DAMAGE",
    "PART_BYTES",
    "FileFault",
    "Piece",
    "Wanted",
    "cut",
    "damaged",
    "joined",
    "reached",
    "whole",
]

PART_BYTES = 64 << 20  # of text that is spelled out, or of small pieces that are put together
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what reading altered bytes raises


@dataclass(frozen=True)
class Piece:
    """A run of rows of one file.

    Attributes:
        batch: The good rows.
        rows: Row number in the file of each row of `batch`, increasing, shape (n,).
        next_row: Row number after the piece, good or bad.
        dead: The bad rows, in order; `where["row"]` is the row number.
    """

    batch: pa.RecordBatch
    rows: NDArray[np.int64]
    next_row: int
    dead: tuple[Dead, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What to read of every file.

    Attributes:
        readings: Column names with how text is read.
        check: Called with a file's Arrow schema and its name; raises SchemaError.
        batch_rows: Largest number of rows of a piece.
        declared: JSON: the only names that a row may have; None for any.
        delimiter: CSV: between values; tab for a `.tsv` file.
        header: CSV: the first line holds the names; otherwise they are those of `types`.
        null_values: CSV: texts that mean null.
        newlines_in_values: CSV: a quoted value may hold line breaks.
        max_row_bytes: Text: a longer row is bad, and is not held in memory.
        encoding: Text: how characters are written.
        unwrap: JSON: the field that holds the row; empty where the line is the row.
        dialect: CSV: how numbers are written.
    """

    readings: dict[str, Reading]
    check: Callable[[pa.Schema, str], None]
    declared: frozenset[str] | None = None
    batch_rows: int = 8192
    delimiter: str = ","
    header: bool = True
    null_values: tuple[str, ...] = ("",)
    newlines_in_values: bool = False
    max_row_bytes: int = 1 << 24
    encoding: str = "utf-8"
    unwrap: str = ""
    dialect: Dialect = PLAIN

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Column names with the Arrow type that text is read as."""
        return {name: reading.type for name, reading in self.readings.items()}

    @property
    def names(self) -> list[str]:
        """Names of the columns to read."""
        return list(self.readings)


class FileFault(DataError):
    """A file that cannot be read from `row` on; the rows before it were read."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def joined(pieces: Iterator[Piece], most: int) -> Iterator[Piece]:
    """The pieces, small ones put together: a file of a million tiny batches is read as one."""
    held: list[Piece] = []
    rows = bytes_held = 0
    try:
        for piece in pieces:
            size, n_bytes = len(piece.rows) + len(piece.dead), piece.batch.nbytes
            if held and (rows + size > most or bytes_held + n_bytes > PART_BYTES):
                yield _join(held)
                held, rows, bytes_held = [], 0, 0
            held.append(piece)
            rows, bytes_held = rows + size, bytes_held + n_bytes
    except Exception:
        if held:
            yield _join(held)
        raise
    if held:
        yield _join(held)


def _join(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        pa.concat_batches([p.batch for p in pieces]),
        np.concatenate([p.rows for p in pieces]),
        pieces[-1].next_row,
        tuple(d for p in pieces for d in p.dead),
    )


def cut(piece: Piece, k: int) -> tuple[Piece, Piece]:
    """Split a piece after its first `k` good rows, bad rows staying on their side."""
    if k >= len(piece.rows):
        return piece, Piece(piece.batch.slice(len(piece.rows)), piece.rows[:0], piece.next_row)
    row = int(piece.rows[k])
    early = tuple(d for d in piece.dead if d.where["row"] < row)
    late = piece.dead[len(early) :]
    return (
        Piece(piece.batch.slice(0, k), piece.rows[:k], row, early),
        Piece(piece.batch.slice(k), piece.rows[k:], piece.next_row, late),
    )


def whole(batch: pa.RecordBatch, row: int) -> Piece:
    """A piece without bad rows that begins at `row`."""
    end = row + batch.num_rows
    return Piece(batch, np.arange(row, end), end)


def reached(rows: int, start: int, name: str) -> None:
    """Raise SourceError where a file has fewer rows than were read of it before.

    Raises:
        FileFault: It claims to have fewer rows than none.
    """
    if rows < 0:
        raise FileFault(f"file {name!r} is damaged: it claims to have {rows} rows", start)
    if rows < start:
        raise SourceError(
            f"file {name!r} has {rows} rows, but the saved position is row {start}: the file was "
            "replaced or cut after it was read; put the old file back, or start from an empty "
            "store"
        )


def damaged(kind: str, name: str, row: int, error: Exception) -> str:
    """The message of a file that cannot be read on."""
    return (
        f"file {name!r} cannot be read as {kind} from row {row} on: it is truncated, damaged, or "
        f"of another "
        f"format ({error}); replace it and run again, or set on_error to skip or dlq to pass "
        f"over the rest of it"
    )
