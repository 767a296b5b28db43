"""Files as a stream: Parquet, CSV, JSON lines, Arrow IPC; one file, a folder, a glob or a list.

Delivery: exactly once. The position is (file, row), it is saved together with the sums, and a
restart goes on with exactly the next row. For that, files must not change after they were read.
"""

import codecs
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch.errors import ConfigError, SchemaError, SourceError
from streamsketch.ingest.streams import Chunk, Dead, Ownership, Position
from streamsketch.schema import Schema
from streamsketch_consumers.columns import check_columns, declared, evolution_problem, readings
from streamsketch_consumers.decode.csv_values import Dialect
from streamsketch_consumers.files.folder import Files
from streamsketch_consumers.files.formats import FORMATS, format_named, read_pieces
from streamsketch_consumers.files.pace import ByEventTime, ByRate, Pace
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted, cut
from streamsketch_consumers.settings import parse

__all__ = ["FileSettings", "FileSource", "make"]

log = logging.getLogger(__name__)

WATCHED = 100  # files read last, of which growth is still noticed


@dataclass(frozen=True)
class FileSettings:
    """Settings of the file source.

    Attributes:
        path: A file, a folder, a glob, or a list of files.
        part: Name of the stream's one part in the store.
        format: parquet, csv, jsonl or arrow; by the suffix of each file if not set.
        batch_rows: Largest number of rows of a batch.
        rate: Rows per second; as fast as it goes if not set.
        event_time: Column with the time of each row: a timestamp, a date, or seconds.
        speed: Pace rows by `event_time`, this many times as fast as they happened.
        follow: Wait for further files when all have been read.
        settle_seconds: With follow: a file counts as complete when it has not changed for so long.
        on_error: What to do with a file whose columns do not fit or that is damaged: `fail` stops,
            `skip` passes over the rest of it, `dlq` also writes one dead letter about it. Single
            bad rows are always handed on as dead rows.
        missing: A column that a file does not have is `refuse`d, or taken as `null` in each of its
            rows. In JSON lines a key that is not there is null in any case.
        extra: A column that is not declared is `ignore`d, or `refuse`d (JSON lines: row by row).
        delimiter: CSV: between values (a tab in `.tsv` files).
        header: CSV: the first line holds the column names; otherwise the schema's order holds.
        null_values: CSV: texts that mean null. Only the empty text by default.
        newlines_in_values: CSV: a quoted value may hold line breaks. Off by default, so that an
            open quote spoils one line only.
        max_row_bytes: CSV, JSON: a longer row is dead, and is not held in memory.
        encoding: CSV, JSON: how characters are written, such as utf-8, cp1252 or utf-16.
        decimal: CSV: between whole and part of a number.
        thousands: CSV: between groups of three digits; empty for nothing.
        null_numbers: CSV: further texts that mean null in columns of numbers, times and booleans,
            such as NA; where text is expected they are text.
    """

    path: str | list[str]
    part: str = "files"
    format: str | None = None
    batch_rows: int = 8192
    rate: float | None = None
    event_time: str | None = None
    speed: float | None = None
    follow: bool = False
    settle_seconds: float = 2.0
    on_error: str = "fail"
    missing: str = "refuse"
    extra: str = "ignore"
    delimiter: str = ","
    header: bool = True
    null_values: list[str] = field(default_factory=lambda: [""])
    newlines_in_values: bool = False
    max_row_bytes: int = 1 << 24
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    null_numbers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"source 'files': {problem}")

    def _problem(self) -> str | None:
        if self.format is not None and self.format not in FORMATS:
            return f"format = {self.format!r} is not one of {', '.join(FORMATS)}"
        if self.on_error not in ("fail", "skip", "dlq"):
            return f"on_error = {self.on_error!r} is not one of fail, skip, dlq"
        for name in ("batch_rows", "rate", "speed", "max_row_bytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                return f"{name} = {value} must be above 0"
        if self.settle_seconds < 0:
            return f"settle_seconds = {self.settle_seconds} must not be negative"
        if self.speed is not None and self.event_time is None:
            return "speed paces rows by their event time; name the column with event_time"
        if self.speed is not None and self.rate is not None:
            return "rate and speed contradict each other; set one of them"
        if len(self.delimiter) != 1:
            return f"delimiter = {self.delimiter!r} must be one character"
        if self.decimal not in (".", ",") or len(self.thousands) > 1:
            return f"decimal = {self.decimal!r} must be . or , and thousands one character or none"
        if self.decimal == self.thousands:
            return f"decimal and thousands are both {self.decimal!r}; they must differ"
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            return f"encoding = {self.encoding!r} is not known; use one such as utf-8 or cp1252"
        return evolution_problem(self.missing, self.extra)


class FileSource:
    """A stream of the rows of files, in the order of the files' names.

    Its one part has the position `{"file": name relative to the root, "row": next row}`; once a
    folder is followed also `"done"`, the names of the files that were read to their end, so that a
    late file is read even if its name comes before theirs. A file is read once: rows that are
    added to it after that are not seen (a warning says so), new rows come in new files.

    Args:
        settings: What to read and how fast.
        schema: Declares the columns; CSV and JSON are parsed as its types.

    Attributes:
        finished: All files have been read (never when following).
    """

    def __init__(self, settings: FileSettings, schema: Schema) -> None:
        self.settings = settings
        self.finished = False
        self._files = Files(settings.path, any_suffix=settings.format is not None)
        if settings.follow and self._files.fixed:
            raise ConfigError(
                "source 'files': follow needs a folder or a glob as path, not named files"
            )
        self._wanted = Wanted(
            readings=readings(schema, settings.event_time),
            check=lambda found, where: check_columns(
                schema, found, where, settings.event_time, settings.missing, settings.extra
            ),
            declared=declared(schema, settings.event_time) if settings.extra == "refuse" else None,
            batch_rows=settings.batch_rows,
            delimiter=settings.delimiter,
            header=settings.header,
            null_values=tuple(settings.null_values),
            newlines_in_values=settings.newlines_in_values,
            max_row_bytes=settings.max_row_bytes,
            encoding=settings.encoding,
            dialect=Dialect(settings.decimal, settings.thousands, tuple(settings.null_numbers)),
        )
        self._pace = _pace(settings)
        self._pieces: Iterator[tuple[str, Piece] | None] = iter(())
        self._held: tuple[str, Piece] | None = None
        self._done: list[str] = []

    def open(self, owner: Ownership) -> None:
        """Take the part over and go to its saved position."""
        saved = owner.claim(self.settings.part)
        self._pieces = self._follow(saved) if self.settings.follow else self._once(saved)

    def poll(self, timeout: float) -> Sequence[Chunk]:
        """The next rows; nothing after about `timeout` seconds without one that is due."""
        if self._held is None:
            self._held = next(self._pieces, None)
        if self._held is None:
            if not self.settings.follow:
                self.finished = True
            else:
                time.sleep(min(timeout, 0.2))
            return ()
        name, piece = self._held
        ready = piece.batch.num_rows
        if self._pace is not None and ready:
            ready = self._pace.due(piece.batch, timeout)
            if not ready:
                return ()
        head, tail = cut(piece, ready)
        self._held = (name, tail) if tail.batch.num_rows or tail.dead else None
        return (self._chunk(name, head),)

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Nothing to do: the position lives with the sums."""

    def lag(self) -> dict[str, int | None]:
        """Rows not read yet: unknown until the end."""
        return {self.settings.part: 0 if self.finished else None}

    def close(self) -> None:
        """Close the file that is open."""
        self._held = None
        if hasattr(self._pieces, "close"):
            self._pieces.close()

    def _chunk(self, name: str, piece: Piece) -> Chunk:
        position: Position = {"file": name, "row": piece.next_row}
        if self.settings.follow or self._done:
            position["done"] = self._done  # never changed in place
        n = piece.batch.num_rows
        where: dict[str, Any] = {"file": name, "row": int(piece.rows[0]) if n else piece.next_row}
        if n and piece.rows[-1] - piece.rows[0] != n - 1:
            where["rows"] = [{"row": row} for row in piece.rows.tolist()]
        batch = piece.batch if n else None
        return Chunk(self.settings.part, position, batch, piece.dead, where)

    def _once(self, saved: Position | None) -> Iterator[tuple[str, Piece] | None]:
        names, row = self._files.now(), 0
        if saved is not None:
            self._done = list(saved.get("done", ()))
            names, row = self._rest(names, saved)
        elif not names:
            raise self._files.none_found()
        for name in names:
            yield from self._one(name, row)
            row = 0

    def _rest(self, names: list[str], saved: Position) -> tuple[list[str], int]:
        """The files from the saved position on, and the row to begin the first one at."""
        file, row = str(saved["file"]), int(saved["row"])
        if file in self._done:
            return [n for n in names if n not in self._done], 0
        if file not in names:
            raise SourceError(
                f"file {file!r} of the saved position is not in {str(self._files.root)!r}; put "
                f"it back, or "
                "start from an empty store to read the stream from its beginning"
            )
        if "done" in saved:
            return [file, *(n for n in names if n not in self._done and n != file)], row
        return names[names.index(file) :], row

    def _follow(self, saved: Position | None) -> Iterator[tuple[str, Piece] | None]:
        row, current = 0, None
        if saved is not None:
            names = self._files.now()
            self._done = list(saved.get("done", ()))
            rest, row = self._rest(names, saved)
            if "done" not in saved:  # it was read without follow: what comes before is done
                self._done = [n for n in names if n not in rest]
            current = str(saved["file"]) if saved["file"] not in self._done else None
        read: dict[str, int] = {}
        known = set(self._done)
        while True:
            waiting = self._files.complete(self.settings.settle_seconds, known)
            self._warn_of_growth(read)
            if current is not None:
                waiting, current = [current], None
            if not waiting:
                yield None
            for name in waiting:
                path = self._files.root / name
                if row == 0 and not path.exists():
                    log.warning("file %r went away before it was read", name)
                    continue
                read[name] = path.stat().st_size
                end = row
                for item in self._one(name, row):
                    end = item[1].next_row
                    yield item
                row = 0
                known.add(name)
                self._done = [*self._done, name]
                yield name, _nothing(self._wanted, end)

    def _warn_of_growth(self, read: dict[str, int]) -> None:
        for name in list(read)[:-WATCHED]:
            del read[name]
        for name, size in list(read.items()):
            path = self._files.root / name
            if path.exists() and path.stat().st_size != size:
                log.warning(
                    "file %r changed after it was read; what was added is not seen: write new "
                    "rows to new files, "
                    "or raise settle_seconds",
                    name,
                )
                del read[name]

    def _one(self, name: str, row: int) -> Iterator[tuple[str, Piece]]:
        kind = format_named(name, self.settings.format)
        try:
            for piece in read_pieces(self._files.root / name, kind, row, self._wanted, name):
                row = piece.next_row
                yield name, piece
        except (FileFault, SchemaError) as e:
            if self.settings.on_error == "fail":
                raise
            log.warning("passing over the rest of a file: %s", e)
            dead = Dead(raw=b"", reason=str(e), where={"file": name, "row": row})
            yield (
                name,
                _nothing(self._wanted, row, (dead,) if self.settings.on_error == "dlq" else ()),
            )


def make(settings: Mapping[str, Any], schema: Schema) -> FileSource:
    """The file source of these settings; the entry point `files`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        SourceError: There is no such file.
    """
    return FileSource(parse(FileSettings, settings, "source 'files'"), schema)


def _pace(settings: FileSettings) -> Pace | None:
    if settings.rate is not None:
        return ByRate(settings.rate)
    if settings.speed is not None and settings.event_time is not None:
        return ByEventTime(settings.event_time, settings.speed)
    return None


def _nothing(wanted: Wanted, row: int, dead: tuple[Dead, ...] = ()) -> Piece:
    batch = pa.RecordBatch.from_pylist([], pa.schema(list(wanted.types.items())))
    return Piece(batch, np.zeros(0, np.int64), row, dead)
