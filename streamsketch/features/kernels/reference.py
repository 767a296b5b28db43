"""The reference: numpy in float64, every operation elementwise.

The projection is accumulated coordinate by coordinate in a fixed order (never by a matrix
product, whose rounding depends on the number of rows), so that the bits of a row's features do
not depend on the batch it comes in.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import DataError
from streamsketch.features.kernels import NOT_FINITE, ONE

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec

__all__ = ["features", "features32", "prepare", "sum_features"]

ROWS = 256  # keeps a block of features within a few megabytes


def features(x: NDArray[np.floating[Any]], omega: NDArray[np.float64]) -> NDArray[np.float64]:
    """cos(x @ omega), then sin(x @ omega): (n, 2m) float64 for rows (n, d), frequencies (d, m)."""
    phase = np.zeros((x.shape[0], omega.shape[1]))
    for k in range(omega.shape[0]):
        phase += x[:, k, None].astype(np.float64) * omega[k]
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1)


def features32(x: NDArray[np.floating[Any]], omega: NDArray[np.float64]) -> NDArray[np.float32]:
    """`features` in float32 by one matrix product: its bits depend on the batch."""
    phase = x.astype(np.float32) @ omega.astype(np.float32)
    out = np.empty((len(x), 2 * omega.shape[1]), np.float32)
    np.cos(phase, out=out[:, : omega.shape[1]])
    np.sin(phase, out=out[:, omega.shape[1] :])
    return out


def sum_features(x: NDArray[Any], omega: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sum over rows (n, d) of the features truncated to multiples of 2^-16; int64 (2m,).

    Raises:
        DataError: A value is not finite.
    """
    total = np.zeros(2 * omega.shape[1], np.int64)
    for start in range(0, len(x), ROWS):
        with np.errstate(over="ignore"):  # refused below
            rows = np.asarray(x[start : start + ROWS], np.float32)
        if not np.isfinite(rows).all():
            raise DataError(NOT_FINITE)
        units = np.trunc(ONE * features(rows, omega))
        total += units.astype(np.int64).sum(axis=0)
    return total


def prepare(
    omega: NDArray[np.float64], spec: "Spec | None" = None
) -> Callable[[NDArray[Any]], NDArray[np.int64]]:
    """`sum_features` for given frequencies."""
    return partial(sum_features, omega=omega)
