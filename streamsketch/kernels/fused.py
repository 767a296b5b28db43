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

This module imports numba and compiles on first use: import it inside functions.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["SIGNATURES", "TILE", "X_LIMIT", "jit", "polynomials", "sum_dense", "sum_gradient"]

TILE = 4  # frequencies and coordinates per step: 16 multipliers fit into the vector registers
X_LIMIT = 1e15  # rows are cut here, so that no phase overflows: the norm bound holds for any input
CARRY = 256  # frequencies per partial sum of the gradient, against rounding in long float32 sums

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Polynomials = tuple[np.float32, ...]
F = TypeVar("F", bound=Callable[..., Any])
njit: Any = numba.njit
types: Any = numba.types

SINE = (3.14159258, -5.16770689, 2.55003145, -0.59804547, 0.07722048)  # sin(pi r) / r in r^2
COSINE = (0.99999995, -4.93479287, 4.05841203, -1.33188068, 0.21969756)  # cos(pi r) in r^2


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


def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate


def _rint(typing: Any, a: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint", [args[0].type])
        return builder.call(function, args)

    return types.float32(types.float32), generate


fma: Any = intrinsic(_fma)  # a * b + c, rounded once
rint: Any = intrinsic(_rint)  # nearest integer, halves to even


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
    """Rows start..stop of x (n, d), transposed and cut to +-X_LIMIT, into out (padded d, rows).

    Returns how many values were not finite; they are written as 0.
    """
    limit = np.float32(X_LIMIT)
    bad = 0
    for k in range(x.shape[1]):
        row = out[k]
        for b in range(stop - start):
            v = x[start + b, k]
            finite = v - v == np.float32(0)
            bad += not finite
            row[b] = min(max(v, -limit), limit) if finite else np.float32(0)
        for b in range(stop - start, out.shape[1]):
            row[b] = np.float32(0)
    return bad


@jit
def project(xt: F32, w: F32, j: int, t: F32) -> None:
    """Phases t (4, rows) of columns j..j+3 of w (d, m) for packed rows xt (d, rows)."""
    t0, t1, t2, t3 = t[0], t[1], t[2], t[3]
    rows = xt.shape[1]
    for k in range(0, xt.shape[0], 4):
        x0, x1, x2, x3 = xt[k], xt[k + 1], xt[k + 2], xt[k + 3]
        a0, a1, a2, a3 = w[k, j], w[k + 1, j], w[k + 2, j], w[k + 3, j]
        b0, b1, b2, b3 = w[k, j + 1], w[k + 1, j + 1], w[k + 2, j + 1], w[k + 3, j + 1]
        c0, c1, c2, c3 = w[k, j + 2], w[k + 1, j + 2], w[k + 2, j + 2], w[k + 3, j + 2]
        d0, d1, d2, d3 = w[k, j + 3], w[k + 1, j + 3], w[k + 2, j + 3], w[k + 3, j + 3]
        if k == 0:
            for b in range(rows):
                p, q, r, s = x0[b], x1[b], x2[b], x3[b]
                t0[b] = fma(s, a3, fma(r, a2, fma(q, a1, p * a0)))
                t1[b] = fma(s, b3, fma(r, b2, fma(q, b1, p * b0)))
                t2[b] = fma(s, c3, fma(r, c2, fma(q, c1, p * c0)))
                t3[b] = fma(s, d3, fma(r, d2, fma(q, d1, p * d0)))
        else:
            for b in range(rows):
                p, q, r, s = x0[b], x1[b], x2[b], x3[b]
                t0[b] = fma(s, a3, fma(r, a2, fma(q, a1, fma(p, a0, t0[b]))))
                t1[b] = fma(s, b3, fma(r, b2, fma(q, b1, fma(p, b0, t1[b]))))
                t2[b] = fma(s, c3, fma(r, c2, fma(q, c1, fma(p, c0, t2[b]))))
                t3[b] = fma(s, d3, fma(r, d2, fma(q, d1, fma(p, d0, t3[b]))))


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
    x: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, total: I64
) -> int:
    """Add the features of rows start..stop of x (n, d) to total (2, m padded).

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block; block times the unit must stay below 2^31.
        w: (d, m) frequencies in turns, both padded with zeros to a multiple of 4.
        p: `polynomials(unit)`.
        total: (2, m padded) int64: cosines and sines in units.

    Returns:
        How many values of x were not finite; they counted as 0.
    """
    bad = 0
    rows = min(block, (stop - start + 15) // 16 * 16)
    xt = np.zeros((w.shape[0], rows), np.float32)
    t = np.empty((4, rows), np.float32)
    unit = np.int64(p[10])
    for i in range(start, stop, rows):
        end = min(i + rows, stop)
        bad += pack(x, i, end, xt)
        for j in range(0, w.shape[1], 4):
            project(xt, w, j, t)
            for f in range(4):
                cosines, sines = sum_pairs(t[f], p)
                total[0, j + f] += (
                    cosines - (rows - end + i) * unit
                )  # rows of padding have cosine 1
                total[1, j + f] += sines
    return bad


@jit
def weigh_pairs(t: F32, p: Polynomials, a: np.float32, b: np.float32) -> None:
    """Replace phases t by a cos + b sin, in place."""
    for i in range(t.shape[0]):
        c, s = feature_pair(t[i], p)
        t[i] = fma(a, c, b * s)


@jit
def spread(g: F32, w: F32, j: int, out: F32) -> None:
    """Add w[:, j:j+4] (d, 4) @ g (4, rows) to out (d, rows)."""
    g0, g1, g2, g3 = g[0], g[1], g[2], g[3]
    for k in range(0, out.shape[0], 2):
        o0, o1 = out[k], out[k + 1]
        a0, a1, a2, a3 = w[k, j], w[k, j + 1], w[k, j + 2], w[k, j + 3]
        b0, b1, b2, b3 = w[k + 1, j], w[k + 1, j + 1], w[k + 1, j + 2], w[k + 1, j + 3]
        for i in range(out.shape[1]):
            p, q, r, s = g0[i], g1[i], g2[i], g3[i]
            o0[i] = fma(s, a3, fma(r, a2, fma(q, a1, fma(p, a0, o0[i]))))
            o1[i] = fma(s, b3, fma(r, b2, fma(q, b1, fma(p, b0, o1[i]))))


@jit
def sum_gradient(
    y: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, ab: F32, out: F32
) -> int:
    r"""Gradient of a function of the mean features by rows (eq. 7 of seed 000).

    out[i] = sum_j (a_j cos_ij + b_j sin_ij) w_j, where the caller has put the factors -1, 2 pi and
    1/n into a and b.

    Args:
        y: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block.
        w: (d, m) frequencies in turns, padded to multiples of 4.
        p: `polynomials(1)`.
        ab: (2, m padded) multipliers of cosines and sines.
        out: (n, d) written.

    Returns:
        How many values of y were not finite; they counted as 0.
    """
    bad = 0
    d = y.shape[1]
    rows = min(block, (stop - start + 15) // 16 * 16)
    xt = np.zeros((w.shape[0], rows), np.float32)
    t = np.empty((4, rows), np.float32)
    part = np.empty(((d + 1) // 2 * 2, rows), np.float32)
    for i in range(start, stop, rows):
        end = min(i + rows, stop)
        bad += pack(y, i, end, xt)
        for b in range(end - i):
            for k in range(d):
                out[i + b, k] = np.float32(0)
        for first in range(0, w.shape[1], CARRY):
            part[:] = np.float32(0)
            for j in range(first, min(first + CARRY, w.shape[1]), 4):
                project(xt, w, j, t)
                for f in range(4):
                    weigh_pairs(t[f], p, ab[0, j + f], ab[1, j + f])
                spread(t, w, j, part)
            for k in range(d):
                for b in range(end - i):
                    out[i + b, k] += part[k, b]
    return bad


ROWS = types.Array(
    types.float32, 2, "A", readonly=True
)  # any layout, so that one compilation serves all
MATRIX = types.float32[:, ::1]
SIGNATURES = {
    "sum_dense": types.intp(
        ROWS,
        types.intp,
        types.intp,
        types.intp,
        MATRIX,
        types.UniTuple(types.float32, 11),
        types.int64[:, ::1],
    ),
    "sum_gradient": types.intp(
        ROWS,
        types.intp,
        types.intp,
        types.intp,
        MATRIX,
        types.UniTuple(types.float32, 11),
        MATRIX,
        MATRIX,
    ),
}
