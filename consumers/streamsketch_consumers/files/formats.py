"""Read the rows of one file from a given row on: Parquet, Arrow IPC, CSV, JSON lines.

Every reader yields `Piece`s in file order. Rows are numbered from 0 within the file; a bad row
keeps its number, so that a position (file, row) names the same row at every batch size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from streamsketch.errors import ConfigError, SchemaError, SourceError
from streamsketch_consumers.decode.csv_values import array_of
from streamsketch_consumers.files.binary import arrow_head, parquet_head, read_arrow, read_parquet
from streamsketch_consumers.files.lines import read_csv, read_jsonl
from streamsketch_consumers.files.pieces import Piece, Wanted, joined, reached

__all__ = [
    "COMPRESSED",
    "FORMATS",
    "Format",
    "SUFFIXES",
    "format_named",
    "format_of",
    "partition",
    "read_pieces",
]

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
COMPRESSED = (".gz", ".bz2", ".lz4", ".zst")

Reader = Callable[[Path, int, Wanted, str], Iterator[Piece]]
Head = Callable[[Path], tuple[pa.Schema, int | None]]


@dataclass(frozen=True)
class Format:
    """How files of a format are read.

    Attributes:
        read: Pieces of a file, from a row on.
        suffixes: What names of such files end in.
        head: Columns of a file, and its number of rows where it tells; None for text, whose values
            have no types.
    """

    read: Reader
    suffixes: tuple[str, ...]
    head: Head | None = None


FORMATS: dict[str, Format] = {
    "parquet": Format(read_parquet, (".parquet", ".pq"), parquet_head),
    "csv": Format(read_csv, (".csv", ".tsv")),
    "jsonl": Format(read_jsonl, (".jsonl", ".ndjson", ".json")),
    "arrow": Format(read_arrow, (".arrow", ".feather", ".ipc", ".arrows"), arrow_head),
}
SUFFIXES = {suffix: name for name, form in FORMATS.items() for suffix in form.suffixes}


def format_of(name: str) -> str | None:
    """The format that a file name's suffix stands for, or None.

    >>> format_of("a/flights.csv.gz"), format_of("x.arrows"), format_of("notes.txt")
    ('csv', 'arrow', None)
    """
    path = Path(name.lower())
    if path.suffix in COMPRESSED:
        kind = SUFFIXES.get(path.with_suffix("").suffix)
        return kind if kind is not None and FORMATS[kind].head is None else None
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
        reached(0, start, name)
        return
    keys = {key: value for key, value in partition(name).items() if key in wanted.readings}
    if not keys:
        yield from joined(FORMATS[kind].read(path, start, wanted, name), wanted.batch_rows)
        return
    values = {key: _value(key, text, wanted, name) for key, text in keys.items()}
    check = wanted.check
    named = replace(wanted, check=lambda found, where: check(_with(found, values), where))
    for piece in joined(FORMATS[kind].read(path, start, named, name), wanted.batch_rows):
        yield replace(piece, batch=_filled(piece.batch, values))


def partition(name: str) -> dict[str, str | None]:
    """The columns that the folders of a file's name stand for, as Hive and Spark name them.

    >>> partition("year=2023/city=New%20York/part-0.parquet")
    {'year': '2023', 'city': 'New York'}
    """
    found: dict[str, str | None] = {}
    for folder in Path(name).parts[:-1]:
        key, sign, value = folder.partition("=")
        if sign and key:
            found[unquote(key)] = None if value == NO_VALUE else unquote(value)
    return found


def _value(key: str, text: str | None, wanted: Wanted, name: str) -> pa.Scalar:
    reading = wanted.readings[key]
    array, bad = array_of(pa.array([text], pa.string()), reading, wanted.dialect)
    if bad:
        raise SchemaError(
            f"file {name!r} lies in a folder {key}={text}, but the schema expects {key!r} to be of "
            f"type {reading.declared}; rename the folder or correct the schema"
        )
    return array[0]


def _with(found: pa.Schema, values: Mapping[str, pa.Scalar]) -> pa.Schema:
    for key, value in values.items():
        if key not in found.names:
            found = found.append(pa.field(key, value.type))
    return found


def _filled(batch: pa.RecordBatch, values: Mapping[str, pa.Scalar]) -> pa.RecordBatch:
    """The batch with the folders' values in columns that the file itself does not have."""
    for key, value in values.items():
        i = batch.schema.get_field_index(key)
        if batch.num_rows and batch.column(i).null_count == batch.num_rows:
            batch = batch.set_column(i, key, pa.repeat(value, batch.num_rows))
    return batch


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
