"""From a sketch to a mixture: starts, restarts, the number of components, the last descent."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from streamsketch.arrays import F64
from streamsketch.decode.atoms import (
    Atoms,
    DiagonalGaussians,
    Diracs,
    FullGaussians,
    SphericalGaussians,
    StableLaws,
)
from streamsketch.decode.prior import moments
from streamsketch.decode.pursuit import Fit, Prior, Pursuit
from streamsketch.decode.refine import GaussNewton
from streamsketch.decode.target import Target
from streamsketch.errors import ConfigError

logger = logging.getLogger(__name__)

ATOMS: dict[str, Callable[[F64], Atoms]] = {
    "dirac": Diracs,
    "spherical": SphericalGaussians,
    "diag": DiagonalGaussians,
    "full": FullGaussians,
    "stable": StableLaws,
}
MOST_STARTS = 5
MOST_COMPONENTS = 30
ROUGH_FREQUENCIES = 2048
# Beyond this the normal equations of Gauss-Newton cost more than many cheap descents.
MOST_PARAMETERS = 1500
# Frequencies per K d below which k-means degrades (benchmarks/decode.py, "few frequencies").
FREQUENCIES_PER_COORDINATE = 5


def needed_frequencies(components: int, d: int, size: int) -> int:
    """Frequencies below which decoding ``components`` atoms of ``size`` numbers is unreliable."""
    return max(FREQUENCIES_PER_COORDINATE * components * d, 2 * components * (size + 1))


def warn_few(target: Target, components: int, size: int) -> None:
    """Warn when the sketch is too short for what is asked of it."""
    needed = needed_frequencies(components, target.d, size)
    if target.m < needed:
        warnings.warn(
            f"{target.m} frequencies are few for {components} components in d = {target.d}: the "
            f"result may be far off; sketch with at least {needed} frequencies",
            UserWarning,
            stacklevel=4,
        )


def warn_poor(target: Target, fit: Fit) -> None:
    """Warn when the frequencies of the sketch do not suit the stream, with the remedy."""
    total = float((np.abs(target.z) ** 2).sum())
    radius = (target.omega**2).sum(axis=0)
    # along one coordinate a category's feature never falls, however high the frequency
    joint = np.count_nonzero(target.omega, axis=0) >= min(2, target.d)
    finest = np.argsort(np.where(joint, radius, 0.0))[-max(target.m // 10, 1) :]
    unseen = float((np.abs(target.z[finest]) ** 2).mean())
    expected = target.floor + 1e-9 * total
    coarse = fit.cost > 3 * expected and unseen > 0.2
    # any few components explain a sketch that has hardly begun to fall
    coarse |= len(fit.weights) > 1 and 0.7 < unseen < 0.999
    if total < 4 * target.floor or fit.cost > 0.1 * total:
        problem = "its frequencies may be too high for this stream: sketch it with a larger scale"
    elif coarse:
        problem = (
            "its highest frequencies still see few details: sketch the stream with a smaller "
            "scale, or declare tighter limits"
        )
    else:
        return
    warnings.warn(
        f"the sketch does not show the stream's structure well (squared distance of the decoded "
        f"model {fit.cost:.2g}, expected {target.floor:.2g}): {problem}, or with the default law",
        UserWarning,
        stacklevel=3,
    )


def decode(
    target: Target, kind: str, components: int, rng: np.random.Generator, n_init: int | None = None
) -> Fit:
    """A mixture of ``components`` atoms of one family whose sketch is closest to the target.

    Args:
        target: The sketch.
        kind: A name in `ATOMS`.
        components: K.
        rng: Draws the starts.
        n_init: Number of starts; None stops at the first fit within the sampling error, or
            after five.

    Returns:
        The best fit; its ``cost`` is the squared distance summed over frequencies.
    """
    family: Atoms = ATOMS[kind](target.omega)
    mean, variance = moments(target, rng)
    prior = Prior(mean, variance, np.maximum(variance / max(components, 4), 1e-6))
    best: Fit | None = None
    for turn in range(n_init or MOST_STARTS):
        if turn % 2 and isinstance(family, FullGaussians):
            fit = polish(
                target, family, prior, _turned(target, family, prior, components, rng), 120
            )
        else:
            fit = _attempt(target, family, prior, components, rng)
        logger.debug("start %d: cost %.5g, floor %.5g", turn, fit.cost, target.floor)
        if best is None or fit.cost < best.cost:
            best = fit
        if n_init is None and best.cost <= target.floor:
            break
    assert best is not None
    return best


def decode_auto(target: Target, kind: str, rng: np.random.Generator, most: int) -> Fit:
    """As `decode`, with the fewest components that explain the sketch.

    Components are added until the residual is within the sampling error (known from the count and
    from the noise of the release), or until two additions in a row gain less than 5% each.
    """
    best = decode(target, kind, 1, rng, 1)
    idle = 0
    for components in range(2, most + 1):
        if best.cost <= target.floor or idle == 2:
            break
        fit = decode(target, kind, components, rng)
        idle = 0 if fit.cost < 0.95 * best.cost else idle + 1
        if idle == 0:
            best = fit
    return best


def rough(target: Target, rng: np.random.Generator, most: int) -> Fit:
    """A mixture of axis-aligned Gaussians in seconds, to start from: up to ``most`` of them.

    At most `ROUGH_FREQUENCIES` of the frequencies are used, drawn at random.
    """
    if target.m > ROUGH_FREQUENCIES:
        keep = np.sort(rng.permutation(target.m)[:ROUGH_FREQUENCIES])
        target = replace(target, omega=target.omega[:, keep], z=target.z[keep])
    mean, variance = moments(target, rng)
    prior = Prior(mean, variance, np.maximum(variance / 16, 1e-6))
    return Pursuit(target, DiagonalGaussians(target.omega), prior).grow(most, target.floor, rng)


def most_components(target: Target, size: int) -> int:
    """The most components that ``auto`` tries: a quarter as many numbers as the sketch has."""
    return int(np.clip(target.m // (2 * (size + 1)), 1, MOST_COMPONENTS))


def _attempt(
    target: Target, family: Atoms, prior: Prior, components: int, rng: np.random.Generator
) -> Fit:
    if isinstance(family, FullGaussians):
        # correlations are left to the last descent: axis-aligned atoms find the components faster
        coarse = DiagonalGaussians(target.omega)
        fit = Pursuit(target, coarse, prior).run(components, rng)
        d = target.d
        theta = np.concatenate([family.start(t[None, :d], t[d:]) for t in fit.theta])
        fit = Fit(theta, fit.weights, np.inf)
    else:
        fit = Pursuit(target, family, prior).run(components, rng)
    return polish(target, family, prior, fit)


def _turned(
    target: Target, family: FullGaussians, prior: Prior, components: int, rng: np.random.Generator
) -> Fit:
    """Flat Gaussians of random orientation about the data's mean.

    Components that differ in their covariance alone, such as subspaces through one point, look alike
    to axis-aligned atoms; from here the descent can tell them apart.
    """
    d, size = target.d, np.sqrt(prior.variance)
    lower = np.empty((components, d, d))
    for k in range(components):
        turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
        spread = np.geomspace(2.0, 0.02, d)
        square = size[:, None] * ((turn * spread) @ turn.T) * size
        lower[k] = np.linalg.cholesky(square)
    centers = prior.center + 0.3 * size * rng.normal(size=(components, d))
    theta = np.concatenate([centers, lower[:, family.rows, family.columns]], axis=1)
    return Fit(theta, np.full(components, 1.0 / components), np.inf)


def polish(target: Target, family: Atoms, prior: Prior, fit: Fit, steps: int = 40) -> Fit:
    """The local minimum next to ``fit``."""
    pursuit = Pursuit(target, family, prior)
    if fit.theta.size + len(fit.weights) > MOST_PARAMETERS:
        return pursuit.descend(fit)
    theta, alpha = GaussNewton(target, family).run(fit, steps=steps)
    found = Fit(theta, alpha, pursuit.cost(theta, alpha))
    return found if found.cost < fit.cost else fit


def merge_duplicates(fit: Fit, centers: F64, width: F64) -> int:
    """How many distinct, non-empty components a fit has."""
    kept: list[F64] = []
    for center, weight in zip(centers, fit.weights, strict=True):
        far = all(np.max(np.abs(center - other) / width) > 1e-3 for other in kept)
        if far and weight > 1e-4:
            kept.append(center)
    return len(kept)


def check_components(value: object, name: str) -> int | None:
    """A count, or None for a number chosen by the residual.

    Raises:
        ConfigError: It is neither a count, nor None, nor ``"auto"``.
    """
    if value is None or value == "auto":
        return None
    from streamsketch.decode.space import positive_count

    if isinstance(value, str):
        raise ConfigError(f"{name} = {value!r} must be a whole number of at least 1, or 'auto'")
    return positive_count(name, value)
