r"""The compiled CPU kernels: projection, phase, two polynomials and a sum in one pass (numba).

A block of rows is packed transposed, (d, rows), so that the innermost loops run over rows: a
compiler turns them into vector instructions, the frequencies stay in registers, and the features
themselves never reach memory.

Why the bits of a row do not depend on its batch, on the number of threads or on the vector width:
every operation is an IEEE operation of fixed order, the multiply-adds are explicit (`fma`, never
left to the compiler's choice), and sums over rows are sums of integers.

Phases are counted in turns: :math:`t = \omega\cdot x / 2\pi`, :math:`r = t - \mathrm{rint}(t)` in
[-1/2, 1/2] (exact), then with :math:`s = \sin \pi r` and :math:`c = \cos \pi r` by polynomials

.. math:: \cos 2\pi r = 1 - 2 s^2, \qquad \sin 2\pi r = 2 s c,

so that phase 0 gives exactly 1. The coefficients are minimax fits of our own (degrees 9 and 8);
`tests/kernels` checks them over every phase.

numba's cache on disk notices a change of the file a kernel stands in, not of `vectors`: whoever
changes that one must touch this one.

This module imports numba and compiles on first use: import it inside functions.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np

from streamsketch.arrays import F32, I64
from streamsketch.features.kernels.polynomials import COSINE, SINE
from streamsketch.features.kernels.vectors import PANEL, fma, project, rint, spread

__all__ = [
    "SIGNATURES",
    "NOTHING",
    "X_LIMIT",
    "feature_pair",
    "jit",
    "polynomials",
    "sum_dense",
    "sum_gradient",
]

X_LIMIT = 1e15  # rows are cut here, so that no phase overflows: the norm bound holds for any input
NOTHING = np.empty((0, 0, 0, 0), np.float32)  # no phases are kept
CARRY = 64  # tiles of 4 frequencies per partial sum of the gradient, against rounding in long sums

Polynomials = tuple[np.float32, ...]
F = TypeVar("F", bound=Callable[..., Any])
njit: Any = numba.njit
types: Any = numba.types


@cache
def polynomials(one: float) -> Polynomials:
    """The coefficients for features in units of 1/one: sine, cosine, then `one` itself."""
    gain = np.sqrt(2.0 * one)
    return tuple(
        np.float32(v) for v in (*(gain * np.array(SINE)), *(gain * np.array(COSINE)), one)
    )


def jit(function: F) -> F:
    """Compile on first call; keep the machine code on disk where a folder can be written."""
    try:
        compiled: F = njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")(
            function
        )
    except RuntimeError:  # no writable folder for the cache
        compiled = njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    return compiled


def inline(function: F) -> F:
    """A function that is copied into its caller, so that loops around it vectorise."""
    compiled: F = njit(inline="always", error_model="numpy")(function)
    return compiled


@inline
def feature_pair(t: Any, p: Any) -> Any:
    """Cosine and sine of t turns, times the unit `p[10]`."""
    r = t - rint(t)
    u = r * r
    s = fma(fma(fma(fma(p[4], u, p[3]), u, p[2]), u, p[1]), u, p[0]) * r
    c = fma(fma(fma(fma(p[9], u, p[8]), u, p[7]), u, p[6]), u, p[5])
    return fma(-s, s, p[10]), s * c


@jit
def pack(x: F32, start: int, stop: int, out: F32) -> int:
    """Rows start..stop of x (n, d) into out (panels, d, PANEL), cut to +-X_LIMIT, filled with 0.

    Returns how many values were not finite; they are written as 0.
    """
    limit = np.float32(X_LIMIT)
    bad = 0
    for panel in range((stop - start + PANEL - 1) // PANEL):
        first = start + panel * PANEL
        count = min(PANEL, stop - first)
        for k in range(x.shape[1]):
            row = out[panel, k]
            for b in range(count):
                row[b] = x[first + b, k]
            for b in range(count, PANEL):
                row[b] = np.float32(0)
            wrong = np.int32(0)
            for b in range(PANEL):  # apart from the copy, so that it runs on vectors
                v = row[b]
                finite = v - v == np.float32(0)
                wrong = np.int32(wrong + np.int32(not finite))
                cut = min(max(v, -limit), limit)
                row[b] = cut if finite else np.float32(0)
            bad += int(wrong)
    return bad


@jit
def sum_pairs(t: F32, p: Polynomials) -> tuple[np.int32, np.int32]:
    """Sums over rows of the truncated cosines and sines of phases t (rows,), in int32."""
    cosines = np.int32(0)
    sines = np.int32(0)
    for b in range(t.shape[0]):
        c, s = feature_pair(t[b], p)
        cosines = np.int32(cosines + np.int32(c))
        sines = np.int32(sines + np.int32(s))
    return cosines, sines


@jit
def sum_dense(
    x: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, total: I64, kept: F32
) -> int:
    """Add the features of rows start..stop of x (n, d) to total (2, 4 tiles).

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block; block times the unit must stay below 2^31.
        w: (tiles, d, 4) frequencies in turns.
        p: `polynomials(unit)`.
        total: (2, 4 tiles) int64: cosines and sines in units.
        kept: (blocks, tiles, 4, rows) written with the phases, for `sum_gradient`; empty to keep none.

    Returns:
        How many values of x were not finite; they counted as 0.
    """
    bad = 0
    panels = (min(block, stop - start) + PANEL - 1) // PANEL
    xt = np.empty((panels, w.shape[1], PANEL), np.float32)
    scratch = np.empty((4, panels * PANEL), np.float32)
    unit = np.int64(p[10])
    for i in range(start, stop, panels * PANEL):
        end = min(i + panels * PANEL, stop)
        used = (end - i + PANEL - 1) // PANEL
        padding = (used * PANEL - end + i) * unit  # rows of padding have cosine 1
        bad += pack(x, i, end, xt)
        at = start // block + (i - start) // (panels * PANEL)
        for tile in range(w.shape[0]):
            t = kept[at, tile] if len(kept) else scratch
            for panel in range(used):
                project(xt, w, panel, tile, t)
            for f in range(4):
                cosines, sines = sum_pairs(t[f, : used * PANEL], p)
                total[0, tile * 4 + f] += cosines - padding
                total[1, tile * 4 + f] += sines
    return bad


@jit
def weigh_pairs(t: F32, p: Polynomials, a: np.float32, b: np.float32) -> None:
    """Replace phases t by a cos + b sin, in place."""
    for i in range(t.shape[0]):
        c, s = feature_pair(t[i], p)
        t[i] = fma(a, c, b * s)


@jit
def sum_gradient(
    y: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, ab: F32, out: F32, kept: F32
) -> int:
    r"""Gradient of a function of the mean features by rows (Schellekens and Jacques 2020, eq. 7).

    out[i] = sum_j (a_j cos_ij + b_j sin_ij) w_j, where the caller has put the factors -1, 2 pi and
    1/n into a and b.

    Args:
        y: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block.
        w: (tiles, d, 4) frequencies in turns.
        p: `polynomials(1)`.
        ab: (2, 4 tiles) multipliers of cosines and sines.
        out: (n, d) written.
        kept: (blocks, tiles, 4, rows) phases as `sum_dense` keeps them, with the same block; empty to
            project again.

    Returns:
        How many values of y were not finite; they counted as 0.
    """
    bad = 0
    panels = (min(block, stop - start) + PANEL - 1) // PANEL
    xt = np.empty((panels, w.shape[1], PANEL), np.float32)
    t = np.empty((4, panels * PANEL), np.float32)
    part = np.empty((panels, w.shape[1], PANEL), np.float32)
    for i in range(start, stop, panels * PANEL):
        end = min(i + panels * PANEL, stop)
        used = (end - i + PANEL - 1) // PANEL
        if not len(kept):
            bad += pack(y, i, end, xt)
        out[i:end] = np.float32(0)
        at = start // block + (i - start) // (panels * PANEL)
        for first in range(0, w.shape[0], CARRY):
            part[:] = np.float32(0)
            for tile in range(first, min(first + CARRY, w.shape[0])):
                if len(kept):  # copied: a loop from one array to itself would not run on vectors
                    for f in range(4):
                        for b in range(used * PANEL):
                            t[f, b] = kept[at, tile, f, b]
                else:
                    for panel in range(used):
                        project(xt, w, panel, tile, t)
                for f in range(4):
                    cosine, sine = ab[0, tile * 4 + f], ab[1, tile * 4 + f]
                    weigh_pairs(t[f, : used * PANEL], p, cosine, sine)
                for panel in range(used):
                    spread(t, w, panel, tile, part)
            for b in range(end - i):
                for k in range(w.shape[1]):
                    out[i + b, k] += part[b // PANEL, k, b % PANEL]
    return bad


ROWS = types.Array(types.float32, 2, "A", readonly=True)  # any layout: one compilation serves all
KEPT = types.float32[:, :, :, ::1]
MATRIX, TILES = types.float32[:, ::1], types.float32[:, :, ::1]
FRONT = (ROWS, types.intp, types.intp)
POLYNOMIALS = types.UniTuple(types.float32, 11)
SIGNATURES = {
    "sum_dense": types.intp(*FRONT, types.intp, TILES, POLYNOMIALS, types.int64[:, ::1], KEPT),
    "sum_gradient": types.intp(*FRONT, types.intp, TILES, POLYNOMIALS, MATRIX, MATRIX, KEPT),
}
