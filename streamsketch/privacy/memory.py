"""How the past fades: what a release stands for, given the sums so far.

A memory is a value: `Landmark()`, `Decayed(0.99)`, `Tumbling()`, `Sliding(24)`. It says how panes (the
rows between two releases) are combined; what it holds of them is a frozen `Held`, handed from one
release to the next. Only decay leaves integer arithmetic, where panes are combined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.storage.files import Arrays

__all__ = [
    "MEMORIES",
    "Decayed",
    "Held",
    "Landmark",
    "Memory",
    "Sliding",
    "Tumbling",
    "make_memory",
]

Sum = NDArray[np.float64] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Held:
    """Sums and counts of the panes that a memory still tells apart, oldest first."""

    totals: tuple[Sum, ...] = ()
    counts: tuple[float, ...] = ()


class Memory(Protocol):
    """Combines panes."""

    @property
    def name(self) -> str:
        """The word that pipeline files use."""

    @property
    def text(self) -> str:
        """How pipeline files write it, its number behind a colon."""

    def after(self, held: Held, total: Sum, count: float) -> Held:
        """What is held after one more pane."""

    def value(self, held: Held) -> tuple[Sum, float]:
        """The sum and count that a release stands for; something is held."""

    def weights(self, n: int) -> NDArray[np.float64]:
        """What a release keeps of the n panes up to it: entry k is the weight of the pane k ago."""

    def packed(self, held: Held) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values to resume from."""

    def unpacked(self, arrays: Arrays, numbers: Mapping[str, Any]) -> Held:
        """What `packed` gave. Raises KeyError, TypeError or ValueError where it is no such thing."""


class _One:
    """A memory that holds one running sum."""

    def value(self, held: Held) -> tuple[Sum, float]:
        return held.totals[-1], float(held.counts[-1])

    def packed(self, held: Held) -> tuple[Arrays, dict[str, Any]]:
        if not held.totals:
            return {}, {"count": 0}
        return {"total": held.totals[0]}, {"count": held.counts[0]}

    def unpacked(self, arrays: Arrays, numbers: Mapping[str, Any]) -> Held:
        count = _number(numbers["count"])
        return Held((_sum(arrays["total"], 1),), (count,)) if "total" in arrays else Held()


@dataclass(frozen=True)
class Landmark(_One):
    """Everything since the beginning."""

    name = text = "landmark"

    def after(self, held: Held, total: Sum, count: float) -> Held:
        if not held.totals:
            return Held((total.copy(),), (count,))
        return Held((held.totals[0] + total,), (held.counts[0] + count,))

    def weights(self, n: int) -> NDArray[np.float64]:
        return np.ones(n)


@dataclass(frozen=True)
class Decayed(_One):
    """Each pane counts `keep` times as much as the next: value <- keep * value + pane."""

    keep: float = 0.9
    name = "decayed"

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ConfigError(
                f"memory decayed: keep = {self.keep} must be between 0 and 1 (exclusive)"
            )

    @property
    def text(self) -> str:
        return f"decayed:{self.keep}"

    def after(self, held: Held, total: Sum, count: float) -> Held:
        past = held.totals[0] if held.totals else np.zeros(total.shape)
        before = held.counts[0] if held.counts else 0.0
        return Held((self.keep * past + total,), (self.keep * before + count,))

    def weights(self, n: int) -> NDArray[np.float64]:
        return np.asarray(self.keep ** np.arange(n, dtype=np.float64))


@dataclass(frozen=True)
class Tumbling(_One):
    """Only the pane just closed."""

    name = text = "tumbling"

    def after(self, held: Held, total: Sum, count: float) -> Held:
        return Held((total,), (count,))

    def weights(self, n: int) -> NDArray[np.float64]:
        return (np.arange(n) < 1).astype(np.float64)

    def packed(self, held: Held) -> tuple[Arrays, dict[str, Any]]:
        return {}, {}

    def unpacked(self, arrays: Arrays, numbers: Mapping[str, Any]) -> Held:
        return Held()


@dataclass(frozen=True)
class Sliding:
    """The last `panes` panes."""

    panes: int = 10
    name = "sliding"

    def __post_init__(self) -> None:
        if isinstance(self.panes, bool) or not (isinstance(self.panes, int) and self.panes >= 1):
            raise ConfigError(
                f"memory sliding: panes = {self.panes} must be a whole number, at least 1"
            )

    @property
    def text(self) -> str:
        return f"sliding:{self.panes}"

    def after(self, held: Held, total: Sum, count: float) -> Held:
        totals = (*held.totals, total.copy())[-self.panes :]
        return Held(totals, (*held.counts, count)[-self.panes :])

    def value(self, held: Held) -> tuple[Sum, float]:
        return np.sum(held.totals, axis=0), float(sum(held.counts))

    def weights(self, n: int) -> NDArray[np.float64]:
        return (np.arange(n) < self.panes).astype(np.float64)

    def packed(self, held: Held) -> tuple[Arrays, dict[str, Any]]:
        totals: Arrays = {"totals": np.stack(held.totals)} if held.totals else {}
        return totals, {"counts": list(held.counts)}

    def unpacked(self, arrays: Arrays, numbers: Mapping[str, Any]) -> Held:
        counts = tuple(_number(count) for count in numbers["counts"])
        totals = tuple(_sum(arrays["totals"], 2)) if "totals" in arrays else ()
        if len(totals) != len(counts) or len(counts) > self.panes:
            raise ValueError(f"{len(totals)} panes and {len(counts)} counts are held")
        return Held(totals, counts)


MEMORIES: dict[str, type[Landmark | Decayed | Tumbling | Sliding]] = {
    "landmark": Landmark,
    "decayed": Decayed,
    "tumbling": Tumbling,
    "sliding": Sliding,
}


def make_memory(memory: str | Memory) -> Memory:
    """The memory that a text names, with its number behind a colon.

    Raises:
        ConfigError: Unknown name or a number out of range.

    >>> make_memory("decayed:0.5")
    Decayed(keep=0.5)
    >>> make_memory("sliding:3").text
    'sliding:3'
    """
    if not isinstance(memory, str):
        return memory
    name, _, number = memory.partition(":")
    if name not in MEMORIES:
        raise ConfigError(
            f"memory = {memory!r} is unknown; choose landmark, decayed:KEEP, tumbling or sliding:PANES"
        )
    if not number:
        return MEMORIES[name]()
    try:
        if name == "decayed":
            return Decayed(float(number))
        if name == "sliding":
            return Sliding(int(number))
    except (TypeError, ValueError):
        raise ConfigError(f"memory = {memory!r}: {number!r} is not a number it takes") from None
    raise ConfigError(f"memory = {memory!r}: {name} takes no number")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"a held count is {value!r}")
    return value


def _sum(array: NDArray[Any], dimensions: int) -> Sum:
    if array.ndim != dimensions or array.dtype not in (np.int64, np.float64):
        raise ValueError(f"a held sum is {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a held sum holds values that are not finite")
    return array
