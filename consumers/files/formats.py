"""Read the rows of one file from a given row on: Parquet, Arrow IPC, CSV, JSON lines.

Every reader yields `Piece`s in file order. Rows are numbered from 0 within the file; a bad row
keeps its number, so that a position (file, row) names the same row at every batch size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from consumers.columns import select
from streamsketch.errors import ConfigError, DataError, SourceError
from streamsketch.streams import Dead

__all__ = [
    "FORMATS",
    "FileFault",
    "Piece",
    "Wanted",
    "cut",
    "format_named",
    "format_of",
    "read_pieces",
]

DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what reading altered bytes raises
COMPRESSED = (".gz", ".bz2", ".lz4", ".zst")
SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
}


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
        types: Column names with the Arrow type that text is parsed as.
        check: Called with a file's Arrow schema and its name; raises SchemaError.
        batch_rows: Largest number of rows of a piece.
        delimiter: CSV: between values; tab for a `.tsv` file.
        header: CSV: the first line holds the names; otherwise they are those of `types`.
        null_values: CSV: texts that mean null.
        newlines_in_values: CSV: a quoted value may hold line breaks.
        max_row_bytes: Text: a longer row is bad, and is not held in memory.
    """

    types: dict[str, pa.DataType]
    check: Callable[[pa.Schema, str], None]
    batch_rows: int = 8192
    delimiter: str = ","
    header: bool = True
    null_values: tuple[str, ...] = ("",)
    newlines_in_values: bool = False
    max_row_bytes: int = 1 << 24

    @property
    def names(self) -> list[str]:
        """Names of the columns to read."""
        return list(self.types)


class FileFault(DataError):
    """A file that cannot be read from `row` on; the rows before it were read."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def format_of(name: str) -> str | None:
    """The format that a file name's suffix stands for, or None.

    >>> format_of("a/flights.csv.gz"), format_of("x.arrows"), format_of("notes.txt")
    ('csv', 'arrow', None)
    """
    path = Path(name.lower())
    if path.suffix in COMPRESSED:
        kind = SUFFIXES.get(path.with_suffix("").suffix)
        return kind if kind in ("csv", "jsonl") else None
    return SUFFIXES.get(path.suffix)


def read_pieces(path: Path, kind: str, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """Read a file from row `start` on.

    Args:
        path: The file.
        kind: Its format, a key of `FORMATS`.
        start: First row to read; rows before it are passed over without being held in memory.
        wanted: Columns and options.
        name: What messages and dead rows call the file.

    Raises:
        SourceError: The file is not there, or has fewer than `start` rows.
        SchemaError: The file's columns do not fit.
        FileFault: The file is damaged from some row on.
    """
    try:
        size = path.stat().st_size
    except OSError as e:
        raise SourceError(
            f"file {name!r} cannot be read ({e.strerror}); put it back, or start from an empty "
            f"store "
            "to read the stream from its beginning"
        ) from e
    if size == 0:
        _reached(0, start, name)
        return
    yield from _joined(FORMATS[kind](path, start, wanted, name), wanted.batch_rows)


def _joined(pieces: Iterator[Piece], most: int) -> Iterator[Piece]:
    """The pieces, small ones put together: a file of a million tiny batches is read as one."""
    held: list[Piece] = []
    rows = 0
    try:
        for piece in pieces:
            size = len(piece.rows) + len(piece.dead)
            if held and rows + size > most:
                yield _join(held)
                held, rows = [], 0
            held.append(piece)
            rows += size
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


def _whole(batch: pa.RecordBatch, row: int) -> Piece:
    """A piece without bad rows that begins at `row`."""
    end = row + batch.num_rows
    return Piece(batch, np.arange(row, end), end)


def _reached(rows: int, start: int, name: str) -> None:
    if rows < start:
        raise SourceError(
            f"file {name!r} has {rows} rows, but the saved position is row {start}: the file was "
            "replaced or cut after it was read; put the old file back, or start from an empty "
            "store"
        )


def _parquet(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    row = start
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20) as file:
            wanted.check(file.schema_arrow, f"file {name!r}")
            _reached(file.metadata.num_rows, start, name)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum([0, *sizes])
            first = int(np.searchsorted(ends, start, side="right")) - 1  # whole groups are skipped
            if first >= len(sizes):
                return
            skip = start - int(ends[first])
            groups = list(range(first, len(sizes)))
            batches = file.iter_batches(
                wanted.batch_rows, row_groups=groups, columns=wanted.names, use_threads=False
            )
            for batch in batches:
                passed = min(skip, batch.num_rows)
                skip -= passed
                if passed < batch.num_rows:
                    piece = _whole(select(batch.slice(passed), wanted.names), row)
                    row = piece.next_row
                    yield piece
    except DAMAGE as e:
        raise FileFault(_damaged("Parquet", name, row, e), row) from e


def _arrow(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    with path.open("rb") as file:
        random_access = file.read(6) == b"ARROW1"
        if file.seek(0) == 0 and file.read(4) == b"FEA1":
            raise FileFault(
                f"file {name!r} is of the old Feather version 1; write it as version 2", 0
            )
    if random_access:
        yield from _arrow_file(path, start, wanted, name)
    else:
        yield from _arrow_stream(path, start, wanted, name)


def _arrow_file(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    row = 0
    try:
        with pa.OSFile(str(path)) as source:  # no memory map: a file cut while read would kill us
            reader = _projected(pa.ipc.open_file, source, wanted, name)
            first, row = _seek_batch(source, start) if start else (0, 0)
            for i in range(first, reader.num_record_batches):
                batch = select(reader.get_batch(i), wanted.names)
                batch.validate(full=True)  # offsets of altered bytes could point anywhere
                yield from _slices(batch, row, start, wanted.batch_rows)
                row += batch.num_rows
            _reached(row, start, name)
    except DAMAGE as e:
        raise FileFault(_damaged("Arrow", name, max(row, start), e), max(row, start)) from e


def _seek_batch(source: pa.NativeFile, start: int) -> tuple[int, int]:
    """Number of the batch that holds row `start`, and the row it begins at."""
    source.seek(0)
    lengths = pa.ipc.open_file(  # one column is enough to learn a batch's length
        source, options=pa.ipc.IpcReadOptions(included_fields=[0], use_threads=False)
    )
    row = 0
    for i in range(lengths.num_record_batches):
        n = lengths.get_batch(i).num_rows
        if row + n > start:
            return i, row
        row += n
    return lengths.num_record_batches, row


def _arrow_stream(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    row = 0
    try:
        with pa.OSFile(str(path)) as source:
            for whole in _projected(pa.ipc.open_stream, source, wanted, name):
                batch = select(whole, wanted.names)
                batch.validate(full=True)
                yield from _slices(batch, row, start, wanted.batch_rows)
                row += batch.num_rows
            _reached(row, start, name)
    except DAMAGE as e:
        _reached(row, start, name)
        raise FileFault(_damaged("Arrow", name, row, e), row) from e


def _projected(
    opener: Callable[..., Any], source: pa.NativeFile, wanted: Wanted, name: str
) -> Any:
    """An IPC reader of the wanted columns only."""
    schema = opener(source).schema
    wanted.check(schema, f"file {name!r}")
    source.seek(0)
    fields = [schema.get_field_index(n) for n in wanted.names]
    return opener(source, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False))


def _slices(batch: pa.RecordBatch, row: int, start: int, batch_rows: int) -> Iterator[Piece]:
    """Pieces of at most `batch_rows` rows of a batch that begins at `row`, from row `start` on."""
    for begin in range(max(start - row, 0), batch.num_rows, batch_rows):
        yield _whole(batch.slice(begin, batch_rows), row + begin)


def _damaged(kind: str, name: str, row: int, error: Exception) -> str:
    return (
        f"file {name!r} cannot be read as {kind} from row {row} on: it is truncated, damaged, or "
        f"of another "
        f"format ({error}); replace it and run again, or set on_error to skip or dlq to pass "
        f"over the rest of it"
    )


def _csv(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    from consumers.files.lines import read_csv

    yield from read_csv(path, start, wanted, name)


def _jsonl(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    from consumers.files.lines import read_jsonl

    yield from read_jsonl(path, start, wanted, name)


Reader = Callable[[Path, int, Wanted, str], Iterator[Piece]]
FORMATS: dict[str, Reader] = {"parquet": _parquet, "arrow": _arrow, "csv": _csv, "jsonl": _jsonl}


def format_named(name: str, declared: str | None) -> str:
    """The declared format of a file, or the one its suffix stands for.

    Raises:
        ConfigError: Neither is known.
    """
    kind = declared or format_of(name)
    if kind not in FORMATS:
        raise ConfigError(
            f"the format of {name!r} is not known; name the file with one of "
            f"{', '.join(SUFFIXES)} "
            f"or set format to one of {', '.join(FORMATS)}"
        )
    return kind
