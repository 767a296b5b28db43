r"""Herding, the endless form of history-aware sampling: the residual to the target is one sketch.

After every output ``x`` issued at time ``t``

.. math:: w \leftarrow \gamma w + z_\text{target}(t) - \Phi(x)

so that ``w`` is the residual (n mu - sum of Dirac masses) of Turinici (2022) seen through m
frequencies: O(m) memory for ever. It is the weight vector of kernel herding (Chen, Welling and
Smola 2010) and it stays right when the target drifts, where "match the total to today's target"
takes back outputs that were right when they were issued.

Distances are ``sum_j v_j |Phi_j(P) - Phi_j(Q)|^2 / 2``. With the weights of this module that is
the energy distance, from ``|x| = C_d (2/pi) E_theta int_0^inf (1 - cos(r theta.x)) r^-2 dr`` and
``C_d = sqrt(pi) Gamma((d+1)/2) / Gamma(d/2)``: its value at mass zero needs no cut-off at 0.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, DataError
from streamsketch.features import FeatureMap
from streamsketch.sampler.kernels import squared_distances

_RADIUS = 51.0  # largest frequency times the target's standard deviation, where d <= 3


class Features(Protocol):
    """What selection needs of a feature map."""

    omega: F64

    def features(self, x: Any) -> F64:
        """``(n, d) -> (n, 2m)``: cosines, then sines."""

    def features32(self, x: Any) -> NDArray[np.float32]:
        """The same in float32."""


def energy_frequencies(d: int, m: int, length: float, seed: int = 0) -> tuple[F64, F64]:
    """Frequencies and weights for which the sketch distance is the energy distance.

    Up to three dimensions a grid of radii on spread directions (the Fourier form of sliced
    cumulative histograms); above, scrambled Sobol radii (half-Cauchy) and directions.

    Args:
        d: Dimension.
        m: Frequencies, at least 1; a grid may use slightly fewer.
        length: Mean distance between two draws of the target, a length.
        seed: Seed of directions.

    Returns:
        ``omega (d, m)`` and non-negative weights ``(m,)``.

    Raises:
        ConfigError: A length that is not positive, or ``m < 1``.

    Examples:
        >>> omega, v = energy_frequencies(2, 2048, length=1.77)
        >>> apart = 2.0 * (1.0 - np.cos(np.array([[3.0, 4.0]]) @ omega)) @ v / 2.0
        >>> abs(float(apart[0]) - 5.0) < 0.05
        True
    """
    if m < 1 or not (np.isfinite(length) and length > 0.0):
        raise ConfigError(f"energy_frequencies: m={m} and length={length} must be positive")
    unit = length / _gaussian_spread(d)
    if d <= 3:
        count = {1: 1, 2: max(1, round(m / 64)), 3: max(1, round(m / 16))}[d]
        radii = (np.arange(max(1, m // count)) + 0.5) * 0.8 / unit
        theta = _directions(d, count, seed)
        omega = (theta[:, None, :] * radii[None, :, None]).reshape(-1, d).T
        weights = np.tile(0.8 / unit / radii**2, count) / count
    else:
        start = 3.0 / unit
        u = _sobol(d + 1, m, seed)
        angle = np.arctan(_RADIUS / unit / start)
        radii = start * np.tan(angle * u[:, 0])
        theta = _on_sphere(u[:, 1:])
        omega = (theta * radii[:, None]).T
        weights = angle * (start * start + radii * radii) / (start * radii**2) / m
    return np.ascontiguousarray(omega), _constant(d) * 2.0 / np.pi * weights


def energy_weights(omega: F64, cells: int = 24) -> F64:
    """Weights that turn the distance of given frequencies into the energy distance.

    The density of the radii is read off the frequencies themselves: each cell of log radius
    shares the mass ``int r^-2 dr`` of its range among its frequencies. Below the smallest radius
    the distance grows like ``r^2``, so the first cell takes ``int (r/r_1)^2 r^-2 dr``.

    Args:
        omega: ``(d, m)`` frequencies of any isotropic law.
        cells: Cells of log radius.

    Returns:
        Non-negative weights ``(m,)``; zero frequencies get 0.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> v = energy_weights(rng.standard_normal((1, 4000)) * 8.0)
        >>> v.shape
        (4000,)
    """
    d, m = omega.shape
    radii = np.sqrt((omega * omega).sum(axis=0))
    weights = np.zeros(m)
    inside = radii > 1e-9 * max(float(radii.max()), 1e-300)
    if not inside.any():
        return np.full(m, 1.0 / m)
    log = np.log(radii[inside])
    edges = np.linspace(log.min(), log.max() + 1e-9, cells + 1)
    which = np.clip(np.searchsorted(edges, log, side="right") - 1, 0, cells - 1)
    used, cell, counts = np.unique(which, return_inverse=True, return_counts=True)
    centre = np.exp(np.bincount(cell, weights=log) / counts)
    bounds = np.sqrt(centre[1:] * centre[:-1])
    low = np.concatenate([[0.0], bounds])
    high = np.concatenate([bounds, [float(radii.max()) * 1.0001]])
    mass = np.empty(used.size)
    mass[0] = high[0] / centre[0] ** 2
    mass[1:] = 1.0 / low[1:] - 1.0 / high[1:]
    weights[inside] = (mass / counts)[cell]
    return np.asarray(_constant(d) * 2.0 / np.pi * weights)


@dataclass(frozen=True)
class Choice:
    """Result of one selection: row numbers of the candidates, and the residual afterwards."""

    rows: NDArray[np.int64]
    residual: F64


class Herding:
    """Greedy choice among fresh candidates of the one that leaves the smallest residual.

    Each choice minimises ``|w + z_target - Phi(x)|_v`` over the candidates left: no gradient
    through the generator, every output is one of its own draws.

    Args:
        features: The feature map, `FeatureMap` or one of its kin.
        weights: Weight of each frequency, ``(m,)``.
        forget: Factor gamma on the residual per output, in (0, 1]; 1 forgets nothing.
        guard: Near-duplicates closer than this share of the candidates' median
            nearest-neighbour distance to a recent output are passed over; 0 switches it off.

    Raises:
        ConfigError: Weights that do not fit, ``forget`` outside (0, 1], a negative guard.

    Examples:
        >>> fm = FeatureMap.from_frequencies([[1.0, 2.0]])
        >>> selector = Herding(fm, np.ones(2))
        >>> z = fm.features(np.array([[0.5], [-0.5]])).mean(axis=0)
        >>> choice = selector.choose(np.zeros(4), z, np.array([[0.5], [3.0], [-0.5]]), 2)
        >>> sorted(choice.rows.tolist())
        [0, 2]
    """

    def __init__(
        self,
        features: Features,
        weights: F64,
        forget: float = 1.0,
        guard: float = 0.5,
    ) -> None:
        d, m = features.omega.shape
        if weights.shape != (m,) or not (weights >= 0).all():
            raise ConfigError(
                f"Herding: weights of shape {weights.shape} do not fit m={m} frequencies; "
                "give one non-negative weight per frequency"
            )
        if not 0.0 < forget <= 1.0:
            raise ConfigError(f"Herding: forget={forget} must lie in (0, 1]")
        if not guard >= 0.0:
            raise ConfigError(f"Herding: guard={guard} must be at least 0")
        self.features, self.weights, self.d = features, weights, d
        self.forget, self.guard = forget, guard
        self._twice = np.concatenate([weights, weights])

    def choose(
        self,
        residual: F64,
        target: F64,
        candidates: NDArray[Any],
        k: int,
        recent: NDArray[Any] | None = None,
    ) -> Choice:
        """Choose ``k`` of the candidates, one after the other.

        Args:
            residual: The residual ``w``, ``(2m,)``; not changed.
            target: Mean features of the target now, ``(2m,)``.
            candidates: Fresh draws, ``(C, d)``.
            k: How many, at most C.
            recent: Recent outputs ``(r, d)`` to keep away from, or None.

        Returns:
            Rows in the order of choice, and the residual after them.

        Raises:
            ConfigError: More asked for than there are candidates.
            DataError: Candidates with NaN or inf.
        """
        x = np.asarray(candidates, dtype=np.float64)
        if k > len(x):
            raise ConfigError(
                f"Herding: cannot choose k={k} of {len(x)} candidates; "
                "offer more candidates or choose fewer"
            )
        if not np.isfinite(x).all():
            raise DataError(
                "Herding: candidates hold NaN or inf; the generator is broken, train it again"
            )
        phi = self.features.features32(x)
        v = self._twice
        scores = phi @ np.stack([v * residual, v * target], axis=1).astype(np.float32)
        pull, share = scores.T
        weights = v.astype(np.float32)
        near = _Guard(x, recent, self.guard)
        rows = np.empty(k, dtype=np.int64)
        free = np.ones(len(x), dtype=bool)
        for i in range(k):
            allowed = free & near.clear
            if not allowed.any():
                allowed = free & (near.gap >= near.gap[free].max())
            row = int(np.argmax(np.where(allowed, pull + share, -np.inf)))
            rows[i], free[row] = row, False
            pull = np.float32(self.forget) * pull + share - phi @ (weights * phi[row])
            near.add(row)
        return Choice(rows, self._after(residual, target, self.features.features(x[rows])))

    def after(self, residual: F64, target: F64, outputs: NDArray[Any]) -> F64:
        """The residual after issuing ``outputs (k, d)`` in order, however they were chosen."""
        return self._after(
            residual, target, self.features.features(np.asarray(outputs, np.float64))
        )

    def _after(self, residual: F64, target: F64, phi: F64) -> F64:
        fade = self.forget ** np.arange(len(phi) - 1, -1, -1.0)
        return np.asarray(residual * self.forget ** len(phi) + fade.sum() * target - fade @ phi)

    def distance(self, a: F64, b: F64) -> float:
        """``sum v |a - b|^2 / 2`` of two mean features: D2 of the study for energy weights."""
        gap = a - b
        return float(0.5 * (self._twice * gap * gap).sum())

    def spread(self, mean: F64) -> float:
        """``E h(Z - Z')`` of two independent draws with these mean features."""
        m = self.weights.size
        return float(self.weights @ (1.0 - mean[:m] ** 2 - mean[m:] ** 2))

    def gain(self, residual: F64, count: int, target: F64) -> float:
        """How many times closer to their target ``count`` outputs are than independent draws.

        ``E|Z - Z'| / (2 N D2)`` from sketches alone; 1 for independent draws, infinite for a residual
        of zero. These are the frequencies that the choice was made by, so that it is optimistic:
        finer detail than the fastest of them is not seen.
        """
        apart = self.distance(residual / max(count, 1), np.zeros_like(residual))
        return self.spread(target) / (2.0 * count * apart) if apart > 0 else np.inf


class _Guard:
    """Which candidates stay clear of recent outputs and of those chosen before."""

    def __init__(self, x: F64, recent: NDArray[Any] | None, share: float) -> None:
        self.x = x
        self.radius = 0.0
        self.gap = np.full(len(x), np.inf)
        if share > 0.0 and len(x) > 1:
            some = squared_distances(x[:256], x[:256])
            np.fill_diagonal(some, np.inf)
            self.radius = (share**2) * float(np.median(some.min(axis=1)))
            if recent is not None and len(recent):
                self.gap = squared_distances(x, np.asarray(recent, np.float64)).min(axis=1)

    @property
    def clear(self) -> NDArray[np.bool_]:
        return self.gap >= self.radius

    def add(self, row: int) -> None:
        if self.radius > 0.0:
            gap = self.x - self.x[row]
            self.gap = np.minimum(self.gap, (gap * gap).sum(axis=1))


def energy_map(d: int, m: int, length: float, seed: int = 0) -> tuple[FeatureMap, F64]:
    """The feature map of `energy_frequencies`, and its weights."""
    omega, weights = energy_frequencies(d, m, length, seed)
    return FeatureMap.from_frequencies(omega), weights


def _constant(d: int) -> float:
    from scipy.special import gammaln

    return float(np.sqrt(np.pi) * np.exp(gammaln(0.5 * (d + 1)) - gammaln(0.5 * d)))


def _gaussian_spread(d: int) -> float:
    """Mean distance of two standard Gaussian draws in d dimensions."""
    return 2.0 * _constant(d) / float(np.sqrt(np.pi))


def _directions(d: int, count: int, seed: int) -> F64:
    if d == 1:
        return np.ones((1, 1))
    if d == 2:
        angle = (np.arange(count) + 0.5) * np.pi / count
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _on_sphere(_sobol(d, count, seed))


def _sobol(d: int, n: int, seed: int) -> F64:
    from scipy.stats import qmc

    engine = qmc.Sobol(d, rng=np.random.default_rng(seed))
    whole = 1 << max(0, (n - 1).bit_length())
    u = np.asarray(engine.random(whole)[:n], np.float64)
    return np.asarray(np.clip(u, 1e-9, 1.0 - 1e-9))


def _on_sphere(u: F64) -> F64:
    from scipy.special import ndtri

    g = ndtri(u)
    return np.asarray(g / np.linalg.norm(g, axis=1, keepdims=True))
