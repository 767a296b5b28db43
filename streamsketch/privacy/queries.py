"""Paid queries: bounds, histograms and scales that come from the rows cost budget.

A limit read off the data is an unprotected release of it. These queries answer such questions with
noise, on a pilot of the stream, before the sketch is declared. Queries and releases see the same
rows, so their budgets add up: `Budget.split` states who gets what, and `Budget.describe` shows it
before anything runs. Queries use exact discrete noise, so a budget given as epsilon is converted by
the zCDP bound, for queries and releases together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import BudgetError, ConfigError
from streamsketch.privacy.accountant import check_budget, epsilon_from_rho, rho_from_epsilon
from streamsketch.privacy.noise import Entropy, discrete_gaussian, system_entropy
from streamsketch.privacy.settings import Settings

__all__ = ["Budget", "private_bounds", "private_histogram", "private_scale"]


@dataclass
class Budget:
    """A budget divided between paid queries and releases; each part is paid once.

    Attributes:
        settings: Settings with the whole budget.
        shares: Query name -> share of rho, each above 0, together below 1.
        paid: Names of the queries already asked.

    >>> budget = Budget.split(Settings(rho=0.5), {"bounds": 0.1})
    >>> print(budget.describe())
    bounds    rho = 0.05 (10 %)
    releases  rho = 0.45 (90 %)
    total     rho = 0.5, epsilon = 5.222 at delta = 1e-06
    """

    settings: Settings
    shares: dict[str, float]
    paid: tuple[str, ...] = ()

    @classmethod
    def split(cls, settings: Settings, shares: Mapping[str, float]) -> "Budget":
        """Divide a budget.

        Raises:
            ConfigError: If a share is not above 0 or they leave nothing for the releases.
        """
        for name, share in shares.items():
            check_budget(f"share of {name}", share)
        if sum(shares.values()) >= 1.0:
            raise ConfigError(
                f"the shares {dict(shares)} add up to {sum(shares.values()):g}, which leaves nothing "
                "for the releases; keep them below 1 together"
            )
        if settings.unit != "row":
            raise ConfigError(
                'paid queries protect rows but unit is "user"; declare the limits instead'
            )
        return cls(settings, dict(shares))

    @property
    def whole(self) -> float:
        """The whole budget as rho."""
        s = self.settings
        if s.epsilon is None:
            return s.budget
        return rho_from_epsilon(s.epsilon, s.delta, strict=True)

    @property
    def releases(self) -> Settings:
        """The settings for the releaser: what the queries leave."""
        rho = self.whole * (1.0 - sum(self.shares.values()))
        return replace(self.settings, epsilon=None, rho=rho)

    def pay(self, name: str) -> float:
        """The rho of a query; it can be asked once.

        Raises:
            BudgetError: If it was asked before, or has no share.
        """
        if name not in self.shares or name in self.paid:
            why = "was asked already" if name in self.paid else "has no share"
            raise BudgetError(
                f"the query {name!r} {why} (shares: {self.shares}); give it a share of its own in "
                "Budget.split"
            )
        self.paid = (*self.paid, name)
        return self.whole * self.shares[name]

    def describe(self) -> str:
        """Who gets what, for people; show it before the run."""
        whole = self.whole
        parts = {**self.shares, "releases": 1.0 - sum(self.shares.values())}
        lines = [f"{n:<9} rho = {whole * s:.4g} ({100 * s:.3g} %)" for n, s in parts.items()]
        epsilon = epsilon_from_rho(whole, self.settings.delta, strict=True)
        lines.append(
            f"{'total':<9} rho = {whole:.4g}, epsilon = {epsilon:.4g} at delta = "
            f"{self.settings.delta:g}"
        )
        return "\n".join(lines)

    def entries(self) -> list[dict[str, Any]]:
        """Paid queries as ledger facts: name and charge."""
        return [{"name": n, "charge": self.whole * self.shares[n]} for n in self.paid]


def private_histogram(
    values: NDArray[Any],
    edges: Sequence[float] | F64,
    rho: float,
    *,
    adjacency: str = "add_remove",
    entropy: Entropy = system_entropy,
) -> NDArray[np.int64]:
    """Counts per bin with exact discrete Gaussian noise.

    Args:
        values: (n,) numbers; those outside the edges, and NaN, are not counted.
        edges: (bins + 1,) public, increasing.
        rho: Price, zCDP. One row is in at most one bin: sensitivity 1 (replaced: sqrt 2).
        adjacency: "add_remove" or "replace_one".
        entropy: Source of random bytes.

    Returns:
        (bins,) int64; noisy counts may be negative.
    """
    check_budget("rho", rho)
    edges = np.asarray(edges, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ConfigError("histogram edges must be at least two increasing numbers")
    values = np.asarray(values, np.float64).ravel()
    counts = np.histogram(values[~np.isnan(values)], edges)[0].astype(np.int64)
    squared = 2.0 if adjacency == "replace_one" else 1.0
    # The sampler takes whole sigmas: count in steps fine enough that rounding up costs 0.1 %.
    step = 1 << max(0, math.ceil(math.log2(1000.0 / math.sqrt(squared / (2.0 * rho)))))
    sigma = math.ceil(step * math.sqrt(squared / (2.0 * rho)))
    noisy = counts * step + discrete_gaussian(len(counts), sigma, entropy)
    return np.asarray(np.rint(noisy / step).astype(np.int64))


def private_bounds(
    values: NDArray[Any],
    rho: float,
    *,
    largest: float = 1e9,
    failure: float = 1e-3,
    adjacency: str = "add_remove",
    entropy: Entropy = system_entropy,
) -> tuple[float, float]:
    """Limits for a column, powers of two, from a noisy logarithmic histogram.

    A bin counts as occupied when its noisy count is one that an empty bin exceeds with
    probability `failure` over all bins: limits may leave out a few rows, seldom take in nothing.

    Args:
        values: (n,) numbers of the pilot.
        rho: Price, zCDP.
        largest: Public bound on the size of any limit.
        failure: Probability that an empty bin is taken for an occupied one.
        adjacency: As in `private_histogram`.
        entropy: Source of random bytes.

    Returns:
        low, high with low < high.

    Raises:
        ConfigError: If no bin stands out: too few rows for the price.
    """
    positive = 2.0 ** np.arange(-20, math.ceil(math.log2(largest)) + 1)
    edges = np.concatenate([-positive[::-1], positive])
    counts = private_histogram(values, edges, rho, adjacency=adjacency, entropy=entropy)
    spread = math.sqrt((2.0 if adjacency == "replace_one" else 1.0) / (2.0 * rho))
    limit = spread * math.sqrt(2.0 * math.log(len(counts) / failure))
    occupied = np.flatnonzero(counts > limit)
    if not len(occupied):
        raise ConfigError(
            f"no range of values stands out of the noise at rho = {rho:g}; use more pilot rows, a "
            "larger share, or declare the limits"
        )
    low, high = edges[occupied[0]], edges[occupied[-1] + 1]
    tiny = positive[0]
    return (0.0 if low == -tiny else float(low)), float(
        0.0 if high == tiny and low < -tiny else high
    )


def private_scale(
    x: NDArray[np.floating[Any]],
    rho: float,
    *,
    scales: Sequence[float] | None = None,
    directions: int = 256,
    target: float = 0.5,
    seed: int = 0,
    adjacency: str = "add_remove",
    entropy: Entropy = system_entropy,
) -> float:
    """A kernel scale from a noisy pilot sketch: where features neither vanish nor saturate.

    At each scale of a public grid the mean squared modulus of Gaussian-frequency features,
    without the part that the noise adds, falls from 1 (scale too long: all rows look alike) to 0
    (too short: none do). The scale where it crosses `target` is returned, interpolated.

    Args:
        x: (n, d) encoded pilot rows.
        rho: Price, zCDP; all frequencies and the count are one Gaussian release.
        scales: Public grid, increasing; by default 0.05 to 50.
        directions: Frequencies per scale.
        target: Mean squared modulus to look for.
        seed: Seed of the frequencies (public).
        adjacency: As in `private_histogram`.
        entropy: Source of random bytes.

    Returns:
        The scale, a length.
    """
    from streamsketch.features import FeatureMap

    check_budget("rho", rho)
    grid = np.geomspace(0.05, 50.0, 13) if scales is None else np.asarray(scales, np.float64)
    base = np.random.default_rng(seed).normal(size=(x.shape[1], directions))
    fm = FeatureMap.from_frequencies(np.concatenate([base / s for s in grid], axis=1))
    settings = Settings(rho=rho, releases=1, adjacency=adjacency)  # type: ignore[arg-type]
    units = settings.count_units(fm.norm_bound)
    sum_ = np.append(fm.sum(np.asarray(x, np.float32)), units * len(x))
    sigma = math.ceil(settings.unit_norm(fm.norm_bound) * 2**16 / math.sqrt(2.0 * rho))
    noisy = (sum_ + discrete_gaussian(len(sum_), sigma, entropy)).astype(np.float64)
    count = max(noisy[-1] / units, 1.0)
    squared = (noisy[:-1] / (2**16 * count)) ** 2 - (sigma / (2**16 * count)) ** 2
    power = squared.reshape(2, len(grid), directions).sum(0).mean(1)
    # Longer scales look more alike: make the noisy curve non-decreasing before reading it.
    power = np.maximum.accumulate(power)
    above = int(np.searchsorted(power, target))
    if above == 0 or above == len(grid):
        return float(grid[min(above, len(grid) - 1)])
    share = (target - power[above - 1]) / (power[above] - power[above - 1])
    logs = np.log(grid[above - 1 : above + 1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))
