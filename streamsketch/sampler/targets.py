"""Target measures: what the outputs of a sampler, taken together, should look like."""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, DataError
from streamsketch.sampler.kernels import Kernel, smoothed_norm, squared_distances


class Target(Protocol):
    """A probability measure with a potential ``U(x) = E h(x - Z)`` for one kernel ``h``."""

    d: int
    kernel: Kernel

    @property
    def spread(self) -> float:
        """``E h(Z - Z')`` of two independent draws."""

    def sample(self, rng: np.random.Generator, n: int) -> F64:
        """Independent draws ``(n, d)``."""

    def potential(self, x: F64) -> F64:
        """``U(x)`` for each row of ``x (n, d)``: ``(n,)``."""

    def gradient(self, x: F64) -> F64:
        """Gradient of ``U`` at each row of ``x (n, d)``: ``(n, d)``."""

    def batch(self, rng: np.random.Generator) -> "Target":
        """The measure to use for one step: itself, or a mini-batch of its points."""


class MixtureTarget:
    """A mixture of isotropic Gaussians with closed-form potential.

    For ``h = |.|`` and ``Z ~ N(0, I_d)``: ``U(x) = c 1F1(-1/2; d/2; -r^2/2)`` with
    ``c = sqrt(2) Gamma((d+1)/2) / Gamma(d/2)``; other kernels go through their Gaussian mixture
    (`Kernel.nodes`). The radial profile is tabulated once and read by cubic interpolation.

    Args:
        means: Component means, ``(c, d)``.
        scales: Standard deviations, ``(c,)``, positive lengths.
        weights: Masses, ``(c,)``, non-negative, normalised here.
        kernel: Conditionally negative kernel; the energy distance by default.

    Raises:
        ConfigError: Shapes that do not fit, a scale that is not positive, no mass.

    Examples:
        >>> target = MixtureTarget(np.zeros((1, 2)), [1.0], [1.0])
        >>> round(float(target.potential(np.zeros((1, 2)))[0]), 6)  # sqrt(pi / 2)
        1.253314
    """

    def __init__(
        self,
        means: ArrayLike,
        scales: ArrayLike,
        weights: ArrayLike | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        self.means = np.atleast_2d(np.asarray(means, dtype=np.float64))
        components, self.d = self.means.shape
        self.scales = np.broadcast_to(np.asarray(scales, dtype=np.float64), (components,))
        raw = np.ones(components) if weights is None else np.asarray(weights, dtype=np.float64)
        _check_mixture(self.means, self.scales, raw)
        self.weights = raw / raw.sum()
        self.kernel = smoothed_norm() if kernel is None else kernel
        self._profiles = {s: _Profile(self.kernel, self.d, s) for s in set(self.scales.tolist())}
        self._spread: float | None = None

    @property
    def spread(self) -> float:
        """``E h(Z - Z')``, exact: a sum over pairs of components."""
        if self._spread is None:
            total = 0.0
            for scale in set(self.scales.tolist()):
                for other in set(self.scales.tolist()):
                    mine, theirs = self.scales == scale, self.scales == other
                    gaps = squared_distances(self.means[mine], self.means[theirs])
                    values = _exact(self.kernel, self.d, float(np.hypot(scale, other)), gaps)[0]
                    total += float(self.weights[mine] @ values @ self.weights[theirs])
            self._spread = total
        return self._spread

    def sample(self, rng: np.random.Generator, n: int) -> F64:
        """Independent draws ``(n, d)`` float64."""
        which = rng.choice(self.weights.size, size=n, p=self.weights)
        noise = rng.standard_normal((n, self.d))
        return np.asarray(self.means[which] + self.scales[which, None] * noise)

    def potential(self, x: F64) -> F64:
        """``U(x) = E h(x - Z)``: ``(n,)``."""
        out = np.zeros(len(x))
        for mean, scale, weight in zip(self.means, self.scales, self.weights, strict=True):
            gap = x - mean
            out += weight * self._profiles[float(scale)].value((gap * gap).sum(axis=1))
        return out

    def gradient(self, x: F64) -> F64:
        """Gradient of `potential`: ``(n, d)``."""
        out = np.zeros_like(x)
        for mean, scale, weight in zip(self.means, self.scales, self.weights, strict=True):
            gap = x - mean
            slope = self._profiles[float(scale)].slope((gap * gap).sum(axis=1))
            out += weight * slope[:, None] * gap
        return out

    def mean_features(self, omega: F64) -> F64:
        """Exact mean of the feature map at ``omega (d, m)``: ``(2m,)``, cosines then sines."""
        phase = self.means @ omega
        squares = (omega * omega).sum(axis=0)
        mass = self.weights[:, None] * np.exp(-0.5 * self.scales[:, None] ** 2 * squares)
        return np.concatenate([(mass * np.cos(phase)).sum(0), (mass * np.sin(phase)).sum(0)])

    def batch(self, rng: np.random.Generator) -> "MixtureTarget":
        """Itself: nothing to estimate."""
        return self


class GaussianTarget(MixtureTarget):
    """The standard Gaussian in ``d`` dimensions, the latent law of a generator.

    Examples:
        >>> round(GaussianTarget(2).spread, 6)  # sqrt(pi)
        1.772454
    """

    def __init__(self, d: int, kernel: Kernel | None = None) -> None:
        if d < 1:
            raise ConfigError(f"GaussianTarget: d={d} must be at least 1")
        super().__init__(np.zeros((1, d)), np.ones(1), np.ones(1), kernel)


class SampleTarget:
    """The empirical measure of given points; the mini-batch form of the algorithm.

    Noise of the target is amplified by the length of the history (a mini-batch of B points errs
    by 1/sqrt(B), the force of one new point is 1/N), so that mini-batches are used only where
    the points are more than ``batch_size``.

    Args:
        points: ``(n, d)``, finite.
        kernel: Conditionally negative kernel.
        batch_size: Points used for one step of the solver.

    Raises:
        DataError: No points, or values that are not finite.

    Examples:
        >>> SampleTarget([[0.0], [2.0]]).potential(np.array([[1.0]]))
        array([0.999999])
    """

    def __init__(
        self, points: ArrayLike, kernel: Kernel | None = None, batch_size: int = 4096
    ) -> None:
        self.points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if self.points.size == 0:
            raise DataError("SampleTarget: no points were given; give at least one row")
        if not np.isfinite(self.points).all():
            raise DataError("SampleTarget: points hold NaN or inf; drop those rows first")
        self.d = self.points.shape[1]
        self.kernel = smoothed_norm() if kernel is None else kernel
        self.batch_size = batch_size
        self._spread: float | None = None

    @property
    def spread(self) -> float:
        """``E h(Z - Z')`` of two draws with replacement (mean over all pairs)."""
        if self._spread is None:
            self._spread = float(self.potential(self.points).mean())
        return self._spread

    def sample(self, rng: np.random.Generator, n: int) -> F64:
        """Draws with replacement ``(n, d)``."""
        return np.asarray(self.points[rng.integers(len(self.points), size=n)])

    def potential(self, x: F64) -> F64:
        """Mean kernel to the points: ``(n,)``."""
        out = np.zeros(len(x))
        for chunk in _chunks(self.points, len(x)):
            out += self.kernel.value(squared_distances(x, chunk)).sum(axis=1)
        return np.asarray(out / len(self.points))

    def gradient(self, x: F64) -> F64:
        """Gradient of `potential`: ``(n, d)``."""
        out = np.zeros_like(x)
        for chunk in _chunks(self.points, len(x)):
            out += attraction(self.kernel, x, chunk)
        return np.asarray(out / len(self.points))

    def batch(self, rng: np.random.Generator) -> "SampleTarget":
        """A mini-batch without replacement, or itself where the points are few."""
        if len(self.points) <= self.batch_size:
            return self
        rows = rng.choice(len(self.points), size=self.batch_size, replace=False)
        return SampleTarget(self.points[rows], self.kernel, self.batch_size)


def attraction(kernel: Kernel, x: F64, y: F64) -> F64:
    """``sum_j grad h(x_i - y_j)``: ``(n, d)`` for ``x (n, d)`` and ``y (k, d)``."""
    slope = kernel.slope(squared_distances(x, y))
    return np.asarray(x * slope.sum(axis=1)[:, None] - slope @ y)


class _Profile:
    """``E h(x - Z)``, ``Z ~ N(0, scale^2 I)``, as a function of ``r = |x|``, tabulated."""

    def __init__(self, kernel: Kernel, d: int, scale: float, cells: int = 4000) -> None:
        self.kernel, self.d, self.scale = kernel, d, scale
        self.reach = scale * (10.0 + 4.0 * np.sqrt(d))
        self.step = self.reach / cells
        r = np.arange(cells + 2) * self.step
        self.values, self.slopes = _exact(kernel, d, scale, r * r)

    def value(self, r2: F64) -> F64:
        return self._read(r2, 0)

    def slope(self, r2: F64) -> F64:
        return self._read(r2, 1)

    def _read(self, r2: F64, which: int) -> F64:
        far = r2 > self.reach * self.reach
        position = np.sqrt(np.where(far, 0.0, r2)) / self.step
        cell = position.astype(np.int64)
        t = position - cell
        left, right = self.slopes[cell], self.slopes[cell + 1]
        if which == 1:
            out = left + t * (right - left)
        else:
            # d value / d r = slope * r: cubic Hermite on the cell.
            low, high = left * cell * self.step**2, right * (cell + 1) * self.step**2
            a, b = self.values[cell], self.values[cell + 1]
            rest = low - 2.0 * (b - a) + high
            out = a + t * (low + t * ((b - a) - low - rest + t * rest))
        if far.any():
            out[far] = _exact(self.kernel, self.d, self.scale, r2[far])[which]
        return np.asarray(out)


def _exact(kernel: Kernel, d: int, scale: float, r2: F64) -> tuple[F64, F64]:
    """Value and slope of ``E h(x - Z)`` at squared radii ``r2``, without a table."""
    if kernel.norm:
        return _exact_norm(d, scale, r2)
    value, slope = np.zeros_like(r2), np.zeros_like(r2)
    for t, mass in zip(kernel.nodes, kernel.masses, strict=True):
        shrink = 1.0 + 2.0 * t * scale * scale
        log_weight = -0.5 * d * np.log(shrink)
        bump = log_weight - t / shrink * r2
        value -= mass * np.expm1(bump)
        slope += 2.0 * mass * t / shrink * np.exp(bump)
    return value, slope


def _exact_norm(d: int, scale: float, r2: F64) -> tuple[F64, F64]:
    from scipy.special import gammaln, hyp1f1

    c = np.sqrt(2.0) * np.exp(gammaln(0.5 * (d + 1)) - gammaln(0.5 * d))
    u = -0.5 * r2 / (scale * scale)
    value = scale * c * hyp1f1(-0.5, 0.5 * d, u)
    slope = c / d / scale * hyp1f1(0.5, 0.5 * d + 1.0, u)
    return np.asarray(value), np.asarray(slope)


def _chunks(points: F64, rows: int) -> list[F64]:
    size = max(1, 4_000_000 // max(rows, 1))
    return [points[i : i + size] for i in range(0, len(points), size)]


def _check_mixture(means: F64, scales: F64, weights: F64) -> None:
    if weights.shape != (len(means),):
        raise ConfigError(
            f"MixtureTarget: weights have shape {weights.shape}, means have {len(means)} rows; "
            "give one weight per component"
        )
    finite = np.isfinite(means).all() and np.isfinite(scales).all()
    if not finite or not (scales > 0).all():
        raise ConfigError("MixtureTarget: means must be finite and scales positive lengths")
    if not (weights >= 0).all() or not weights.sum() > 0 or not np.isfinite(weights).all():
        raise ConfigError("MixtureTarget: weights must be non-negative with a positive sum")
