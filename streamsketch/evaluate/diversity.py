"""Scores of diversity: how far a set of outputs is from repeating itself, and from the real rows.

No one number suffices. Vendi and nearest-neighbour distances grow for points thrown far off the
data, so that they stand beside precision; and `energy_gain` says what history buys.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate.distances import energy_distance, pair_squares

_BLOCK = 1024


def energy_gain(points: ArrayLike, target: ArrayLike) -> float:
    """How many times closer to the target the points are than as many independent draws.

    ``E|Z - Z'| / (2 N D2)``: N independent draws of a law are at squared energy distance
    ``E|Z - Z'| / (2 N)`` from it on average, so that 1 means independent.

    Args:
        points: ``(n, d)`` outputs.
        target: ``(k, d)`` rows that stand for the target; their own finite number limits the
            gain that can be seen to about ``k / n``.

    Returns:
        The gain; infinite where the points are the target.

    Raises:
        DataError: No points, another dimension, or a value that is not finite.

    >>> round(energy_gain([[0.0], [1.0]], [[0.0], [1.0], [1.0], [0.0]]), 3)
    inf
    """
    x, z = _points("points", points), _points("target", target)
    distance = energy_distance(x, z)
    spread = _mean_distance(z)
    return spread / (2.0 * len(x) * distance) if distance > 1e-15 * spread else float("inf")


def sketch_gain(mean: ArrayLike, target: ArrayLike, weights: ArrayLike, count: int) -> float:
    """`energy_gain` from two sketches: nothing but mean features is needed.

    Args:
        mean: Mean features of the outputs, ``(2m,)``.
        target: Mean features of the target, ``(2m,)``.
        weights: Weight of each frequency, ``(m,)``: `streamsketch.sampler.energy_weights`.
        count: Number of outputs.

    Raises:
        ConfigError: Shapes that do not fit, or no outputs.

    >>> sketch_gain([0.5, 0.0], [1.0, 0.0], [1.0], 10)  # a target of one point has no spread
    0.0
    """
    a, z, v = (np.asarray(value, np.float64) for value in (mean, target, weights))
    if a.shape != z.shape or a.shape != (2 * v.size,) or count < 1:
        raise ConfigError(
            f"sketch_gain: means of shape {a.shape} and {z.shape}, {v.size} weights and "
            f"count={count} do not fit; give (2m,), (2m,), (m,) and at least one output"
        )
    m = v.size
    residual = 0.5 * float(np.tile(v, 2) @ (a - z) ** 2)
    spread = float(v @ np.maximum(1.0 - z[:m] ** 2 - z[m:] ** 2, 0.0))
    return spread / (2.0 * count * residual) if residual > 0 else float("inf")


def vendi(points: ArrayLike, scale: float | None = None) -> float:
    """Vendi score: the effective number of distinct points under a Gaussian kernel.

    ``exp(-sum l log l)`` over the eigenvalues of the kernel matrix divided by n: 1 for points
    that coincide, n for points far apart.

    Args:
        points: ``(n, d)``; the cost grows like n^3, use `VendiSketch` for many.
        scale: Kernel scale, a length; by default 0.35 of the median distance.

    Raises:
        DataError: No points, values that are not finite, or a scale that is not positive.

    References:
        Friedman and Dieng, "The Vendi score", 2023.

    >>> round(vendi([[0.0], [100.0], [200.0]], scale=1.0), 6)
    3.0
    """
    x = _points("points", points)
    squares = pair_squares(x - x.mean(axis=0), x - x.mean(axis=0))
    length = median_scale(x) if scale is None else scale
    _positive_scale(length)
    kernel = np.exp(-0.5 / length**2 * squares)
    return _effective_number(np.linalg.eigvalsh(kernel / len(x)))


def rke(points: ArrayLike, scale: float | None = None) -> float:
    """Rényi kernel entropy: the effective number of points by collisions, ``n^2 / sum k(x, x')^2``.

    Like `vendi` between 1 and n, and less moved by rare points.

    Args:
        points: ``(n, d)``.
        scale: As for `vendi`.

    References:
        Jalali, Li, Farnia, "An information-theoretic evaluation of generative models", 2023.

    >>> round(rke([[0.0], [100.0], [200.0]], scale=1.0), 6)
    3.0
    """
    x = _points("points", points)
    length = median_scale(x) if scale is None else scale
    _positive_scale(length)
    squares = pair_squares(x - x.mean(axis=0), x - x.mean(axis=0))
    return float(len(x) ** 2 / np.exp(-squares / length**2).sum())


class VendiSketch:
    """Vendi of a stream from the second-order sketch ``E[phi phi^T]``, in bounded memory.

    With Gaussian frequencies the ``2m x 2m`` matrix has, as m grows, the eigenvalues of the
    kernel matrix divided by n. Its rank bounds the score: it is biased low, towards 2m.

    Args:
        d: Dimension of the points.
        scale: Kernel scale, a length.
        frequencies: m; memory is ``4 m^2`` numbers.
        seed: Seed of the frequencies.

    >>> sketch = VendiSketch(1, scale=1.0, frequencies=64)
    >>> sketch.update(np.zeros((5, 1)))
    >>> round(sketch.score(), 6)
    1.0
    """

    def __init__(self, d: int, scale: float, frequencies: int = 256, seed: int = 0) -> None:
        from streamsketch.features import FeatureMap
        from streamsketch.features.frequencies import draw

        _positive_scale(scale)
        omega = draw("gaussian", d, frequencies, seed, scale)
        self.features = FeatureMap.from_frequencies(omega)
        self.total = np.zeros((2 * frequencies, 2 * frequencies))
        self.count = 0

    def update(self, points: ArrayLike) -> None:
        """Add points ``(n, d)``."""
        x = _points("points", points)
        for start in range(0, len(x), _BLOCK):
            phi = self.features.features(x[start : start + _BLOCK])
            self.total += phi.T @ phi
        self.count += len(x)

    def merge(self, other: "VendiSketch") -> "VendiSketch":
        """The sketch of both sets of points; both must have the same frequencies.

        Raises:
            ConfigError: The frequencies differ.
        """
        if not np.array_equal(self.features.omega, other.features.omega):
            raise ConfigError("VendiSketch: sketches of different scale or seed do not merge")
        merged = object.__new__(VendiSketch)
        merged.features, merged.count = self.features, self.count + other.count
        merged.total = self.total + other.total
        return merged

    def score(self) -> float:
        """The Vendi score of all points so far.

        Raises:
            DataError: No points were added.
        """
        if not self.count:
            raise DataError("VendiSketch: no points were added yet")
        m = self.total.shape[0] // 2
        return _effective_number(np.linalg.eigvalsh(self.total / (self.count * m)))


@dataclass(frozen=True)
class Coverage:
    """Precision, recall, density and coverage of outputs against real rows.

    Attributes:
        precision: Share of outputs within reach of a real row.
        recall: Share of real rows within reach of an output.
        density: Mean number of real reaches that an output lies in, over k.
        coverage: Share of real rows with an output within their own reach.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(points: ArrayLike, real: ArrayLike, k: int = 5) -> Coverage:
    """Precision, recall, density and coverage; the reach of a row is its k-th neighbour's.

    Args:
        points: ``(n, d)`` outputs, more than k.
        real: ``(r, d)`` real rows, more than k.
        k: Neighbours.

    Raises:
        DataError: Too few points, another dimension, or a value that is not finite.

    References:
        Kynkaanniemi et al., "Improved precision and recall metric", 2019; Naeem et al.,
        "Reliable fidelity and diversity metrics", 2020.

    >>> x = np.arange(8.0)[:, None]
    >>> coverage(x, x, k=2).recall
    1.0
    """
    x, z = _pair(points, real)
    if k < 1 or min(len(x), len(z)) <= k:
        raise DataError(
            f"coverage: {len(x)} outputs and {len(z)} real rows are too few for k={k} neighbours"
        )
    reach_x, reach_z = _reach(x, k), _reach(z, k)
    inside = np.zeros(len(x))
    recalled, nearest = np.zeros(len(z), dtype=bool), np.full(len(z), np.inf)
    for start in range(0, len(x), _BLOCK):
        part = slice(start, start + _BLOCK)
        gaps = pair_squares(x[part], z)
        inside[part] = (gaps <= reach_z[None, :]).sum(axis=1)
        recalled |= (gaps <= reach_x[part, None]).any(axis=0)
        nearest = np.minimum(nearest, gaps.min(axis=0))
    return Coverage(
        float((inside > 0).mean()),
        float(recalled.mean()),
        float(inside.mean() / k),
        float((nearest <= reach_z).mean()),
    )


def nearest_distances(points: ArrayLike) -> F64:
    """Distance of each point to its nearest neighbour among the others, ``(n,)``.

    Raises:
        DataError: Fewer than two points, or a value that is not finite.

    >>> nearest_distances([[0.0], [1.0], [3.0]]).tolist()
    [1.0, 1.0, 2.0]
    """
    x = _points("points", points)
    if len(x) < 2:
        raise DataError("nearest_distances: one point has no neighbour; give at least two")
    x = x - x.mean(axis=0)
    out = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        gaps = pair_squares(x[start : start + _BLOCK], x)
        rows = np.arange(len(gaps))
        gaps[rows, start + rows] = np.inf
        out[start : start + _BLOCK] = np.sqrt(gaps.min(axis=1))
    return out


def duplicate_rate(rows: Iterable[object]) -> float:
    """Share of rows that repeat an earlier one; rows of arrays are compared by their bytes.

    >>> duplicate_rate([(1, "a"), (2, "a"), (1, "a"), (1, "a")])
    0.5
    """
    keys = [row.tobytes() if isinstance(row, np.ndarray) else row for row in rows]
    return 1.0 - len(set(keys)) / len(keys) if keys else 0.0


def median_scale(points: ArrayLike, share: float = 0.35) -> float:
    """A share of the median distance between points, from at most 1024 of them.

    >>> median_scale([[0.0], [1.0]], share=1.0)
    1.0
    """
    x = _points("points", points)[:1024]
    gaps = np.sqrt(pair_squares(x - x.mean(axis=0), x - x.mean(axis=0)))
    apart = gaps[~np.eye(len(x), dtype=bool)]
    apart = apart[apart > 0]
    return share * float(np.median(apart)) if apart.size else 1.0


def _effective_number(eigenvalues: NDArray[np.floating[Any]]) -> float:
    positive = eigenvalues[eigenvalues > 1e-15]
    shares = positive / positive.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _reach(x: F64, k: int) -> F64:
    """Squared distance of each row to its k-th neighbour among the others."""
    out = np.empty(len(x))
    for start in range(0, len(x), _BLOCK):
        gaps = pair_squares(x[start : start + _BLOCK], x)
        out[start : start + _BLOCK] = np.partition(gaps, k, axis=1)[:, k]
    return out


def _mean_distance(x: F64) -> float:
    x = x - x.mean(axis=0)
    total = sum(
        float(np.sqrt(pair_squares(x[i : i + _BLOCK], x)).sum()) for i in range(0, len(x), _BLOCK)
    )
    return total / len(x) ** 2


def _pair(points: ArrayLike, real: ArrayLike) -> tuple[F64, F64]:
    x, z = _points("points", points), _points("real rows", real)
    if x.shape[1] != z.shape[1]:
        raise DataError(f"outputs have dimension {x.shape[1]}, real rows {z.shape[1]}")
    centre = z.mean(axis=0)
    return x - centre, z - centre


def _points(name: str, points: ArrayLike) -> F64:
    x = np.asarray(points, np.float64)
    if x.ndim != 2 or not len(x):
        raise DataError(f"{name} must have shape (n, d) with n > 0, got {x.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"{name} hold a NaN or an infinity; drop those rows before measuring")
    return x


def _positive_scale(scale: float) -> None:
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"kernel scale {scale} must be a positive length")
