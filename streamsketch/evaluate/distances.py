"""Distances between two samples of points that need every pair of them, in constant memory."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamsketch.errors import DataError

_BLOCK = 1024


def energy_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Half of the squared energy distance between two samples.

    D2 = E|X-Z| - 1/2 E|X-X'| - 1/2 E|Z-Z'|, with X, X' drawn from `a` and Z, Z' from `b`, each
    pair with replacement (the V-statistic): it is never negative, and for n points drawn from a
    law against the law itself its mean is E|Z-Z'| / (2n).

    Args:
        a: (n, d) or (n,) points.
        b: (k, d) or (k,) points.

    Returns:
        The distance, in the unit of the points.

    Raises:
        DataError: no points, another dimension, or a value that is not finite.

    References:
        Szekely and Rizzo, "Energy statistics: a class of statistics based on distances", 2013.

    >>> energy_distance([[0.0], [2.0]], [[1.0]])  # 1 - (2 / 4 * 2) / 2 - 0
    0.5
    """
    return max(_discrepancy(a, b, _sum_of_norms), 0.0)


def mmd2(a: ArrayLike, b: ArrayLike, scale: float = 1.0) -> float:
    """Squared maximum mean discrepancy with the kernel exp(-|x-y|^2 / (2 scale^2)).

    The V-statistic, as a sketch of infinitely many Gaussian frequencies would give it.

    Args:
        a: (n, d) or (n,) points.
        b: (k, d) or (k,) points.
        scale: kernel scale, a length in the unit of the points.

    Returns:
        A number between 0 (same sample) and 2.

    Raises:
        DataError: no points, another dimension, a value that is not finite, or scale <= 0.

    References:
        Gretton et al., "A kernel two-sample test", 2012, equation 5.

    >>> round(mmd2([[0.0]], [[1.0]]), 4)  # 2 - 2 exp(-1/2)
    0.7869
    """
    if not scale > 0:
        msg = f"Expected a kernel scale > 0, got {scale}; it is a length in the data's unit"
        raise DataError(msg)

    def minus_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        squares = pair_squares(x, y)
        squares *= -0.5 / scale**2
        np.exp(squares, out=squares)
        return -float(squares.sum())

    return max(2.0 * _discrepancy(a, b, minus_kernel), 0.0)


def _discrepancy(
    a: ArrayLike, b: ArrayLike, sum_of: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
) -> float:
    """E c(X, Z) - E c(X, X') / 2 - E c(Z, Z') / 2 for the cost whose sum over pairs is given."""
    x, z = _points("a", a), _points("b", b)
    if x.shape[1] != z.shape[1]:
        msg = f"Expected points of one dimension, got {x.shape[1]} and {z.shape[1]}"
        raise DataError(msg)
    # |x-y|^2 is computed as |x|^2 + |y|^2 - 2 x.y, which loses digits far from the origin.
    centre = x.mean(axis=0)
    x, z = x - centre, z - centre
    n, k = len(x), len(z)
    return (
        _between(x, z, sum_of) / (n * k)
        - _within(x, sum_of) / (2 * n * n)
        - _within(z, sum_of) / (2 * k * k)
    )


def _points(name: str, points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not len(array):
        msg = f"Expected points of shape (n, d) with n > 0 as {name!r}, got {array.shape}"
        raise DataError(msg)
    if not np.isfinite(array).all():
        msg = f"Points {name!r} hold a NaN or an infinity; drop those rows before measuring"
        raise DataError(msg)
    return array


def pair_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """|x_i - y_j|^2 for centred x (n, d), y (k, d): (n, k) float64, not negative."""
    squares = x @ (-2.0 * y.T)
    squares += np.einsum("ij,ij->i", x, x)[:, None]
    squares += np.einsum("ij,ij->i", y, y)
    return np.maximum(squares, 0.0, out=squares)


def _sum_of_norms(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    squares = pair_squares(x, y)
    return float(np.sqrt(squares, out=squares).sum())


def _between(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    sum_of: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> float:
    return sum(
        sum_of(x[i : i + _BLOCK], y[j : j + _BLOCK])
        for i in range(0, len(x), _BLOCK)
        for j in range(0, len(y), _BLOCK)
    )


def _within(
    x: NDArray[np.float64],
    sum_of: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
) -> float:
    """The sum over all ordered pairs; a block off the diagonal counts for its mirror image too."""
    total = 0.0
    for i in range(0, len(x), _BLOCK):
        block = x[i : i + _BLOCK]
        total += sum_of(block, block)
        total += 2.0 * sum(
            sum_of(block, x[j : j + _BLOCK]) for j in range(i + _BLOCK, len(x), _BLOCK)
        )
    return total
