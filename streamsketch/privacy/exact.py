"""Releases without a mechanism: exact sums, and every snapshot says so.

A releaser is a value that holds no state: `release` takes the state and gives back the next one. What
an exact and a private releaser share is here too: the stream that they release, and what is saved of it.
"""

import datetime as dt
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import StoreError
from streamsketch.features import FeatureMap, Map
from streamsketch.privacy.combine import provenance
from streamsketch.privacy.memory import Held, Memory, make_memory
from streamsketch.schema import Schema
from streamsketch.snapshot import Release, Snapshot
from streamsketch.storage.files import Arrays, parsing, vector, whole

__all__ = ["ExactReleaser", "ExactState", "Stream"]


@dataclass(frozen=True, eq=False)
class ExactState:
    """What a releaser keeps from one release to the next.

    Attributes:
        seen: (classes * width,) int64, the stream's sum at the last release.
        seen_count: Its rows.
        held: What the memory holds.
        origins: Random names of the streams whose rows it releases: two releases that share one may
            share rows.
        index: Number of the next release within its epoch.
        released: Releases made, over all epochs.
    """

    seen: NDArray[np.int64]
    seen_count: int = 0
    held: Held = Held()
    origins: tuple[str, ...] = ()
    index: int = 0
    released: int = 0

    def after(self, total: NDArray[np.int64], count: int, held: Held) -> Self:
        """The state after a release of a sum over `count` rows."""
        return replace(
            self,
            seen=total.copy(),
            seen_count=count,
            held=held,
            index=self.index + 1,
            released=self.released + 1,
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """What is released: the operator, the columns, the name, and what a release stands for."""

    features: Map
    schema: Schema
    name: str
    mechanism: str
    memory: Memory

    def start(self, origins: tuple[str, ...] = ()) -> ExactState:
        """Nothing was released."""
        width = self.features.spec.classes * self.features.width
        return ExactState(np.zeros(width, np.int64), origins=origins or (secrets.token_hex(8),))

    def snapshot(
        self, value: Any, weight: float, count: float, release: Release, span: Mapping[str, Any]
    ) -> Snapshot:
        """A snapshot of a sum (in units) over `weight` rows, that is said to be of `count` rows."""
        mean, cells = self.features.split(value, weight)
        omega = None
        if isinstance(self.features, FeatureMap) and self.features.spec.law == "explicit":
            omega = self.features.omega
        return Snapshot(
            mean,
            count,
            self.features.spec,
            self.schema,
            release,
            dict(span),
            omega,
            _now(),
            cells,
        )

    def notes(self, state: ExactState, epoch: int = 0) -> dict[str, Any]:
        """What a release says of where its rows come from."""
        return {"origins": provenance(state.origins, self.memory.text, epoch, state.index)}

    def packed(self, state: ExactState) -> tuple[Arrays, dict[str, Any]]:
        """A state as arrays and JSON values; secret."""
        arrays, numbers = self.memory.packed(state.held)
        named = {f"memory.{key}": array for key, array in arrays.items()} | {"seen": state.seen}
        return named, {
            **self._identity,
            "memory_state": numbers,
            "seen_count": state.seen_count,
            "index": state.index,
            "released": state.released,
            "origins": list(state.origins),
        }

    def check(self, body: Mapping[str, Any]) -> None:
        """Refuse a saved state of another operator, stream, mechanism or memory.

        Raises:
            StoreError: It is.
        """
        for key, mine in self._identity.items():
            found = body.get(key)
            if found == mine:
                continue
            if key == "memory" and isinstance(found, str) and make_memory(found) == self.memory:
                continue  # the same number, written otherwise
            raise StoreError(
                f"the saved release state has {key} = {found!r}, but the pipeline has "
                f"{mine!r}; use the pipeline that wrote it, or another store"
            )

    def unpacked(self, arrays: Arrays, body: dict[str, Any]) -> ExactState:
        """What `packed` gave.

        Raises:
            DamagedFileError: An array or a number is missing, or of a wrong type, shape or range.
        """
        start = self.start()
        with parsing("the saved release state"):
            own = {
                k.removeprefix("memory."): v for k, v in arrays.items() if k.startswith("memory.")
            }
            held = self.memory.unpacked(own, body["memory_state"])
            if any(total.shape != start.seen.shape for total in held.totals):
                raise ValueError("a held sum is not of the operator's width")
            index = whole(body, "index")
            return ExactState(
                vector(arrays, "seen", np.int64, len(start.seen)),
                whole({"seen_count": _row_count(body["seen_count"])}, "seen_count"),
                held,
                tuple(str(one) for one in body.get("origins") or start.origins),
                index,
                whole({"released": index, **body}, "released"),
            )

    @property
    def _identity(self) -> dict[str, str]:
        return {
            "fingerprint": self.features.spec.fingerprint,
            "stream": self.name,
            "mechanism": self.mechanism,
            "memory": self.memory.text,
        }


@dataclass(frozen=True, eq=False)
class ExactReleaser:
    """Releases sums as they are."""

    stream: Stream

    def start(self, origins: tuple[str, ...] = ()) -> ExactState:
        """Nothing was released."""
        return self.stream.start(origins)

    def release(
        self, state: ExactState, total: NDArray[np.int64], count: int, span: Mapping[str, Any]
    ) -> tuple[Snapshot, ExactState]:
        """The snapshot of a sum since the beginning, and the next state."""
        stream = self.stream
        pane = (total - state.seen) * stream.features.units
        held = stream.memory.after(state.held, pane, count - state.seen_count)
        value, weight = stream.memory.value(held)
        text = stream.memory.text
        release = Release("none", text, state.index, 0, stream.name, notes=stream.notes(state))
        snapshot = stream.snapshot(value, weight or 1, float(weight), release, span)
        return snapshot, state.after(total, count, held)

    def packed(self, state: ExactState) -> tuple[Arrays, dict[str, Any]]:
        """A state as arrays and JSON values; secret."""
        return self.stream.packed(state)

    def resumed(self, arrays: Arrays, body: dict[str, Any]) -> "tuple[ExactReleaser, ExactState]":
        """The releaser and the state that `packed` gave. Raises StoreError."""
        self.stream.check(body)
        return self, self.stream.unpacked(arrays, body)


def _row_count(value: Any) -> Any:
    """Counts were floats at the time when rows could carry weights."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
