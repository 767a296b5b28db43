"""What files hold, before there is a schema: types that hold for every value, and an even sample."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch.errors import ConfigError, DataError
from streamsketch.schema.columns import arrow_type
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import Dialect, array_of
from streamsketch_consumers.files.every import EveryFile
from streamsketch_consumers.files.formats import FORMATS, Head, partition
from streamsketch_consumers.files.infer import TextColumn, best_dialect, dialects
from streamsketch_consumers.files.records import open_text
from streamsketch_consumers.files.sniff import sniffed
from streamsketch_consumers.files.unify import unified

__all__ = ["Survey", "survey"]

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
    files = EveryFile(path, dict(asked or {}))
    head = FORMATS[files.kind].head
    given = dict(types or {})
    reader = _Texts(files, rows, given) if head is None else _Columns(files, rows, given, head)
    found = reader.survey()
    if not found.table.num_columns:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise DataError(f"{path!r} has no column to sketch ({why or 'it has none at all'})")
    return found


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
    """Files of typed columns, but perhaps not all alike."""

    def __init__(self, files: EveryFile, rows: int, types: dict[str, str], head: Head) -> None:
        self.files, self.rows, self.types, self.head = files, rows, types, head

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
            return self.head(path)
        except (pa.ArrowException, OSError) as e:
            reason = str(e).splitlines()[0]
            raise DataError(f"Cannot read {str(path)!r} as {self.files.kind}: {reason}") from e


class _Folders:
    """Columns that folders stand for, typed by the values of all of them."""

    def __init__(self, files: EveryFile) -> None:
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

    def __init__(self, files: EveryFile, rows: int, types: dict[str, str]) -> None:
        self.files, self.rows, self.types = files, rows, types
        self.settings = {**sniffed(files.paths, files.kind, files.asked), **files.asked}
        self.notes = list(files.notes)

    def survey(self) -> Survey:
        """Read them."""
        files = self.files
        if files.kind == "jsonl":
            return self._objects()
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
        dialect = Dialect(spoken[best].decimal, spoken[best].thousands, tuple(nulls))
        self._set(dialect)
        self._say(columns, kinds)
        table = self._typed(
            spread.table(pa.schema([(n, pa.string()) for n in names])), kinds, dialect
        )
        settings = {**self.settings, "path": files.path}
        return Survey(table, spread.seen + dead.total(), settings, left_out, self.notes)

    def _objects(self) -> Survey:
        """JSON lines."""
        from streamsketch_consumers.files.objects import objects_survey

        files, spread = self.files, Spread(self.rows)
        named = zip(files.names, files.paths, strict=True)
        kinds, left_out = objects_survey(named, self.settings, self.types, spread)
        table = spread.table(pa.schema(list(kinds.items())))
        settings = {**self.settings, "path": files.path}
        return Survey(table, spread.seen, settings, left_out, self.notes)

    def _set(self, dialect: Dialect) -> None:
        """The keys of [source] that say how numbers are written, where it is not as usual."""
        if dialect.null_numbers and "null_numbers" not in self.files.asked:
            self.settings["null_numbers"] = list(dialect.null_numbers)
        if dialect.decimal != ".":
            self.settings["decimal"] = dialect.decimal
        if dialect.thousands:
            self.settings["thousands"] = dialect.thousands

    def _typed(
        self, table: pa.Table, kinds: Mapping[str, pa.DataType], dialect: Dialect
    ) -> pa.Table:
        """A table of texts in the types of its columns."""
        for i, name in enumerate(table.column_names):
            reading = Reading(kinds[name], kinds[name])
            array, bad = array_of(table.column(i).combine_chunks(), reading, dialect)
            if bad:
                self.notes.append(f"{len(bad)} values of {name!r} are not of type {kinds[name]}.")
            table = table.set_column(i, name, array)
        return table

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
            f"There is no column {name!r} to give a type; columns are {', '.join(names)}"
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
            raise ConfigError(f"Column {name!r} of type {values.type} cannot be read as {kind}")
        values = casted(found[0], lambda part: part.cast(kind, safe=False), kind)[0]
    else:
        try:
            values = values.cast(kind)
        except pa.ArrowException as e:
            raise ConfigError(
                f"Column {name!r} of type {values.type} cannot be read as {kind} ({e})"
            ) from None
    return table.set_column(i, name, values)
