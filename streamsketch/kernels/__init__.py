"""Backends that sum features over rows, all tested against the reference."""

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKENDS", "ONE", "SumFeatures", "backend", "choose", "has_numba"]

ONE = 1 << 16  # units of the fixed-point sums per 1.0

SumFeatures = Callable[[NDArray[np.float32], NDArray[np.float64]], NDArray[np.int64]]

BACKENDS = {
    "reference": "streamsketch.kernels.reference:sum_features",
    "cpu": "streamsketch.kernels.cpu:sum_features",
}


def backend(name: str) -> SumFeatures:
    """The function of a backend: rows (n, d) and frequencies (d, m) to int64 sums (2m,)."""
    module, function = BACKENDS[name].split(":")
    found: SumFeatures = getattr(import_module(module), function)
    return found


def choose(d: int, m: int, law: str) -> str:
    """The fastest backend here for dimension d, m frequencies and a law."""
    return "cpu" if has_numba() else "reference"


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether the compiled kernels can be used here."""
    return find_spec("numba") is not None
