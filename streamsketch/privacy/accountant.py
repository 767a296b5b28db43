"""Budgets: zero-concentrated differential privacy inside, (epsilon, delta) at the edges.

Everything is stated as ``rho`` (zCDP, Bun and Steinke 2016): it adds up over queries of the same
rows. A Gaussian mechanism whose noise is ``sigma = sensitivity / sqrt(2 rho)`` has
``mu = sensitivity / sigma = sqrt(2 rho)``, and one factorised mechanism over all releases is *one*
Gaussian mechanism. Its (epsilon, delta) is read off the exact Gaussian curve (Balle and Wang
2018), here by Google's dp-accounting; exact discrete noise is converted by the zCDP bound, which
is slightly larger.
"""

import math
from functools import lru_cache

from streamsketch.errors import ConfigError

__all__ = ["epsilon_from_rho", "rho_from_epsilon", "sigma"]


def check_budget(name: str, value: float | None) -> float:
    """The value as a float if it is a finite positive number.

    Raises:
        ConfigError: With the name, the value and the remedy.
    """
    if (
        value is None
        or isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ConfigError(
            f"privacy budget {name} is {value!r}; it must be a finite number above 0; "
            f'set {name}, for example 1.0, or mechanism = "none" for no privacy'
        )
    return float(value)


def check_delta(delta: float | None) -> float:
    """The value as a float if it lies strictly between 0 and 1.

    Raises:
        ConfigError: With the value and the remedy.
    """
    if delta is None or not isinstance(delta, float | int) or not 0.0 < delta < 1.0:
        raise ConfigError(
            f"delta is {delta!r}; it must lie strictly between 0 and 1; "
            "set it well below one over the number of people, for example 1e-6"
        )
    return float(delta)


def epsilon_from_rho(rho: float, delta: float, *, strict: bool = False) -> float:
    """The epsilon that goes with ``delta`` for a release of budget ``rho``.

    Args:
        rho: Budget, zCDP.
        delta: Failure probability.
        strict: True for exact discrete noise (bound from zCDP); False for continuous Gaussian
            noise (exact curve).

    >>> round(epsilon_from_rho(0.5, 1e-6), 3)
    4.887
    >>> round(epsilon_from_rho(0.5, 1e-6, strict=True), 3)
    5.222
    """
    rho, delta = check_budget("rho", rho), check_delta(delta)
    return _epsilon_from_zcdp(rho, delta) if strict else _epsilon_gaussian(rho, delta)


@lru_cache(maxsize=256)
def _epsilon_gaussian(rho: float, delta: float) -> float:
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(1.0 / math.sqrt(2.0 * rho), delta))


def rho_from_epsilon(epsilon: float, delta: float, *, strict: bool = False) -> float:
    """The largest budget rho whose release is (epsilon, delta)-private.

    >>> round(rho_from_epsilon(4.887, 1e-6), 3), round(rho_from_epsilon(5.222, 1e-6, strict=True), 3)
    (0.5, 0.5)
    """
    return _rho_from_epsilon(check_budget("epsilon", epsilon), check_delta(delta), strict)


@lru_cache(maxsize=256)
def _rho_from_epsilon(epsilon: float, delta: float, strict: bool) -> float:
    if not strict:
        from dp_accounting import get_sigma_gaussian

        return 0.5 / float(get_sigma_gaussian(epsilon, delta)) ** 2
    low, high = 0.0, epsilon  # rho-zCDP costs at least epsilon = rho
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle > 0 and _epsilon_from_zcdp(middle, delta) > epsilon:
            high = middle
        else:
            low = middle
    return low


def sigma(sensitivity: float, rho: float, factor: float = 1.0) -> float:
    """Noise of the encoded windows: ``sensitivity * factor / sqrt(2 rho)``.

    Args:
        sensitivity: Norm that one unit adds to one window.
        rho: Budget of the whole epoch.
        factor: `factorization.participation_norm` of the encoder.

    >>> round(sigma(1000 ** 0.5, 0.5), 2)
    31.62
    """
    return sensitivity * factor / math.sqrt(2.0 * check_budget("rho", rho))


@lru_cache(maxsize=256)
def _epsilon_from_zcdp(rho: float, delta: float) -> float:
    """Smallest epsilon over the order alpha (Canonne, Kamath, Steinke 2020, proposition 12)."""
    from scipy.optimize import minimize_scalar

    def epsilon(log_order: float) -> float:
        excess = math.exp(log_order)  # alpha - 1
        alpha = 1.0 + excess
        return (
            rho * alpha
            + (-math.log(delta) - math.log(excess) + alpha * math.log1p(-1.0 / alpha)) / excess
        )

    # log1p(-1/alpha) is fine down to alpha - 1 = 1e-6; the function is unimodal in log(alpha - 1).
    best = minimize_scalar(
        epsilon, bounds=(-9.0, 25.0), method="bounded", options={"xatol": 1e-10}
    )
    return max(float(best.fun), 0.0)
