"""Matrix factorisations of a running sum: how the noise of many releases is shared.

The stream is cut into windows ``x_0, x_1, ...`` (exact sums). A memory turns windows into what is
released, ``value_t = sum_s a[t - s] x_s``: ``a = 1, 1, 1, ...`` for a landmark sum, ``lambda**k``
for an exponential memory, ``w`` ones for a sliding window, a single one for tumbling windows.
All releases together are one Gaussian mechanism: factor ``A = B C`` (lower triangular Toeplitz),
add independent noise to ``C x`` and decode with ``B``. One row lies in one window, so it moves
``C x`` by its own norm times the column norm of ``C``; what reaches a release is the row norm of
``B``. The product of the two is the *factor* that this module computes.

A lower triangular Toeplitz matrix is a power series, so every matrix here is a vector of its
first coefficients: products are convolutions and inverses are power-series inverses.

Sources: Fichtenberger, Henzinger, Upadhyay 2022 (square root of the counting matrix); Denisov et
al. 2022 (adaptive streams); Dvijotham, McMahan, Pillutla, Steinke, Thakurta 2024 (buffered linear
Toeplitz); Choquette-Choo et al. 2023 (several participations, minimum separation); Jacobsen and
Fawaz 2025 (unbounded streams).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError

__all__ = [
    "Blt",
    "decoder",
    "decoder_norm",
    "fit_blt",
    "inverse",
    "participation_norm",
    "row_norms",
    "square_root",
    "square_root_sliding",
    "unbounded",
]


#: Releases past which the noise of an endless series is said to be settled (utility only).
SETTLED = 4096


def square_root(n: int, decay: float = 1.0) -> F64:
    """Coefficients of ``(1 - decay x)**(-1/2)``, the square root of the running (decayed) sum.

    Args:
        n: How many coefficients.
        decay: ``lambda`` per window, 1 for a sum without forgetting.

    Returns:
        ``(n,)`` float64, ``c[0] = 1``, ``c[k] = decay * c[k-1] * (2k - 1) / (2k)``.

    >>> square_root(4)
    array([1.    , 0.5   , 0.375 , 0.3125])
    """
    k = np.arange(1, n, dtype=np.float64)
    steps = decay * (2.0 * k - 1.0) / (2.0 * k)
    return np.concatenate([[1.0], np.cumprod(steps)])[:n]


def square_root_sliding(n: int, panes: int) -> F64:
    """Coefficients of ``sqrt((1 - x**panes) / (1 - x))``, the root of a sum over ``panes`` windows.

    Some coefficients are negative, which `participation_norm` allows for.

    >>> np.convolve(square_root_sliding(6, 3), square_root_sliding(6, 3))[:6].round(12)
    array([1., 1., 1., 0., 0., 0.])
    """
    numerator = np.zeros(n)
    # (1 - y)**(1/2) at y = x**panes
    value = 1.0
    for j, k in enumerate(range(0, n, panes)):
        if j:
            value *= (j - 1.5) / j
        numerator[k] = value
    return _convolve(numerator, square_root(n))


def inverse(c: F64) -> F64:
    """First ``len(c)`` coefficients of ``1 / c(x)``; ``c[0]`` must not be 0.

    >>> inverse(square_root(4))
    array([ 1.    , -0.5   , -0.125 , -0.0625])
    """
    from scipy.signal import lfilter

    impulse = np.zeros(len(c))
    impulse[0] = 1.0
    return np.asarray(lfilter([1.0], c, impulse), dtype=np.float64)


def decoder(c: F64, a: F64) -> F64:
    """Coefficients of ``B = A C**-1`` (both series with the same number of coefficients)."""
    return _convolve(inverse(c), a)


def row_norms(b: F64) -> F64:
    """Norm of each row of the lower triangular Toeplitz matrix of ``b``: the noise of release t."""
    norms: F64 = np.sqrt(np.cumsum(b * b))
    return norms


def participation_norm(c: F64, *, windows: int = 1, separation: int = 1) -> float:
    """How far one unit moves ``C x`` when it adds at most norm 1 to each window it is in.

    Exact for non-negative, non-increasing ``c`` (Choquette-Choo et al. 2023); for any other
    ``c`` and more than one window an upper bound, from the least monotone majorant of ``|c|``.

    Args:
        c: Coefficients over all the releases of one epoch (for an endless series: enough of
            them that the rest vanishes).
        windows: At most this many windows hold rows of one unit (1 for a row).
        separation: Windows of one unit are at least this far apart.

    >>> round(participation_norm(square_root(100), windows=10, separation=10)
    ...       / participation_norm(square_root(100)), 2)
    5.49
    """
    if windows == 1:
        return float(np.linalg.norm(c))
    if np.any(c < 0) or np.any(np.diff(c) > 0):
        c = np.maximum.accumulate(np.abs(c)[::-1])[::-1]
    moved = np.zeros(len(c))
    for j in range(windows):
        start = j * separation
        if start >= len(c):
            break
        moved[start:] += c[: len(c) - start]
    return float(np.linalg.norm(moved))


@dataclass(frozen=True)
class Blt:
    """A buffered linear Toeplitz series ``C(x) = 1 + sum_i omega_i x / (1 - theta_i x)``.

    Its noise generator keeps one vector per buffer, however many releases there are.

    Attributes:
        theta: Decay of each buffer, in (0, 1).
        omega: Output weight of each buffer, positive.
    """

    theta: tuple[float, ...]
    omega: tuple[float, ...]

    def coefficients(self, n: int) -> F64:
        """``(n,)``: 1, then ``sum_i omega_i theta_i**(k-1)``."""
        k = np.arange(n - 1, dtype=np.float64)
        tail = np.asarray(self.omega) @ (np.asarray(self.theta)[:, None] ** k)
        return np.concatenate([[1.0], tail])

    def inverse_poles(self) -> npt.NDArray[np.complex128]:
        """Poles of ``1 / C(x)``: eigenvalues of ``diag(theta) - 1 omega^T``."""
        k = len(self.theta)
        matrix = np.diag(self.theta) - np.outer(np.ones(k), self.omega)
        return np.asarray(np.linalg.eigvals(matrix), dtype=np.complex128)

    def column_norm(self, releases: int | None) -> float:
        """Norm of the first column of ``C`` over ``releases`` (None: endless), in closed form."""
        theta, omega = np.asarray(self.theta), np.asarray(self.omega)
        ratio = np.outer(theta, theta)
        terms = None if releases is None else releases - 1
        return math.sqrt(
            1.0 + float(np.sum(np.outer(omega, omega) * _geometric(ratio, terms).real))
        )

    def participation_norm(self, windows: int, separation: int) -> float:
        """`participation_norm` over a stream without end, in closed form by autocorrelations."""
        theta, omega = np.asarray(self.theta), np.asarray(self.omega)
        pairs = np.outer(omega, omega) / (1.0 - np.outer(theta, theta))
        lags = separation * np.arange(windows, dtype=np.float64)
        decayed = theta[:, None] ** np.maximum(lags, 1.0)
        shared = omega @ (decayed / theta[:, None]) + pairs.sum(0) @ theta[:, None] ** lags
        shared[0] = self.column_norm(None) ** 2
        times = 2.0 * (windows - np.arange(windows))
        times[0] = windows
        return math.sqrt(float(times @ shared))


def unbounded() -> Blt:
    """A series for a running sum without a planned end: its column norm is finite for ever.

    The square root of the sum, ``c_k ~ k**(-1/2)``, has a norm that grows without end. Divided by
    a power of the logarithm of k it has not (Jacobsen and Fawaz 2025). Here that function is
    written as a sum of decays, four times slower each, so that the noise needs 20 vectors however
    long the stream is. The three constants minimise the worst variance against mechanisms planned
    for 2**8 to 2**40 releases: up to 2**24 releases it is at most 1.5 times that of the square
    root planned for 2**24, at every release.

    >>> round(unbounded().column_norm(None) ** 2, 1)
    4.3
    """
    gaps = 0.392 * 4.0 ** -np.arange(20.0)
    omega = 0.5 * np.sqrt(gaps) * (1.0 - 0.047 * np.log(gaps)) ** -1.39
    return Blt(tuple((1.0 - gaps).tolist()), tuple(omega.tolist()))


def decoder_norm(blt: Blt, releases: int | None, decay: float) -> float:
    """Norm of the last row of ``B = (1 - decay x)**-1 / C(x)``, in closed form by residues."""
    theta = np.asarray(blt.theta, dtype=np.complex128)
    poles = np.append(blt.inverse_poles(), decay)
    # B(x) = prod(1 - theta x) / prod(1 - pole x): residue of each simple pole at x = 1 / pole.
    top = np.prod(1.0 - theta[None, :] / poles[:, None], axis=1)
    gaps = 1.0 - poles[None, :] / poles[:, None]
    np.fill_diagonal(gaps, 1.0)
    weights = top / np.prod(gaps, axis=1)
    total = np.sum(np.outer(weights, weights) * _geometric(np.outer(poles, poles), releases))
    return math.sqrt(max(float(total.real), 0.0))


def _geometric(ratio: npt.NDArray[np.generic], terms: int | None) -> npt.NDArray[np.complex128]:
    """``sum_{k < terms} ratio**k`` elementwise (endless when ``terms`` is None)."""
    r = np.asarray(ratio, dtype=np.complex128)
    if terms is None:
        return np.asarray(1.0 / (1.0 - r))
    near_one = np.abs(1.0 - r) < 1e-13
    safe = np.where(near_one, 0.0, r)
    return np.asarray(np.where(near_one, float(terms), (1.0 - safe**terms) / (1.0 - safe)))


def default_buffers(releases: int | None, decay: float = 1.0) -> int:
    """Buffers that bring the fitted series to within about 0.5 % of the square root."""
    span = min(releases or math.inf, 1.0 / (1.0 - decay) if decay < 1.0 else math.inf)
    limits = (3, 200, 5_000, 50_000)
    return 1 + sum(span > limit for limit in limits)


@lru_cache(maxsize=64)
def fit_blt(releases: int | None, *, decay: float = 1.0, buffers: int | None = None) -> Blt:
    """Fit the buffered series that minimises the worst noise of any release.

    Deterministic; a fraction of a second. ``releases=None`` needs ``decay < 1``.

    Args:
        releases: Planned number of releases (``T_max``), or None for an endless stream.
        decay: ``lambda`` per window of an exponential memory, 1 for a landmark sum.
        buffers: How many buffers; by default chosen from the horizon.

    Returns:
        The fitted series; its factor is `column_norm` times the decoder's norm.

    Raises:
        ConfigError: If the horizon is endless and nothing decays.
    """
    from scipy.optimize import minimize

    if releases is None and decay >= 1.0:
        raise ConfigError(
            "blt with releases=None is an endless sum without forgetting; "
            "give releases, or use the decayed mechanism"
        )
    if releases == 1:
        return Blt((0.5,), (1e-9,))
    k = buffers or default_buffers(releases, decay)
    span = min(releases or math.inf, 1.0 / (1.0 - decay) if decay < 1.0 else math.inf)

    def unpack(p: F64) -> Blt:
        gap = np.exp(p[:k])
        theta = decay / (1.0 + gap)
        return Blt(tuple(theta.tolist()), tuple((decay * np.exp(p[k:])).tolist()))

    def loss(p: F64) -> float:
        if np.any(np.abs(p) > 40.0):
            return 1e6
        blt = unpack(p)
        if sum(blt.omega) > 1.0 or max(abs(blt.inverse_poles())) >= 1.0:
            return 1e6
        return math.log(blt.column_norm(releases)) + math.log(
            decoder_norm(blt, releases, decay) or 1e-300
        )

    # Start: poles spread evenly in log(1 - theta) between 1 and the span, as a quadrature of
    # the integral form of (1 - x)**(-1/2) would put them.
    spread = -np.log(max(span, 4.0)) * (np.arange(k) + 0.7) / k
    start = np.concatenate([spread, np.full(k, math.log(0.45 / k))])
    best = start
    for _ in range(4):
        best = minimize(
            loss,
            best,
            method="Nelder-Mead",
            options={"maxiter": 1200 * k, "xatol": 1e-6, "fatol": 1e-10, "adaptive": True},
        ).x
    return unpack(best)


def _convolve(a: F64, b: F64) -> F64:
    """First ``len(a)`` coefficients of the product of two series of the same length."""
    n = len(a)
    if n <= 512:
        return np.convolve(a, b)[:n]
    from scipy.signal import fftconvolve

    return np.asarray(fftconvolve(a, b)[:n], dtype=np.float64)
