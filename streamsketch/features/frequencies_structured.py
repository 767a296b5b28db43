r"""Laws whose frequencies share work: harmonics of few directions, and Hadamard blocks.

`multiscale_harmonic` and `multiscale_hadamard` have the radii of `multiscale` in any dimension.
`harmonic` and `hadamard` reach radius 50 however many dimensions there are, where the mean
features of data have long vanished; they stay for sketches that were made with them.

Their kernels cost less per frequency than a projection: see `docs/performance.md` for when each is
worth it.

References:
    Yu, Suresh, Choromanski, Holtmann-Rice, Kumar: Orthogonal random features, 2016 (structured
    orthogonal features: products of Hadamard matrices and random signs).
    Keriven, Bourrier, Gribonval, Pérez, 2016 (any radial law with uniform directions).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from streamsketch.arrays import F64
from streamsketch.schema.columns import Block

__all__ = [
    "FEWEST",
    "HADAMARD",
    "HARMONIC",
    "HARMONICS",
    "Factors",
    "factors",
    "fastest",
    "hadamard",
    "harmonic",
    "multiscale_hadamard",
    "multiscale_harmonic",
    "walsh_hadamard",
]

HARMONICS = 8  # frequencies per direction; part of the law, the kernel relies on it
SMALLEST = 64  # size of the smallest Hadamard block: below, directions are few and coarse
FEWEST = 16  # dimensions below which the law draws plain directions: blocks cut to so few may be 0
SLOW = 0.5  # smallest radius of the default law: the whole box of side 2
FAST = 50.0  # its largest in few dimensions: a fiftieth of the box


def fastest(d: int) -> float:
    """The largest radius of `multiscale` in dimension d: 50, and 50 sqrt(8 / d) above eight.

    Beyond, the mean features of points spread over many dimensions vanish and only noise is left.
    """
    return FAST * min(1.0, float(np.sqrt(8 / d)))


def log_uniform(rng: np.random.Generator, low: float, high: float, m: int) -> F64:
    """M radii, uniform in their logarithm."""
    return np.exp(rng.uniform(np.log(low), np.log(high), m))


def harmonic(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions, each with the radii r, 2r, ..., 8r up to 50, in any dimension."""
    return _harmonic(rng, d, m, FAST)


def multiscale_harmonic(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions, each with the radii r, 2r, ..., 8r; the last direction may have fewer.

    Base radii are log-uniform so that the harmonics end where the `multiscale` law ends. Column
    8i + k - 1 is exactly k times column 8i.
    """
    return _harmonic(rng, d, m, fastest(d))


def _harmonic(rng: np.random.Generator, d: int, m: int, fast: float) -> F64:
    count, top = -(-m // HARMONICS), fast / HARMONICS
    g = rng.standard_normal((d, count))
    base = g / np.linalg.norm(g, axis=0) * log_uniform(rng, min(SLOW, top / 2), top, count)
    multiples = base[:, :, None] * np.arange(1.0, HARMONICS + 1)
    return np.ascontiguousarray(multiples.reshape(d, -1)[:, :m])


@dataclass(frozen=True)
class Factors:
    r"""Frequencies as stacked blocks :math:`R\,H D_1 H D_2 H D_3` of size s, cut to d coordinates.

    Attributes:
        signs: (blocks, 3, s) diagonals of D_3, D_2, D_1, in the order they are applied.
        gains: (m,) what a row of the product of unnormalised H is multiplied by.
    """

    signs: F64
    gains: F64


def factors(rng: np.random.Generator, d: int, m: int, fast: float = FAST) -> Factors:
    """Draw the factors of m structured frequencies in dimension d.

    The rows of a block are cut to d of its coordinates and scaled to their radius, so that the
    radial law holds exactly; rows of one block are orthogonal where d is the block's size.
    d must be at least 16. Radii are log-uniform from 0.5 to `fast`.
    """
    size = max(SMALLEST, 1 << (d - 1).bit_length())
    count = max(1, -(-m // size))
    signs = rng.choice([-1.0, 1.0], (count, 3, size))
    radii = log_uniform(rng, SLOW, fast, m)
    norms = np.linalg.norm(_product(signs, d), axis=1).reshape(-1)[:m]
    return Factors(signs, radii / norms)


def hadamard(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Directions from products of Hadamard matrices and random signs, radii up to 50 in any d."""
    return _hadamard(rng, d, m, FAST)


def multiscale_hadamard(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Directions from products of Hadamard matrices and random signs, the radii of `multiscale`.

    O(m log d) a row by its own kernel, against O(m d); for d over about 32. Distances have the
    variance of independent frequencies at equal m (measured: docs/performance.md). Below 16
    dimensions directions are plain uniform ones.
    """
    return _hadamard(rng, d, m, fastest(d))


def _hadamard(rng: np.random.Generator, d: int, m: int, fast: float) -> F64:
    if d < FEWEST:
        g = rng.standard_normal((d, m))
        return np.asarray(g / np.linalg.norm(g, axis=0) * log_uniform(rng, SLOW, fast, m))
    f = factors(rng, d, m, fast)
    columns = _product(f.signs, d).transpose(1, 0, 2).reshape(d, -1)[:, :m]
    return np.ascontiguousarray(columns * f.gains)


def walsh_hadamard(a: F64) -> F64:
    """H a along the last axis, unnormalised, natural order; its length is a power of two.

    >>> walsh_hadamard(np.array([1.0, 0.0, 0.0, 2.0])).tolist()
    [3.0, -1.0, -1.0, 3.0]
    """
    size, h = a.shape[-1], 1
    while h < size:
        pairs = a.reshape(*a.shape[:-1], size // (2 * h), 2, h)
        a = np.stack(
            [pairs[..., 0, :] + pairs[..., 1, :], pairs[..., 0, :] - pairs[..., 1, :]], -2
        )
        a = a.reshape(*a.shape[:-3], size)
        h *= 2
    return a


def _product(signs: F64, d: int) -> F64:
    """H D_1 H D_2 H D_3 applied to the first d unit vectors: (blocks, d, size)."""
    size = signs.shape[2]
    a = np.broadcast_to(np.eye(d, size), (len(signs), d, size))
    for k in range(3):
        a = walsh_hadamard(a * signs[:, None, k])
    return a


# The laws of each kind, with the largest radius in dimension d: their kernels ask for it.
HARMONIC = ("harmonic", "multiscale_harmonic")
HADAMARD: dict[str, Callable[[int], float]] = {
    "hadamard": lambda d: FAST,
    "multiscale_hadamard": fastest,
}
