"""Files as one table, read as the file source reads them: what `init` and `evaluate` look at."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamsketch.errors import ConfigError, DataError, SourceError
from streamsketch.schema import Schema
from streamsketch.schema.columns import arrow_type
from streamsketch_consumers.columns import Reading, text_type
from streamsketch_consumers.decode.csv_values import Dialect, array_of
from streamsketch_consumers.files.folder import Files
from streamsketch_consumers.files.formats import (
    FORMATS,
    SUFFIXES,
    format_of,
    partition,
    read_pieces,
)
from streamsketch_consumers.files.infer import TextColumn, best_dialect, dialects
from streamsketch_consumers.files.lines import open_text
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted
from streamsketch_consumers.files.sniff import sniffed
from streamsketch_consumers.files.source import make
from streamsketch_consumers.files.unify import unified

__all__ = ["Survey", "admitted", "format_of", "read", "survey"]

TEXT = Reading(pa.string(), pa.string())


@dataclass(frozen=True)
class Survey:
    """What files hold.

    Attributes:
        table: Rows, evenly spread over the files.
        rows: Rows in all.
        settings: What a file source must be told to read the files so, beyond its defaults.
        left_out: Why a column is not in the table, by name.
        notes: Sentences about what was decided, and what is not read.
    """

    table: pa.Table
    rows: int
    settings: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def survey(
    path: str,
    rows: int,
    asked: Mapping[str, Any] | None = None,
    types: Mapping[str, str] | None = None,
) -> Survey:
    """Read files without a schema: types hold for every value, not for the first ones.

    Args:
        path: A file, a folder, or a glob.
        rows: Rows of the table at most.
        asked: Settings of the file source that are given: format, delimiter, encoding, null_values.
        types: Arrow types of columns, as text, that are given.

    Raises:
        ConfigError: There is no such file, or its format is not known.
        DataError: A file cannot be read, or the files do not fit together.
    """
    files = _Files(path, dict(asked or {}))
    reader = _Columns if files.kind in ("parquet", "arrow") else _Texts
    found = reader(files, rows, dict(types or {})).survey()
    if not found.table.num_columns:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise DataError(f"{path!r} has no column to sketch ({why or 'it has none at all'})")
    return found


def read(path: str, schema: Schema, asked: Mapping[str, Any] | None = None) -> pa.Table:
    """All good rows of files, each column read as the schema's type of it.

    Columns that are derived are read too; those that the files lack are left out.

    Raises:
        ConfigError, DataError: As `survey`.
    """
    files = _Files(path, dict(asked or {}))
    settings = {**sniffed(files.paths, files.kind, files.asked), **files.asked}
    readings = {
        c.name: Reading(text_type(c), arrow_type(c.type))
        for c in schema.columns
        if c.encoded or c.kind == "derived"
    }
    there: set[str] = set()
    batches = []
    for piece, names in files.pieces(readings, settings):
        there |= set(names)
        batches.append(piece.batch)
    table = pa.Table.from_batches(batches)
    return table.select([n for n in readings if n in there])


def admitted(
    settings: Mapping[str, Any], schema: Schema, seconds: float
) -> tuple[int, Counter[str], bool]:
    """What consuming the files would refuse: rows looked at, reasons with their rows, and whether all were.

    Args:
        settings: Of the file source.
        schema: What is declared.
        seconds: Look no longer than that.
    """
    source = make(settings, schema)
    source.open(_Alone())
    until, rows, reasons = monotonic() + seconds, 0, Counter[str]()
    while not source.finished and monotonic() < until:
        for chunk in source.poll(0.0):
            rows += len(chunk.dead)
            reasons.update(dead.reason for dead in chunk.dead)
            if chunk.batch is not None:
                rows += chunk.batch.num_rows
                refused = {
                    r.row: f"column {r.column!r}: {r.reason}"
                    for r in schema.encode(chunk.batch).rejected
                }
                reasons.update(refused.values())
    source.close()
    return rows, reasons, source.finished


class _Alone:
    """Nobody else reads these files."""

    def claim(self, part: str) -> None:
        """From the beginning."""

    def revoke(self, part: str) -> None:
        """Nothing to do."""

    def lose(self, part: str) -> None:
        """Nothing to do."""

    def read_before(self) -> list[str]:
        """Nothing."""
        return []


class _Files:
    """The files of a path, of one format."""

    def __init__(self, path: str, asked: dict[str, Any]) -> None:
        try:
            files = Files(path, any_suffix="format" in asked)
        except SourceError:
            raise ConfigError(
                f"There is no file {path!r}; give a Parquet, CSV, JSON-lines or Arrow file, or a folder."
            ) from None
        self.root, names = files.root, files.now()
        self.asked = asked
        kinds = Counter(asked.get("format") or format_of(name) or "" for name in names)
        if not names or set(kinds) <= {""}:
            raise ConfigError(
                f"Cannot tell the format of {path!r}: names must end in one of {', '.join(SUFFIXES)}; "
                "rename it, or name the format"
            )
        self.kind = kinds.most_common(1)[0][0]
        if self.kind not in FORMATS:
            raise ConfigError(f"format {self.kind!r} is not one of {', '.join(FORMATS)}")
        self.names = [n for n in names if (asked.get("format") or format_of(n)) == self.kind]
        self.paths = [self.root / n for n in self.names]
        self.path = path
        self.notes: list[str] = []
        if len(self.names) < len(names):
            suffix = Counter(Path(n).suffix for n in self.names).most_common(1)[0][0]
            self.path = str(Path(path) / "**" / f"*{suffix}")
            self.notes.append(
                f"{path!r} holds files of several formats; the {len(self.names)} of {self.kind} are read."
            )
        self.rows = 0

    def partitions(self) -> list[str]:
        """Names of the columns that folders stand for."""
        return list(dict.fromkeys(key for name in self.names for key in partition(name)))

    def pieces(
        self, readings: dict[str, Reading], settings: Mapping[str, Any]
    ) -> Iterator[tuple[Piece, list[str]]]:
        """The rows of all files with the names of the columns that their file has.

        Raises:
            DataError: A file cannot be read.
        """
        for name, path in zip(self.names, self.paths, strict=True):
            there: list[str] = list(partition(name))

            def note(found: pa.Schema, where: str, there: list[str] = there) -> None:
                there.extend(found.names)

            wanted = Wanted(
                readings,
                check=note,
                delimiter=settings.get("delimiter", ","),
                header=settings.get("header", True),
                null_values=tuple(settings.get("null_values", ("",))),
                newlines_in_values=settings.get("newlines_in_values", False),
                encoding=settings.get("encoding", "utf-8"),
                dialect=Dialect(
                    settings.get("decimal", "."),
                    settings.get("thousands", ""),
                    tuple(settings.get("null_numbers", ())),
                ),
            )
            try:
                for piece in read_pieces(path, self.kind, 0, wanted, name):
                    yield piece, there or list(readings)
            except FileFault as e:
                raise DataError(f"Cannot read {str(path)!r} as {self.kind}: {e}") from e


class Spread:
    """Rows spread evenly over all that come: as many as are wanted, or at least half of that.

    Args:
        rows: How many are wanted.
        in_all: How many there are, where that is known: then just so many are kept.
    """

    def __init__(self, rows: int, in_all: int | None = None) -> None:
        self.rows, self.seen = rows, 0
        self._wanted = None
        if in_all is not None and in_all > rows:
            self._wanted = np.linspace(0, in_all - 1, rows).astype(np.int64)
        self._stride = 1
        self._kept: list[pa.RecordBatch] = []
        self._held = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Choose from the next rows."""
        numbers = np.arange(self.seen, self.seen + batch.num_rows)
        self.seen += batch.num_rows
        if self._wanted is not None:
            first, last = np.searchsorted(self._wanted, [numbers[0], numbers[-1] + 1])
            take = self._wanted[first:last] - numbers[0]
        else:
            take = np.flatnonzero(numbers % self._stride == 0)
        if len(take) < batch.num_rows:
            batch = batch.take(pa.array(take))
        self._kept.append(batch)
        self._held += batch.num_rows
        while self._wanted is None and self._held > self.rows:
            self._stride *= 2
            whole = pa.Table.from_batches(self._kept)
            thinned = whole.take(pa.array(np.arange(0, whole.num_rows, 2)))
            self._kept, self._held = thinned.to_batches(), thinned.num_rows

    def table(self, schema: pa.Schema) -> pa.Table:
        """The rows chosen."""
        return pa.Table.from_batches(self._kept, schema)


class _Columns:
    """Parquet and Arrow files: typed, but perhaps not all alike."""

    def __init__(self, files: _Files, rows: int, types: dict[str, str]) -> None:
        self.files, self.rows, self.types = files, rows, types

    def survey(self) -> Survey:
        """Read them."""
        files = self.files
        schemas, counts = zip(*(self._head(path) for path in files.paths), strict=True)
        kinds, left_out = unified(schemas, files.names)
        folders = _Folders(files)
        readings = {name: Reading(kind, kind) for name, kind in kinds.items()}
        spread = Spread(self.rows, sum(counts) if None not in counts else None)
        wanted = {**{n: TEXT for n in folders.names if n not in kinds}, **readings}
        schema = pa.schema([(n, r.type) for n, r in wanted.items()])
        for piece, _ in files.pieces(wanted, files.asked):
            if piece.batch.num_rows:
                spread.add(_fitted(piece.batch, schema))
        table = folders.typed(spread.table(schema))
        for name, text in self.types.items():
            table = _typed_as(table, name, text)
        settings = {**files.asked, "path": files.path}
        if any(n not in s.names for s in schemas for n in kinds if n not in folders.names):
            settings["missing"] = "null"
        return Survey(table, spread.seen, settings, left_out, files.notes)

    def _head(self, path: Path) -> tuple[pa.Schema, int | None]:
        try:
            if self.files.kind == "parquet":
                with pq.ParquetFile(path) as file:
                    return file.schema_arrow, file.metadata.num_rows
            with pa.OSFile(str(path)) as source:
                try:
                    reader = pa.ipc.open_file(source)
                except pa.ArrowInvalid:
                    source.seek(0)
                    return pa.ipc.open_stream(source).schema, None
                return reader.schema, None
        except (pa.ArrowException, OSError) as e:
            reason = str(e).splitlines()[0]
            raise DataError(f"Cannot read {str(path)!r} as {self.files.kind}: {reason}") from e


class _Folders:
    """Columns that folders stand for, typed by the values of all of them."""

    def __init__(self, files: _Files) -> None:
        self.names = files.partitions()
        self._found = {name: TextColumn(dialects(",")[:1]) for name in self.names}
        for name in files.names:
            for key, value in partition(name).items():
                self._found[key].look(pa.array([value], pa.string()))

    def typed(self, table: pa.Table) -> pa.Table:
        """The table with these columns in their types."""
        for name in self.names:
            i = table.schema.get_field_index(name)
            if table.schema.field(i).type == pa.string():
                kind = self._found[name].type(0)
                text = table.column(i).combine_chunks()
                table = table.set_column(i, name, array_of(text, Reading(kind, kind))[0])
        return table


class _Texts:
    """CSV and JSON lines: everything is text, or nearly so."""

    def __init__(self, files: _Files, rows: int, types: dict[str, str]) -> None:
        self.files, self.rows, self.types = files, rows, types
        self.settings = {**sniffed(files.paths, files.kind, files.asked), **files.asked}
        self.notes = list(files.notes)

    def survey(self) -> Survey:
        """Read them."""
        files = self.files
        if files.kind == "jsonl":
            from streamsketch_consumers.files.objects import objects_survey

            spread = Spread(self.rows)
            kinds, left_out = objects_survey(
                zip(files.names, files.paths, strict=True), self.settings, self.types, spread
            )
            table = spread.table(pa.schema(list(kinds.items())))
            return Survey(
                table, spread.seen, {**self.settings, "path": files.path}, left_out, self.notes
            )
        names, left_out = self._names()
        readings = dict.fromkeys(names, TEXT)
        delimiter = self.settings.get("delimiter", ",")
        spoken = dialects(delimiter)
        columns = {name: TextColumn(spoken) for name in names}
        spread, dead = Spread(self.rows), Counter[str]()
        for piece, _ in files.pieces(readings, self.settings):
            dead.update(d.reason for d in piece.dead)
            if piece.batch.num_rows:
                for name, column in columns.items():
                    column.look(piece.batch.column(name))
                spread.add(piece.batch)
        best = best_dialect(list(columns.values()), len(spoken))
        kinds = {name: column.type(best) for name, column in columns.items()}
        for name, text in self.types.items():
            kinds[_known(name, names)] = _asked(text)
        nulls = sorted({t for n, c in columns.items() if kinds[n] != pa.string() for t in c.texts})
        if nulls and "null_numbers" not in self.files.asked:
            self.settings["null_numbers"] = nulls
        dialect = Dialect(spoken[best].decimal, spoken[best].thousands, tuple(nulls))
        if dialect.decimal != ".":
            self.settings["decimal"] = dialect.decimal
        if dialect.thousands:
            self.settings["thousands"] = dialect.thousands
        self._say(columns, kinds)
        table = spread.table(pa.schema([(n, pa.string()) for n in names]))
        for i, name in enumerate(names):
            reading = Reading(kinds[name], kinds[name])
            array, bad = array_of(table.column(i).combine_chunks(), reading, dialect)
            if bad:
                self.notes.append(f"{len(bad)} values of {name!r} are not of type {kinds[name]}.")
            table = table.set_column(i, name, array)
        settings = {**self.settings, "path": files.path}
        return Survey(table, spread.seen + dead.total(), settings, left_out, self.notes)

    def _names(self) -> tuple[list[str], dict[str, str]]:
        """The columns of the headers, without those whose name occurs twice in one."""
        import csv
        import io

        names: dict[str, int] = {}
        for path in self.files.paths:
            with open_text(path, self.settings.get("encoding", "utf-8")) as stream:
                head = stream.read(1 << 20).decode("utf-8-sig", "replace")
            rows = csv.reader(io.StringIO(head, newline=""), delimiter=self._delimiter(path))
            header = next(rows, [])
            if header and header[0].lower().startswith("sep="):
                raise DataError(
                    f"{str(path)!r} begins with the line {head.splitlines()[0]!r}, which only Excel "
                    "reads; delete that line"
                )
            head_names = Counter(header)
            if names and set(names) != set(head_names):
                self.settings["missing"] = "null"
            for name, count in head_names.items():
                names[name] = max(names.get(name, 0), count)
        left_out = {n: f"{k} columns are named {n}; rename one" for n, k in names.items() if k > 1}
        folders = [n for n in self.files.partitions() if n not in names]
        return [n for n, k in names.items() if k == 1] + folders, left_out

    def _delimiter(self, path: Path) -> str:
        tab = ".tsv" in (s.lower() for s in path.suffixes[-2:])
        return str(self.settings.get("delimiter", "\t" if tab else ","))

    def _say(self, columns: Mapping[str, TextColumn], kinds: Mapping[str, pa.DataType]) -> None:
        for name, column in columns.items():
            if kinds[name] == pa.string() and column.texts and column.seen:
                self.notes.append(
                    f"{', '.join(sorted(column.texts))} in {name!r} is kept as text; --null "
                    f"{sorted(column.texts)[0]} reads it as missing everywhere."
                )


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the unified types."""
    arrays = []
    for column, kind in zip(batch.columns, schema.types, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        arrays.append(column if column.type == kind else column.cast(kind, safe=False))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ConfigError(
            f"There is no column {name!r} to give a type; columns are {', '.join(names)}."
        )
    return name


def _asked(text: str) -> pa.DataType:
    try:
        return arrow_type(text)
    except ValueError as e:
        raise ConfigError(str(e)) from None


def _typed_as(table: pa.Table, name: str, text: str) -> pa.Table:
    """A typed column in another type: numbers and text as times, numbers as other numbers."""
    from streamsketch.schema.times import casted, is_clock, is_time, read_as

    kind = _asked(text)
    i = table.schema.get_field_index(_known(name, table.column_names))
    values = table.column(i).combine_chunks()
    if is_time(kind) or is_clock(kind):
        found = read_as(values, kind)
        if found is None:
            raise ConfigError(f"Column {name!r} of type {values.type} cannot be read as {kind}.")
        values = casted(found[0], lambda part: part.cast(kind, safe=False), kind)[0]
    else:
        try:
            values = values.cast(kind)
        except pa.ArrowException as e:
            raise ConfigError(
                f"Column {name!r} of type {values.type} cannot be read as {kind} ({e})."
            ) from None
    return table.set_column(i, name, values)
