"""One call of the sampler, and the candidates that it chooses among."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32
from streamsketch.latent import LatentModel
from streamsketch.sampler.history import History
from streamsketch.sampler.latents import Codes
from streamsketch.sampler.unique import row_keys

__all__ = ["Pool", "Request"]


@dataclass(frozen=True)
class Pool:
    """Candidates: rows as issued, their points in the space of the aim, and latents if known."""

    rows: F32
    points: F32
    latents: F32 | None = None
    labels: Codes | None = None

    def take(self, which: NDArray[Any]) -> "Pool":
        """Some of the candidates."""
        latents, labels = (None if a is None else a[which] for a in (self.latents, self.labels))
        return Pool(self.rows[which], self.points[which], latents, labels)


@dataclass
class Request:
    """One call of `Sampler.sample`: what to draw, and the history to draw against."""

    generator: LatentModel
    history: History
    seed: int
    target: str
    label: Any
    candidates: int
    history_frequencies: int
    forget: float
    guard: float
    recent: int
    solver: str
    unique: bool
    progress: Callable[[int], None] | None = None

    def drawn(self, rows: int) -> None:
        """Tell how many rows are drawn."""
        if self.progress is not None:
            self.progress(rows)

    def next_seed(self) -> int:
        """A seed that no batch of this history had before."""
        self.history.draws += 1
        words = [self.seed, self.history.salt, self.history.draws]
        return int(np.random.SeedSequence(words).generate_state(1)[0])

    def new(self, x: F32) -> NDArray[np.bool_]:
        """Which rows were never issued and do not repeat an earlier one of ``x``."""
        if not self.unique:
            return np.ones(len(x), dtype=bool)
        assert self.history.rows is not None
        keys = row_keys(self.generator.schema.decode(x))
        fresh = ~self.history.rows.holds(keys)
        first = np.zeros(len(x), dtype=bool)
        first[list({key: i for i, key in reversed(list(enumerate(keys)))}.values())] = True
        return np.asarray(fresh & first)

    def enter(self, x: F32) -> None:
        """Remember rows as issued, where unique output was asked for."""
        if self.unique:
            assert self.history.rows is not None
            self.history.rows.add_new(row_keys(self.generator.schema.decode(x)))
