"""Compiled kernels of the choice among rows of a table by the cells they fall in.

This module imports numba and compiles on first use: import it inside functions.
"""

import numpy as np

from streamsketch.arrays import F64, I32, I64
from streamsketch.features.kernels.fused import jit

__all__ = ["choose"]


@jit
def choose(
    cells: I32, value: F64, rate: F64, weights: F64, ratio: int, width: int, rows: I64
) -> None:
    """Choose len(rows) of n candidates, one after the other, of a window that moves over them.

    Candidate i scores ``sum_t value[c_it] + (s + 1) rate[c_it]`` in step s, less the weight of every
    cell that it shares with one that was chosen before. Step s looks at the candidates from
    ``ratio s`` up to ``ratio s + width`` that are left.

    Args:
        cells: (n, tables) cell numbers; n is at least the outputs.
        value: (size,) scores before the first step.
        rate: (size,) what a cell gains with every step.
        weights: (size,) of the cells.
        ratio: Candidates by which the window moves on.
        width: Candidates in the window.
        rows: Chosen rows, written.
    """
    n, tables = cells.shape
    score, growth = np.empty(n), np.empty(n)
    gone = np.zeros(n, np.bool_)
    shared = np.empty(tables, np.float32)
    seen = 0
    for s in range(len(rows)):
        last = min(n, ratio * s + width)
        first = max(0, min(ratio * s, n - width))
        while seen < last:
            a = b = 0.0
            for t in range(tables):
                a += value[cells[seen, t]]
                b += rate[cells[seen, t]]
            score[seen], growth[seen] = a, b
            seen += 1
        best, top = -1, -np.inf
        for i in range(first, last):
            now = score[i] + (s + 1) * growth[i]
            if not gone[i] and now > top:
                best, top = i, now
        rows[s] = best
        gone[best] = True
        for t in range(tables):
            c = cells[best, t]
            shared[t] = weights[c]
            value[c] -= weights[c]
        for i in range(first, last):
            loss = np.float32(0.0)
            for t in range(tables):
                loss += shared[t] * (cells[i, t] == cells[best, t])
            score[i] -= loss
