"""Record ids seen lately: which rows came before."""

import hashlib
from collections import OrderedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.schema.plain import plain_list

__all__ = ["RecentIds"]

BYTES = 16  # of an id's hash: two of 10^12 ids share one with probability 1.5e-15


class RecentIds:
    """The last `capacity` different ids of one part, by a 128-bit hash; the least lately seen go first.

    An id that comes again before `capacity` other ids have come is always known. An id that never
    came is known only if its hash is another's: for n ids, with probability below n^2 / 2^129.

    Args:
        capacity: How many ids are kept.
        hashes: (n, 16) uint8, a saved state, the least lately seen first.

    >>> ids = RecentIds(2)
    >>> ids.add(b"a"); ids.add(b"b"); ids.known(b"a"); ids.add(b"c"); ids.known(b"b")
    True
    False
    """

    def __init__(self, capacity: int, hashes: NDArray[np.uint8] | None = None) -> None:
        self.capacity = capacity
        self._ids: OrderedDict[bytes, None] = OrderedDict()
        if hashes is not None:
            whole = np.ascontiguousarray(hashes[-capacity:]).tobytes()
            self._ids.update((whole[i : i + BYTES], None) for i in range(0, len(whole), BYTES))

    def __len__(self) -> int:
        return len(self._ids)

    def known(self, key: bytes) -> bool:
        """Whether an id is kept; then it is now the one seen last."""
        if key not in self._ids:
            return False
        self._ids.move_to_end(key)
        return True

    def add(self, key: bytes) -> None:
        """Keep an id that is not known."""
        self._ids[key] = None
        if len(self._ids) > self.capacity:
            self._ids.popitem(last=False)

    def hashes(self) -> NDArray[np.uint8]:
        """(n, 16) uint8, the least lately seen first."""
        return np.frombuffer(b"".join(self._ids), np.uint8).reshape(-1, BYTES)


def keys(ids: pa.Array) -> list[bytes]:
    """The 128-bit hash of each id, none of them null; equal text and number differ.

    >>> keys(pa.array([1]))[0] == keys(pa.array(["1"]))[0]
    False
    """
    return [
        hashlib.blake2b(repr(value).encode(), digest_size=BYTES).digest()
        for value in plain_list(ids)
    ]
