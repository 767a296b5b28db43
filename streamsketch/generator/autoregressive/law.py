"""The model's law: one conditional a variable, drawn in order by the inverse of its distribution function."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, F64, I32
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.columns import Features, Weights, fit_column
from streamsketch.generator.autoregressive.targets import Targets

__all__ = ["Law", "best_law", "fit_law", "uniforms"]


ROWS = 32768  # rows of the model that it is fitted on: fewer add noise of their own
COLD, WARM = 60, 10  # iterations a column
POLISH = 20  # more of them, on twice as many other rows: the first are fitted a little too closely


@dataclass(frozen=True, eq=False)
class Law:
    """A law of rows of cells.

    Attributes:
        layout: The cells.
        order: The variables, first to last.
        weights: Those of each variable's conditional, in order.
        shares: (finest,) for each variable of the layout: shares of the finest cells within their middle
            cell.
    """

    layout: CellLayout
    order: tuple[int, ...]
    weights: tuple[Weights, ...]
    shares: tuple[F64, ...]

    @cached_property
    def features(self) -> tuple[Features, ...]:
        """What each variable is predicted from, in order."""
        return tuple(Features.of(self.layout, self.order[:t], k) for t, k in enumerate(self.order))

    @cached_property
    def _wide(self) -> tuple[F32, ...]:
        return tuple(f.expand(w) for f, w in zip(self.features, self.weights, strict=True))

    @cached_property
    def _first(self) -> tuple[NDArray[np.int64], ...]:
        """First finest cell of each middle cell, then the end."""
        v = self.layout.variables
        return tuple(np.searchsorted(one.middle_of, np.arange(one.middle + 1)) for one in v)

    def step(
        self, place: int, middle: I32, u: F64, allowed: F64 | None = None
    ) -> tuple[I32, F64, F64]:
        """Draw the variable at a place of the order, given the middle cells of the ones before.

        Args:
            place: Place in the order.
            middle: (variables, n); the variable's own row is written.
            u: (n,) in [0, 1): the value of the distribution function.
            allowed: (finest,) share of each cell that a condition allows.

        Returns:
            Finest cells (n,), where in the cell (n,) in [0, 1), and the chance (n,) of the condition.
        """
        from streamsketch.generator.autoregressive.softmax import draw

        features, k, n = self.features[place], self.order[place], middle.shape[1]
        first, shares = self._first[k], self.shares[k]
        mass = shares if allowed is None else shares * allowed
        edges = np.concatenate([[0.0], np.cumsum(mass)])
        whole = np.diff(edges[first]) if allowed is not None else np.ones(features.cells)
        rest, chance = np.empty(n), np.empty(n)
        index = features.index(middle)
        draw(index, self._wide[place], features.cells, whole, u, middle[k], rest, chance)
        low, high = first[middle[k]], first[middle[k] + 1]
        at = edges[low] + rest * (edges[high] - edges[low])
        code = np.clip(np.searchsorted(edges, at, "right") - 1, low, high - 1).astype(np.int32)
        within = (at - edges[code]) / np.maximum(mass[code], 1e-300)
        return code, np.clip(within, 0.0, 1 - 1e-9), chance

    def draw(self, u: F64) -> tuple[I32, F64]:
        """Finest cells (variables, n) of uniforms u (variables, n), and where in them values lie."""
        middle = np.zeros(u.shape, np.int32)
        codes, within = np.empty(u.shape, np.int32), np.empty(u.shape)
        for place, k in enumerate(self.order):
            codes[k], within[k], _ = self.step(place, middle, u[k])
        return codes, within

    def check(self) -> None:
        """Refuse weights and shares that are not those of the cells and the order.

        Raises:
            ValueError: What does not fit.
        """
        v = self.layout.variables
        for features, (single, pair) in zip(self.features, self.weights, strict=True):
            name = v[features.column].name
            shapes = (
                (features.singles, features.cells),
                (features.rows - features.singles, features.coarse),
            )
            if (single.shape, pair.shape) != shapes:
                raise ValueError(f"its weights of {name} have shapes {single.shape}, {pair.shape}")
            if not all(w.dtype == np.float32 and np.isfinite(w).all() for w in (single, pair)):
                raise ValueError(f"its weights of {name} are not finite float32 numbers")
        for one, share in zip(v, self.shares, strict=True):
            if share.shape != (one.finest,) or not (share >= 0).all():
                raise ValueError(f"its shares of {one.name} are not those of {one.finest} cells")
            if np.abs(np.bincount(one.middle_of, share) - 1).max() > 1e-6:
                raise ValueError(f"its shares of {one.name} do not add up to 1")


def uniforms(variables: int, n: int, rng: np.random.Generator) -> F64:
    """Uniforms (variables, n), each variable's one in each of n equal parts: less noise in the shares."""
    return np.stack([(rng.permutation(n) + rng.random(n)) / max(n, 1) for _ in range(variables)])


Fitted = tuple[Law, list[dict[str, Any]]]


def best_law(
    targets: Targets, order: Sequence[int], seed: int, start: Law | None = None
) -> Fitted:
    """The law of largest likelihood: from nothing in two rounds, from a `start` in a short one."""
    if start is not None:
        return fit_law(targets, order, seed, ROWS, WARM, start)
    rough, began = fit_law(targets, order, seed, ROWS, COLD)
    law, went = fit_law(targets, order, seed + 1, 2 * ROWS, POLISH, rough)
    for one, before in zip(went, began, strict=True):
        one["iterations"] += before["iterations"]
    return law, went


def fit_law(
    targets: Targets,
    order: Sequence[int],
    seed: int,
    n: int = ROWS,
    iterations: int = COLD,
    start: Law | None = None,
) -> Fitted:
    """Fit column by column, each on the rows drawn from those before it.

    Args:
        targets: What the sketch holds.
        order: The variables, first to last.
        seed: Of the rows.
        n: Rows.
        iterations: At most, a column.
        start: A law of the same cells and order to start from.

    Returns:
        The law, and how the fit of each column went.
    """
    layout = targets.layout
    u = uniforms(len(order), n, np.random.default_rng(seed))
    middle = np.zeros(u.shape, np.int32)
    shares = tuple(_within(targets, k) for k in range(len(order)))
    weights: list[Weights] = []
    made: list[dict[str, Any]] = []
    for place, k in enumerate(order):
        features = Features.of(layout, order[:place], k)
        if place == 0:
            first = np.log(np.maximum(targets.middle(k), 1e-80))[None].astype(np.float32)
            found: Weights = first, np.zeros((0, features.coarse), np.float32)
            went: dict[str, Any] = {"iterations": 0, "met": True}
        else:
            warm = None if start is None else start.weights[place]
            found, went = fit_column(features, targets, features.index(middle), warm, iterations)
        weights.append(found)
        made.append({"variable": layout.variables[k].name, **went})
        so_far = Law(layout, tuple(order[: place + 1]), tuple(weights), shares)
        so_far.step(place, middle, u[k])
    return Law(layout, tuple(order), tuple(weights), shares), made


def _within(targets: Targets, k: int) -> F64:
    """Shares of finest cells within their middle cell; even ones where nothing was counted."""
    v, single = targets.layout.variables[k], targets.single(k)
    whole = np.bincount(v.middle_of, single, minlength=v.middle)[v.middle_of]
    size = np.bincount(v.middle_of)[v.middle_of]
    return np.where(whole > 0, single / np.where(whole > 0, whole, 1.0), 1.0 / size)
