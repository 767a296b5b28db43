r"""The maximum-likelihood autoregressive model of a table, from counts of pairs of cells.

Variables stand in an order; the middle cell of each follows a softmax of the earlier ones' cells,

.. math:: p(x_c = v \mid x_{<c}) \propto \exp\Big(b_v + \sum_{j<c} W_j[x_j, v]\Big).

The data enters its log-likelihood only through the mean of :math:`1(x_j) 1(x_c)`, the pair tables: the
sketch is a sufficient statistic. The other term, the mean of log Z, is taken over rows that the model has
made so far. Each variable is a convex problem (L-BFGS, scaled by the moments, a ridge of one row).

Rows of the model have not exactly the data's earlier cells, so only the conditional is asked for: each
feature's moments are scaled to the mass that the model gives the feature. Where counts are exact, a pair
that was never seen though more than one was expected is a zero of the model too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.features.cells import CellLayout

__all__ = ["Conditional", "Tables", "fit_conditionals", "features_of"]

NEVER = np.float32(-200.0)  # logit of a pair that the stream never had
EXPECTED = 1.0  # rows expected by independence from which an unseen pair counts as impossible
COLD, WARM = 60, 10  # iterations

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Tables:
    """Relative counts to fit.

    Attributes:
        layout: What they count.
        values: (size,) relative counts, nothing negative.
        rows: The number of rows they stand for.
        ridge: Strength of the penalty, in rows.
        exact: Whether a zero means that the stream never had it.
    """

    layout: CellLayout
    values: F64
    rows: float
    ridge: float = 1.0
    exact: bool = True

    def single(self, k: int) -> F64:
        """Shares (middle,) of the middle cells of variable k."""
        v = self.layout.variables[k]
        fine = self.layout.single(self.values, k)
        return np.bincount(v.middle_of, fine, minlength=v.middle).astype(np.float64)


@dataclass(frozen=True)
class Conditional:
    """The law of one variable given the earlier ones.

    Attributes:
        variable: Its number in the layout.
        w: (1 + earlier middle cells, middle) float32: bias, then a row for each cell of each earlier
            variable.
        w3: (coarse pairs of earlier variables, coarse) float32.
        pairs: Places (p < q) in the order of the earlier variables of each triple.
    """

    variable: int
    w: F32
    w3: F32
    pairs: tuple[tuple[int, int], ...] = ()
    iterations: int = field(default=0, compare=False)


def features_of(
    layout: CellLayout, order: Sequence[int], pairs: Sequence[tuple[int, int]], cells: I32
) -> tuple[I32, I32]:
    """Rows of w (n, place) and of w3 (n, pairs) that rows of middle cells (place, n) use."""
    v = [layout.variables[k] for k in order]
    n = cells.shape[1]
    at, start = np.empty((n, len(cells)), np.int32), 1
    for p in range(len(cells)):
        at[:, p] = start + cells[p]
        start += v[p].middle
    at3, start = np.empty((n, len(pairs)), np.int32), 0
    for q, (a, b) in enumerate(pairs):
        low, high = v[a].coarse_of[cells[a]], v[b].coarse_of[cells[b]]
        at3[:, q] = start + low * v[b].coarse + high
        start += v[a].coarse * v[b].coarse
    return at, at3


def fit_conditionals(
    tables: Tables,
    order: Sequence[int],
    n: int,
    rng: np.random.Generator,
    start: Sequence[Conditional] = (),
) -> tuple[list[Conditional], I32]:
    """Fit all variables in order, each on n rows of the ones before.

    Args:
        tables: The counts.
        order: Numbers of the variables, the first first.
        n: Rows that are made on the way.
        rng: Draws them.
        start: Conditionals of the same order to start from.

    Returns:
        The conditionals, and the rows' middle cells (variables in order, n).
    """
    from streamsketch.generator.autoregressive.softmax import draw

    layout = tables.layout
    cells = np.empty((len(order), n), np.int32)
    made: list[Conditional] = []
    for place, k in enumerate(order):
        pairs = _triples_with(layout, order, place)
        at, at3 = features_of(layout, order[:place], pairs, cells[:place])
        problem = _problem(tables, order, place, pairs, at, at3)
        one = problem.solve(start[place] if start else None)
        made.append(one)
        coarse = layout.variables[k].coarse_of
        free = np.ones(len(coarse), np.float32)
        draw(at, at3, one.w, one.w3, coarse, free, _even(n, rng), cells[place], np.empty(n))
    return made, cells


def _even(n: int, rng: np.random.Generator) -> F64:
    """Uniform numbers (n,), one in each of n equal parts, shuffled: less noise in the shares."""
    return (rng.permutation(n) + rng.random(n)) / n


def _triples_with(
    layout: CellLayout, order: Sequence[int], place: int
) -> tuple[tuple[int, int], ...]:
    counted = set(layout.triples)
    return tuple(
        (p, q)
        for p, q in combinations(range(place), 2)
        if tuple(sorted((order[p], order[q], order[place]))) in counted
    )


@dataclass
class _Problem:
    """One convex problem: moments to meet by the rows' features."""

    variable: int
    pairs: tuple[tuple[int, int], ...]
    at: I32
    at3: I32
    moments: F32
    moments3: F32
    zero: NDArray[np.bool_]
    coarse: I32
    penalty: float

    def solve(self, start: Conditional | None) -> Conditional:
        """Maximise the likelihood; `start` gives the first weights."""
        from scipy.optimize import minimize

        n, penalty = len(self.at), self.penalty
        # a rare cell's weight moves further: the curvature is its probability, about
        scale = (1 / np.sqrt(np.maximum(self.moments, 0) + penalty)).astype(np.float32)
        scale3 = (1 / np.sqrt(np.maximum(self.moments3, 0) + penalty)).astype(np.float32)
        used = self.moments.sum(1, keepdims=True) > 0  # what the stream never had says nothing
        free = np.where(self.zero | ~used, 0, scale).astype(np.float32)
        free3 = np.where(self.moments3.sum(1, keepdims=True) > 0, scale3, 0).astype(np.float32)
        fixed = np.where(self.zero, NEVER, np.float32(0))
        cut, shape, shape3 = free.size, free.shape, free3.shape
        g, g3 = np.empty(shape, np.float32), np.empty(shape3, np.float32)

        def weights(x: F64) -> tuple[F32, F32]:
            narrow = x.astype(np.float32)
            return narrow[:cut].reshape(shape) * free + fixed, narrow[cut:].reshape(shape3) * free3

        def value(x: F64) -> tuple[float, F64]:
            from streamsketch.generator.autoregressive.softmax import likelihood

            w, w3 = weights(x)
            g[:], g3[:] = 0, 0
            total = likelihood(self.at, self.at3, w, w3, self.coarse, g, g3) / n
            w[self.zero] = 0
            total -= float((w * self.moments).sum(dtype=np.float64))
            total -= float((w3 * self.moments3).sum(dtype=np.float64))
            total += penalty / 2 * float(np.square(w[1:]).sum(dtype=np.float64))
            total += penalty / 2 * float(np.square(w3).sum(dtype=np.float64))
            slope, slope3 = g / n - self.moments, g3 / n - self.moments3 + penalty * w3
            slope[1:] += penalty * w[1:]
            both = np.concatenate([(slope * free).ravel(), (slope3 * free3).ravel()])
            return total, both.astype(np.float64)

        first = np.zeros(cut + free3.size)
        steps = COLD
        if start is not None and start.w.shape == shape and start.w3.shape == shape3:
            moved = np.where(free > 0, (start.w - fixed) / np.where(free > 0, free, 1), 0)
            moved3 = np.where(free3 > 0, start.w3 / np.where(free3 > 0, free3, 1), 0)
            first[:], steps = np.concatenate([moved.ravel(), moved3.ravel()]), WARM
        else:
            bias = np.log(self.moments[0] + 1e-6)
            first[: shape[1]] = bias / np.where(free[0] > 0, free[0], 1)
        if not self.at.shape[1]:
            steps = 2  # no earlier variable: the bias is the answer
        options: dict[str, Any] = {"maxiter": steps, "maxcor": 10}
        found = minimize(value, first, jac=True, method="L-BFGS-B", options=options)
        return Conditional(self.variable, *weights(found.x), self.pairs, int(found.nit))


def _problem(
    tables: Tables,
    order: Sequence[int],
    place: int,
    pairs: tuple[tuple[int, int], ...],
    at: I32,
    at3: I32,
) -> _Problem:
    """The moments of a variable with the features of the earlier ones, scaled to the rows' own mass."""
    layout, k = tables.layout, order[place]
    own = layout.variables[k]
    mine = tables.single(k)
    joint = [layout.pair(tables.values, j, k) for j in order[:place]]
    moments = np.concatenate([mine[None], *joint])
    zero = np.zeros(moments.shape, bool)
    if tables.exact:
        expected = np.concatenate(
            [np.zeros((1, own.middle)), *(np.outer(tables.single(j), mine) for j in order[:place])]
        )
        zero = (moments <= 0) & (expected * tables.rows > EXPECTED)
    moments3 = (
        np.concatenate([_coarse(tables, order, place, p) for p in pairs])
        if pairs
        else (np.zeros((0, own.coarse)))
    )
    n = len(at)
    mass = np.bincount(at.ravel(), minlength=len(moments)) / n
    mass[0] = 1.0
    mass3 = np.bincount(at3.ravel(), minlength=len(moments3)) / n
    return _Problem(
        k, pairs, at, at3,
        _scaled(moments, mass), _scaled(moments3, mass3), zero, own.coarse_of,
        tables.ridge / tables.rows,
    )  # fmt: skip


def _coarse(tables: Tables, order: Sequence[int], place: int, pair: tuple[int, int]) -> F64:
    """The table of a triple as (coarse cells of the pair, coarse cells of the variable at `place`)."""
    names = (order[pair[0]], order[pair[1]], order[place])
    rank = tuple(sorted(names))
    found = tables.layout.triple(tables.values, tables.layout.triples.index(rank))
    turned: F64 = found.transpose([rank.index(name) for name in names])
    return turned.reshape(-1, turned.shape[2])


def _scaled(moments: F64, mass: F64) -> F32:
    """Moments (features, cells) whose rows sum to the mass (features,) that the model gives them."""
    whole = moments.sum(1)
    factor = np.divide(mass, whole, out=np.zeros_like(mass), where=whole > 0)
    scaled: F32 = (moments * factor[:, None]).astype(np.float32)
    return scaled
