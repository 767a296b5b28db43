r"""Weighted sums of chi-squares: their tail, and how often a process of them crosses a level.

The squared distance between two sketches of the same law is, by the central limit theorem,
:math:`Q = \sum_i \lambda_i y_i^2` with independent standard normal :math:`y_i` and the eigenvalues
:math:`\lambda_i` of the covariance of the difference. Its cumulant generating function is

.. math:: K(s) = -\tfrac12 \sum_i \log(1 - 2 s \lambda_i), \qquad s < 1 / (2 \max \lambda).

The saddlepoint at a level :math:`h` solves :math:`K'(s) = h`; the density and tail follow
(Lugannani and Rice 1980; Kuonen 1999).
"""

from math import comb

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError

__all__ = [
    "beyond_gaussian",
    "level",
    "null_filter",
    "saddlepoint",
    "shape_terms",
    "tail",
    "whitening",
]


def _kept(eigenvalues: F64) -> F64:
    values = np.asarray(eigenvalues, np.float64)
    values = values[values > 1e-12 * max(float(values.max(initial=0.0)), 1e-300)]
    if not len(values):
        raise ConfigError("every eigenvalue is zero: the statistic is constant and has no tail")
    return values


def saddlepoint(eigenvalues: F64, h: float) -> float:
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


def tail(eigenvalues: F64, h: float) -> float:
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


def level(eigenvalues: F64, step: float, mean_time: float) -> float:
    r"""The level that is exceeded every ``mean_time`` steps on average.

    The process :math:`Q_t` starts afresh when it exceeds the level ``h``. Each :math:`y_i` is a
    stationary Gaussian sequence with :math:`\operatorname{Var}(y_{t+1} - y_t)` = ``step``, small.
    :math:`Q` then moves like a diffusion with stationary density :math:`f`, distribution :math:`F`
    and variance per step :math:`\sigma^2(q) = 4\,\mathrm{step} \sum_i \lambda_i^2 E_s[y_i^2]`,
    where :math:`E_s[y_i^2] = 1/(1 - 2 s \lambda_i)` under the law tilted to ``q``. The mean time
    to reach ``h`` is :math:`\int^h 2 F / (\sigma^2 f)\,dq` (Karlin and Taylor 1981, section
    15.3), each part divided by Siegmund's factor for discrete time (Siegmund 1985, section 10.2):
    docs/drift.md derives it.

    Args:
        eigenvalues: ``(n,)``.
        step: Variance of one step of a standardised coordinate.
        mean_time: Steps between two crossings.
    """
    values = _kept(eigenvalues)
    pole = 1 / (2 * float(values.max()))

    def excess(share: float) -> float:
        return float(np.log(_passage_time(values, step, share * pole) / mean_time))

    low, high = 1e-3, 0.5
    while excess(high) < 0:
        high = 1 - (1 - high) / 2
    if excess(low) > 0:
        high = low
    share = high if high == low else float(brentq(excess, low, high, rtol=1e-8))
    return float((values / (1 - 2 * share * pole * values)).sum())


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def _passage_time(values: F64, step: float, top: float) -> float:
    """Mean time to the level whose saddlepoint is ``top``, from the mean of the process."""
    s = (top * (_NODES + 1) / 2)[:, None]
    shrunk = 1 - 2 * s * values
    level = (values / shrunk).sum(axis=1)
    bend = 2 * ((values / shrunk) ** 2).sum(axis=1)
    s, exponent = s[:, 0], -0.5 * np.log(shrunk).sum(axis=1)
    w = np.sqrt(np.maximum(2 * (s * level - exponent), 1e-16))
    normal = np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)
    below = np.clip(ndtr(w) - normal * (1 / (s * np.sqrt(bend)) - 1 / w), 0.0, 1.0)
    # second-order saddlepoint: one dominant eigenvalue is far from Gaussian even when tilted
    third, fourth = (
        8 * ((values / shrunk) ** 3).sum(axis=1),
        48 * ((values / shrunk) ** 4).sum(axis=1),
    )
    second_order = np.exp(fourth / (8 * bend**2) - 5 * third**2 / (24 * bend**3))
    density = normal / np.sqrt(bend) * second_order
    variance = 4 * step * (values**2 / shrunk).sum(axis=1)
    x = s * np.sqrt(variance)
    discrete = (2 / x) * (ndtr(x / 2) - 0.5)
    discrete /= (x / 2) * ndtr(x / 2) + np.exp(-(x**2) / 8) / np.sqrt(2 * np.pi)
    integrand = 2 * below / (variance * density * discrete) * bend
    return float(integrand @ _WEIGHTS * top / 2)


def null_filter(fast: float, slow: float) -> tuple[float, float, float, float]:
    """How the difference of two averages of independent rows fluctuates.

    Args:
        fast: Forgetting factor of the first average.
        slow: Of the second.

    Returns:
        With ``c_k = F (1 - F)^k - s (1 - s)^k``: the variance ``sum c_k^2`` per unit variance of a
        row; the variance of one step, standardised, ``2 - 2 sum c_k c_{k+1} / sum c_k^2``;
        ``sum c_k^4 / (sum c_k^2)^2``, one over the number of rows that the difference holds; and
        ``(sum c_k^3)^2 / (sum c_k^2)^3``.
    """
    variance, third, fourth = (_power_sum(fast, slow, p) for p in (2, 3, 4))
    cross = fast * slow / (fast + slow - fast * slow)
    lagged = fast / (2 - fast) * (1 - fast) + slow / (2 - slow) * (1 - slow)
    lagged -= cross * (2 - fast - slow)
    return variance, 2 - 2 * lagged / variance, fourth / variance**2, third**2 / variance**3


def _power_sum(fast: float, slow: float, power: int) -> float:
    """``sum_k c_k^power``, by the binomial theorem and geometric series."""
    total = 0.0
    for j in range(power + 1):
        ratio = (1 - fast) ** (power - j) * (1 - slow) ** j
        total += comb(power, j) * (-1) ** j * fast ** (power - j) * slow**j / (1 - ratio)
    return total


def whitening(weight: float, first: F64, second: F64, ridge: float) -> tuple[F64, F64]:
    r"""A regularised whitening, and the covariance that it leaves, from sums over rows.

    The map is :math:`(C + \varepsilon I)^{-1/2}` with :math:`\varepsilon` = ``ridge`` times the mean
    eigenvalue (Hagrass, Sriperumbudur, Li 2024). Sample eigenvalues are too spread: they are drawn
    to their mean as far as Ledoit and Wolf (2004) find best, so that they are the variances of new
    rows along the sample's own directions.

    Args:
        weight: Number of rows.
        first: Sum of their features ``(w,)``.
        second: Sum of their outer products ``(w, w)``.
        ridge: Regularisation, in mean eigenvalues.

    Returns:
        The map ``(w, w)``, applied from the right, and the eigenvalues ``(w,)`` of the covariance
        of a mapped row: between 0 and 1; zeros for rows that are all equal.
    """
    mean = first / weight
    covariance = (second - weight * np.outer(mean, mean)) / (weight - 1)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0)
    total, square = values.sum(), (values**2).sum()
    center = total / len(values)
    if center < 1e-12:
        return np.eye(len(values)), np.zeros(len(values))
    unbiased = (square - total**2 / weight) / (1 + 1 / weight)
    spread = max(square - total * center, 1e-300)
    pull = float(np.clip((unbiased - total * center) / spread, 0.0, 1.0))
    values = center + pull * (values - center)
    inverse = 1 / (values + ridge * center)
    return vectors * np.sqrt(inverse), values * inverse


def shape_terms(y: F64, other: F64, eigenvalues: F64) -> F64:
    r"""What `beyond_gaussian` needs of whitened rows, each beside an independent one.

    Args:
        y: ``(n, w)`` rows minus their mean, along the axes of their covariance.
        other: ``(n, w)`` other rows.
        eigenvalues: ``(w,)`` of the covariance C.

    Returns:
        ``(n, 5)``: 1; :math:`q = \|y\|^2`; :math:`q^2`; :math:`q\, y^T C y`;
        :math:`4 g^3 + 6 (q - 1)(q' - 1) g` with :math:`g = y^T y'`. The unit of q is ``tr C``, of
        g and the form the root of ``tr C^2``, and its square.
    """
    trace, square = eigenvalues.sum(), (eigenvalues**2).sum()
    q, q_other = (y**2).sum(axis=1) / trace, (other**2).sum(axis=1) / trace
    form = (y**2) @ eigenvalues / square
    g = (y * other).sum(axis=1)
    cubes = (4 * g**3 + 6 * trace**2 * (q - 1) * (q_other - 1) * g) / square**1.5
    return np.stack([np.ones(len(q)), q, q**2, q * form, cubes], axis=1)


def beyond_gaussian(
    eigenvalues: F64, weight: float, shape: F64, share: float, cubes: float
) -> tuple[float, float]:
    r"""How a squared distance of averages differs from that of Gaussian ones.

    For :math:`D = \sum_k c_k y_k`, with :math:`C_p = \sum_k c_k^p`, y of covariance C and
    :math:`q = \|y\|^2`, up to terms with three or more equal indices,

    .. math:: \operatorname{Var} \|D\|^2 = 2 C_2^2 \operatorname{tr} C^2
       + C_4 (\operatorname{Var} q - 2 \operatorname{tr} C^2)

    .. math:: \kappa_3(\|D\|^2) = 8 C_2^3 \operatorname{tr} C^3
       + 12 C_4 C_2 (\operatorname{Cov}(q, y^T C y) - 2 \operatorname{tr} C^3)
       + C_3^2 E[4 g^3 + 6 (q - \operatorname{tr} C)(q' - \operatorname{tr} C) g].

    Args:
        eigenvalues: ``(w,)`` of C.
        weight: Rows behind them; what they leave out of ``tr C^2`` is ``(tr C)^2 / weight``.
        shape: ``(5,)`` sums of `shape_terms`; zeros where there are none yet.
        share: ``C_4 / C_2^2``, the third value of `null_filter`.
        cubes: ``C_3^2 / C_2^3``, the fourth.

    Returns:
        The standard deviation over that of the Gaussian with these eigenvalues, and the skewness
        minus the Gaussian's.
    """
    e = eigenvalues
    trace, square, cube = float(e.sum()), float((e**2).sum()), float((e**3).sum())
    extra = trace**2 / (weight * square)
    if shape[0] < 2:
        return float(np.sqrt(1 + extra)), 0.0
    q, q_square, through, cubed = (float(a) / float(shape[0]) for a in shape[1:])
    variation = q_square / q**2 - 1
    extra += share * (variation * trace**2 - 2 * square) / (2 * square)
    spread = float(np.sqrt(max(1 + extra, 0.25)))
    gaussian, scale = 8 * cube, (2 * square) ** 1.5
    third = gaussian + 12 * share * (trace * square * (through / q - q) - 2 * cube)
    third += cubes * square**1.5 * cubed
    return spread, third / (scale * spread**3) - gaussian / scale
