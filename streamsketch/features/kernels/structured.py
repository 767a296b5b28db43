"""CPU backends of the structured laws, harmonic and Hadamard, with the kernels of `fused_structured`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, I64
from streamsketch.errors import ConfigError
from streamsketch.features.frequencies_structured import (
    FEWEST,
    HADAMARD,
    HARMONICS,
    factors,
)
from streamsketch.features.kernels import ONE, cpu

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec

__all__ = ["HadamardSum", "HarmonicSum", "prepare_hadamard", "prepare_harmonic"]

LANES = 128  # rows per block of the Hadamard kernel


@dataclass(frozen=True)
class HarmonicSum:
    """The sum of features of the harmonic law.

    Attributes:
        w: (tiles, d, 4) first harmonics in turns.
        m: Number of frequencies.
    """

    w: F32
    m: int

    def __call__(self, x: NDArray[Any]) -> I64:
        """Sums (2m,); see `cpu.sum_rows`."""
        from streamsketch.features.kernels.fused import polynomials

        kern, one = cpu.kernel("sum_harmonic"), polynomials(1.0)
        block = cpu.block_rows(self.w.shape[1])

        def run(rows: F32, start: int, stop: int, total: I64) -> int:
            return kern(rows, start, stop, block, self.w, one, total)

        total = cpu.sum_rows(run, x, 4 * len(self.w) * HARMONICS, block)
        return total[:, : self.m].reshape(-1)


@dataclass(frozen=True)
class HadamardSum:
    """The sum of features of the Hadamard law, O(m log d) a row.

    Attributes:
        signs: (blocks, 3, s) float32.
        gains: (m,) float32, in turns.
    """

    signs: F32
    gains: F32

    def __call__(self, x: NDArray[Any]) -> I64:
        """Sums (2m,); see `cpu.sum_rows`."""
        from streamsketch.features.kernels.fused import polynomials

        kern, unit = cpu.kernel("sum_hadamard"), polynomials(ONE)

        def run(rows: F32, start: int, stop: int, total: I64) -> int:
            return kern(rows, start, stop, self.signs, self.gains, unit, total)

        return cpu.sum_rows(run, x, len(self.gains), LANES).reshape(-1)


def prepare_harmonic(omega: NDArray[np.float64], spec: "Spec | None" = None) -> HarmonicSum:
    """The sum for frequencies (d, m) of the harmonic law.

    Raises:
        ConfigError: The frequencies are not harmonics of every eighth column.
    """
    m = omega.shape[1]
    base = omega[:, ::HARMONICS]
    multiples = np.repeat(base, HARMONICS, axis=1)[:, :m] * (np.arange(m) % HARMONICS + 1)
    if not np.allclose(omega, multiples, rtol=1e-12, atol=0):
        raise ConfigError(
            "the harmonic backend needs frequencies of the harmonic law; use backend='cpu'"
        )
    return HarmonicSum(cpu.in_turns(base), m)


def prepare_hadamard(omega: NDArray[np.float64], spec: "Spec | None" = None) -> HadamardSum:
    """The sum for the frequencies that a spec of the Hadamard law names.

    Raises:
        ConfigError: The spec has another law, or so few dimensions that the law is a plain one.
    """
    if spec is None or spec.law not in HADAMARD or spec.d < FEWEST:
        raise ConfigError(
            f"the hadamard backend needs a spec of a hadamard law with at least {FEWEST} "
            "dimensions; use backend='cpu'"
        )
    f = factors(np.random.default_rng(spec.seed), spec.d, spec.m, HADAMARD[spec.law](spec.d))
    gains = f.gains / (2 * np.pi * spec.scale)
    return HadamardSum(f.signs.astype(np.float32), gains.astype(np.float32))
