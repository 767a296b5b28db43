"""What the model is fitted to: the sketch's tables as shares, without noise where there was some."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamsketch.arrays import F64
from streamsketch.errors import TrainingError
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.denoise import denoised
from streamsketch.snapshot import Snapshot

__all__ = ["Targets", "targets_of"]


LEAST_RIDGE = 1e-6  # below it float32 gradients are noise
RIDGE = 0.4  # rows of ridge for each row of noise


@dataclass(frozen=True, eq=False)
class Targets:
    """Shares of cells.

    Attributes:
        layout: Where the tables stand.
        cells: (layout.size,) shares, not negative.
        count: Rows that they were counted on.
        ridge: Weight of the penalty on squared weights.
        exact: Whether a count of 0 is one: nothing was added, nothing smoothed.
        informed: Share of the pair tables in which noise leaves any dependence.
    """

    layout: CellLayout
    cells: F64
    count: float
    ridge: float
    exact: bool
    informed: float = 1.0

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


def targets_of(snapshot: Snapshot) -> Targets:
    """What a snapshot asks of the model.

    Exact counts are taken as they are, with a ridge of one row. Noisy ones are made consistent first
    (see `denoise`), and the ridge grows with the noise.

    Raises:
        TrainingError: The snapshot has too few rows, or values that are not finite.
    """
    layout, cells = snapshot.layout, snapshot.cells
    assert layout is not None and cells is not None
    if not np.isfinite(snapshot.count) or snapshot.count <= 0:
        raise TrainingError(
            f"the snapshot {snapshot.id} has {snapshot.count:.0f} rows; wait for a later one"
        )
    if cells.shape != (layout.size,) or not np.isfinite(cells).all():
        raise TrainingError(
            f"the snapshot {snapshot.id} holds counts that are not finite or not {layout.size}; use an earlier one"
        )
    noise = snapshot.cell_noise
    if not noise:
        ridge = max(1 / snapshot.count, LEAST_RIDGE)
        return Targets(layout, np.maximum(cells, 0), snapshot.count, ridge, True)
    ridge = (1 + RIDGE * noise * snapshot.count) / snapshot.count
    made, informed = denoised(layout, cells, noise)
    return Targets(layout, made, snapshot.count, max(ridge, LEAST_RIDGE), False, informed)
