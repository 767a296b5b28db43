"""Backends that sum features over rows, all tested against the reference."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec

__all__ = ["BACKENDS", "ONE", "Prepare", "SumRows", "choose", "has_numba", "prepare"]

NOT_FINITE = "rows hold values that are not finite in float32; set them apart before sketching"
ONE = 1 << 16  # units of the fixed-point sums per 1.0

SumRows = Callable[[NDArray[Any]], NDArray[np.int64]]
Prepare = Callable[[NDArray[np.float64], "Spec | None"], SumRows]

BACKENDS = {
    "reference": "streamsketch.features.kernels.reference:prepare",
    "cpu": "streamsketch.features.kernels.cpu:prepare",
    "torch": "streamsketch.features.kernels.device:prepare",
    "triton": "streamsketch.features.kernels.device:prepare_triton",
    "harmonic": "streamsketch.features.kernels.structured:prepare_harmonic",
    "hadamard": "streamsketch.features.kernels.structured:prepare_hadamard",
}


def prepare(name: str, omega: NDArray[np.float64], spec: "Spec | None" = None) -> SumRows:
    """The summing function of a backend, ready to be called many times.

    Args:
        name: A name in `BACKENDS`.
        omega: (d, m) frequencies.
        spec: Where the frequencies come from, for the backends of structured laws.

    Returns:
        A function from finite rows (n, d), of any real type and layout, to int64 sums (2m,).
    """
    make: Prepare = resolve_name(BACKENDS[name])
    return make(omega, spec)


def choose(d: int, m: int, law: str) -> str:
    """The fastest backend here for dimension d, m frequencies and a law.

    The costs are operations per (row, frequency) pair, measured as in `docs/performance.md`: 20
    for the phase and its features; a projection adds one per dimension, a Walsh-Hadamard block
    4.5 per stage and what its padding to a power of two wastes.
    """
    from streamsketch.features.frequencies_structured import HADAMARD, HARMONIC

    if not has_numba():
        return "reference"
    if law in HARMONIC:
        return "harmonic"
    if law in HADAMARD and d >= 32:
        size = max(64, 1 << (d - 1).bit_length())
        transform = 4.5 * size.bit_length() * (-(-m // size) * size) / m
        return "hadamard" if transform < d else "cpu"
    return "cpu"


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether the compiled kernels can be used here."""
    return find_spec("numba") is not None
