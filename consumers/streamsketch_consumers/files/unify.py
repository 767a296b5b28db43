"""One type for each column of files that are not all alike."""

from collections.abc import Sequence

import pyarrow as pa

from streamsketch.errors import DataError
from streamsketch.schema.times import is_clock, is_time

__all__ = ["unified"]


def unified(
    schemas: Sequence[pa.Schema], names: Sequence[str]
) -> tuple[dict[str, pa.DataType], dict[str, str]]:
    """Types that hold every file's values, and why a column has none.

    Args:
        schemas: One of each file.
        names: The files' names, for errors.

    Raises:
        DataError: Two files have types of one column that have nothing in common.
    """
    kinds: dict[str, pa.DataType] = {}
    left_out: dict[str, str] = {}
    for schema, file in zip(schemas, names, strict=True):
        for field in schema:
            name, kind = field.name, _plain(field.type)
            if schema.names.count(name) > 1:
                left_out[name] = f"{schema.names.count(name)} columns are named {name}; rename one"
            elif kind is None:
                left_out.setdefault(name, f"values of type {field.type} cannot be sketched")
            elif name not in kinds:
                kinds[name] = kind
            else:
                both = _common(kinds[name], kind)
                if both is None:
                    raise DataError(
                        f"column {name!r} is of type {kinds[name]}, but of type {kind} in file {file!r}; "
                        "bring the files to one type, or read them apart"
                    )
                kinds[name] = both
    return {n: k for n, k in kinds.items() if n not in left_out}, left_out


def _plain(kind: pa.DataType) -> pa.DataType | None:
    """The type that values are looked at in; None where nothing can be made of them."""
    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        kind = kind.value_type
    if is_.is_string_view(kind):
        return pa.string()
    lists = is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind)
    inner = kind.value_type if lists else kind
    numbers = is_.is_integer(inner) or is_.is_floating(inner)
    if lists:
        return kind if numbers else None
    simple = is_.is_boolean(kind) or is_.is_decimal(kind) or is_.is_null(kind)
    text = is_.is_string(kind) or is_.is_large_string(kind)
    return kind if numbers or simple or text or is_time(kind) or is_clock(kind) else None


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both."""
    is_ = pa.types
    if a == b or is_.is_null(b):
        return a
    if is_.is_null(a):
        return b
    whole = is_.is_integer(a) and is_.is_integer(b)
    if whole:
        return pa.int64()
    if all(is_.is_integer(k) or is_.is_floating(k) or is_.is_decimal(k) for k in (a, b)):
        return pa.float64()
    if is_time(a) and is_time(b):
        zone = getattr(a, "tz", None) or getattr(b, "tz", None)
        return pa.timestamp("us", tz=zone)
    if is_.is_duration(a) and is_.is_duration(b):
        return pa.duration("us")
    if is_.is_time(a) and is_.is_time(b):
        return pa.time64("us")
    if all(is_.is_string(k) or is_.is_large_string(k) for k in (a, b)):
        return pa.large_string()
    return None
