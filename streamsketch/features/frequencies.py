r"""Frequency laws: how the frequencies of the random Fourier features are drawn.

A law :math:`\Lambda` decides which kernel the sketch's distance has (Bochner): independent
frequencies :math:`\omega_j \sim \Lambda` sample the characteristic function of the stream.
`scale` is always a length in encoded space, never a variance: frequencies are divided by it.

| law | kernel, or what it is for |
|---|---|
| `multiscale` | the default: needs no scale on data in declared limits |
| `gaussian` | exp(-u^2 / 2) |
| `folded_gaussian`, `adapted_radius` | uniform directions, radii of the sketching literature |
| `kmeans` | adapted radius without the derivative by the variance |
| `laplace` | product of exp(-abs(u_i)): independent Cauchy frequencies |
| `cauchy` | product of 1 / (1 + u_i^2): independent Laplace frequencies |
| `sparse` | frequencies on one to three columns each (ANOVA): low-order marginals |
| `multiscale_hadamard`, `multiscale_harmonic` | the radii of `multiscale`, frequencies that share work |
| `hadamard`, `harmonic` | the same with radii up to 50 in any dimension, for older sketches |
| `axis` | one coordinate at a time: the Fourier series of each marginal |
| `multiscale_axis` | three quarters `multiscale`, one quarter `axis` |
| `second_order` | sums and differences of few frequencies: second moments of their features |
| `gaussian+laplace`, ... | a union: the frequencies in equal parts from each law |

References:
    Keriven, Bourrier, Gribonval, Pérez: Sketching for large-scale learning of mixture models,
    2016 (folded Gaussian and adapted radius, section 3.3).
    Rahimi, Recht: Random features for large-scale kernel machines, 2007 (table 1: the three kernels).
"""

from collections.abc import Callable, Sequence

import numpy as np

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError
from streamsketch.features.frequencies_structured import (
    fastest,
    hadamard,
    harmonic,
    multiscale_hadamard,
    multiscale_harmonic,
)
from streamsketch.schema.columns import Block

__all__ = ["LAWS", "Law", "advised", "draw", "second_order_base"]

Law = Callable[[np.random.Generator, int, int, Sequence[Block]], F64]


def draw(
    law: str, d: int, m: int, seed: int, scale: float = 1.0, blocks: Sequence[Block] = ()
) -> F64:
    """Draw m frequencies in dimension d; the same arguments give the same frequencies.

    Args:
        law: A name in `LAWS`, or several joined by `+`: each gives an equal part of the frequencies.
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
        >>> draw("gaussian+laplace", d=3, m=5, seed=0).shape
        (3, 5)
    """
    parts = law.split("+")
    for part in parts:
        if part not in LAWS:
            raise ConfigError(
                f"law = {law!r} is unknown; choose one of {', '.join(LAWS)}, or several joined by +"
            )
    for name, value in (("d", d), ("frequencies m", m)):
        if value < 1:
            raise ConfigError(f"{name} = {value} must be at least 1")
    if not (np.isfinite(scale) and scale > 0):
        raise ConfigError(f"scale = {scale} must be a positive length")
    rng = np.random.default_rng(seed)
    counts = [m // len(parts) + (k < m % len(parts)) for k in range(len(parts))]
    drawn = [LAWS[part](rng, d, count, blocks) for part, count in zip(parts, counts, strict=True)]
    omega = np.concatenate(drawn, axis=1)
    if len(parts) > 1:  # no run of frequencies stands for one law only
        omega = omega[:, rng.permutation(m)]
    return np.ascontiguousarray(omega / scale, np.float64)


def advised(blocks: Sequence[Block]) -> int:
    """How many frequencies a sketch of these columns wants: one for four of its pairs of slots.

    A sketch of m frequencies is 2m numbers, and the joint distributions of pairs of columns have
    about d^2 / 2 cells, where d counts coordinates. With fewer frequencies a generator can match
    those it is trained on and miss the others, which the held-out distance shows. Plain points
    want d^2 up to 4096, where curves of quality flatten at d = 64, and ten a coordinate beyond.

    Returns:
        A power of two from 1024 to 16384.

    Example:
        >>> from streamsketch import Schema
        >>> advised(Schema.vectors(2, -1, 1).blocks)
        1024
    """
    numbers = [b.width for b in blocks if b.kind == "numeric"]
    points = sum(numbers if len(numbers) == len(blocks) else [w for w in numbers if w > 1])
    d = sum(b.width for b in blocks) - points
    need = max(d * d / 4, min(points**2, 4096), 10 * points, 1)
    return int(np.clip(2 ** np.ceil(np.log2(need)), 1024, 16384))


def directions(rng: np.random.Generator, d: int, m: int) -> F64:
    """Directions (d, m), uniform on the unit sphere."""
    g = rng.standard_normal((d, m))
    return np.asarray(g / np.linalg.norm(g, axis=0))


def gaussian(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Normal frequencies: the Gaussian kernel exp(-|u|^2 / 2)."""
    return rng.standard_normal((d, m))


def folded_gaussian(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions with radius |N(0, 1)|."""
    return directions(rng, d, m) * np.abs(rng.standard_normal(m))


def adapted_radius(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions, radius density proportional to sqrt(r^2 + r^4/4) exp(-r^2/2).

    Drawn exactly: with Y ~ Gamma(3/2, 1) restricted to [2, inf), the radius is sqrt(2 (Y - 2)).
    """
    from scipy import special

    below = special.gammainc(1.5, 2.0)
    y = special.gammaincinv(1.5, below + rng.random(m) * (1 - below))
    radius: F64 = np.sqrt(2 * np.maximum(y - 2, 0))
    return directions(rng, d, m) * radius


def kmeans(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Uniform directions, Rayleigh radius: density proportional to r exp(-r^2/2), for locations."""
    radius: F64 = np.sqrt(-2 * np.log1p(-rng.random(m)))
    return directions(rng, d, m) * radius


def laplace(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Cauchy frequencies, independent by coordinate: the Laplace kernel exp(-|u|_1)."""
    return rng.standard_cauchy((d, m))


def cauchy(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Laplace frequencies, independent by coordinate: the Cauchy kernel prod 1 / (1 + u_i^2)."""
    return rng.laplace(size=(d, m))


def sparse(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Frequencies that touch one to three columns each, the rest being zero (ANOVA).

    Numbers get normal frequencies with a log-uniform length from 0.5 to 10, categories normal
    phases: the joint distributions of up to three columns, at several resolutions.
    """
    groups = _columns(d, blocks)
    omega = np.zeros((d, m))
    for j in range(m):
        for g in rng.permutation(len(groups))[: rng.integers(1, 4)]:
            length = np.exp(rng.uniform(np.log(0.5), np.log(10.0)))
            for start, stop, number in groups[g]:
                omega[start:stop, j] = rng.standard_normal(stop - start) * (
                    length if number else 1.5
                )
    return omega


def multiscale(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """Frequencies for data in declared limits, without a scale to choose.

    Points: uniform directions with a length that is log-uniform from 0.5 to 50: the slowest see
    the whole box of side 2, the fastest resolve a fiftieth of it. In more than eight dimensions
    the fastest have 50 sqrt(8 / d): beyond, the mean features of points spread over many
    dimensions vanish and only noise is left.

    Tables: half of the frequencies touch every column, the others k of them with log-uniform k
    from 1 to 16 (wide columns more often): joint distributions of every order. A number's
    frequency is normal with a log-uniform length of its own from 0.3 to 3, a category's phases
    are normal with deviation 0.7; both shrink with many columns, so that the phases together stay
    within a few radians (else the mean features vanish), and numbers are up to twice as fast
    where columns are few. Categories are not: sharp phases make the gradient of a draw useless.
    """
    groups = _columns(d, blocks)
    if all(number for group in groups for _, _, number in group):
        return directions(rng, d, m) * np.exp(rng.uniform(np.log(0.5), np.log(fastest(d)), m))
    count = len(groups)
    few = np.exp(rng.uniform(0, np.log(min(count, 16) + 1), m)).astype(np.int64)
    touched = np.where(rng.random(m) < 0.5, count, few)
    share = 0.5 * np.log([sum(stop - start for start, stop, _ in group) for group in groups])
    keys = share[:, None] + rng.gumbel(size=(count, m))  # the k largest: k draws without repeats
    active = np.argsort(np.argsort(-keys, axis=0), axis=0) < touched
    gain = np.sqrt(10.0 / touched)
    omega = np.zeros((d, m))
    for group, on in zip(groups, active, strict=True):
        length = np.exp(rng.uniform(np.log(0.3), np.log(3.0), m)) * np.minimum(gain, 2.0)
        for start, stop, number in group:
            size = length if number else 0.7 * np.minimum(gain, 1.0)
            omega[start:stop] = rng.standard_normal((stop - start, m)) * (size * on)
    return omega


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


def second_order(rng: np.random.Generator, d: int, m: int, blocks: Sequence[Block]) -> F64:
    """A few `multiscale` frequencies, all their sums and differences, and others.

    Products of the features of the first p are features at the sums i <= j and the differences
    i < j, which follow in this order: the sketch holds the first p's second moments. The tenth
    that is left, or more, is drawn like the first.
    """
    p = second_order_base(m)
    drawn = multiscale(rng, d, m - p * p, blocks)
    base, others = drawn[:, :p], drawn[:, p:]
    i, j = np.triu_indices(p)
    a, b = np.triu_indices(p, 1)
    sums, differences = base[:, i] + base[:, j], base[:, a] - base[:, b]
    return np.concatenate([base, sums, differences, others], axis=1)


def second_order_base(m: int) -> int:
    """How many of m frequencies of the law `second_order` are base: p, with p^2 pairs of them.

    >>> second_order_base(2048)
    42
    """
    return int((np.sqrt(1 + 3.6 * m) - 1) / 2)


def _columns(d: int, blocks: Sequence[Block]) -> list[list[tuple[int, int, bool]]]:
    """Per column its runs of coordinates: start, stop, and whether they are numbers."""
    if not blocks:
        return [[(k, k + 1, True)] for k in range(d)]
    columns: dict[str, list[tuple[int, int, bool]]] = {}
    for b in blocks:
        number = b.kind in ("numeric", "circle")
        columns.setdefault(b.column, []).append((b.start, b.start + b.width, number))
    return list(columns.values())


LAWS: dict[str, Law] = {
    "multiscale": multiscale,
    "gaussian": gaussian,
    "folded_gaussian": folded_gaussian,
    "adapted_radius": adapted_radius,
    "kmeans": kmeans,
    "laplace": laplace,
    "cauchy": cauchy,
    "sparse": sparse,
    "multiscale_harmonic": multiscale_harmonic,
    "multiscale_hadamard": multiscale_hadamard,
    "harmonic": harmonic,
    "hadamard": hadamard,
    "axis": axis,
    "multiscale_axis": multiscale_axis,
    "second_order": second_order,
}
