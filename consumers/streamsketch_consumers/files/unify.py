"""One type for each column of files that are not all alike."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pyarrow as pa

from streamsketch.errors import DataError
from streamsketch.schema.times import is_clock, is_time

__all__ = ["unified"]

Test: TypeAlias = Callable[[pa.DataType], bool]


def _any(tests: Sequence[Test]) -> Test:
    return lambda kind: any(fits(kind) for fits in tests)


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_SIMPLE = (
    *_NUMBERS, *_TEXTS, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null, is_time, is_clock
)  # fmt: skip
# types that both fit, and one that holds the values of both; the first that fits
_WIDE: tuple[tuple[Test, pa.DataType], ...] = (
    (pa.types.is_integer, pa.int64()),
    (_any((*_NUMBERS, pa.types.is_decimal)), pa.float64()),
    (pa.types.is_duration, pa.duration("us")),
    (pa.types.is_time, pa.time64("us")),
    (_any(_TEXTS), pa.large_string()),
)


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
    inner = kind.value_type if _any(_LISTS)(kind) else kind
    fits = _any(_NUMBERS) if inner is not kind else _any(_SIMPLE)
    return kind if fits(inner) else None


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both."""
    if a == b or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if is_time(a) and is_time(b):
        zone = getattr(a, "tz", None) or getattr(b, "tz", None)
        return pa.timestamp("us", tz=zone)
    return next((wide for fits, wide in _WIDE if fits(a) and fits(b)), None)
