r"""Frequency laws: how the frequencies of the random Fourier features are drawn.

A law :math:`\Lambda` decides which kernel the sketch's distance has (Bochner): independent
frequencies :math:`\omega_j \sim \Lambda` sample the characteristic function of the stream.
`scale` is always a length in encoded space, never a variance: frequencies are divided by it.

References:
    Keriven, Bourrier, Gribonval, Pérez: Sketching for large-scale learning of mixture models,
    2016 (folded Gaussian and adapted radius, section 3.3).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from streamsketch.errors import ConfigError
from streamsketch.schema.columns import Block

__all__ = ["LAWS", "Law", "draw"]

F64 = NDArray[np.float64]
Law = Callable[[np.random.Generator, int, int, Sequence[Block]], F64]


def draw(
    law: str, d: int, m: int, seed: int, scale: float = 1.0, blocks: Sequence[Block] = ()
) -> F64:
    """Draw m frequencies in dimension d; the same arguments give the same frequencies.

    Args:
        law: A name in `LAWS`.
        d: Dimension of the encoded vectors.
        m: Number of frequencies.
        seed: Seed of the draw; it is public and part of the spec.
        scale: Kernel scale, a length in encoded space.
        blocks: The schema's layout, for laws that treat columns apart.

    Returns:
        (d, m) float64, radians per unit of encoded length.

    Raises:
        ConfigError: An unknown law, or a number out of range.

    Example:
        >>> draw("gaussian", d=3, m=2, seed=0, scale=2.0).shape
        (3, 2)
    """
    if law not in LAWS:
        raise ConfigError(f"law = {law!r} is unknown; choose one of {', '.join(LAWS)}")
    for name, value in (("d", d), ("frequencies m", m)):
        if value < 1:
            raise ConfigError(f"{name} = {value} must be at least 1")
    if not (np.isfinite(scale) and scale > 0):
        raise ConfigError(f"scale = {scale} must be a positive length")
    omega = LAWS[law](np.random.default_rng(seed), d, m, blocks) / scale
    return np.ascontiguousarray(omega, np.float64)


def directions(rng: np.random.Generator, d: int, m: int) -> F64:
    """Directions (d, m), uniform on the unit sphere."""
    g = rng.standard_normal((d, m))
    return np.asarray(g / np.linalg.norm(g, axis=0))


def gaussian(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Normal frequencies: the Gaussian kernel exp(-|u|^2 / 2)."""
    return np.asarray(rng.standard_normal((d, m)))


def folded_gaussian(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions with radius |N(0, 1)|."""
    return directions(rng, d, m) * np.abs(rng.standard_normal(m))


def adapted_radius(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions, radius density proportional to sqrt(r^2 + r^4/4) exp(-r^2/2).

    Drawn exactly: with Y ~ Gamma(3/2, 1) restricted to [2, inf), the radius is sqrt(2 (Y - 2)).
    """
    below = special.gammainc(1.5, 2.0)
    y = special.gammaincinv(1.5, below + rng.random(m) * (1 - below))
    return np.asarray(directions(rng, d, m) * np.sqrt(2 * np.maximum(y - 2, 0)))


def multiscale(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Normal directions whose length is log-uniform over the scales of a box of side 2.

    The slowest frequencies see the whole box, the fastest resolve a fiftieth of it.
    """
    radius = np.exp(rng.uniform(np.log(0.5), np.log(50.0), m))
    return directions(rng, d, m) * radius


def axis(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Multiples of pi/2 along one coordinate at a time: the Fourier series of each marginal.

    Harmonics go round the numeric coordinates; a one-hot slot needs only the frequency pi, where
    a 0/1 coordinate of mean p has the feature mean 1 - 2p.
    """
    slots = {j for b in blocks if b.kind in ("onehot", "state") for j in range(d)[b.slice]}
    circles = {j for b in blocks if b.kind == "circle" for j in range(d)[b.slice]}
    numeric = [j for j in range(d) if j not in slots and j not in circles] or list(range(d))
    order = [(j, np.pi) for j in sorted(slots)]
    order += [(j, np.pi / 2 * k) for k in range(1, m // len(numeric) + 2) for j in numeric]
    omega = np.zeros((d, m))
    for column, (j, value) in enumerate(order[:m]):
        omega[j, column] = value
    return omega


def multiscale_axis(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Three quarters `multiscale`, one quarter `axis`, so that marginals can be looked at."""
    aligned = m // 4
    joint = multiscale(rng, d, m - aligned, blocks)
    return np.concatenate([joint, axis(rng, d, aligned, blocks)], axis=1) if aligned else joint


LAWS: dict[str, Law] = {
    "multiscale": multiscale,
    "gaussian": gaussian,
    "folded_gaussian": folded_gaussian,
    "adapted_radius": adapted_radius,
    "axis": axis,
    "multiscale_axis": multiscale_axis,
}
