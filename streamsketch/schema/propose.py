"""A first schema, read off a table. What it declares comes from the data: review it."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import SchemaError
from streamsketch.schema.columns import Column, arrow_type
from streamsketch.schema.dependencies import with_derived

__all__ = ["propose"]

MAX_CATEGORIES = 256  # beyond this a text column is an identifier, not a category
MAX_INTEGER_CATEGORIES = 32
ATOM_SHARE = 0.05  # a value this frequent in a numeric column is a point mass
MANY = 32  # distinct values from which frequent ones are set apart as atoms
KNOTS = 64
LEVELS = 256  # up to so many distinct values each has a cell of its own


def propose(table: pa.Table, label: str | None = None) -> list[Column]:
    """Columns with bounds, knots, atoms, categories and dependencies read off `table`.

    Raises:
        SchemaError: The table is empty, or has no column `label`.
    """
    if table.num_rows == 0:
        raise SchemaError(
            "cannot propose a schema from a table without rows; give a file that has some"
        )
    if label is not None and label not in table.column_names:
        raise SchemaError(
            f"there is no column {label!r} to be the label; columns are {table.column_names}"
        )
    values = {name: _plain(table[name]) for name in table.column_names}
    columns = [_column(name, array, name == label) for name, array in values.items()]
    return with_derived(columns, values)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _column(name: str, values: pa.Array, label: bool) -> Column:
    kind = values.type
    try:
        arrow_type(str(kind))
    except ValueError:
        return Column(name, "ignore", "string")
    if label:
        return _category(name, values, "label") or Column(name, "ignore", str(kind))
    if values.null_count == len(values):
        return Column(name, "ignore", str(kind))
    if pa.types.is_boolean(kind):
        return Column(name, "boolean", "bool", nulls="category" if values.null_count else "refuse")
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _timestamp(name, values)
    if pa.types.is_fixed_size_list(kind):
        flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        return Column(
            name,
            "vector",
            str(kind),
            low=float(np.nanmin(flat)),
            high=_above(np.nanmin(flat), np.nanmax(flat)),
        )
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        distinct = pc.count_distinct(values).as_py()
        if pa.types.is_integer(kind) and distinct <= MAX_INTEGER_CATEGORIES:
            return _category(name, values, "categorical") or Column(name, "ignore", str(kind))
        return _numeric(name, values)
    return _category(name, values, "categorical") or Column(name, "ignore", str(kind))


def _category(name: str, values: pa.Array, kind: str) -> Column | None:
    counts = pc.value_counts(values.drop_null())
    # a text column where most values occur once names things; it has no categories to learn
    if len(counts) > MAX_CATEGORIES or (len(counts) > 32 and len(counts) > len(values) / 2):
        return None
    order = sorted(counts.to_pylist(), key=lambda c: str(c["values"]))
    if pa.types.is_integer(values.type):
        order = sorted(counts.to_pylist(), key=lambda c: int(c["values"]))
    nulls = "category" if values.null_count else "refuse"
    return Column(
        name, kind, str(values.type), values=tuple(c["values"] for c in order), nulls=nulls
    )


def _numeric(name: str, values: pa.Array) -> Column:
    nulls = "indicator" if values.null_count else "refuse"
    x = values.drop_null().cast(pa.float64()).to_numpy()
    x = np.sort(x[np.isfinite(x)])
    if not len(x):
        return Column(name, "ignore", str(values.type))
    low, high = float(x[0]), _above(x[0], x[-1])
    distinct, counts = np.unique(x, return_counts=True)
    atoms = distinct[counts > ATOM_SHARE * len(x)] if len(distinct) > MANY else distinct[:0]
    rest = x[~np.isin(x, atoms)]
    number: Any = int if pa.types.is_integer(values.type) else float
    resolution = (
        0.0 if number is int else next((r for r in (1.0, 0.1, 0.01) if _on_grid(x, r)), 0.0)
    )
    knots, positions = _knots(rest, low, high, atoms, 1.0 if number is int else resolution)
    return Column(
        name, "numeric", str(values.type), low=number(low), high=number(high), knots=knots,
        positions=positions, atoms=tuple(number(a) for a in atoms), nulls=nulls,
        resolution=resolution,
    )  # fmt: skip


def _knots(
    x: NDArray[np.float64], low: float, high: float, atoms: NDArray[np.float64], step: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots that spread the values evenly over [-1, 1]; none for few distinct values.

    Knots lie halfway between neighbouring values, at the share of values below: each value has
    a cell as wide as it is frequent, so that evenly spread coordinates decode to its frequency.
    Numbers on a grid decode to values that were there: the cells of two values with a gap between
    them end half a step beside them, and the gap (an atom in it or nothing) has no width.

    Args:
        x: Values without the atoms.
        low: Lower limit.
        high: Upper limit.
        atoms: The point masses.
        step: What values are rounded to when decoded; 0 for none.
    """
    values, counts = np.unique(x, return_counts=True)
    if len(values) < 4:
        return (), ()
    edges, share = (values[:-1] + values[1:]) / 2, np.cumsum(counts)[:-1] / len(x)
    between = np.searchsorted(atoms, values[1:]) > np.searchsorted(atoms, values[:-1])
    gap = (np.diff(values) > 1.5 * step) if step else np.zeros(len(edges), bool)
    pick = np.arange(len(edges))
    if len(values) > LEVELS:
        after = np.searchsorted(share, np.arange(1, KNOTS) / KNOTS)
        after = np.minimum(after, len(edges) - 1)
        frequent = after[np.diff(share, prepend=0.0)[after] > 0.5 / KNOTS]  # a cell of its own
        gap &= between | (gap.sum() <= LEVELS)
        pick = np.unique(np.concatenate([after, frequent - 1, np.flatnonzero(gap | between)]))
        pick = pick[pick >= 0]
    knots, positions = [low], [-1.0]
    for i in pick:
        ends = (values[i] + step / 2, values[i + 1] - step / 2) if gap[i] else (edges[i],)
        for k, edge in enumerate(ends):
            position = round(float(2 * share[i] - 1), 6) + k * 1e-6
            if knots[-1] < edge < high and positions[-1] < position < 1:
                knots.append(float(edge))
                positions.append(position)
    return (*knots, high), (*positions, 1.0)


def _timestamp(name: str, values: pa.Array) -> Column:
    seconds = (
        values.cast(pa.timestamp("us"), safe=False).drop_null().cast(pa.int64()).to_numpy() / 1e6
    )
    low, high = float(seconds.min()), float(seconds.max())
    span = max(high - low, 1.0)
    periods = [
        p
        for p, need in (("year", 2 * 31556952), ("week", 14 * 86400), ("day", 2 * 86400))
        if span >= need
    ]
    resolution = next(
        (r for r in (86400.0, 3600.0, 60.0, 1.0) if np.all(np.mod(seconds, r) == 0)), 1e-6
    )
    if resolution == 86400.0:
        periods = [p for p in periods if p != "day"]
    return Column(
        name, "timestamp", str(values.type), low=_iso(math.floor(low)), high=_iso(math.ceil(low + span)),
        periods=tuple(periods), resolution=resolution, nulls="indicator" if values.null_count else "refuse",
    )  # fmt: skip


def _iso(seconds: float) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None).isoformat()


def _on_grid(x: NDArray[np.float64], step: float) -> bool:
    return bool(np.all(np.abs(x / step - np.round(x / step)) < 1e-4))


def _above(low: Any, high: Any) -> float:
    return float(high) if high > low else float(low) + 1.0
