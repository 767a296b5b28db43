"""The releaser: the one place where a raw sum becomes a snapshot."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, StoreError
from streamsketch.features import FeatureMap, Map
from streamsketch.kernels import ONE
from streamsketch.memory import make_memory
from streamsketch.schema import Schema
from streamsketch.snapshot import Release, Snapshot

__all__ = ["Releaser"]


class Releaser:
    """Turns the cumulative sum of a stream into a series of snapshots.

    It is fed the exact sum since the beginning, at consistent cuts; the memory works on the
    exact differences. One releaser per stream holds the memory, the mechanism and the ledger.

    Args:
        features: The operator.
        schema: The columns.
        stream: Name of the stream, written into every snapshot.
        mechanism: How sums are protected, a name in `privacy.MECHANISMS`.
        memory: What a release stands for, as `memory.make_memory` reads it.
        settings: Settings of the mechanism.
    """

    def __init__(
        self,
        features: Map,
        schema: Schema,
        *,
        stream: str = "stream",
        mechanism: str = "none",
        memory: str = "landmark",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if mechanism != "none":
            raise ConfigError(f"mechanism = {mechanism!r} is unknown; choose none")
        self.features = features
        self.schema = schema
        self.settings = settings
        self.stream = stream
        self.mechanism = mechanism
        self.memory_text = memory
        self.memory = make_memory(memory)
        self.index = 0
        self.seen = np.zeros(features.spec.classes * features.width, np.int64)
        self.seen_count = 0

    def fresh(self) -> "Releaser":
        """A releaser of the same settings that has released nothing."""
        return Releaser(
            self.features, self.schema, stream=self.stream, mechanism=self.mechanism,
            memory=self.memory_text, settings=self.settings,
        )  # fmt: skip

    def release(self, total: NDArray[np.int64], count: int, span: Mapping[str, Any] | None = None) -> Snapshot:
        """Release the stream's sum at a consistent cut.

        Args:
            total: (classes * width,) int64, the sum of all rows since the beginning.
            count: Their number.
            span: Positions and times covered.
        """
        value, weight = self.memory.update(total - self.seen, count - self.seen_count)
        self.seen, self.seen_count = total.copy(), count
        snapshot = Snapshot(
            np.asarray(value, np.float64) / (ONE * max(weight, 1e-300)) if weight else np.zeros(total.shape),
            float(weight),
            self.features.spec,
            self.schema,
            Release("none", self.memory_text, self.index, 0, self.stream),
            dict(span or {}),
            self.features.omega if isinstance(self.features, FeatureMap) and self.features.spec.law == "explicit" else None,
            dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        )
        self.index += 1
        return snapshot

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values to resume from; secret."""
        arrays, numbers = self.memory.state()
        named = {f"memory.{k}": v for k, v in arrays.items()}
        named["seen"] = self.seen
        body = {
            "fingerprint": self.features.spec.fingerprint,
            "stream": self.stream,
            "mechanism": self.mechanism,
            "memory": self.memory_text,
            "memory_state": numbers,
            "seen_count": self.seen_count,
            "index": self.index,
        }
        return named, body

    def restore(self, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            StoreError: The state is of another operator, stream, mechanism or memory.
        """
        mine = {
            "fingerprint": self.features.spec.fingerprint,
            "stream": self.stream,
            "mechanism": self.mechanism,
            "memory": self.memory_text,
        }
        for key, value in mine.items():
            if body[key] != value:
                raise StoreError(
                    f"the saved release state has {key} = {body[key]!r}, but the pipeline has {value!r}; "
                    "use the pipeline that wrote it, or another store"
                )
        own = {k.removeprefix("memory."): v for k, v in arrays.items() if k.startswith("memory.")}
        self.memory.restore(own, body["memory_state"])
        self.seen, self.seen_count = arrays["seen"], body["seen_count"]
        self.index = body["index"]
