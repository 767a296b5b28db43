"""The compiled sum of features of rows that are mostly zeros, as those of tables are (numba).

A category is one 1 among zeros: a row of 15 columns has some 20 numbers in a hundred coordinates. The
phases of a row are summed over its nonzero coordinates only, in order. Leaving out a multiply-add of 0
changes no bit, so sums equal those of `fused.sum_dense`.

This module imports numba and compiles on first use: import it inside functions.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, I64
from streamsketch.features.kernels.fused import (
    FRONT,
    POLYNOMIALS,
    TILES,
    X_LIMIT,
    Polynomials,
    feature_pair,
    jit,
)
from streamsketch.features.kernels.vectors import gather

__all__ = ["SIGNATURES", "sum_sparse"]

types: Any = numba.types


@jit
def collect(x: F32, start: int, stop: int, place: NDArray[np.int32], value: F32) -> int:
    """Nonzero coordinates of rows start..stop of x (n, d), cut to +-X_LIMIT.

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        place: (rows, d + 1) written: how many, then which.
        value: (rows, d + 1) written: their values, from index 1.

    Returns:
        How many values were not finite; they are left out.
    """
    limit = np.float32(X_LIMIT)
    bad = 0
    place[:, 0] = 0
    for k in range(x.shape[1]):
        column = x[start:stop, k]
        for b in range(column.shape[0]):
            v = column[b]
            if v != np.float32(0):
                if v - v == np.float32(0):
                    at = place[b, 0] + 1
                    place[b, 0] = at
                    place[b, at] = k
                    value[b, at] = min(max(v, -limit), limit)
                else:
                    bad += 1
    return bad


@jit
def add_features(
    t: F32, p: Polynomials, cosines: NDArray[np.int32], sines: NDArray[np.int32]
) -> None:
    """Add the truncated features of phases t (frequencies,) to integer sums."""
    for f in range(t.shape[0]):
        c, s = feature_pair(t[f], p)
        cosines[f] += np.int32(c)
        sines[f] += np.int32(s)


@jit
def sum_sparse(
    x: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, total: I64
) -> int:
    """Add the features of rows start..stop of x (n, d) to total (2, chunks * F).

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block; block times the unit must stay below 2^31.
        w: (chunks, d, F) frequencies in turns, F = `vectors.GATHERED`.
        p: `polynomials(unit)`.
        total: (2, chunks * F) int64: cosines and sines in units.

    Returns:
        How many values of x were not finite; they counted as 0.
    """
    bad = 0
    d, many = w.shape[1], w.shape[2]
    rows = min(block, stop - start)
    place = np.empty((rows, d + 1), np.int32)
    value = np.empty((rows, d + 1), np.float32)
    t = np.empty(many, np.float32)
    cosines = np.empty(many, np.int32)
    sines = np.empty(many, np.int32)
    for i in range(start, stop, rows):
        end = min(i + rows, stop)
        bad += collect(x, i, end, place, value)
        for chunk in range(w.shape[0]):
            cosines[:] = 0
            sines[:] = 0
            for b in range(end - i):
                gather(place, value, b, w, chunk, t)
                add_features(t, p, cosines, sines)
            for f in range(many):
                total[0, chunk * many + f] += cosines[f]
                total[1, chunk * many + f] += sines[f]
    return bad


SIGNATURES = {
    "sum_sparse": types.intp(*FRONT, types.intp, TILES, POLYNOMIALS, types.int64[:, ::1])
}
