"""A first schema, read off a table. What it declares comes from the data: review it."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import SchemaError
from streamsketch.schema.columns import Column, arrow_type

__all__ = ["propose"]

MAX_CATEGORIES = 256  # beyond this a text column is an identifier, not a category
MAX_INTEGER_CATEGORIES = 32
ATOM_SHARE = 0.05  # a value this frequent in a numeric column is a point mass
QUANTILES = 32


def propose(table: pa.Table, label: str | None = None) -> list[Column]:
    """Columns with bounds, knots, atoms and categories read off `table`.

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
    columns = []
    for field in table.schema:
        values = table[field.name].combine_chunks()
        values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        columns.append(_column(field.name, values, field.name == label))
    return columns


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
    atoms = distinct[counts > ATOM_SHARE * len(x)] if len(distinct) > QUANTILES else distinct[:0]
    rest = x[~np.isin(x, atoms)]
    knots, positions = _knots(rest, low, high)
    number: Any = int if pa.types.is_integer(values.type) else float
    resolution = (
        0.0 if number is int else next((r for r in (1.0, 0.1, 0.01) if _on_grid(x, r)), 0.0)
    )
    return Column(
        name, "numeric", str(values.type), low=number(low), high=number(high), knots=knots,
        positions=positions, atoms=tuple(number(a) for a in atoms), nulls=nulls,
        resolution=resolution,
    )  # fmt: skip


def _knots(
    x: NDArray[np.float64], low: float, high: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Quantile knots that spread the values evenly over [-1, 1]; none for few distinct values."""
    if len(np.unique(x)) < 4:
        return (), ()
    share = np.linspace(0, 1, QUANTILES + 1)
    knots = np.quantile(x, share)
    knots[0], knots[-1] = low, high
    # tied quantiles are one knot, at the middle of the shares they span
    values, first, count = np.unique(knots, return_index=True, return_counts=True)
    middle = 2 * (share[first] + share[first + count - 1]) / 2 - 1
    middle[0], middle[-1] = -1.0, 1.0
    if len(values) < 3:
        return (), ()
    return tuple(float(v) for v in values), tuple(round(float(p), 6) for p in middle)


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
