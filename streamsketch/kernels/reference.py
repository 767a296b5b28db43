"""The reference: numpy in float64, every operation elementwise.

The projection is accumulated coordinate by coordinate in a fixed order (never by a matrix
product, whose rounding depends on the number of rows), so that the bits of a row's features do
not depend on the batch it comes in.
"""

import numpy as np
from numpy.typing import NDArray

from streamsketch.kernels import ONE

__all__ = ["features", "sum_features"]

ROWS = 256  # keeps a block of features within a few megabytes


def features(x: NDArray[np.floating], omega: NDArray[np.float64]) -> NDArray[np.float64]:
    """cos(x @ omega), then sin(x @ omega): (n, 2m) float64 for rows (n, d), frequencies (d, m)."""
    phase = np.zeros((x.shape[0], omega.shape[1]))
    for k in range(omega.shape[0]):
        phase += x[:, k, None].astype(np.float64) * omega[k]
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1)


def sum_features(x: NDArray[np.float32], omega: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sum over rows of the features truncated to multiples of 2^-16; int64 (2m,)."""
    total = np.zeros(2 * omega.shape[1], np.int64)
    for start in range(0, len(x), ROWS):
        units = np.trunc(ONE * features(x[start : start + ROWS], omega))
        total += units.astype(np.int64).sum(axis=0)
    return total
