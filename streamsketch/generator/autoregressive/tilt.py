"""Tilting: rows are weighed so that all counted tables are met, not only those that the order favours.

Weights exp(theta . psi(x)), of largest entropy among those that meet the released tables (Deming and
Stephan 1940; Csiszar 1975). The law and theta together are the generator: rows are drawn from the law and
drawn again by their weights. The history-aware sampler repairs what rows issued so far still owe the
sketch; the tilt repairs what the law itself owes it, before any row is issued.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64, I32, I64
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.law import Law, uniforms
from streamsketch.generator.autoregressive.targets import Targets

__all__ = ["ROWS", "Psi", "drawn", "effective", "fit_tilt", "resampled"]


RIDGE = 4.0  # of the targets' own: the tables are not met closer than their noise
LEAST = 100.0  # over the number of rows: theta must hold for fresh rows, not only for those it saw
TIMES = 4  # rows weighed for each that is drawn
LEAST_ROWS = 4096  # rows weighed however few are drawn
ROWS = 131072  # rows that theta is fitted on
COLD, WARM = 60, 10  # iterations


@dataclass(frozen=True, eq=False)
class Psi:
    """The one-hots of pairs and triples, as the kernel takes them."""

    layout: CellLayout

    @cached_property
    def first(self) -> int:
        """Where pairs begin among the layout's cells."""
        return int(self.layout.starts[len(self.layout.variables)])

    @cached_property
    def _tables(self) -> tuple[I32, I32, I64, I64, I64]:
        layout, v = self.layout, self.layout.variables
        return (
            np.array(layout.pairs, np.int32).reshape(-1, 2),
            np.array(layout.triples, np.int32).reshape(-1, 3),
            layout.starts[len(v) : -1] - self.first,
            np.array([one.middle for one in v], np.int64),
            np.array([one.coarse for one in v], np.int64),
        )

    @property
    def size(self) -> int:
        """Number of cells of pairs and triples."""
        return self.layout.size - self.first

    def cells(self, codes: I32) -> tuple[I32, I32]:
        """Middle and coarse cells (n, variables) of finest cells (variables, n)."""
        v = self.layout.variables
        middle = np.stack([one.middle_of[c] for one, c in zip(v, codes, strict=True)], 1)
        coarse = np.stack([one.coarse_of[c] for one, c in zip(v, middle.T, strict=True)], 1)
        return middle.astype(np.int32), coarse.astype(np.int32)

    def weights(self, codes: I32, theta: F64) -> F64:
        """Weights (n,) of rows of finest cells (variables, n); they sum to 1."""
        return self.weigh(self.cells(codes), theta, np.zeros(self.size))[0]

    def weigh(self, cells: tuple[I32, I32], theta: F64, mean: F64) -> tuple[F64, float]:
        """Weights (n,) that sum to 1, and the log of the mean exponential; adds to the mean of psi."""
        from streamsketch.generator.autoregressive.softmax import tilted

        weight = np.empty(len(cells[0]))
        middle, coarse = cells
        pairs, triples, starts, middles, coarses = self._tables
        level = tilted(
            middle, coarse, pairs, triples, starts, middles, coarses, theta, weight, mean
        )
        return weight, level


def fit_tilt(psi: Psi, targets: Targets, codes: I32, start: F64 | None = None) -> F64:
    """The theta (size,) for which weighed rows of given cells (variables, n) meet the tables.

    Cells that none of the rows has are left out. From a `start` a few steps are enough.
    """
    from scipy.optimize import minimize

    cells = psi.cells(codes)
    have = np.zeros(psi.size)
    psi.weigh(cells, np.zeros(psi.size), have)
    wanted = np.where(have > 0, targets.cells[psi.first :], 0.0)
    ridge = max(RIDGE * targets.ridge, LEAST / codes.shape[1])
    scale = 1 / np.sqrt(wanted + ridge)

    def value(point: F64) -> tuple[float, F64]:
        theta, mean = point * scale, np.zeros(psi.size)
        _, level = psi.weigh(cells, theta, mean)
        penalty = 0.5 * ridge * float(theta @ theta)
        return level - float(theta @ wanted) + penalty, (mean - wanted + ridge * theta) * scale

    steps, first = (COLD, np.zeros(psi.size)) if start is None else (WARM, start / scale)
    options = {
        "maxiter": steps,
        "maxcor": 10,
        "gtol": 0.1 / np.sqrt(targets.count),
        "ftol": 0.0,
    }
    found = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
    theta: F64 = found.x * scale
    return theta


def drawn(law: Law, theta: F64 | None, n: int, rng: np.random.Generator) -> tuple[I32, F64]:
    """Finest cells (variables, n) and places within them, of the law tilted by theta."""
    if theta is None:
        return law.draw(uniforms(len(law.order), n, rng))
    codes, within = law.draw(uniforms(len(law.order), max(TIMES * n, LEAST_ROWS), rng))
    weight = Psi(law.layout).weights(codes, theta)
    chosen = resampled(weight, n, rng)
    return codes[:, chosen], within[:, chosen]


def effective(weight: F64) -> float:
    """The number of equal weights that would be as good: (sum w)^2 / sum w^2."""
    square = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def resampled(weight: F64, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers (n,) of rows drawn by their weights, systematically, in random order."""
    at = (np.arange(n) + rng.random()) / max(n, 1) * weight.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(weight), at, "right"), len(weight) - 1)
    last = int(np.flatnonzero(weight)[-1])
    order: NDArray[np.int64] = rng.permutation(np.minimum(chosen, last))
    return order
