"""One column of the model: its features, the moments asked of it, and its convex fit.

Given the cells of the columns before it, a cell v of column c has probability

    softmax_v(b[v] + sum_j W_j[x_j, v] + sum_(i, j) T_ij[x_i, x_j, v])

Its likelihood knows the rows through the tables of (x_j, v) and (x_i, x_j, v) only (Lafferty, McCallum
and Pereira 2001), and those are what the sketch counts. The other term, the expected log partition, is
taken over rows that the model itself has drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, F64, I32
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.targets import Targets

__all__ = ["Features", "Weights", "fit_column"]

Weights = tuple[F32, F32]  # of single cells (R, V), of pairs of coarse cells (Q, C)

NEVER = -200.0  # logit of a pair of cells that the stream should have had and never did
EXPECTED = 1.0  # rows that such a pair would have if its columns were independent
MEMORY = 10  # steps that L-BFGS remembers
NOISE = (
    0.1  # moments are met to this share of the sampling noise, the stream's or the model's rows'
)


@dataclass(frozen=True)
class Features:
    """What column `column` is predicted from: a constant, single cells, pairs of coarse cells.

    Attributes:
        layout: The cells.
        before: The variables before it that are counted with it, in the model's order.
        column: The variable that is predicted.
    """

    layout: CellLayout
    before: tuple[int, ...]
    column: int

    @classmethod
    def of(cls, layout: CellLayout, before: Sequence[int], column: int) -> "Features":
        """Of those before it, the variables that are counted with it."""
        return cls(layout, tuple(k for k in before if layout.counted(k, column)), column)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int, int], ...]:
        """Earlier variables i < j and the number of the triple that counts them with the column."""
        known = set(self.before)
        found = []
        for q, triple in enumerate(self.layout.triples):
            i, j = (k for k in triple if k != self.column) if self.column in triple else (-1, -1)
            if i in known and j in known:
                found.append((i, j, q))
        return tuple(found)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each variable's cells, then of each pair's, then the end; row 0 is the constant."""
        v = self.layout.variables
        sizes = [v[k].middle for k in self.before]
        sizes += [v[i].coarse * v[j].coarse for i, j, _ in self.pairs]
        return np.cumsum([1, *sizes])

    @property
    def singles(self) -> int:
        """Rows of the constant and of single cells."""
        return int(self.starts[len(self.before)])

    @property
    def rows(self) -> int:
        """All rows."""
        return int(self.starts[-1])

    @property
    def cells(self) -> int:
        """Cells V of the column."""
        return self.layout.variables[self.column].middle

    @property
    def coarse(self) -> int:
        """Coarse cells C of the column."""
        return self.layout.variables[self.column].coarse

    def index(self, middle: I32) -> I32:
        """Rows (n, J) of the features of given middle cells (variables, n)."""
        v = self.layout.variables
        out = np.zeros((middle.shape[1], len(self.starts)), np.int32)
        for at, k in enumerate(self.before):
            out[:, at + 1] = middle[k] + self.starts[at]
        first = len(self.before)
        for at, (i, j, _) in enumerate(self.pairs, first):
            a, b = v[i].coarse_of[middle[i]], v[j].coarse_of[middle[j]]
            out[:, at + 1] = a * v[j].coarse + b + self.starts[at]
        return out

    def tables(self, targets: Targets) -> list[F64]:
        """Target shares of (feature, cell), a table for the constant and each variable and pair."""
        found = [targets.middle(self.column)[None]]
        found += [targets.pair(k, self.column) for k in self.before]
        for i, j, q in self.pairs:
            names = self.layout.triples[q]
            table = targets.triple(q).transpose([names.index(k) for k in (i, j, self.column)])
            found.append(table.reshape(-1, self.coarse))
        return found

    def expand(self, weights: Weights) -> F32:
        """Weights (R, padded V) as the kernels take them."""
        from streamsketch.generator.autoregressive.softmax import LANES

        single, pair = weights
        out = np.zeros((self.rows, -(-self.cells // LANES) * LANES), np.float32)
        out[: self.singles, : self.cells] = single
        out[self.singles :, : self.cells] = pair[:, self.layout.variables[self.column].coarse_of]
        return out

    def narrow(self, gradient: F32) -> tuple[F64, F64]:
        """The gradient by (single, pair) weights of one by the kernels' weights."""
        single = gradient[: self.singles, : self.cells].astype(np.float64)
        wide = gradient[self.singles :, : self.cells].astype(np.float64)
        pair = np.zeros((len(wide), self.coarse))
        if len(wide):
            np.add.at(pair.T, self.layout.variables[self.column].coarse_of, wide.T)
        return single, pair


class Problem:
    """The convex problem of one column: minus the likelihood, with a ridge.

    The model's rows have not quite the stream's earlier cells. Each table is raked to the mass that they
    give each feature and to the column's own shares: its odds ratios are asked for, not what earlier
    columns failed to reach, and tables that contradict each other have no largest likelihood.

    Args:
        features: Of the column.
        targets: What the sketch holds.
        index: (n, J) features of the model's rows.
    """

    def __init__(self, features: Features, targets: Targets, index: I32) -> None:
        self.features, self.index, self.n = features, index, len(index)
        counted = np.bincount(index.ravel(), minlength=features.rows) / self.n
        masses = np.split(counted, features.starts[:-1])
        own = targets.middle(features.column)
        coarse = np.bincount(features.layout.variables[features.column].coarse_of, own).astype(
            float
        )
        asked: list[F64] = []
        free: list[NDArray[np.bool_]] = []
        for table, mass in zip(features.tables(targets), masses, strict=True):
            may = np.broadcast_to(table.sum(1, keepdims=True) > 0, table.shape)
            if targets.exact:
                may = may & ~_never(table, targets.count)
            asked.append(raked(table, mass, own if len(asked) <= len(features.before) else coarse))
            free.append(may)
        first = len(features.before) + 1
        none = np.zeros((0, features.coarse))
        self.moments: tuple[F64, F64] = (
            np.concatenate(asked[:first]),
            np.concatenate([none, *asked[first:]]),
        )
        self.free = np.concatenate(free[:first]), np.concatenate([none > 0, *free[first:]])
        self.scale = tuple(1 / np.sqrt(m + targets.ridge) for m in self.moments)
        self.ridge = targets.ridge
        self.noise = NOISE / np.sqrt(min(targets.count, self.n))

    def start(self, weights: Weights | None) -> F64:
        """The point of given weights; without, that of independent columns."""
        if weights is None:
            single = np.zeros(self.moments[0].shape)
            single[0] = np.log(self.moments[0][0] + 1e-6)
            weights = single.astype(np.float32), np.zeros(self.moments[1].shape, np.float32)
        parts = []
        for w, asked, f, s in zip(weights, self.moments, self.free, self.scale, strict=True):
            product = np.outer(
                asked.sum(1), self.moments[0][0] if w is weights[0] else asked.sum(0)
            )
            odds = np.log(np.maximum(asked, self.ridge) / np.maximum(product, self.ridge))
            # what never came before and does now starts where independent columns would put it
            begin = np.where(w > NEVER / 2, w, odds)
            parts.append((np.where(f, begin, 0) / s).ravel())
        return np.concatenate(parts)

    def weights(self, point: F64) -> Weights:
        """The weights of a point."""
        cut = self.moments[0].size
        parts = (
            point[:cut].reshape(self.moments[0].shape),
            point[cut:].reshape(self.moments[1].shape),
        )
        single, pair = (
            np.where(f, p * s, NEVER * ~f).astype(np.float32)
            for p, s, f in zip(parts, self.scale, self.free, strict=True)
        )
        return single, pair

    def value(self, point: F64) -> tuple[float, F64]:
        """The function to minimise and its gradient."""
        from streamsketch.generator.autoregressive.softmax import moments

        weights = self.weights(point)
        wide = self.features.expand(weights)
        counted = np.zeros_like(wide)
        value = moments(self.index, wide, self.features.cells, counted) / self.n
        parts = []
        for number, (w, found) in enumerate(
            zip(weights, self.features.narrow(counted), strict=True)
        ):
            free, asked = self.free[number], self.moments[number]
            w = np.where(free, w, 0).astype(np.float64)
            penalised = w.copy()
            if number == 0:
                penalised[0] = 0  # the constant is free
            value += 0.5 * self.ridge * float(np.square(penalised).sum()) - float(
                (w * asked).sum()
            )
            slope = found / self.n - asked + self.ridge * penalised
            parts.append((slope * free * self.scale[number]).ravel())
        return value, np.concatenate(parts)


def raked(table: F64, rows: F64, columns: F64, rounds: int = 30) -> F64:
    """The table with the odds ratios of `table` and the sums `rows` and `columns` (Deming and Stephan 1940).

    Rows of zeros are filled as if they were independent of the columns.
    """
    out = np.where(table.sum(1, keepdims=True) > 0, table, np.outer(rows, columns))
    for _ in range(rounds):
        out *= _ratio(columns, out.sum(0))
        sums = out.sum(1)
        if np.abs(sums - rows).max() < 1e-7:
            break
        out *= _ratio(rows, sums)[:, None]
    return out


def _ratio(wanted: F64, found: F64) -> F64:
    ratio: F64 = np.divide(wanted, found, out=np.zeros_like(found), where=found > 0)
    return ratio


def _never(table: F64, count: float) -> NDArray[np.bool_]:
    """Which cells of a table never came although independent columns would have had them."""
    independent = np.outer(table.sum(1), table.sum(0)) / max(float(table.sum()), 1e-300)
    never: NDArray[np.bool_] = (table == 0) & (independent * count > EXPECTED)
    return never


def fit_column(
    features: Features,
    targets: Targets,
    index: I32,
    start: Weights | None = None,
    iterations: int = 60,
) -> tuple[Weights, dict[str, Any]]:
    """Fit one column; returns its weights and how far the fit came.

    Args:
        features: Of the column.
        targets: What the sketch holds.
        index: (n, J) features of the model's rows.
        start: Weights to begin from.
        iterations: At most.
    """
    from scipy.optimize import minimize

    problem = Problem(features, targets, index)
    found = minimize(
        problem.value,
        problem.start(start),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "maxcor": MEMORY, "gtol": problem.noise, "ftol": 0.0},
    )
    return problem.weights(found.x), {
        "loss": float(found.fun),
        "iterations": int(found.nit),
        "evaluations": int(found.nfev),
        "slope": float(np.abs(found.jac).max()),
        "met": bool(np.abs(found.jac).max() <= problem.noise),
    }


def order_of(layout: CellLayout, first: Sequence[str] = ()) -> tuple[int, ...]:
    """Variables in the model's order: columns named first, the label, then the rest as they stand."""
    label = layout.schema.label
    lead = [*first, *([label.name] if label is not None else [])]
    rank = {name: at for at, name in reversed(list(enumerate(lead)))}
    order = sorted(
        range(len(layout.variables)),
        key=lambda k: (rank.get(layout.variables[k].column, len(lead)), k),
    )
    return tuple(order)
