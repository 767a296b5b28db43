"""A first schema, read off a table. What it declares comes from the data: review it."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import SchemaError
from streamsketch.schema.columns import Column, arrow_type
from streamsketch.schema.dependencies import with_derived
from streamsketch.schema.propose_numbers import numeric
from streamsketch.schema.propose_times import timestamp
from streamsketch.schema.times import casted, is_clock, is_time

__all__ = ["Proposal", "propose", "proposal"]

MAX_CATEGORIES = 256  # a column of more keeps the most frequent, and one for the rest
MAX_TAIL = 4096  # values of a category, listed; a column of more names things
MAX_INTEGER_CATEGORIES = 32
EXACT = 2**53  # whole numbers beyond are no longer told apart by their float64


@dataclass(frozen=True)
class Proposal:
    """Columns read off a table, and what a person should know of them.

    Attributes:
        columns: The declarations, in the table's order.
        left_out: Why a column is not sketched, by name.
        notes: Sentences about rows and values that the columns do not hold.
    """

    columns: list[Column]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def propose(table: pa.Table, label: str | None = None) -> list[Column]:
    """Columns with bounds, knots, atoms, categories and dependencies read off `table`.

    Raises:
        SchemaError: The table is empty, or has no column `label`.
    """
    return proposal(table, label).columns


def proposal(
    table: pa.Table,
    label: str | None = None,
    ids: Collection[str] = (),
    ignored: Collection[str] = (),
) -> Proposal:
    """As `propose`, with the reasons for what is left out.

    Args:
        table: What to read the columns off.
        label: The column to condition on.
        ids: Columns that name a record or a thing: not sketched.
        ignored: Columns to leave out.

    Raises:
        SchemaError: The table is empty, has no such column, or a label of too many values.
    """
    if table.num_rows == 0:
        raise SchemaError(
            "cannot propose a schema from a table without rows; give a file that has some"
        )
    names = table.column_names
    for name in (*([label] if label is not None else ()), *ids, *ignored):
        if name not in names:
            what = "to be the label" if name == label else "to leave out"
            raise SchemaError(f"there is no column {name!r} {what}; columns are {names}")
    found = Proposal([])
    values: dict[str, pa.Array] = {}
    for i, name in enumerate(names):
        if name in values:
            continue
        values[name] = _plain(table.column(i))
        asked = {
            f"{names.count(name)} columns are named {name}; rename one": names.count(name) > 1,
            "an identifier, as you said": name in ids,
            "as you said": name in ignored,
        }
        reason = next((text for text, holds in asked.items() if holds), None)
        made = reason or _column(name, values[name], name == label, found.notes)
        if isinstance(made, str):
            if name == label:
                raise SchemaError(f"column {name!r} cannot be the label: {made}")
            found.left_out[name] = made
            made = Column(name, "ignore", _declared(values[name].type))
        found.columns.append(made)
    if not any(c.encoded for c in found.columns):
        why = "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items())
        raise SchemaError(f"there is no column to sketch ({why})")
    return replace(found, columns=with_derived(found.columns, values))


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array of a type that compute functions know; text that is not UTF-8 is null."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
        kind = values.type
    if pa.types.is_run_end_encoded(kind):
        values = pc.run_end_decode(values)
        kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        large = pa.types.is_large_string(kind)
        text, raw = (pa.large_string(), pa.large_binary()) if large else (pa.string(), pa.binary())
        values, _ = casted(values, lambda part: part.cast(raw).cast(text), text)
    return values


def _declared(kind: pa.DataType) -> str:
    """The type as a schema can name it; of what it cannot, any."""
    try:
        arrow_type(str(kind))
    except ValueError:
        return "string"
    return str(kind)


def _column(name: str, values: pa.Array, label: bool, notes: list[str]) -> Column | str:
    """The declaration of a column, or why it has none."""
    kind = values.type
    if values.null_count == len(values):
        return "it holds no value"
    if label:
        return _category(name, values, "label")
    if pa.types.is_boolean(kind):
        return Column(name, "boolean", "bool", nulls="category" if values.null_count else "refuse")
    if is_time(kind):
        return timestamp(name, values, notes)
    if is_clock(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return numeric(name, values, notes)
    if pa.types.is_integer(kind):
        return _integer(name, values, notes)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _category(name, values, "categorical")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _vector(name, values, notes)
    return f"values of type {kind} cannot be sketched"


def _integer(name: str, values: pa.Array, notes: list[str]) -> Column | str:
    distinct = pc.count_distinct(values, mode="only_valid").as_py()
    if distinct <= MAX_INTEGER_CATEGORIES:
        return _category(name, values, "categorical")
    least, most = pc.min_max(values).as_py().values()
    if max(abs(least), abs(most)) > EXACT:
        if distinct <= MAX_CATEGORIES:
            return _category(name, values, "categorical")
        return (
            f"whole numbers up to {most} are beyond 2^53, where numbers can no longer be told apart; "
            "identifiers mostly, or times to be declared with their unit"
        )
    if distinct == len(values) >= 100 and most - least < 2 * distinct and _steps_on(values):
        return "a sequential number: it names the row"
    return numeric(name, values, notes)


def _steps_on(values: pa.Array) -> bool:
    steps = np.diff(values.to_numpy(zero_copy_only=False))
    return bool((steps > 0).all() or (steps < 0).all())


def _category(name: str, values: pa.Array, kind: str) -> Column | str:
    counts = pc.value_counts(values.drop_null())
    found, often = counts.field(0), counts.field(1).to_numpy()
    if pa.types.is_floating(found.type):
        finite = np.isfinite(found.to_numpy(zero_copy_only=False))
        found, often = found.filter(pa.array(finite)), often[finite]
    n = len(found)
    limit = MAX_TAIL if kind == "label" else MAX_CATEGORIES
    # a text column where most values occur once names things; it has no categories to learn
    if kind != "label" and n > 32 and n > len(values) / 2:
        return "most values occur once: an identifier, or free text"
    if n > MAX_TAIL or n > len(values) / 2 > limit:
        return f"it has {n} different values, more than the {MAX_TAIL} that can be listed"
    nulls = "category" if values.null_count else "refuse"
    listed = _listed(found)
    if n <= limit:
        return Column(name, kind, _declared(values.type), values=_ordered(listed), nulls=nulls)
    rank = np.argsort(-often, kind="stable")
    head = [listed[i] for i in rank[: MAX_CATEGORIES - 1]]
    other = next(text for text in ("other", "(other)", "((other))") if text not in listed)
    return Column(
        name, kind, _declared(values.type), values=(*_ordered(head), other), nulls=nulls,
        other=other, tail=_ordered([listed[i] for i in rank[MAX_CATEGORIES - 1 :]]),
    )  # fmt: skip


def _listed(values: pa.Array) -> list[object]:
    """Categories as TOML can hold them: times, decimals and other things as text."""
    return [v if isinstance(v, bool | int | float | str) else str(v) for v in values.to_pylist()]


def _ordered(values: list[object]) -> tuple[object, ...]:
    numbers = all(isinstance(v, int | float) for v in values)
    return tuple(sorted(values, key=(lambda v: v) if numbers else str))


def _vector(name: str, values: pa.Array, notes: list[str]) -> Column | str:
    inner = values.type.value_type
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        return f"values of type {values.type} cannot be sketched"
    if pa.types.is_fixed_size_list(values.type):
        size = values.type.list_size
    else:
        sizes = pc.list_value_length(values).drop_null().unique()
        if len(sizes) != 1 or not sizes[0].as_py():
            return "its lists are of different lengths"
        size = sizes[0].as_py()
    inside = values.drop_null().flatten()
    flat: NDArray[np.float64] = inside.to_numpy(zero_copy_only=False).astype(np.float64)
    whole = np.isfinite(flat).reshape(-1, size).all(axis=1)
    if values.null_count or not whole.all():
        holes = values.null_count + int((~whole).sum())
        notes.append(f"{holes} lists of {name!r} lack a number; their rows will be refused.")
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return "it holds no number"
    low, high = float(flat.min()), float(flat.max())
    return Column(
        name, "vector", f"fixed_size_list<{inner}>[{size}]", low=low,
        high=high if high > low else low + max(1.0, abs(low) * 2**-20),
    )  # fmt: skip
