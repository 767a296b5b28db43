"""The compiled kernels of the structured laws; see `fused` for the arithmetic and its guarantees."""

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, I64
from streamsketch.features.kernels.fused import (
    FRONT,
    POLYNOMIALS,
    TILES,
    Polynomials,
    feature_pair,
    jit,
    pack,
    types,
)
from streamsketch.features.kernels.vectors import PANEL, butterfly, fma, project

__all__ = ["LANES", "SIGNATURES", "sum_hadamard", "sum_harmonic"]

LANES = 128  # rows per block of the Hadamard kernel
LOCAL = 64  # vectors transformed at a time


@jit
def sum_harmonics(t: F32, p: Polynomials, total: I64, j: int, padding: int) -> None:
    """Add harmonics 1..8 of phases t (rows,) to columns j..j+7 of total.

    1 to 4 come from products, 5 to 8 from 2 cos(4a) cos(ka) - cos((4-k)a): the step of 4 keeps
    rounding from growing with the square of the harmonic. The first harmonic is brought back to
    modulus 1 beforehand (a Newton step), else its rounding would grow eightfold and leave the
    norm bound.
    """
    one, half, two, unit = np.float32(1), np.float32(0.5), np.float32(2), np.float32(65536)
    z = np.int32(0)
    a1, a2, a3, a4, a5, a6, a7, a8 = z, z, z, z, z, z, z, z
    b1, b2, b3, b4, b5, b6, b7, b8 = z, z, z, z, z, z, z, z
    for b in range(t.shape[0]):
        c, s = feature_pair(t[b], p)
        excess = fma(c, c, fma(s, s, -one)) * half
        c1, s1 = fma(-excess, c, c), fma(-excess, s, s)
        u1, v1 = c1 * unit, s1 * unit
        u2, v2 = fma(-two * v1, s1, unit), two * u1 * s1
        u3, v3 = fma(u2, c1, -(v2 * s1)), fma(v2, c1, u2 * s1)
        s2 = two * c1 * s1
        u4, v4 = fma(-two * v2, s2, unit), two * u2 * s2
        step = u4 * np.float32(2.0**-15)
        a1, b1 = np.int32(a1 + np.int32(u1)), np.int32(b1 + np.int32(v1))
        a2, b2 = np.int32(a2 + np.int32(u2)), np.int32(b2 + np.int32(v2))
        a3, b3 = np.int32(a3 + np.int32(u3)), np.int32(b3 + np.int32(v3))
        a4, b4 = np.int32(a4 + np.int32(u4)), np.int32(b4 + np.int32(v4))
        a5, b5 = (
            np.int32(a5 + np.int32(fma(step, u1, -u3))),
            np.int32(b5 + np.int32(fma(step, v1, v3))),
        )
        a6, b6 = (
            np.int32(a6 + np.int32(fma(step, u2, -u2))),
            np.int32(b6 + np.int32(fma(step, v2, v2))),
        )
        a7, b7 = (
            np.int32(a7 + np.int32(fma(step, u3, -u1))),
            np.int32(b7 + np.int32(fma(step, v3, v1))),
        )
        a8, b8 = np.int32(a8 + np.int32(fma(step, u4, -unit))), np.int32(b8 + np.int32(step * v4))
    cosines = (a1, a2, a3, a4, a5, a6, a7, a8)
    sines = (b1, b2, b3, b4, b5, b6, b7, b8)
    for k in range(8):
        total[0, j + k] += cosines[k] - np.int64(padding) * np.int64(65536)
        total[1, j + k] += sines[k]


@jit
def sum_harmonic(
    x: F32, start: int, stop: int, block: int, w: F32, p: Polynomials, total: I64
) -> int:
    """Add the features of rows start..stop of x (n, d) to total (2, 32 tiles).

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        block: Rows per block.
        w: (tiles, d, 4) first harmonics in turns.
        p: `polynomials(1)`.
        total: (2, 32 tiles) int64, units of 2^-16, harmonics of one direction side by side.

    Returns:
        How many values of x were not finite; they counted as 0.
    """
    bad = 0
    panels = (min(block, stop - start) + PANEL - 1) // PANEL
    xt = np.empty((panels, w.shape[1], PANEL), np.float32)
    t = np.empty((4, panels * PANEL), np.float32)
    for i in range(start, stop, panels * PANEL):
        end = min(i + panels * PANEL, stop)
        used = (end - i + PANEL - 1) // PANEL
        bad += pack(x, i, end, xt)
        for tile in range(w.shape[0]):
            for panel in range(used):
                project(xt, w, panel, tile, t)
            for f in range(4):
                row = t[f, : used * PANEL]
                sum_harmonics(row, p, total, (tile * 4 + f) * 8, len(row) - end + i)
    return bad


butterfly2, butterfly4, butterfly8 = (butterfly(size, LANES) for size in (2, 4, 8))


@jit
def butterflies(a: F32, base: int, stride: int, count: int) -> None:
    """Walsh-Hadamard transform of the `count` rows a[base + i stride], up to three stages at a time."""
    h = 1
    while h < count:
        left = count // h
        radix = 8 if left >= 8 else left
        for first in range(0, count, radix * h):
            for i in range(first, first + h):
                if radix == 8:
                    butterfly8(a, base + i * stride, h * stride)
                elif radix == 4:
                    butterfly4(a, base + i * stride, h * stride)
                else:
                    butterfly2(a, base + i * stride, h * stride)
        h *= radix


@jit
def transform(a: F32, signs: F32) -> None:
    """Replace a (s, LANES) by H D a, where D is the diagonal `signs` (s,)."""
    size = a.shape[0]
    local = min(size, LOCAL)
    for first in range(0, size, local):
        for i in range(first, first + local):
            row, sign = a[i], signs[i]
            for b in range(LANES):
                row[b] *= sign
        butterflies(a, first, 1, local)
    if size > local:
        for i in range(local):
            butterflies(a, i, local, size // local)


@jit
def sum_hadamard(
    x: F32,
    start: int,
    stop: int,
    signs: NDArray[np.float32],
    gains: F32,
    p: Polynomials,
    total: I64,
) -> int:
    """Add the features of rows start..stop of x (n, d) to total (2, m).

    Args:
        x: (n, d) rows.
        start: First row.
        stop: Row after the last.
        signs: (blocks, 3, s) as in `Factors`.
        gains: (m,) gains in turns.
        p: `polynomials(unit)`.
        total: (2, m) int64: cosines and sines in units.

    Returns:
        How many values of x were not finite; they counted as 0.
    """
    bad = 0
    size, m, d = signs.shape[2], gains.shape[0], x.shape[1]
    packed = np.empty(((LANES + PANEL - 1) // PANEL, d, PANEL), np.float32)
    xt = np.zeros((size, LANES), np.float32)
    a = np.empty((size, LANES), np.float32)
    unit = np.int64(p[10])
    for i in range(start, stop, LANES):
        end = min(i + LANES, stop)
        packed[:] = np.float32(0)
        bad += pack(x, i, end, packed)
        for k in range(d):
            for panel in range(packed.shape[0]):
                first = panel * PANEL
                for b in range(min(PANEL, LANES - first)):
                    xt[k, first + b] = packed[panel, k, b]
        padding = (LANES - end + i) * unit
        for k in range(signs.shape[0]):
            for j in range(size):  # numba compiles an assignment of slices for seconds
                row, given = a[j], xt[j]
                for b in range(LANES):
                    row[b] = given[b]
            for s in range(3):
                transform(a, signs[k, s])
            for j in range(min(size, m - k * size)):
                row, gain = a[j], gains[k * size + j]
                cosines, sines = np.int32(0), np.int32(0)
                for b in range(LANES):
                    c, s_ = feature_pair(row[b] * gain, p)
                    cosines = np.int32(cosines + np.int32(c))
                    sines = np.int32(sines + np.int32(s_))
                total[0, k * size + j] += cosines - padding
                total[1, k * size + j] += sines
    return bad


SIGNATURES = {
    "sum_harmonic": types.intp(*FRONT, types.intp, TILES, POLYNOMIALS, types.int64[:, ::1]),
    "sum_hadamard": types.intp(
        *FRONT, TILES, types.float32[::1], POLYNOMIALS, types.int64[:, ::1]
    ),
}
