"""What each user may add to a stream, kept with the stream's state."""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.ingest.parts import State
from streamsketch.privacy.clipping import UserLimits

__all__ = ["Limits", "NoLimits", "SavedLimits"]


class Limits(Protocol):
    """Which rows the users' limits leave."""

    def begin(self) -> None:
        """Take up what was saved."""
        ...

    def admit(self, users: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows may count; `users` is the user of every row of the batch."""
        ...

    def save(self) -> None:
        """Write down what users have added; before the sums are saved."""
        ...

    def released(self) -> None:
        """A release was made: users have another window before them."""
        ...


class NoLimits:
    """Everybody may add everything."""

    def begin(self) -> None:
        """Nothing was saved."""

    def admit(self, users: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(len(rows), bool)

    def save(self) -> None:
        """Nothing to save."""

    def released(self) -> None:
        """Nothing changes."""


class SavedLimits:
    """A user's rows are counted by the releases that they go into, across restarts.

    They are saved before the sums: a crash in between drops rows of users, never adds too many.

    Args:
        users: The limits.
        state: Where they are kept, and the releases counted.
    """

    def __init__(self, users: UserLimits, state: State) -> None:
        self.users, self.state = users, state
        self.window = 0

    def begin(self) -> None:
        """Take up what was saved."""
        self.state.load_limits(self.users)
        self.window = self.state.released()

    def admit(self, users: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows the limits leave; it is remembered that they came."""
        return self.users.admit(users.take(pa.array(rows)), self.window)

    def save(self) -> None:
        """Write down what users have added."""
        self.state.save_limits(self.users)

    def released(self) -> None:
        """The next rows go into the next release."""
        self.window = self.state.released()
