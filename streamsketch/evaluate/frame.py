"""Tables of any column types as comparable numbers: the form that every metric here works on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import DataError
from streamsketch.schema.times import casted, from_text, is_clock, is_time, seconds_of

MAX_CATEGORIES = 200
"""Categories kept apart in one column; the rarer share one code (boosting takes at most 255)."""

NULL = "(null)"
OTHER = "(other)"


@dataclass(frozen=True)
class Frame:
    """Columns as numbers.

    Attributes:
        names: column names, `c` of them.
        values: (n, c) float64. A number, or the code of a category. A null number is NaN, a null
            category has a code of its own.
        categories: for each column the names of its codes, or None where the column is a number.
        times: columns that are points in time, in microseconds since 1970.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    categories: tuple[tuple[str, ...] | None, ...]
    times: frozenset[str] = frozenset()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.values.shape[0])

    @property
    def is_category(self) -> NDArray[np.bool_]:
        """(c,) True where the column holds codes."""
        return np.array([c is not None for c in self.categories], dtype=bool)

    def take(self, rows: NDArray[np.intp]) -> "Frame":
        """The given rows, in the given order."""
        return replace(self, values=self.values[rows])

    def columns(self, chosen: NDArray[np.bool_]) -> "Frame":
        """The chosen columns."""
        pick = np.flatnonzero(chosen)
        names = tuple(self.names[j] for j in pick)
        kinds = tuple(self.categories[j] for j in pick)
        return Frame(names, self.values[:, pick], kinds, self.times & set(names))

    def sample(self, count: int, rng: np.random.Generator) -> "Frame":
        """At most `count` rows without replacement, in order; all of them if there are no more."""
        if self.rows <= count:
            return self
        return self.take(np.sort(rng.choice(self.rows, count, replace=False)))

    def shuffled(self, rng: np.random.Generator) -> "Frame":
        """Each column permuted on its own: same marginals, no dependence. The floor to beat."""
        columns = [rng.permutation(column) for column in self.values.T]
        return replace(self, values=np.stack(columns, axis=1))


Data: TypeAlias = "pa.Table | pa.RecordBatch | NDArray[Any] | Frame"


def frames(*data: "Data", categorical: Collection[str] = ()) -> tuple[Frame, ...]:
    """Bring tables or arrays to frames that share names, order and category codes.

    Strings, booleans and dictionaries are categories, numbers and times are numbers; a
    fixed-size list (an image) becomes one column for each element.

    Args:
        data: Arrow tables, or arrays (n, d) or (n,). The first one names the columns.
        categorical: names of numeric columns to treat as categories, such as a label 0..9.

    Raises:
        DataError: a column is missing from one of them, or has a type that cannot be compared.

    >>> a, b = frames(pa.table({"c": ["x", "y"]}), pa.table({"c": ["y", None]}))
    >>> a.values.T.tolist(), b.values.T.tolist(), a.categories
    ([[1.0, 0.0]], [[0.0, 2.0]], (('y', 'x', '(null)'),))
    """
    if all(isinstance(item, Frame) for item in data):
        return tuple(item for item in data if isinstance(item, Frame))
    tables = [_table(item) for item in data]
    names = tables[0].column_names
    for table in tables[1:]:
        missing = [name for name in names if name not in table.column_names]
        if missing:
            msg = (
                f"Column {missing[0]!r} of the first table is missing from another one, which has "
                f"{table.column_names}; compare tables with the same columns"
            )
            raise DataError(msg)
    coded = [_codes(name, [t.column(name) for t in tables], name in categorical) for name in names]
    categories = tuple(entry[1] for entry in coded)
    times = frozenset(n for n in names if is_time(tables[0].schema.field(n).type))
    return tuple(
        Frame(
            tuple(names),
            np.stack([entry[0][i] for entry in coded], axis=1)
            if coded
            else np.empty((table.num_rows, 0)),
            categories,
            times,
        )
        for i, table in enumerate(tables)
    )


def _table(data: "Data") -> pa.Table:
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return _flat(data)
    if isinstance(data, Frame):
        msg = "Give either frames only or tables only; frames share codes made for each other"
        raise DataError(msg)
    array = np.asarray(data)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        msg = f"An array of shape {array.shape} is not a table; give one of shape (n, d)"
        raise DataError(msg)
    return pa.table({f"x{j}": np.ascontiguousarray(array[:, j]) for j in range(array.shape[1])})


def _flat(table: pa.Table) -> pa.Table:
    """Replace each fixed-size list by one column for each of its elements."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_fixed_size_list(column.type):
            size = column.type.list_size
            flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            values = flat.reshape(-1, size)
            columns.update({f"{name}[{j}]": values[:, j] for j in range(size)})
        else:
            columns[name] = column
    return pa.table(columns)


def _codes(
    name: str, columns: Sequence[pa.ChunkedArray], categorical: bool
) -> tuple[list[NDArray[np.float64]], tuple[str, ...] | None]:
    columns = [_plain(column) for column in columns]
    if any(_is_text(c.type) for c in columns) and not all(_is_text(c.type) for c in columns):
        columns = _read_alike(columns)
    kinds = [c.type for c in columns]
    if categorical or any(pa.types.is_boolean(kind) or _is_text(kind) for kind in kinds):
        return _category_codes(columns)
    return [_numbers(name, column) for column in columns], None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _read_alike(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Text beside numbers or times, read as these are: a file of text has no types of its own."""
    other = next(c.type for c in columns if not _is_text(c.type))
    read = []
    for column in columns:
        if _is_text(column.type):
            text = column.combine_chunks()
            if is_time(other) or is_clock(other):
                kind = pa.timestamp("us") if is_time(other) else other
                found, bad = from_text(text, kind)
            elif pa.types.is_boolean(other):
                found, bad = casted(pc.utf8_lower(text), lambda part: part.cast(pa.bool_()))
            else:
                found, bad = casted(text, lambda part: part.cast(pa.float64()))
            if bad.any():
                return [c.cast(pa.string()) for c in columns]
            column = pa.chunked_array([found])
        read.append(column)
    return read


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _numbers(name: str, column: pa.ChunkedArray) -> NDArray[np.float64]:
    kind = column.type
    try:
        if is_time(kind) or is_clock(kind):
            seconds, missing = seconds_of(column.combine_chunks())
            micro = np.round(seconds * 1e6)
            return micro if missing is None else np.where(missing, np.nan, micro)
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException as error:
        msg = f"Column {name!r} has the type {kind}, which no metric here compares; drop it first"
        raise DataError(msg) from error
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _same_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_temporal(column.type):
        return column
    return column.cast(pa.float64(), safe=False)


def _category_codes(
    columns: Sequence[pa.ChunkedArray],
) -> tuple[list[NDArray[np.float64]], tuple[str, ...]]:
    if not any(_is_text(c.type) or pa.types.is_boolean(c.type) for c in columns):
        columns = [_same_numbers(column) for column in columns]  # 1, 1.0 and 1.00 are one category
    texts = [pc.fill_null(column.cast(pa.string()), NULL) for column in columns]
    counts: dict[str, int] = {}
    for text in texts:
        for entry in pc.value_counts(text.combine_chunks()).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    # By frequency, names breaking ties: the codes do not depend on the order of rows.
    ranked = sorted(counts, key=lambda value: (value == NULL, -counts[value], value))
    kept = ranked[:MAX_CATEGORIES]
    vocabulary = pa.array(kept, pa.string())
    codes = [
        np.asarray(
            pc.fill_null(pc.index_in(text, value_set=vocabulary), len(kept)).to_numpy(),
            dtype=np.float64,
        )
        for text in texts
    ]
    return codes, tuple(kept) if len(kept) == len(ranked) else (*kept, OTHER)
