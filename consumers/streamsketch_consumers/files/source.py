"""Files as a stream: Parquet, CSV, JSON lines, Arrow IPC; one file, a folder, a glob or a list.

Delivery: exactly once. The position is saved with the sums; a restart goes on with the next row.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamsketch.errors import ConfigError, SchemaError, SourceError
from streamsketch.ingest.streams import Chunk, Dead, Ownership, Position
from streamsketch.schema import Schema
from streamsketch.tables import takes
from streamsketch_consumers.columns import check_columns, declared, readings
from streamsketch_consumers.decode.csv_values import Dialect
from streamsketch_consumers.files.folder import Files
from streamsketch_consumers.files.formats import format_named, format_of, read_pieces
from streamsketch_consumers.files.ledger import Ledger
from streamsketch_consumers.files.length import rows_in
from streamsketch_consumers.files.pace import ByEventTime, ByRate, Pace, event_seconds
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted, cut
from streamsketch_consumers.files.settings import FileSettings, moment

__all__ = ["FileSettings", "FileSource", "make"]

log = logging.getLogger(__name__)

WATCHED = 100  # files read last, of which growth is still noticed


class _Next(NamedTuple):
    """A piece of a file, and whether it is its last one."""

    name: str
    piece: Piece
    last: bool


class FileSource:
    """A stream of the rows of files, in the order of the files' names.

    Its one part has the position `{"file": name relative to the root, "row": next row}`, with the
    marks of that file and of all that were read (see `ledger`): so files are known when they are
    renamed, rotated or linked, other files of the same names are not, and a late file is read
    even if its name comes before theirs. A file that changes after it was read is read on, left
    with a warning, or refused, as `changed` says.

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
            unwrap=settings.unwrap,
            dialect=Dialect(settings.decimal, settings.thousands, tuple(settings.null_numbers)),
        )
        self._pace = _pace(settings)
        self._span = _span(settings)
        self._pieces: Iterator[_Next | None] = iter(())
        self._held: _Next | None = None
        self._rows: dict[str, int] = {}  # of the files that are still to be read, where known
        self._at: tuple[str, int] = ("", 0)

    def open(self, owner: Ownership) -> None:
        """Take the part over and go to its saved position.

        Raises:
            SourceError: The file that was being read is not there, or is another now.
        """
        saved = owner.claim(self.settings.part)
        self._ledger = Ledger(self._files.root, saved)
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
        name, piece, last = self._held
        ready = piece.batch.num_rows
        if self._pace is not None and ready:
            ready = self._pace.due(piece.batch, timeout)
            if not ready:
                return ()
        head, tail = cut(piece, ready)
        rest = bool(tail.batch.num_rows or tail.dead)
        self._held = _Next(name, tail, last) if rest else None
        self._at = (name, head.next_row)
        if last and not rest:
            self._ledger.end(name, head.next_row)
            self._rows.pop(name, None)
        return (self._chunk(name, head),)

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Nothing to do: the position lives with the sums."""

    def lag(self) -> dict[str, int | None]:
        """Rows not read yet: unknown until the end."""
        return {self.settings.part: 0 if self.finished else None}

    def left(self) -> int | None:
        """Rows that are still to be read: exact where files say it, about where bytes tell it.

        None when following, and for compressed text.
        """
        name, row = self._at
        read = min(row, self._rows.get(name, 0))
        return sum(self._rows.values()) - read if self._rows else None

    def close(self) -> None:
        """Close the file that is open."""
        self._held = None
        if hasattr(self._pieces, "close"):
            self._pieces.close()

    def _chunk(self, name: str, piece: Piece) -> Chunk:
        position = self._ledger.position(name, piece.next_row)
        n = piece.batch.num_rows
        where: dict[str, Any] = {"file": name, "row": int(piece.rows[0]) if n else piece.next_row}
        if n and piece.rows[-1] - piece.rows[0] != n - 1:
            where["rows"] = [{"row": row} for row in piece.rows.tolist()]
        batch = piece.batch if n else None
        return Chunk(self.settings.part, position, batch, piece.dead, where)

    # --- which files, from which row

    def _once(self, saved: Position | None) -> Iterator[_Next | None]:
        names = self._files.now()
        if saved is None and not names:
            raise self._files.none_found()
        first = self._resume(saved, names)
        known = self._ledger.names()
        self._measure([n for n in names if n not in known or first is not None and n == first[0]])
        if first is not None:
            self._at = first
            yield from self._read(*first)
        self._find_rotated(names)
        for name in names:
            row = self._row_of(name)
            if row is not None:
                yield from self._read(name, row)
            self._rows.pop(name, None)

    def _measure(self, names: list[str]) -> None:
        kinds = {name: format_of(name) or self.settings.format for name in names}
        paths = {name: self._files.root / name for name in names}
        self._rows = rows_in(paths, kinds) or {}

    def _follow(self, saved: Position | None) -> Iterator[_Next | None]:
        names = self._files.now()
        first = self._resume(saved, names)
        if first is not None:
            yield from self._read(*first)
        self._find_rotated(names)
        watched = [name for name in names if name in self._ledger.names()]
        left: set[str] = set()
        while True:
            again = self._look_again(watched)
            del watched[:-WATCHED]
            known = (self._ledger.names() | left) - again
            waiting = self._files.complete(self.settings.settle_seconds, known)
            if not waiting:
                yield None
            for name in waiting:
                row = self._row_of(name)
                if row is None:
                    left.add(name)
                elif row == 0 and not (self._files.root / name).exists():
                    log.warning("file %r went away before it was read", name)
                else:
                    yield from self._read(name, row)
                    watched.append(name)

    def _find_rotated(self, names: list[str]) -> None:
        """Know by its new name what was copied away before its old name took other rows."""
        known = self._ledger.names()
        if any(self._ledger.place(n).state == "replaced" for n in names if n in known):
            for name in names:
                if name not in known:
                    self._ledger.place(name)

    def _resume(self, saved: Position | None, names: list[str]) -> tuple[str, int] | None:
        """The file that was being read, and its next row; None if all were read to their ends."""
        if saved is not None and self._ledger.old:
            return self._resume_old(saved, names)
        if self._ledger.current is None:
            return None
        root, name, mark = self._ledger.current
        here = root == self._ledger.root
        state = mark.state(self._files.root / name) if here else "gone"
        if state in ("same", "grown"):
            return name, mark.rows
        for other in names:
            path = self._files.root / other
            if mark.state(path) in ("same", "grown") and (
                state == "replaced" or path.stat().st_mtime_ns == mark.written
            ):
                log.warning("file %r is what %r was, which was being read", other, name)
                return other, mark.rows
        if state == "replaced":
            row = self._changed(name, state, 0)
            if row is None:
                self._ledger.assume(name)
            return None if row is None else (name, row)
        raise SourceError(
            f"file {name!r} of the saved position is not in {str(self._files.root)!r}; it was read "
            f"up to row {mark.rows} only: put it back or read {root!r} to its end first, or start "
            "from an empty store to read the stream from its beginning"
        )

    def _resume_old(self, saved: Position, names: list[str]) -> tuple[str, int] | None:
        """As `_resume`, for a position of a time when only names were kept."""
        file, row, done = str(saved["file"]), int(saved["row"]), list(saved.get("done", ()))
        if file not in done and file not in names:
            raise SourceError(
                f"file {file!r} of the saved position is not in {str(self._files.root)!r}; put "
                "it back, or start from an empty store to read the stream from its beginning"
            )
        before = done if "done" in saved else names[: names.index(file)]
        for name in before:
            self._ledger.assume(name)
        return None if file in done else (file, row)

    def _row_of(self, name: str) -> int | None:
        """The row to begin a file at; None if it was read, or is to be left."""
        place = self._ledger.place(name)
        if place.state == "link":
            log.warning(
                "file %r is the same as %r, which was read; passing over it", name, place.of
            )
            return None
        if place.of is not None:
            log.warning("file %r is what %r was, which was read", name, place.of)
        if place.state == "new":
            return 0
        if place.state == "same":
            return None
        return self._changed(name, place.state, place.row if place.state == "grown" else 0)

    def _changed(self, name: str, state: str, rows: int) -> int | None:
        """Where to go on with a file that is another since it was read, as is declared."""
        grown = state == "grown"
        what = "rows were added to it" if grown else "its first bytes are others: it was replaced"
        default = "warn" if self.settings.follow else "read" if grown else "refuse"
        how = self.settings.changed or default
        if how == "read" and rows >= 0:
            return rows if grown else 0
        if how == "refuse":
            raise SourceError(
                f"file {name!r} changed after it was read ({what}); put the old file back, write "
                'new rows to new files, or set changed = "read" to read on'
            )
        advice = 'write new rows to new files, raise settle_seconds, or set changed = "read"'
        log.warning("file %r changed after it was read (%s), unseen: %s", name, what, advice)
        return None

    def _look_again(self, watched: list[str]) -> set[str]:
        """Files that changed since they were read, if they are to be read on; else it is said."""
        again = set()
        for name in list(watched):
            place = self._ledger.place(name)
            if place.state in ("grown", "replaced"):
                if self.settings.changed == "read":
                    again.add(name)
                else:
                    watched.remove(name)
                    self._changed(name, place.state, place.row)
        return again

    # --- reading

    def _read(self, name: str, row: int) -> Iterator[_Next]:
        """The pieces of a file from a row on; the last one is known as such."""
        path = self._files.root / name
        with suppress(OSError):  # it is said when it is read
            self._ledger.begin(name, row)
        held: Piece | None = None
        for piece in self._pieces_of(path, name, row):
            if held is not None:
                yield _Next(name, held, False)
            held = piece
        yield _Next(name, held if held is not None else _nothing(self._wanted, row), True)

    def _pieces_of(self, path: Path, name: str, row: int) -> Iterator[Piece]:
        kind = format_named(name, self.settings.format)
        try:
            for piece in read_pieces(path, kind, row, self._wanted, name):
                row = piece.next_row
                yield self._span(piece)
        except (FileFault, SchemaError) as e:
            if self.settings.on_error == "fail":
                raise
            log.warning("passing over the rest of a file: %s", e)
            dead = Dead(raw=b"", reason=str(e), where={"file": name, "row": row})
            yield _nothing(self._wanted, row, (dead,) if self.settings.on_error == "dlq" else ())


@takes(FileSettings, "source 'files'")
def make(settings: FileSettings, schema: Schema) -> FileSource:
    """The file source of these settings; the entry point `files`.

    Raises:
        ConfigError: A setting is unknown or wrong.
        SourceError: There is no such file.
    """
    return FileSource(settings, schema)


def _pace(settings: FileSettings) -> Pace | None:
    if settings.rate is not None:
        return ByRate(settings.rate)
    if settings.speed is not None and settings.event_time is not None:
        return ByEventTime(settings.event_time, settings.speed)
    return None


def _span(settings: FileSettings) -> Callable[[Piece], Piece]:
    """What leaves out the rows of a piece that lie outside the times asked for."""
    start, until = moment(settings.start), moment(settings.until)
    column = settings.event_time
    if column is None or (start is None and until is None):
        return lambda piece: piece

    def within(piece: Piece) -> Piece:
        times = event_seconds(piece.batch, column)
        out = np.zeros(len(times), bool)
        if start is not None:
            out |= times < start
        if until is not None:
            out |= times >= until
        if not out.any():
            return piece
        return replace(piece, batch=piece.batch.filter(pa.array(~out)), rows=piece.rows[~out])

    return within


def _nothing(wanted: Wanted, row: int, dead: tuple[Dead, ...] = ()) -> Piece:
    batch = pa.RecordBatch.from_pylist([], pa.schema(list(wanted.types.items())))
    return Piece(batch, np.zeros(0, np.int64), row, dead)
