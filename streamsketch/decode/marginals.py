"""One column at a time: densities, quantiles and shares with error bands, read off a sketch.

Along one coordinate the sketch holds Fourier coefficients of that coordinate's marginal law. The
density is the nonnegative histogram whose coefficients are closest, and the band is what the
sampling error and the release's noise leave open. So a private sketch can be looked at, and
nothing beyond the sketch is spent.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from streamsketch.arrays import F64
from streamsketch.decode.space import Estimator, positive_count
from streamsketch.decode.target import Target, as_target
from streamsketch.errors import ConfigError
from streamsketch.html import bars, card, merged, table, text

if TYPE_CHECKING:
    from streamsketch.schema import Block
    from streamsketch.snapshot import Snapshot

MOST_BINS = 160
REDRAWS = 60


@dataclass(frozen=True)
class Density:
    """The marginal law of a number.

    Attributes:
        edges: ``(B + 1,)`` bin edges in the column's units (datetime64 for timestamps).
        probability: ``(B,)`` share of the rows in each bin.
        redraws: ``(R, B)`` the same, had the sketch's errors fallen otherwise.
    """

    edges: NDArray[Any]
    probability: F64
    redraws: F64

    def cdf(self, level: float = 0.9) -> tuple[F64, F64, F64]:
        """Cumulative share at the edges ``(B + 1,)``, and its band at ``level``, two-sided."""
        curve = _cumulated(self.probability)
        curves = np.stack([_cumulated(p) for p in self.redraws])
        # a basic bootstrap: errors of redraws are errors of the estimate, mirrored
        low, high = np.quantile(curves - curve, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return curve, np.clip(curve - high, 0, 1), np.clip(curve - low, 0, 1)

    def quantile(self, q: float, level: float = 0.9) -> tuple[Any, Any, Any]:
        """The ``q`` quantile in the column's units, and its band at ``level``.

        The band covers the sketch's error and half a bin of resolution.

        Raises:
            ConfigError: ``q`` is not in [0, 1].
        """
        if not 0 <= q <= 1:
            raise ConfigError(f"q = {q} must be a share between 0 and 1")
        curve, low, high = self.cdf(level)
        last = len(self.edges) - 1
        index = np.arange(last + 1, dtype=np.float64)
        at = _crossing(q, curve, index)
        least = max(_crossing(q, high, index) - 0.25, 0.0)
        most = min(_crossing(q, low, index) + 0.25, float(last))
        return self._edge(at), self._edge(least), self._edge(most)

    def _edge(self, position: float) -> Any:
        below = min(int(position), len(self.edges) - 2)
        step = self.edges[below + 1] - self.edges[below]
        return self.edges[below] + step * (position - below)


@dataclass(frozen=True)
class Shares:
    """The marginal law of a category.

    Attributes:
        values: The categories (None last, where nulls have a slot).
        probability: ``(C,)`` their shares, nonnegative, summing to one.
        error: ``(C,)`` standard error of each share before that adjustment.
    """

    values: tuple[Any, ...]
    probability: F64
    error: F64


class Marginals(Estimator):
    """Marginal laws of all columns with axis-aligned frequencies in the sketch.

    Sketch with ``law="multiscale_axis"`` (a quarter of the frequencies) or ``"axis"`` (all).

    Args:
        bins: Most bins of a density; fewer are used where there are few harmonics.
        random_state: Seed of the error bands.

    Attributes:
        columns_: Names of the columns found.

    Example:
        >>> import numpy as np
        >>> from streamsketch import Schema, Sketcher
        >>> s = Sketcher(Schema.vectors(1, 0, 10), frequencies=40, law="axis")
        >>> s.learn_many(np.random.default_rng(0).normal(4, 1, (5000, 1)))
        >>> median, low, high = Marginals().fit(s.release())["x0"].quantile(0.5)
        >>> bool(low < 4 < high), round(float(median), 1)
        (True, 4.0)
    """

    def __init__(self, *, bins: int = MOST_BINS, random_state: int = 0) -> None:
        self.bins = bins
        self.random_state = random_state

    def fit(self, snapshot: "Snapshot | Target", y: None = None) -> Self:
        """Find the axis-aligned frequencies of every column.

        Raises:
            ConfigError: There are none, or the snapshot is of another map.
        """
        positive_count("bins", self.bins)
        self._target = as_target(snapshot)
        self._schema = None if isinstance(snapshot, Target) else snapshot.schema
        self._names = self._layout()
        aligned = {j: _along(self._target, j) for j in range(self._target.d)}
        self._aligned = {j: found for j, found in aligned.items() if len(found)}
        self.columns_ = tuple(n for n, js in self._names.items() if js[0] in self._aligned)
        if not self.columns_:
            raise ConfigError(
                "the sketch has no axis-aligned frequencies; sketch with law = 'multiscale_axis' "
                "(or 'axis') to read marginals off it"
            )
        return self

    def __getitem__(self, column: str) -> Density | Shares:
        """The marginal law of a column.

        Raises:
            ConfigError: The column is unknown, or the sketch has no frequency along it.
        """
        if column not in self.columns_:
            raise ConfigError(
                f"there is no marginal of {column!r}; there are {', '.join(self.columns_)}"
            )
        blocks = [b for b in self._schema.blocks if b.column == column] if self._schema else []
        if blocks and blocks[0].kind == "onehot":
            return self._shares(blocks[0])
        return self._density(self._names[column][0], column, blocks)

    def _repr_html_(self) -> str:
        rows = []
        for column in self.columns_ if hasattr(self, "columns_") else ():
            law = self[column]
            if isinstance(law, Density):
                median, low, high = law.quantile(0.5)
                said = f"median {text(median)} ({text(low)} to {text(high)})"
            else:
                best = int(np.argmax(law.probability))
                said = f"{law.values[best]} {law.probability[best]:.0%}"
            drawn = bars(merged(law.probability.tolist()), label=f"law of {column}")
            rows.append((column, drawn, said))
        return card("Marginals", {"columns": len(rows)}, table(["column", "law", ""], rows))

    def _layout(self) -> dict[str, list[int]]:
        schema = self._schema
        if schema is None:
            return {f"x{j}": [j] for j in range(self._target.d)}
        names: dict[str, list[int]] = {}
        for block in schema.blocks:
            if block.kind == "numeric" and block.width > 1:
                names |= {f"{block.column}[{i}]": [block.start + i] for i in range(block.width)}
            else:
                names.setdefault(block.column, []).append(block.start)
        return names

    def _slot_mean(self, j: int) -> tuple[float, float]:
        """Mean of a 0/1 coordinate, and its standard error."""
        if j not in self._aligned:
            return float("nan"), float("nan")
        target, found = self._target, self._aligned[j]
        omega = target.omega[j, found]
        best = found[int(np.argmin(np.cos(omega)))]
        gain = 1 - np.cos(target.omega[j, best])
        mean = float((1 - target.z[best].real) / gain)
        share = float(np.clip(mean, 0, 1))
        error = np.sqrt(share * (1 - share) / target.count + (target.noise_std / gain) ** 2)
        return mean, float(error)

    def _shares(self, block: "Block") -> Shares:
        assert self._schema is not None
        column = next(c for c in self._schema.columns if c.name == block.column)
        values: tuple[Any, ...] = (False, True) if column.kind == "boolean" else column.values
        values = (*values, None) if block.width > len(values) else values
        found = np.array([self._slot_mean(block.start + i) for i in range(block.width)])
        return Shares(values, _simplex(found[:, 0]), found[:, 1])

    def _density(self, j: int, name: str, blocks: "list[Block]") -> Density:
        target, found = self._target, self._aligned[j]
        omega, z = target.omega[j, found], target.z[found]
        state = next((b for b in blocks if b.kind == "state"), None)
        if state is not None:
            # special rows (nulls, atoms) sit at coordinate 0: their feature is exactly one
            regular = self._slot_mean(state.start)[0]
            if np.isfinite(regular) and regular > 0.01:
                z = (z - (1 - regular)) / regular
        low, high = target.low[j], target.high[j]
        bins = int(np.clip(2 * len(found), 4, self.bins))
        edges = np.linspace(low, high, bins + 1)
        solver = _Inversion(omega, edges, target.count, target.noise_std)
        probability = solver.solve(z)
        rng = np.random.default_rng([self.random_state, j])
        redraws = solver.redraw(probability, rng)
        return Density(self._in_units(j, blocks, edges), probability, redraws)

    def _in_units(self, j: int, blocks: "list[Block]", edges: F64) -> NDArray[Any]:
        if self._schema is None:
            return edges
        column = next(c for c in self._schema.columns if c.name == blocks[0].column)
        if column.kind in ("numeric", "vector") and not (column.log or column.knots):
            low, high = float(column.low), float(column.high)
            return low + (edges + 1) / 2 * (high - low)
        x = np.zeros((len(edges), self._schema.d), np.float32)
        x[:, j] = edges
        for block in blocks:
            if block.kind == "state":
                x[:, block.start] = 1.0
        return np.asarray(self._schema.decode(x).column(column.name).to_numpy())


class _Inversion:
    """The nonnegative histogram of given Fourier coefficients."""

    def __init__(self, omega: F64, edges: F64, count: float, noise_std: float) -> None:
        middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
        # the mean of exp(i w x) over a bin
        atoms = np.exp(1j * np.outer(omega, middle)) * np.sinc(
            omega[:, None] * width / (2 * np.pi)
        )
        self.atoms = np.concatenate([atoms.real, atoms.imag])
        self.middle, self.omega = middle, omega
        self.count, self.noise_std = count, noise_std
        error = np.sqrt(0.5 / count + noise_std**2) + 2.0**-16
        bins = len(middle)
        # a penalty on curvature of the size of the error: it only settles what data leave open
        smooth = np.diff(np.eye(bins), 2, axis=0) * bins * error
        total = np.full((1, bins), 1e3)
        self.design = np.concatenate([self.atoms, smooth, total])
        self.right = np.concatenate([np.zeros(len(self.atoms) + len(smooth)), [1e3]])

    def solve(self, z: NDArray[np.complex128]) -> F64:
        right = self.right.copy()
        right[: len(self.atoms)] = np.concatenate([z.real, z.imag])
        probability: F64 = nnls(self.design, right, maxiter=50 * self.design.shape[1])[0]
        return np.asarray(probability / probability.sum())

    def redraw(self, probability: F64, rng: np.random.Generator) -> F64:
        """Histograms ``(R, B)`` from coefficients with fresh errors around the fitted ones."""
        features = self.atoms.T
        mean = probability @ features
        spread = (features - mean) * np.sqrt(probability)[:, None]
        drawn = np.empty((REDRAWS, len(probability)))
        for i in range(REDRAWS):
            sampling = rng.standard_normal(len(probability)) @ spread / np.sqrt(self.count)
            noise = self.noise_std * rng.standard_normal(len(mean))
            values = mean + sampling + noise
            half = len(values) // 2
            drawn[i] = self.solve(values[:half] + 1j * values[half:])
        return drawn


def _along(target: Target, j: int) -> NDArray[np.int64]:
    """Numbers of the frequencies along coordinate ``j`` only."""
    others = np.delete(target.omega, j, axis=0)
    return np.flatnonzero((target.omega[j] != 0) & ~others.any(axis=0))


def _cumulated(probability: F64) -> F64:
    return np.asarray(np.append(0.0, np.minimum(np.cumsum(probability), 1.0)))


def _crossing(q: float, curve: F64, index: F64) -> float:
    """Where a nondecreasing curve first reaches ``q``."""
    curve = np.maximum.accumulate(curve)
    above = int(np.argmax(curve >= q)) if curve[-1] >= q else len(curve) - 1
    if above == 0:
        return 0.0
    rise = curve[above] - curve[above - 1]
    return float(index[above - 1] + (min((q - curve[above - 1]) / rise, 1.0) if rise > 0 else 1.0))


def _simplex(values: F64) -> F64:
    """The nearest point of the probability simplex (Duchi et al. 2008)."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(values) + 1)
    last = int(np.flatnonzero(ordered > excess)[-1])
    result: F64 = np.maximum(values - excess[last], 0.0)
    return result
