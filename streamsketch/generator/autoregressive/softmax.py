"""The compiled steps: softmax regression on one-hot features, and draws from it.

The logits of a row are the sum of one row of `w` for each earlier variable's middle cell, and of one row
of `w3` for each pair of earlier variables whose triple with this one is counted. Rows are independent, so
that results do not depend on how they are split.

This module imports numba and compiles on first use: import it inside functions.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["draw", "likelihood", "logits"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compiled on first use and kept on disk; sums may be reordered, as no bits are promised."""
    njit: Any = numba.njit
    made: F = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)
    return made


@compiled
def logits(at: I32, at3: I32, w: F32, w3: F32, coarse: I32, z: F32, z3: F32) -> None:
    """Write the logits z (cells,) of one row with features at (features,) and at3 (triples,)."""
    cells = z.shape[0]
    for v in range(cells):
        z[v] = w[0, v]
    for j in range(at.shape[0]):
        row = w[at[j]]
        for v in range(cells):
            z[v] += row[v]
    if at3.shape[0]:
        for c in range(z3.shape[0]):
            z3[c] = np.float32(0)
        for k in range(at3.shape[0]):
            row = w3[at3[k]]
            for c in range(z3.shape[0]):
                z3[c] += row[c]
        for v in range(cells):
            z[v] += z3[coarse[v]]


@compiled
def likelihood(at: I32, at3: I32, w: F32, w3: F32, coarse: I32, g: F32, g3: F32) -> float:
    """Sum over rows of log Z; adds each row's probabilities to the rows of g and g3 that it uses."""
    n, features = at.shape
    cells, groups = w.shape[1], w3.shape[1]
    z, z3 = np.empty(cells, np.float32), np.empty(groups, np.float32)
    total = 0.0
    for i in range(n):
        logits(at[i], at3[i], w, w3, coarse, z, z3)
        top = z[0]
        for v in range(1, cells):
            top = max(top, z[v])
        mass = np.float32(0)
        for v in range(cells):
            z[v] = np.exp(z[v] - top)
            mass += z[v]
        total += top + np.log(mass)
        share = np.float32(1) / mass
        for v in range(cells):
            z[v] *= share
            g[0, v] += z[v]
        for j in range(features):
            row = g[at[i, j]]
            for v in range(cells):
                row[v] += z[v]
        if at3.shape[1]:
            for c in range(groups):
                z3[c] = np.float32(0)
            for v in range(cells):
                z3[coarse[v]] += z[v]
            for k in range(at3.shape[1]):
                row = g3[at3[i, k]]
                for c in range(groups):
                    row[c] += z3[c]
    return total


@compiled
def draw(
    at: I32, at3: I32, w: F32, w3: F32, coarse: I32, allowed: F32, u: F64, out: I32, mass: F64
) -> None:
    """Draw a cell for each row by inverting its distribution function at u (n,).

    Args:
        at: (n, features) rows of w.
        at3: (n, triples) rows of w3.
        w: (rows, cells) weights.
        w3: (rows, groups) weights of triples.
        coarse: (cells,) group of each cell.
        allowed: (cells,) share of each cell's mass that a condition allows; all 1 without.
        u: (n,) in [0, 1).
        out: (n,) written: the cells.
        mass: (n,) written: the probability of what is allowed.
    """
    cells = w.shape[1]
    z, z3 = np.empty(cells, np.float32), np.empty(w3.shape[1], np.float32)
    for i in range(at.shape[0]):
        logits(at[i], at3[i], w, w3, coarse, z, z3)
        top = z[0]
        for v in range(1, cells):
            top = max(top, z[v])
        whole, inside = 0.0, 0.0
        for v in range(cells):
            p = np.exp(z[v] - top)
            whole += p
            z[v] = p * allowed[v]
            inside += z[v]
        mass[i] = inside / whole
        left, last = u[i] * inside, 0
        for v in range(cells):
            if z[v] > 0:
                last = v
                left -= z[v]
                if left < 0:
                    break
        out[i] = last
