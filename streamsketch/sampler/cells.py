r"""Herding on the counts of a table's cells: what all rows drawn lack of the data, cell by cell.

Where a sketch counts cells, the residual is kept in counts: ``r <- r + p - (the cells of x)``, with
the data's relative counts p. A row is chosen so that :math:`\sum_c w_c r_c^2` grows least, with
:math:`w_c = 1 / (p_c + 0.01)`: relative errors count, those of rare cells not beyond all measure. It
takes a few microseconds a row, since a row touches one cell of each table.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.sampler.latents import finite
from streamsketch.sampler.request import Pool

if TYPE_CHECKING:
    from streamsketch.features.cells import CellLayout
    from streamsketch.sampler.request import Request
    from streamsketch.snapshot import Snapshot

__all__ = ["CellHerding", "CellMatching", "cell_matching", "without_cell_noise"]


FLOOR = 0.01  # added to a cell's share before it is divided by
RATIO = 6  # fresh candidates for each output: drawing them is most of the time
WIDTH = 96  # candidates that an output is chosen from
MOST = 1 << 22  # cell numbers held at once
OWN = 65_536  # draws that say what the generator makes of each cell


class CellHerding:
    """Choice among candidates by their cells.

    Args:
        layout: The cells.
        target: (size,) relative counts that all outputs together should have.
    """

    def __init__(self, layout: "CellLayout", target: F64) -> None:
        self.layout = layout
        self.weights = 1.0 / (np.maximum(target, 0.0) + FLOOR)

    def cells(self, x: NDArray[np.float32]) -> NDArray[np.int32]:
        """The cells (n, tables) of encoded rows, as numbers of the counts."""
        from streamsketch.features.kernels.counts import cells_of_rows

        return cells_of_rows(self.layout, self.layout.codes(x))

    def choose(
        self, residual: F64, target: F64, cells: NDArray[np.int32], k: int
    ) -> tuple[NDArray[np.int64], F64]:
        """Choose k of the candidates with these cells; their rows, and the residual after them."""
        from streamsketch.sampler.cell_kernels import choose

        rows = np.empty(k, np.int64)
        # |r + p - e_c|^2 is less than |r + p|^2 by 2 (r + p)_c - 1, half of which is the score
        value = self.weights * (residual - 0.5)
        ratio = max(1, min(RATIO, (len(cells) - 1) // max(k - 1, 1)))
        choose(cells, value, self.weights * target, self.weights, ratio, WIDTH, rows)
        return rows, self.after(residual, target, cells[rows])

    def after(self, residual: F64, target: F64, cells: NDArray[np.int32]) -> F64:
        """The residual after rows with these cells (k, tables) were issued."""
        drawn = np.bincount(cells.ravel(), minlength=self.layout.size)
        return np.asarray(residual + len(cells) * target - drawn)

    def gain(self, residual: F64, count: int, target: F64) -> float:
        """How many times closer to the target ``count`` outputs are than independent draws."""
        apart = float(self.weights @ residual**2)
        alone = count * float(self.weights @ (target * (1.0 - target)))
        return alone / apart if apart > 0 else np.inf


class CellMatching:
    """The data's counts of cells as the target; used as a `matching.Matching` is.

    Attributes:
        round: Outputs chosen from one set of candidates.

    Args:
        request: The call it serves.
        key: Name under which the history keeps its residual.
        herding: The choice among candidates.
        mean: Relative counts of the target.
    """

    def __init__(self, request: "Request", key: str, herding: CellHerding, mean: F64) -> None:
        self.request, self.key, self.herding, self.mean = request, key, herding, mean
        self.round = int(np.clip(MOST // (RATIO * herding.layout.tables), 64, 1024))

    def needs(self, k: int) -> int:
        """Candidates for k outputs."""
        return RATIO * k + WIDTH

    def gain(self, residual: F64, count: int) -> float:
        """See `CellHerding.gain`."""
        return self.herding.gain(residual, count, self.mean)

    def propose(self, n: int) -> Pool:
        """Draw ``n`` fresh candidates."""
        x = finite(self.request.generator.sample_encoded(n, seed=self.request.next_seed()))
        return Pool(x, x)

    def choose(self, pool: Pool, k: int) -> NDArray[np.float32]:
        """Choose ``k`` candidates, enter them in the history, and return their rows."""
        history, request = self.request.history, self.request
        before = history.residual(self.key, self.mean.size)
        cells = self.herding.cells(pool.rows)
        chosen, after = self.herding.choose(before, self.mean, cells, k)
        rows = pool.rows[chosen]
        history.record(self.key, after, rows, str(request.generator.id), request.recent)
        return rows


def cell_matching(request: "Request", snapshot: "Snapshot", key: str) -> CellMatching:
    """The matching of a snapshot's counts of cells.

    Raises:
        SpecMismatchError: The history was kept against another operator.
    """
    layout, released = snapshot.layout, snapshot.cells
    assert layout is not None and released is not None
    wanted: dict[str, Any] = {
        "kind": "cells", "fingerprint": snapshot.spec.fingerprint, "size": layout.size,
    }  # fmt: skip
    request.history.operator(key, wanted)
    target = np.asarray(released, np.float64)
    if snapshot.cell_noise > 0.0:
        own = _own_counts(request, key, layout)
        target = without_cell_noise(target, own, snapshot.cell_noise, layout)
    return CellMatching(request, key, CellHerding(layout, target), target)


def without_cell_noise(released: F64, own: F64, noise: float, layout: "CellLayout") -> F64:
    """Released relative counts with their noise shrunk away towards the generator's own.

    Table by table, the share of the gap that is more than noise is kept (positive-part James-Stein):
    see `matching.without_noise`.
    """
    kept = np.empty_like(released)
    for a, b in zip(layout.starts, layout.starts[1:], strict=False):
        energy = float(((released[a:b] - own[a:b]) ** 2).sum())
        kept[a:b] = max(0.0, 1.0 - (b - a) * noise**2 / energy) if energy > 0 else 0.0
    return np.asarray(own + kept * (released - own))


def _own_counts(request: "Request", key: str, layout: "CellLayout") -> F64:
    """The generator's own relative counts, estimated once per generator."""
    history, name = request.history, f"{key}/own"
    if history.pools.get(name, {}).get("generator") != str(request.generator.id):
        counts = np.zeros(layout.size)
        herding = CellHerding(layout, counts)
        step = max(1, MOST // layout.tables)
        for start in range(0, OWN, step):
            x = request.generator.sample_encoded(min(step, OWN - start), request.next_seed())
            counts += np.bincount(herding.cells(finite(x)).ravel(), minlength=layout.size)
        history.pools[name] = {"generator": str(request.generator.id), "rows": OWN}
        history.pool_means[name] = counts / OWN
    return history.pool_means[name]
