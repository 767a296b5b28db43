"""What the model is fitted to: the sketch's tables as shares, without noise where there was some."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamsketch.features.cells import CellLayout

__all__ = ["Targets"]

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Targets:
    """Shares of cells.

    Attributes:
        layout: Where the tables stand.
        cells: (layout.size,) shares, not negative.
        count: Rows that they were counted on.
        ridge: Weight of the penalty on squared weights.
        exact: Whether a count of 0 is one: nothing was added, nothing smoothed.
    """

    layout: CellLayout
    cells: F64
    count: float
    ridge: float
    exact: bool

    @cached_property
    def _middles(self) -> list[F64]:
        found = []
        for k, v in enumerate(self.layout.variables):
            single = self.layout.single(self.cells, k)
            one = np.bincount(v.middle_of, single, minlength=v.middle)
            found.append(one / max(one.sum(), 1e-300))
        return found

    def middle(self, k: int) -> F64:
        """Shares (middle,) of a variable's middle cells."""
        return self._middles[k]

    def single(self, k: int) -> F64:
        """Shares (finest,) of a variable's finest cells."""
        return np.asarray(self.layout.single(self.cells, k))

    def pair(self, j: int, k: int) -> F64:
        """Shares (middle_j, middle_k)."""
        return np.asarray(self.layout.pair(self.cells, j, k))

    def triple(self, q: int) -> F64:
        """Shares (coarse, coarse, coarse) of triple number q."""
        return np.asarray(self.layout.triple(self.cells, q))
