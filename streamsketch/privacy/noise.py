"""Noise for releases: from the operating system's entropy, on the integer lattice.

Two samplers, both vectorised:

* `gaussian` draws a continuous Gaussian (Box and Muller on 64-bit uniforms) that the mechanism
  rounds to whole units of 2**-16. The data are whole numbers on the same lattice, so rounding
  the noise equals rounding the noisy value, which is post-processing: the fine structure of
  floats tells nothing about the data (Mironov 2012). What remains between this and the proof
  is that a float64 Gaussian is not exactly a Gaussian.
* `discrete_gaussian` draws *exactly* from the discrete Gaussian on the integers (Canonne,
  Kamath, Steinke 2020, algorithms 1 to 3). Acceptance is decided on 64 random bits in floating
  point wherever the bits leave no doubt; the rest, about one in 10**13, is settled by
  arithmetic of growing precision on the same random bits, extended.

Both take their randomness as a function ``count -> bytes``; `os.urandom` holds no buffer that a
fork could duplicate.
"""

import logging
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streamsketch.arrays import F64, I64
from streamsketch.errors import ConfigError

__all__ = ["Entropy", "discrete_gaussian", "gaussian", "system_entropy", "seeded_entropy"]

Entropy: TypeAlias = Callable[[int], bytes]

logger = logging.getLogger(__name__)

#: Float acceptance is trusted when the 64-bit uniform is at least this far from the probability:
#: the probability itself is computed to better than 2**-48.
DOUBT = 2.0**-44

#: Largest standard deviation of the exact sampler, in lattice units: squares stay far below the
#: range of float64 and the samples below 2**58.
LARGEST_SIGMA = 2**52


def system_entropy(count: int) -> bytes:
    """``count`` bytes of the operating system's cryptographic generator."""
    return os.urandom(count)


def seeded_entropy(generator: np.random.Generator) -> Entropy:
    """A repeatable source for tests. Whoever knows the seed can take the noise away again.

    Logs a warning on every call, so that it cannot pass unnoticed in production.
    """
    logger.warning(
        "PRIVACY IS OFF IN EFFECT: noise comes from a seeded generator (test mode); "
        "releases made this way must not be published."
    )
    return generator.bytes


def gaussian(count: int, sigma: float, entropy: Entropy = system_entropy) -> F64:
    """Independent ``N(0, sigma**2)`` draws.

    Args:
        count: How many.
        sigma: Standard deviation.
        entropy: Source of random bytes.

    Returns:
        ``(count,)`` float64; not rounded.

    >>> gaussian(3, 0.0).tolist()
    [0.0, 0.0, 0.0]
    """
    half = (count + 1) // 2
    radius_bits, angle_bits = _words(2 * half, entropy).reshape(2, half)
    # (bits + 1/2) / 2**64 lies strictly inside (0, 1] even after rounding to float64.
    radius = np.sqrt(-2.0 * np.log((radius_bits.astype(np.float64) + 0.5) * 2.0**-64))
    angle = angle_bits.astype(np.float64) * (2.0**-64 * 2.0 * np.pi)
    pair = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return np.asarray(sigma * pair[:count] + 0.0, dtype=np.float64)


def discrete_gaussian(count: int, sigma: int, entropy: Entropy = system_entropy) -> I64:
    """Exact draws from the discrete Gaussian: ``P(y)`` proportional to ``exp(-y**2/(2 sigma**2))``.

    Args:
        count: How many.
        sigma: Scale in lattice units, a whole number from 1 to 2**52 (so that every
            probability that is compared is the exponential of a rational number).
        entropy: Source of random bytes.

    Returns:
        ``(count,)`` int64.

    Raises:
        ConfigError: If sigma is not such a number.

    Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020),
    algorithm 3.

    >>> discrete_gaussian(5, 1000).dtype
    dtype('int64')
    """
    if not 1 <= sigma <= LARGEST_SIGMA or int(sigma) != sigma:
        raise ConfigError(
            f"sigma of the discrete Gaussian is {sigma!r}; it must be a whole number of lattice "
            "units from 1 to 2**52; choose a larger budget or a coarser lattice"
        )
    sigma = int(sigma)
    scale = sigma + 1
    out = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        # 0.76 of the candidates are kept on average.
        wanted = int((count - filled) * 1.35) + 8
        y = _discrete_laplace(wanted, scale, entropy)
        shift = np.abs(y).astype(np.float64) - sigma * sigma / scale
        gamma = shift * shift / (2.0 * sigma * sigma)
        kept = y[_bernoulli_exp(gamma, entropy, _gaussian_exponent(y, sigma, scale))]
        take = min(len(kept), count - filled)
        out[filled : filled + take] = kept[:take]
        filled += take
    return out


def _gaussian_exponent(y: I64, sigma: int, scale: int) -> Callable[[int], Fraction]:
    def exact(i: int) -> Fraction:
        shift = Fraction(abs(int(y[i]))) - Fraction(sigma * sigma, scale)
        return shift * shift / (2 * sigma * sigma)

    return exact


def _discrete_laplace(count: int, scale: int, entropy: Entropy) -> I64:
    """Exact ``P(y)`` proportional to ``exp(-|y| / scale)``; about ``count`` draws (CKS20, alg. 2)."""
    u = _below(int(count * 1.6) + 8, scale, entropy)
    keep = _bernoulli_exp(u / scale, entropy, lambda i: Fraction(int(u[i]), scale))
    u = u[keep][:count]
    magnitude = u + scale * _geometric(len(u), entropy)
    negative = (np.frombuffer(entropy(len(u)), dtype=np.uint8) & 1).astype(bool)
    y = np.where(negative, -magnitude, magnitude)
    return np.asarray(y[~(negative & (magnitude == 0))])


def _geometric(count: int, entropy: Entropy) -> I64:
    """How often Bernoulli(exp(-1)) succeeds before it first fails."""
    successes = np.zeros(count, dtype=np.int64)
    going = np.arange(count)
    one = Fraction(1)
    while len(going):
        won = _bernoulli_exp(np.ones(len(going)), entropy, lambda i: one)
        going = going[won]
        successes[going] += 1
    return successes


def _below(count: int, bound: int, entropy: Entropy) -> I64:
    """Uniform whole numbers in ``[0, bound)`` by rejection: no modulo bias."""
    mask = np.uint64((1 << max(1, (bound - 1).bit_length())) - 1)
    out = np.empty(0, dtype=np.int64)
    while len(out) < count:
        words = (_words(2 * (count - len(out)) + 8, entropy) & mask).astype(np.int64)
        out = np.concatenate([out, words[words < bound]])
    return out[:count]


def _bernoulli_exp(
    gamma: F64, entropy: Entropy, exact: Callable[[int], Fraction], doubt: float = DOUBT
) -> npt.NDArray[np.bool_]:
    """Exact Bernoulli(exp(-gamma)) for each gamma >= 0.

    A 64-bit word w stands for a uniform number in ``[w, w + 1) / 2**64`` whose further bits are
    not drawn yet. Far from the probability they cannot matter; near it they are drawn.
    """
    words = _words(len(gamma), entropy)
    uniform = words.astype(np.float64) * 2.0**-64
    probability = np.exp(-gamma)
    accepted = uniform < probability
    for i in np.flatnonzero(np.abs(uniform - probability) < doubt):
        accepted[i] = _settle(int(words[i]), exact(int(i)), entropy)
    return np.asarray(accepted)


def _settle(word: int, gamma: Fraction, entropy: Entropy) -> bool:
    """Whether the uniform number that starts with the bits of ``word`` is below exp(-gamma)."""
    bits = 64
    while True:
        low, high = _exp_bounds(gamma, bits)
        if Fraction(word + 1, 1 << bits) <= low:
            return True
        if Fraction(word, 1 << bits) >= high:
            return False
        word = (word << 64) | int.from_bytes(entropy(8), "little")
        bits += 64


def _exp_bounds(gamma: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Rational numbers below and above exp(-gamma), closer together than ``2**-bits``."""
    with localcontext() as context:
        context.prec = bits // 3 + 40
        argument = -Decimal(gamma.numerator) / Decimal(gamma.denominator)
        value = Fraction(argument.exp())
        # Two roundings of relative size 10**-prec: in the argument (below 2**20) and the result.
        error = Fraction(1, 10 ** (context.prec - 10))
    return max(value - error, Fraction(0)), value + error


def _words(count: int, entropy: Entropy) -> npt.NDArray[np.uint64]:
    return np.frombuffer(entropy(8 * count), dtype=np.uint64)
