"""What one row, and one user, may contribute to a sum.

A row's features have norm ``sqrt(m)`` whatever finite numbers it holds, so the sensitivity of a
sum does not come from the size of the values. The schema's bounds limit *values*: they keep outliers
from wrapping around in the features, and do nothing for the sensitivity. `UserLimits` limits how
often a *user* contributes: without it a promise about users is empty.

Rows that are not finite never get here: the schema sets them apart.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError, StoreError
from streamsketch.schema.plain import plain_list

if TYPE_CHECKING:
    from streamsketch.privacy.settings import Settings

__all__ = ["UserLimits", "user_limits"]


@dataclass
class _Table:
    """Users seen, sorted by key: key, windows used, last window, rows in the last window."""

    key: NDArray[np.uint64]
    used: NDArray[np.int64]
    last: NDArray[np.int64]
    rows: NDArray[np.int64]


class UserLimits:
    """Bounds what each user adds: so many rows per window, windows, and windows apart.

    Exact while at most `capacity` different users have appeared, one 32-byte record each. Rows
    of further users are dropped. Users are known by a keyed 64-bit hash; two users that
    share one would share their limits, which only drops more.

    What that means for the promise: with at most `capacity` users in the stream it holds as
    stated. Beyond, one user's presence can also push one other user out of the table, and
    the promise is that for two units (rho times 4); plan the capacity for the whole stream.

    Args:
        windows: A user's rows lie in at most this many windows.
        separation: Those windows are at least this far apart.
        rows: At most this many rows of a user in one window.
        capacity: How many users are remembered.

    >>> limits = UserLimits(windows=1, rows=2)
    >>> limits.admit(pa.array(["ann", "bob", "ann", "ann"]), window=0).tolist()
    [True, True, True, False]
    >>> limits.admit(pa.array(["ann", "eve"]), window=1).tolist()
    [False, True]
    """

    def __init__(
        self, windows: int = 1, separation: int = 1, rows: int = 1, capacity: int = 1_000_000
    ) -> None:
        limits = {"windows": windows, "separation": separation, "rows": rows, "capacity": capacity}
        for name, value in limits.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"user limit {name} is {value!r}; it must be a whole number of at least 1"
                )
        self.windows, self.separation, self.rows = windows, separation, rows
        self.capacity = capacity
        self.dropped = 0
        self._secret = secrets.token_bytes(16)
        self._table = _empty()

    def admit(self, users: Any, window: int) -> NDArray[np.bool_]:
        """Which rows of a batch may enter the sum; remembers them.

        Args:
            users: (n,) user ids: an Arrow array or a sequence of strings, bytes or integers,
                none null.
            window: Number of the window that the rows will be released in; never smaller
                than before.

        Returns:
            (n,) bool. The rows left out are counted in `dropped` (exact: not for publication).

        Raises:
            DataError: If the window number goes backwards.
        """
        keys = self._hash(users)
        table = self._table
        if len(table.last) and window < int(table.last.max()):
            raise DataError(
                f"window {window} comes after window {int(table.last.max())}; windows must not go "
                "backwards: restore sums and user limits from the same state"
            )
        distinct, inverse = np.unique(keys, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        starts = np.searchsorted(inverse[order], np.arange(len(distinct)))
        rank = np.empty(len(keys), np.int64)
        rank[order] = np.arange(len(keys)) - starts[inverse[order]]
        first = order[starts]
        self._remember(distinct, first)
        at, known = self._find(distinct)
        table = self._table
        same = known & (table.last[at] == window)
        rested = (table.used[at] < self.windows) & (window - table.last[at] >= self.separation)
        allowed = np.where(
            same, self.rows - table.rows[at], np.where(known & rested, self.rows, 0)
        )
        admitted = np.asarray(rank < allowed[inverse])
        taken = np.bincount(inverse[admitted], minlength=len(distinct))
        entering = known & ~same & (taken > 0)
        table.used[at[entering]] += 1
        table.rows[at[entering]] = 0
        table.last[at[entering]] = window
        table.rows[at[taken > 0]] += taken[taken > 0]
        self.dropped += int(len(keys) - admitted.sum())
        return admitted

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values to resume from; secret, saved with the sums."""
        t = self._table
        body = {
            "limits": [self.windows, self.separation, self.rows, self.capacity],
            "secret": self._secret.hex(),
            "dropped": self.dropped,
        }
        return {"key": t.key, "used": t.used, "last": t.last, "rows": t.rows}, body

    def restore(self, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            StoreError: If it was made with other limits.
        """
        mine = [self.windows, self.separation, self.rows, self.capacity]
        if body.get("limits") != mine:
            raise StoreError(
                f"the saved user limits are {body.get('limits')} but the settings say {mine} "
                "(windows, separation, rows, capacity); a promise already given cannot be "
                "changed: set them back"
            )
        self._secret, self.dropped = bytes.fromhex(body["secret"]), int(body["dropped"])
        self._table = _Table(
            np.array(arrays["key"], np.uint64),
            *(np.array(arrays[name], np.int64) for name in ("used", "last", "rows")),
        )

    def _remember(self, distinct: NDArray[np.uint64], first: NDArray[np.int64]) -> None:
        """Give unknown users a place, in order of appearance, while there is room."""
        _, known = self._find(distinct)
        arriving = np.flatnonzero(~known)
        arriving = arriving[np.argsort(first[arriving])][: self.capacity - len(self._table.key)]
        if not len(arriving):
            return
        fresh = np.zeros(len(arriving), np.int64)
        t = self._table
        keys = np.concatenate([t.key, distinct[arriving]])
        by_key = np.argsort(keys)
        never = np.full(len(arriving), -(2**62))
        self._table = _Table(
            keys[by_key],
            np.concatenate([t.used, fresh])[by_key],
            np.concatenate([t.last, never])[by_key],
            np.concatenate([t.rows, fresh])[by_key],
        )

    def _find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        mine = self._table.key
        if not len(mine):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        at = np.minimum(np.searchsorted(mine, keys), len(mine) - 1)
        return at, mine[at] == keys

    def _hash(self, users: Any) -> NDArray[np.uint64]:
        array = users if isinstance(users, pa.Array) else pa.array(users)
        try:
            encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        except pa.ArrowException:  # a type that Arrow does not encode
            return self._digests(plain_list(array))
        return np.asarray(
            self._digests(plain_list(encoded.dictionary))[encoded.indices.to_numpy()]
        )

    def _digests(self, values: list[Any]) -> NDArray[np.uint64]:
        digests = (
            hashlib.blake2b(repr(value).encode(), digest_size=8, key=self._secret).digest()
            for value in values
        )
        return np.frombuffer(b"".join(digests), np.uint64)

    def __repr__(self) -> str:
        return (
            f"UserLimits(windows={self.windows}, separation={self.separation}, rows={self.rows})"
        )


def user_limits(settings: "Settings | None") -> UserLimits | None:
    """The limits that privacy settings declare; None unless the protected unit is a user."""
    if settings is None or settings.unit != "user":
        return None
    return UserLimits(settings.windows, settings.separation, settings.rows, settings.users)


def _empty() -> _Table:
    none = np.empty(0, np.int64)
    return _Table(np.empty(0, np.uint64), none, none.copy(), none.copy())
