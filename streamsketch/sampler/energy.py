"""HAW-C: new points chosen so that history and new points together match a target.

Turinici (2022), with the weights of the slides corrected. With ``Kp`` points ``y`` issued, ``K``
points ``x`` to choose and ``N = Kp + K``,

    d(delta_all, mu) = (K / N) d(delta_X, eta),   eta = ((Kp + K) mu - Kp delta_Y) / K.

The slides print the denominator ``Kp + K``, for which the identity fails and batches of more than
one point fly off. Up to terms free of ``x`` the squared distance is

    F(x) = (1/N) sum_k U(x_k) - (1/2N^2) sum_kl h(x_k - x_l) - (1/N^2) sum_kj h(x_k - y_j)

and the solver follows ``N grad F``, which is of order one for every N.
"""

import numpy as np
from numpy.typing import ArrayLike

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, DataError
from streamsketch.sampler.kernels import Kernel, squared_distances
from streamsketch.sampler.targets import SampleTarget, Target, attraction

_CHUNK = 2_000_000  # pairs of points held at once


def signed_measure(k: int, history_size: int) -> tuple[float, float]:
    """Masses ``(on mu, on delta_Y)`` of the signed measure the new points should match.

    Args:
        k: New points, at least 1.
        history_size: Points issued before.

    Examples:
        >>> signed_measure(10, 30)  # mass one in total, whatever the history
        (4.0, -3.0)
    """
    return (history_size + k) / k, -history_size / k


def squared_distance(points: ArrayLike, target: Target) -> float:
    """``D2 = E h(X - Z) - E h(X - X') / 2 - E h(Z - Z') / 2`` of points against a target.

    Half of Szekely's energy distance for ``h = |.|``. Independent points have expectation
    ``target.spread / (2 n)``.

    Args:
        points: ``(n, d)``.
        target: Measure with a potential for its kernel.

    Returns:
        The squared distance, at least 0 up to rounding.
    """
    x = _points(points, target.d, "points")
    own = _mean_kernel(target.kernel, x, x)
    return float(target.potential(x).mean() - 0.5 * own - 0.5 * target.spread)


def energy_points(
    target: Target,
    k: int,
    history: ArrayLike | None = None,
    seed: int = 0,
    *,
    steps: int = 1000,
    rate: float | None = None,
    polish: bool = True,
) -> F64:
    """Choose ``k`` points so that they and the history together match the target.

    Args:
        target: `MixtureTarget`, `GaussianTarget` (closed form) or `SampleTarget` (mini-batches
            where its points are many).
        k: New points; 0 gives an empty array.
        history: Points issued before, ``(Kp, d)``, or None.
        seed: Seed of the start (independent draws from the target) and of mini-batches.
        steps: Adam steps, with the rate decayed to zero by a cosine.
        rate: First step length; by default a fifteenth of the target's mean pair distance.
        polish: Finish with L-BFGS where the target's potential is not estimated.

    Returns:
        ``(k, d)`` float64, finite, also where start points or history coincide.

    Raises:
        ConfigError: Negative ``k``, a history of another dimension.
        DataError: A history with NaN or inf.

    Examples:
        >>> from streamsketch.sampler.targets import GaussianTarget
        >>> energy_points(GaussianTarget(1), 2).ravel().round(2).tolist()  # quartiles
        [0.67, -0.67]
    """
    if k < 0:
        raise ConfigError(f"energy_points: k={k} must be at least 0")
    y = _points(np.zeros((0, target.d)) if history is None else history, target.d, "history")
    rng = np.random.default_rng(seed)
    x = target.sample(rng, k)
    if k == 0:
        return np.zeros((0, target.d))
    first = _length(target) / 15.0 if rate is None else rate
    x = x + 1e-3 * first * rng.standard_normal(x.shape)  # coincident points have no force apart
    x = _adam(target, x, y, rng, steps, first)
    estimated = isinstance(target, SampleTarget) and len(target.points) > target.batch_size
    return _lbfgs(target, x, y) if polish and not estimated else x


def force(target: Target, x: F64, y: F64) -> F64:
    """``N grad F`` at ``x (k, d)`` for history ``y (Kp, d)``: the direction of steepest ascent."""
    k, history_size = len(x), len(y)
    on_target, on_history = signed_measure(k, history_size)
    out = on_target * target.gradient(x) - _mean_attraction(target.kernel, x, x)
    if history_size:
        out += on_history * _mean_attraction(target.kernel, x, y)
    return np.asarray(out * (k / (k + history_size)))


def _objective(target: Target, x: F64, y: F64) -> float:
    """``(N / K) F``: its gradient at one point is `force` divided by ``k``."""
    k, history_size = len(x), len(y)
    on_target, on_history = signed_measure(k, history_size)
    out = on_target * float(target.potential(x).mean())
    out -= 0.5 * _mean_kernel(target.kernel, x, x)
    if history_size:
        out += on_history * _mean_kernel(target.kernel, x, y)
    return out * (k / (k + history_size))


def _adam(
    target: Target, x: F64, y: F64, rng: np.random.Generator, steps: int, rate: float
) -> F64:
    x = x.copy()
    first, second = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, steps + 1):
        ascent = force(target.batch(rng), x, y)
        first += 0.1 * (ascent - first)
        second += 0.01 * (ascent * ascent - second)
        size = rate * 0.5 * (1.0 + np.cos(np.pi * (step - 1) / steps))
        scaled = first / (1.0 - 0.9**step)
        x -= size * scaled / (np.sqrt(second / (1.0 - 0.99**step)) + 1e-12)
    return x


def _lbfgs(target: Target, x: F64, y: F64) -> F64:
    from scipy.optimize import minimize

    shape, k = x.shape, len(x)

    def both(flat: F64) -> tuple[float, F64]:
        at = flat.reshape(shape)
        return _objective(target, at, y), (force(target, at, y) / k).ravel()

    found = minimize(both, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    better = np.isfinite(found.x).all() and found.fun <= _objective(target, x, y)
    return np.asarray(found.x.reshape(shape)) if better else x


def _mean_kernel(kernel: Kernel, x: F64, y: F64) -> float:
    rows = max(1, _CHUNK // max(len(y), 1))
    total = 0.0
    for i in range(0, len(x), rows):
        total += float(kernel.value(squared_distances(x[i : i + rows], y)).sum())
    return total / (len(x) * len(y))


def _mean_attraction(kernel: Kernel, x: F64, y: F64) -> F64:
    rows = max(1, _CHUNK // max(len(x), 1))
    out = np.zeros_like(x)
    for i in range(0, len(y), rows):
        out += attraction(kernel, x, y[i : i + rows])
    return np.asarray(out / len(y))


def _length(target: Target) -> float:
    """A length of the target's size: its mean pair distance, estimated from few draws."""
    z = target.sample(np.random.default_rng(0), 64)
    length = float(np.sqrt(squared_distances(z, z)).mean())
    return length if length > 0.0 else 1.0


def _points(points: ArrayLike, d: int, name: str) -> F64:
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != d:
        raise ConfigError(f"{name} have shape {x.shape}; the target needs (n, {d})")
    if not np.isfinite(x).all():
        raise DataError(f"{name} hold NaN or inf; drop those rows first")
    return x
