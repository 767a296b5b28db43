"""How the past fades: what a release stands for, given the sums so far.

A memory is fed the exact sum and count of each pane (the rows between two releases) and gives
the value to release. Only decay leaves integer arithmetic, where panes are combined.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError

__all__ = ["MEMORIES", "Decayed", "Landmark", "Memory", "Sliding", "Tumbling", "make_memory"]

Sum = NDArray[np.float64] | NDArray[np.int64]


class Memory(Protocol):
    """Combines panes; all of its state is in `arrays` and `numbers`."""

    name: str

    def update(self, total: NDArray[np.int64], count: int) -> tuple[Sum, float]:
        """Add a pane; returns the sum and count that the memory now holds."""
        ...

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values to resume from."""
        ...

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        """Take up a saved state."""
        ...


@dataclass
class Landmark:
    """Everything since the beginning."""

    name: str = "landmark"
    total: NDArray[np.int64] | None = None
    count: int = 0

    def update(self, total: NDArray[np.int64], count: int) -> tuple[Sum, float]:
        self.total = total.copy() if self.total is None else self.total + total
        self.count += count
        return self.total, float(self.count)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return ({} if self.total is None else {"total": self.total}), {"count": self.count}

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        self.total, self.count = arrays.get("total"), numbers["count"]


@dataclass
class Decayed:
    """Each pane counts `keep` times as much as the next: value <- keep * value + pane."""

    keep: float = 0.9
    name: str = "decayed"
    total: NDArray[np.float64] | None = None
    count: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ConfigError(
                f"memory decayed: keep = {self.keep} must be between 0 and 1 (exclusive)"
            )

    def update(self, total: NDArray[np.int64], count: int) -> tuple[Sum, float]:
        past = np.zeros(total.shape) if self.total is None else self.total
        self.total = self.keep * past + total
        self.count = self.keep * self.count + count
        return self.total, self.count

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return ({} if self.total is None else {"total": self.total}), {"count": self.count}

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        self.total, self.count = arrays.get("total"), numbers["count"]


@dataclass
class Tumbling:
    """Only the pane just closed."""

    name: str = "tumbling"

    def update(self, total: NDArray[np.int64], count: int) -> tuple[Sum, float]:
        return total, float(count)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return {}, {}

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        return None


@dataclass
class Sliding:
    """The last `panes` panes."""

    panes: int = 10
    name: str = "sliding"
    totals: list[NDArray[np.int64]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (isinstance(self.panes, int) and self.panes >= 1):
            raise ConfigError(
                f"memory sliding: panes = {self.panes} must be a whole number, at least 1"
            )

    def update(self, total: NDArray[np.int64], count: int) -> tuple[Sum, float]:
        self.totals = [*self.totals, total.copy()][-self.panes :]
        self.counts = [*self.counts, count][-self.panes :]
        return np.sum(self.totals, axis=0), float(sum(self.counts))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return ({"totals": np.stack(self.totals)} if self.totals else {}), {"counts": self.counts}

    def restore(self, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None:
        self.totals = list(arrays.get("totals", ()))
        self.counts = list(numbers["counts"])


MEMORIES: dict[str, Callable[..., Memory]] = {
    "landmark": Landmark,
    "decayed": Decayed,
    "tumbling": Tumbling,
    "sliding": Sliding,
}


def make_memory(memory: str) -> Memory:
    """The memory that a text names, with its number behind a colon.

    Raises:
        ConfigError: Unknown name or a number out of range.

    >>> make_memory("decayed:0.5").update(np.array([4]), 2)
    (array([4.]), 2.0)
    >>> make_memory("sliding:3").panes
    3
    """
    name, _, number = memory.partition(":")
    if name not in MEMORIES:
        raise ConfigError(
            f"memory = {memory!r} is unknown; choose landmark, decayed:KEEP, tumbling or sliding:PANES"
        )
    if not number:
        return MEMORIES[name]()
    if name not in ("decayed", "sliding"):
        raise ConfigError(f"memory = {memory!r}: {name} takes no number")
    try:
        return MEMORIES[name](int(number) if name == "sliding" else float(number))
    except (TypeError, ValueError):
        raise ConfigError(f"memory = {memory!r}: {number!r} is not a number it takes") from None
