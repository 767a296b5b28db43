"""Arrow values as Python's, for whatever a stream may hold: these functions never fail.

Arrow holds more than Python does: times beyond the year 9999, zones that nobody knows, text that is
not UTF-8. `to_pylist` raises for those, and the row that is being refused or hashed is just the one
that has them.
"""

from typing import Any

import pyarrow as pa

__all__ = ["plain", "plain_list"]


def plain_list(values: pa.Array) -> list[Any]:
    """Python values of an array; where Python has none, a text that tells different ones apart.

    >>> plain_list(pa.array([0, 2**62], pa.timestamp("us")))[1]
    '4611686018427387904 timestamp[us]'
    """
    if pa.types.is_dictionary(values.type):
        try:
            values = values.dictionary_decode()
        except (pa.ArrowException, ValueError):
            return [plain(value) for value in values]
    try:
        return list(values.to_pylist())
    except Exception:  # whatever it is that Python cannot hold
        return [plain(value) for value in values]


def plain(value: pa.Scalar) -> Any:
    """The Python value of a scalar, or a text for it."""
    try:
        return value.as_py()
    except Exception:  # whatever it is that Python cannot hold
        return _described(value)


def _described(value: pa.Scalar) -> str:
    kind = value.type
    is_ = pa.types
    try:
        if is_.is_dictionary(kind):
            return str(plain(value.value))
        if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
            return bytes(value.as_buffer()).decode(errors="backslashreplace")
        if is_.is_temporal(kind):
            return f"{value.value} {kind}"
        if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
            return str(plain_list(value.values))
        if is_.is_struct(kind):
            return str({name: plain(value[i]) for i, name in enumerate(kind.names)})
    except Exception:  # the bytes of it remain
        pass
    return f"<{kind} {_bytes(value).hex()}>"


def _bytes(value: pa.Scalar) -> bytes:
    try:
        batch = pa.RecordBatch.from_arrays([pa.repeat(value, 1)], names=["value"])
        return bytes(batch.serialize())
    except Exception:  # not even these
        return b""
