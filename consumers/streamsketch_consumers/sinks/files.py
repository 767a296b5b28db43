"""Where generated rows go: Parquet, Arrow, CSV and JSON lines files, or standard output.

A file appears under its name only when it is whole: it is written beside it, synced to disk and
renamed. A stream of samples goes to numbered part files, one finished at every flush, so that a
crash loses no more than the rows since the last flush.
"""

import fcntl
import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.errors import ConfigError, DataError, LockedError, SchemaError, StoreError
from streamsketch.storage.files import sync_folder
from streamsketch.tables import Positive, key, takes
from streamsketch_consumers.sinks.writers import WRITERS, Writer

__all__ = ["FileSink", "SinkSettings", "StdoutSink", "harmless", "make", "make_stdout"]

log = logging.getLogger(__name__)

_FORMULA = r"^[=+\-@\t\r]"  # what a spreadsheet takes for one, at the beginning of a text

SUFFIXES = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".arrows": "arrows",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True)
class SinkSettings:
    """Settings of the file sink.

    In a pipeline file `path` may be left out: samples then lie in the store. Each checkpoint's rows
    are parts, readable at once.

    Attributes:
        path: The file; with `mode = "parts"` its stem and suffix name the parts
            (`samples.parquet` becomes `samples-000001.parquet`, ...).
        format: parquet, arrow, arrows (an Arrow stream), csv or jsonl; by the suffix if not set.
        mode: `file` writes one file, which appears at the end; `parts` one file per flush.
        part_rows: With parts: also begin a new one after so many rows.
        escape_formulas: CSV only: write an apostrophe before a text that a spreadsheet would
            run (it begins with =, +, -, @, a tab or a carriage return). It changes the text.
    """

    path: str = key(location=True, pipeline="{store}/samples/samples.parquet")
    format: str | None = None
    mode: Literal["file", "parts"] = key("file", pipeline="parts")
    part_rows: Positive = 1_000_000
    escape_formulas: bool = False

    def __post_init__(self) -> None:
        if self.format is None and Path(self.path).suffix.lower() not in SUFFIXES:
            raise ConfigError(
                f"path = {self.path!r} does not say the format; end it in one of "
                f"{', '.join(SUFFIXES)}, or set format"
            )
        if self.format is not None and self.format not in WRITERS:
            raise ConfigError(f"format = {self.format!r} is not one of {', '.join(WRITERS)}")

    @property
    def kind(self) -> str:
        """The format, a key of `WRITERS`."""
        return self.format or SUFFIXES[Path(self.path).suffix.lower()]


class FileSink:
    """Rows into one file or numbered part files, each whole or absent.

    Args:
        settings: Where to, and how.

    Raises:
        StoreError: The disk refuses.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with FileSink(SinkSettings(folder.name + "/s.csv", mode="parts")) as sink:
        ...     sink.write(pa.table({"x": [1, 2]}))
        ...     sink.flush()
        ...     sink.write(pa.table({"x": [3]}))
        >>> sorted(os.listdir(folder.name))
        ['s-000001.csv', 's-000002.csv']
        >>> folder.cleanup()
    """

    def __init__(self, settings: SinkSettings) -> None:
        self.settings = settings
        self._path = Path(settings.path)
        self._unfinished = self._path.with_name(f".{self._path.name}.tmp")
        self._schema: pa.Schema | None = None
        self._file: BinaryIO | None = None
        self._writer: Writer | None = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows; all tables must have the columns of the first.

        Raises:
            SchemaError: The columns differ from the first table's, or the format cannot hold them.
            LockedError: Another process is writing to the same path.
        """
        if self._schema is None:
            self._schema = table.schema.remove_metadata()
        if not table.schema.equals(self._schema):
            raise SchemaError(
                f"the rows for {str(self._path)!r} changed their columns from "
                f"({_line(self._schema)}) to "
                f"({_line(table.schema)}); write them to another path"
            )
        if self.settings.escape_formulas and self.settings.kind == "csv":
            table = harmless(table)
        if self.settings.mode == "file":
            self._write(table)
            return
        while table.num_rows:
            head = table.slice(0, self.settings.part_rows - self._rows)
            self._write(head)
            table = table.slice(head.num_rows)
            if self._rows >= self.settings.part_rows:
                self._finish()

    def flush(self) -> None:
        """With parts, finish the part; a single file is not readable before `close`."""
        if self.settings.mode == "parts":
            self._finish()

    def close(self) -> None:
        """Finish the file; where nothing was written there is none."""
        self._finish()

    def discard(self) -> None:
        """Drop what is not finished."""
        if self._file is None:
            return
        self._unfinished.unlink(missing_ok=True)
        with suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
            self._file.close()
        self._file, self._writer, self._rows = None, None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.settings.mode == "file":
            self.discard()
        else:
            self.close()

    def _write(self, table: pa.Table) -> None:
        try:
            if self._file is None or self._writer is None:
                self._file = _create(self._unfinished)
                self._writer = WRITERS[self.settings.kind](
                    self._file, table.schema.remove_metadata()
                )
            self._writer.write_table(table)
        except OSError as e:
            self.discard()
            raise StoreError(
                f"cannot write {str(self._path)!r} ({e.strerror or e}); free or choose another "
                f"disk"
            ) from e
        except DataError:
            self.discard()
            raise
        except pa.ArrowException as e:
            self.discard()
            raise SchemaError(
                f"{self.settings.kind} cannot hold these columns ({e}); use parquet, arrow or "
                f"jsonl"
            ) from e
        self._rows += table.num_rows

    def _finish(self) -> None:
        if self._file is None or self._writer is None:
            return
        try:
            self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            final = self._path if self.settings.mode == "file" else self._next_part()
            self._unfinished.replace(final)
            sync_folder(self._path.parent)
        except OSError as e:
            self.discard()
            raise StoreError(
                f"cannot finish {str(self._path)!r} ({e.strerror or e}); free or choose another "
                f"disk"
            ) from e
        self._file.close()
        self._file, self._writer, self._rows = None, None, 0

    def _next_part(self) -> Path:
        """The path of the part after the last that is there."""
        stem, suffix = self._path.stem, self._path.suffix
        pattern = re.compile(re.escape(stem) + r"-(\d+)" + re.escape(suffix))
        there = (pattern.fullmatch(p.name) for p in self._path.parent.iterdir())
        last = max((int(match[1]) for match in there if match), default=0)
        return self._path.with_name(f"{stem}-{last + 1:06d}{suffix}")


class StdoutSink:
    """Rows to standard output as CSV, JSON lines or an Arrow stream.

    Args:
        kind: csv, jsonl or arrows.
        file: Where to, instead of standard output.
        formulas: Whether CSV may hold texts that a spreadsheet would run.
    """

    def __init__(
        self, kind: str = "csv", file: BinaryIO | None = None, formulas: bool = True
    ) -> None:
        self._kind = kind
        self._formulas = formulas or kind != "csv"
        self._file = file
        self._writer: Writer | None = None

    def write(self, table: pa.Table) -> None:
        """Add rows.

        Raises:
            StoreError: The reader of standard output has gone.
        """
        out = self._file or sys.stdout.buffer
        self._try(lambda: self._write(out, table))

    def flush(self) -> None:
        """Hand everything to the reader."""
        self._try((self._file or sys.stdout.buffer).flush)

    def close(self) -> None:
        """Write the end of the format; standard output stays open."""
        if self._writer is not None:
            self._try(self._writer.close)
            self._writer = None
        self.flush()

    def _write(self, out: BinaryIO, table: pa.Table) -> None:
        table = table if self._formulas else harmless(table)
        if self._writer is None:
            self._writer = WRITERS[self._kind](out, table.schema.remove_metadata())
        self._writer.write_table(table)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError as e:
            self._writer = None
            if self._file is None:  # or the interpreter complains once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise StoreError(
                "the reader of standard output has gone; nothing more is written"
            ) from e


@dataclass(frozen=True)
class StdoutSettings:
    """Settings of standard output.

    Attributes:
        format: csv, jsonl or arrow (an Arrow stream).
        escape_formulas: CSV only: as for the file sink.
    """

    format: Literal["csv", "jsonl", "arrow", "arrows"] = "csv"
    escape_formulas: bool = False


@takes(SinkSettings, "sink 'file'")
def make(settings: SinkSettings) -> FileSink:
    """The file sink of these settings; the entry point `file`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        StoreError: The folder cannot be made.
    """
    try:
        Path(settings.path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StoreError(
            f"cannot make the folder of {settings.path!r} ({e.strerror}); choose another path"
        ) from e
    return FileSink(settings)


@takes(StdoutSettings, "sink 'stdout'")
def make_stdout(settings: StdoutSettings) -> StdoutSink:
    """The standard output sink of these settings (`format`); the entry point `stdout`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """
    kind = "arrows" if settings.format == "arrow" else settings.format
    return StdoutSink(kind, formulas=not settings.escape_formulas)


def _create(path: Path) -> BinaryIO:
    """The unfinished file, empty, and no other process's."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LockedError(
            f"another process is writing {str(path)!r}; stop it, or write to another path"
        ) from None
    file.truncate()
    return file


def harmless(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every name and text that a spreadsheet would run.

    >>> harmless(pa.table({"=a": ["=1+1", "x", None]})).to_pydict()
    {"'=a": ["'=1+1", 'x', None]}
    """
    columns = []
    for column in table.columns:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            text = column.cast(pa.large_string())
            runs = pc.match_substring_regex(text, _FORMULA)
            quote, nothing = pa.scalar("'", pa.large_string()), pa.scalar("", pa.large_string())
            column = pc.if_else(runs, pc.binary_join_element_wise(quote, text, nothing), text)
        columns.append(column)
    names = [f"'{n}" if re.match(_FORMULA, n) else n for n in table.column_names]
    return pa.table(columns, names=names)


def _line(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name}: {f.type}" for f in schema)
