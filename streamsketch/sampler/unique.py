"""Bounded-memory membership of rows issued, for output that is guaranteed not to repeat."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, SpecMismatchError

_PROBES = 13  # optimal for a false-positive rate of about 1e-4


class RowFilter:
    """A Bloom filter over rows: never misses a row it holds, so that "new" is a guarantee.

    A false positive refuses a row that was new, which costs the sampler one redraw. The memory is
    fixed by ``capacity``; beyond it the guarantee stays and the false-positive rate grows.

    Args:
        capacity: Rows for which the rate is 1e-4; about 19.2 bits each.
        bits: Content saved before, as bytes, or None for an empty filter.

    Raises:
        ConfigError: A capacity below 1.

    Examples:
        >>> rows = row_keys(pa.table({"a": [1, 2, 1]}))
        >>> RowFilter(100).add_new(rows).tolist()
        [True, True, False]
    """

    def __init__(self, capacity: int = 100_000, bits: NDArray[np.uint8] | None = None) -> None:
        if capacity < 1:
            raise ConfigError(f"RowFilter: capacity={capacity} must be at least 1 row")
        self.capacity = capacity
        size = 8 * int(np.ceil(19.2 * capacity / 64.0))
        self.bits = np.zeros(size, np.uint8) if bits is None else bits.astype(np.uint8)
        if self.bits.size != size:
            raise ConfigError(f"RowFilter: {self.bits.size} bytes do not fit capacity={capacity}")

    @property
    def false_positive_rate(self) -> float:
        """Chance that a new row is refused, from the share of bits set."""
        return float(np.bitwise_count(self.bits).sum() / (8 * self.bits.size)) ** _PROBES

    def holds(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which of the keys may have been added; False is certain."""
        return np.asarray(self._all_set(self._places(keys)), dtype=bool)

    def add_new(self, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Add keys in order; which of them were certainly new when their turn came."""
        new = np.empty(len(keys), dtype=bool)
        for i, places in enumerate(self._places(keys)):
            new[i] = not self._all_set(places)
            masks = np.left_shift(1, places & 7).astype(np.uint8)
            np.bitwise_or.at(self.bits, places >> 3, masks)  # two places may share a byte
        return new

    def merge(self, other: "RowFilter") -> "RowFilter":
        """The filter of both sets of rows.

        Raises:
            SpecMismatchError: The capacities differ.
        """
        if self.capacity != other.capacity:
            raise SpecMismatchError(
                f"row filters of capacity {self.capacity} and {other.capacity} cannot be merged; "
                "use one unique_capacity for all samplers of a stream"
            )
        return RowFilter(self.capacity, self.bits | other.bits)

    def copy(self) -> "RowFilter":
        """An independent filter of the same content."""
        return RowFilter(self.capacity, self.bits.copy())

    def _places(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Bit numbers of each key, ``(n, probes)``, by double hashing."""
        digests = b"".join(hashlib.blake2b(key, digest_size=16).digest() for key in keys)
        halves = np.frombuffer(digests, dtype="<u8").reshape(-1, 2)
        with np.errstate(over="ignore"):
            steps = np.arange(_PROBES, dtype=np.uint64) * (halves[:, 1:] | np.uint64(1))
            mixed = halves[:, :1] + steps
        return (mixed % np.uint64(8 * self.bits.size)).astype(np.int64)

    def _all_set(self, places: NDArray[np.int64]) -> Any:
        bits = self.bits[places >> 3] >> (places & 7).astype(np.uint8)
        return (bits & 1).all(axis=-1)


def row_keys(table: pa.Table) -> list[bytes]:
    """One key per decoded row: equal rows have equal keys, whatever the chunking.

    Examples:
        >>> a, b = row_keys(pa.table({"x": [1.5, 1.5], "y": ["u", "v"]}))
        >>> a == b
        False
    """
    parts = [_column_bytes(column) for column in table.itercolumns()]
    if not parts:
        return []
    joined = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return [row.tobytes() for row in joined]


def _column_bytes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """The values of a column as rows of 9 bytes: whether it is null, and 8 of its value."""
    n = len(column)
    out = np.zeros((n, 9), np.uint8)
    out[:, 0] = column.is_null().to_numpy()
    whole = column.combine_chunks()
    coded = whole.dictionary_encode()
    values = [
        hashlib.blake2b(repr(value).encode(), digest_size=8).digest()
        for value in coded.dictionary.to_pylist()
    ]
    table = np.frombuffer(b"".join(values), np.uint8).reshape(-1, 8)
    codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    if len(table):
        out[:, 1:] = table[codes]
    out[out[:, 0] == 1, 1:] = 0
    return out
