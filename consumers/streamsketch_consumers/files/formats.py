"""Read the rows of one file from a given row on: Parquet, Arrow IPC, CSV, JSON lines.

Every reader yields `Piece`s in file order. Rows are numbered from 0 within the file; a bad row
keeps its number, so that a position (file, row) names the same row at every batch size.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from streamsketch.errors import ConfigError, SourceError
from streamsketch_consumers.files.binary import read_arrow, read_parquet
from streamsketch_consumers.files.lines import read_csv, read_jsonl
from streamsketch_consumers.files.pieces import Piece, Wanted, joined, reached

__all__ = ["COMPRESSED", "FORMATS", "SUFFIXES", "format_named", "format_of", "read_pieces"]

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


Reader = Callable[[Path, int, Wanted, str], Iterator[Piece]]
FORMATS: dict[str, Reader] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_csv,
    "jsonl": read_jsonl,
}


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
        reached(0, start, name)
        return
    yield from joined(FORMATS[kind](path, start, wanted, name), wanted.batch_rows)


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
