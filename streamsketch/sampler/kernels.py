"""Conditionally negative kernels ``h(x - y)`` for distances between measures.

A function ``h`` of ``r^2 = |x - y|^2`` with ``h(0) = 0`` is conditionally negative in every
dimension when it is a mixture of Gaussians, ``h = integral (1 - exp(-t r^2)) nu(dt)`` with
``nu >= 0`` (Schoenberg, Annals of Mathematics 1938). Every kernel here carries that mixture, so
one formula gives its potential against a Gaussian target (see `targets`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError

# Log-spaced quadrature of nu(dt): exponentially convergent for these smooth integrands.
_STEP = 0.1
_T = np.exp(np.arange(-42.0, 42.0, _STEP))
_LOW, _HIGH = _T[0] * np.exp(-_STEP / 2.0), _T[-1] * np.exp(_STEP / 2.0)


@dataclass(frozen=True)
class Kernel:
    """A radial kernel as functions of the squared distance.

    Attributes:
        name: The kernel and its parameters.
        value: ``r2 (...,) -> h (...,)``.
        slope: ``r2 (...,) -> s (...,)`` with ``grad h(u) = s(|u|^2) u``; 0 where undefined.
        nodes: Rates ``t`` of the Gaussian mixture, in 1/length^2.
        masses: Their non-negative masses ``nu``.
        norm: Whether it is the norm itself up to a negligible smoothing.
    """

    name: str
    value: Callable[[F64], F64]
    slope: Callable[[F64], F64]
    nodes: F64
    masses: F64
    norm: bool = False


def smoothed_norm(a: float = 1e-6) -> Kernel:
    """``sqrt(a^2 + r^2) - a``: the energy distance, differentiable at 0 when ``a > 0``.

    Args:
        a: Smoothing length, at least 0.

    Examples:
        >>> float(smoothed_norm(0.0).value(np.array(9.0)))
        3.0
    """
    _at_least_zero("a", a)

    def slope(r2: F64) -> F64:
        return _inverse_power(a * a + r2, 0.5)

    masses = _power_masses(a, 0.5)
    name = f"smoothed_norm(a={a:g})"
    norm = a <= 1e-6
    return Kernel(name, lambda r2: np.sqrt(a * a + r2) - a, slope, _T, masses, norm)


def power(a: float = 1e-6, alpha: float = 0.5) -> Kernel:
    """``(a^2 + r^2)^alpha - a^(2 alpha)`` for ``0 < alpha < 1`` (Micchelli 1984).

    Examples:
        >>> round(float(power(0.0, 0.25).value(np.array(16.0))), 9)
        2.0
    """
    _at_least_zero("a", a)
    _open_unit("alpha", alpha)

    def slope(r2: F64) -> F64:
        return 2.0 * alpha * _inverse_power(a * a + r2, 1.0 - alpha)

    masses = _power_masses(a, alpha)
    base = a ** (2.0 * alpha)
    name = f"power(a={a:g}, alpha={alpha:g})"
    return Kernel(name, lambda r2: (a * a + r2) ** alpha - base, slope, _T, masses)


def ratio(a: float = 1.0, alpha: float = 0.5) -> Kernel:
    """``r^2 / (a^2 + r^2)^alpha`` for ``a > 0`` and ``0 < alpha < 1`` (Turinici 2021).

    Examples:
        >>> round(float(ratio(3.0, 0.5).value(np.array(16.0))), 9)
        3.2
    """
    from scipy.special import gamma

    if not a > 0.0:
        raise ConfigError(f"ratio kernel: a={a} must be a positive length")
    _open_unit("alpha", alpha)
    a2 = a * a

    def slope(r2: F64) -> F64:
        base = a2 + r2
        return np.asarray(2.0 * base**-alpha - 2.0 * alpha * r2 * base ** (-alpha - 1.0))

    density = (1.0 - alpha) * _T ** (alpha - 1.0) + a2 * _T**alpha
    masses = _STEP / gamma(alpha) * density * np.exp(-_T * a2)
    # Slower rates than the slowest node see only r^2: it carries their first moment.
    masses[0] += (1.0 - alpha) / gamma(alpha) * _LOW**alpha / alpha / _T[0]
    name = f"ratio(a={a:g}, alpha={alpha:g})"
    return Kernel(name, lambda r2: r2 * (a2 + r2) ** -alpha, slope, _T, masses)


def gaussian(scale: float = 1.0) -> Kernel:
    """``1 - exp(-r^2 / (2 scale^2))``: the MMD of the Gaussian kernel of that length.

    Examples:
        >>> round(float(gaussian(1.0).value(np.array(2.0))), 6)
        0.632121
    """
    if not scale > 0.0:
        raise ConfigError(f"gaussian kernel: scale={scale} must be a positive length")
    t = 0.5 / (scale * scale)
    return Kernel(
        f"gaussian(scale={scale:g})",
        lambda r2: -np.expm1(-t * r2),
        lambda r2: 2.0 * t * np.exp(-t * r2),
        np.array([t]),
        np.array([1.0]),
    )


KERNELS: dict[str, Callable[..., Kernel]] = {
    "smoothed_norm": smoothed_norm,
    "power": power,
    "ratio": ratio,
    "gaussian": gaussian,
}


def squared_distances(x: F64, y: F64) -> F64:
    """Squared distances ``(n, k)`` between rows of ``x (n, d)`` and ``y (k, d)``, float64.

    Examples:
        >>> squared_distances(np.zeros((1, 2)), np.array([[3.0, 4.0]]))
        array([[25.]])
    """
    n, d = x.shape
    if d <= 12:
        out = np.zeros((n, y.shape[0]))
        for j in range(d):
            gap = x[:, j, None] - y[None, :, j]
            gap *= gap
            out += gap
        return out
    # Centring first: the product form loses digits in proportion to the distance to the origin.
    centre = y.mean(axis=0)
    x, y = x - centre, y - centre
    out = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None, :] - 2.0 * (x @ y.T)
    return np.asarray(np.maximum(out, 0.0))


def _power_masses(a: float, alpha: float) -> F64:
    """Masses of ``alpha / Gamma(1 - alpha) t^(-1-alpha) exp(-t a^2) dt`` at the nodes."""
    from scipy.special import gamma

    front = alpha / gamma(1.0 - alpha)
    masses = np.asarray(_STEP * front * _T**-alpha * np.exp(-_T * a * a))
    # Slower rates than the slowest node see only r^2: it carries their first moment. Faster ones
    # than the fastest see a constant: it carries their mass.
    masses[0] += front * _LOW ** (1.0 - alpha) / (1.0 - alpha) / _T[0]
    masses[-1] += front * _HIGH**-alpha / alpha * np.exp(-_HIGH * a * a)
    return masses


def _inverse_power(base: F64, exponent: float) -> F64:
    """``base ** -exponent`` with 0 at 0, where the gradient of the norm is taken as 0."""
    out = np.zeros_like(base)
    np.power(base, -exponent, out=out, where=base > 0.0)
    return out


def _at_least_zero(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ConfigError(f"kernel parameter {name}={value} must be at least 0")


def _open_unit(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ConfigError(f"kernel parameter {name}={value} must lie strictly between 0 and 1")
