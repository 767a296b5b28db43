r"""Weighted sums of chi-squares: their tail, and how often a process of them crosses a level.

The squared distance between two sketches of the same law is, by the central limit theorem,
:math:`Q = \sum_i \lambda_i y_i^2` with independent standard normal :math:`y_i` and the eigenvalues
:math:`\lambda_i` of the covariance of the difference. Its cumulant generating function is

.. math:: K(s) = -\tfrac12 \sum_i \log(1 - 2 s \lambda_i), \qquad s < 1 / (2 \max \lambda).

The saddlepoint at a level :math:`h` solves :math:`K'(s) = h`; the density and tail follow
(Lugannani and Rice 1980; Kuonen 1999).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from streamsketch.errors import ConfigError

Array = NDArray[np.float64]

__all__ = [
    "covariance_spectrum",
    "crossing_rate",
    "level",
    "null_filter",
    "saddlepoint",
    "tail",
]


def _kept(eigenvalues: Array) -> Array:
    values = np.asarray(eigenvalues, np.float64)
    values = values[values > 1e-12 * max(float(values.max(initial=0.0)), 1e-300)]
    if not len(values):
        raise ConfigError("every eigenvalue is zero: the statistic is constant and has no tail")
    return values


def saddlepoint(eigenvalues: Array, h: float) -> float:
    """The root ``s`` of ``K'(s) = h`` for ``h > 0``; positive above the mean."""
    values = _kept(eigenvalues)
    largest = float(values.max())

    def slope(s: float) -> float:
        return float((values / (1 - 2 * s * values)).sum()) - h

    # with n the effective number of terms, K' runs from 0 at -inf to inf at 1/(2 largest)
    lower = -len(values) / (2 * h) - 1 / largest
    while slope(lower) > 0:
        lower *= 4
    upper = (1 - largest / (h + values.sum()) * 1e-3) / (2 * largest)
    while slope(upper) < 0:
        upper = 1 / (2 * largest) - (1 / (2 * largest) - upper) * 0.1
    return float(brentq(slope, lower, upper, xtol=1e-14 / largest, rtol=1e-13))


def tail(eigenvalues: Array, h: float) -> float:
    """``P(sum_i lambda_i y_i^2 > h)``, to about a percent of itself however small.

    Args:
        eigenvalues: ``(n,)`` nonnegative weights.
        h: Level.

    Raises:
        ConfigError: All weights are zero.

    Example:
        >>> round(tail(np.ones(5), 15.086), 4)   # the 99% point of chi-square with 5 degrees
        0.01
    """
    values = _kept(eigenvalues)
    if h <= 0:
        return 1.0
    s = saddlepoint(values, h)
    cumulant = -0.5 * np.log1p(-2 * s * values).sum()
    bend = 2 * ((values / (1 - 2 * s * values)) ** 2).sum()
    w = np.sign(s) * np.sqrt(max(2 * (s * h - cumulant), 0.0))
    u = s * np.sqrt(bend)
    if abs(w) < 1e-4:  # at the mean the formula is 0/0; its limit has the skewness in it
        skew = 8 * (values**3).sum() / (2 * (values**2).sum()) ** 1.5
        return float(0.5 - skew / (6 * np.sqrt(2 * np.pi)))
    density = np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)
    return float(np.clip(ndtr(-w) + density * (1 / u - 1 / w), 0.0, 1.0))


def crossing_rate(eigenvalues: Array, h: float, step: float) -> float:
    r"""Clumps of exceedances of level ``h`` per time step, for a process :math:`Q_t`.

    Each :math:`y_i` is a stationary Gaussian sequence with
    :math:`\operatorname{Var}(y_{t+1} - y_t)` = ``step``, small. Near a high level the process is
    a random walk of step variance :math:`\sigma^2 = 4\,\mathrm{step} \sum_i \lambda_i^2
    E_s[y_i^2]`, with :math:`E_s[y_i^2] = 1/(1 - 2 s \lambda_i)` under the law tilted to the
    level, drifting down at :math:`s \sigma^2 / 2` (stationarity). The rate of clumps is density
    times drift (Aldous 1989, section B), times Siegmund's factor for discrete time (Siegmund
    1985, eq. 4.38): docs/drift.md derives it.

    Args:
        eigenvalues: ``(n,)``.
        h: Level, above the mean of the process.
        step: Variance of one step of a standardised coordinate.
    """
    values = _kept(eigenvalues)
    if h <= values.sum():
        return 1.0
    s = saddlepoint(values, h)
    shrunk = 1 - 2 * s * values
    bend = 2 * ((values / shrunk) ** 2).sum()
    density = np.exp(-0.5 * np.log(shrunk).sum() - s * h) / np.sqrt(2 * np.pi * bend)
    variance = 4 * step * (values**2 / shrunk).sum()
    x = s * np.sqrt(variance)
    discrete = (2 / x) * (ndtr(x / 2) - 0.5)
    discrete /= (x / 2) * ndtr(x / 2) + np.exp(-(x**2) / 8) / np.sqrt(2 * np.pi)
    return float(density * s * variance / 2 * discrete)


def level(eigenvalues: Array, step: float, mean_time: float) -> float:
    """The level whose clumps of exceedances are ``mean_time`` steps apart on average."""
    values = _kept(eigenvalues)
    mean, spread = float(values.sum()), float(np.sqrt(2 * (values**2).sum()))
    low, high = mean + 0.5 * spread, mean + 3 * spread
    target = np.log(1 / mean_time)

    def excess(h: float) -> float:
        return float(np.log(max(crossing_rate(values, h, step), 1e-300)) - target)

    while excess(high) > 0:
        high += 3 * spread
    return low if excess(low) < 0 else float(brentq(excess, low, high, rtol=1e-8))


def null_filter(fast: float, slow: float) -> tuple[float, float]:
    """How the difference of two averages of independent rows fluctuates.

    Args:
        fast: Forgetting factor of the first average.
        slow: Of the second.

    Returns:
        Its variance per unit variance of a row, and the variance of one step of it, standardised:
        with ``c_k = F (1 - F)^k - s (1 - s)^k``, ``sum c_k^2`` and
        ``2 - 2 sum c_k c_{k+1} / sum c_k^2``.
    """
    cross = fast * slow / (fast + slow - fast * slow)
    first, second = fast / (2 - fast), slow / (2 - slow)
    variance = first + second - 2 * cross
    lagged = first * (1 - fast) + second * (1 - slow) - cross * (2 - fast - slow)
    return variance, 2 - 2 * lagged / variance


def covariance_spectrum(weight: float, first: Array, second: Array) -> Array:
    """Eigenvalues of a covariance from sums over ``weight`` rows, their spread corrected.

    Sample eigenvalues are more spread than the true ones: the mean of their squares is too large
    by about ``(tr C)^2 / weight`` (Ledoit and Wolf 2002). They are drawn to their mean until the
    second moment is unbiased.
    """
    mean = first / weight
    covariance = (second - weight * np.outer(mean, mean)) / (weight - 1)
    values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    total, square = values.sum(), (values**2).sum()
    center = total / len(values)
    unbiased = (square - total**2 / weight) / (1 + 1 / weight)
    spread = square - total * center
    shrink = (
        np.sqrt(np.clip((unbiased - total * center) / spread, 0.0, 1.0)) if spread > 0 else 1.0
    )
    result: Array = center + shrink * (values - center)
    return result
