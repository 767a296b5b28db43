"""Compiled kernels of softmax regressions on one-hot features, and of weights by counted features.

A row is given by the numbers of its features, index (n, J): its logits are the sum of J rows of the
weights (R, V). Rows are V floats, padded to a multiple of 8, so that the innermost loops are vector
instructions.

This module imports numba and compiles on first use: import it inside functions.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

from streamsketch.arrays import F32, F64, I32, I64

__all__ = ["LANES", "draw", "moments", "tilted"]

LANES = 8  # rows of weights are padded to a multiple of this
F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile on first call; keep the machine code on disk where a folder can be written."""
    options: dict[str, Any] = {
        "nogil": True, "boundscheck": False, "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }  # fmt: skip
    try:
        compiled: F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no writable folder for the cache
        compiled = numba.njit(**options)(function)
    return compiled


@jit
def _exponentials(z: F32, bits: I32, power: F32) -> np.float32:
    """Replace z by exp(z - max z), to 2e-7; returns the maximum.

    bits is an int32 view of power, scratch of z's length: 2^k is written as its bits.
    """
    top = np.float32(-np.inf)
    for v in range(len(z)):
        top = max(top, z[v])
    for v in range(len(z)):
        x = max((z[v] - top) * np.float32(1.442695041), np.float32(-126.0))
        k = np.floor(x + np.float32(0.5))
        t = (x - k) * np.float32(0.6931471806)
        bits[v] = (np.int32(k) + np.int32(127)) << np.int32(23)
        p = np.float32(1.0 / 720.0)
        p = p * t + np.float32(1.0 / 120.0)
        p = p * t + np.float32(1.0 / 24.0)
        p = p * t + np.float32(1.0 / 6.0)
        p = p * t + np.float32(0.5)
        p = p * t + np.float32(1.0)
        z[v] = p * t + np.float32(1.0)
    for v in range(len(z)):
        z[v] *= power[v]
    return top


@jit
def moments(index: I32, weights: F32, many: int, gradient: F32) -> float:
    """The sum over rows of log sum_v exp(logit_v); adds each row's probabilities to its features.

    Args:
        index: (n, J) features of each row.
        weights: (R, padded V).
        many: V: later columns are padding.
        gradient: (R, padded V), added to.
    """
    n, features = index.shape
    width = weights.shape[1]
    z = np.empty(width, np.float32)
    power = np.empty(width, np.float32)
    bits = power.view(np.int32)
    total = 0.0
    for i in range(n):
        row = weights[index[i, 0]]
        for v in range(width):  # numba compiles an assignment of slices for seconds
            z[v] = row[v]
        for j in range(1, features):
            row = weights[index[i, j]]
            for v in range(width):
                z[v] += row[v]
        for v in range(many, width):
            z[v] = np.float32(-1e30)
        top = _exponentials(z, bits, power)
        for v in range(many, width):
            z[v] = np.float32(0)
        mass = np.float32(0)
        for v in range(width):
            mass += z[v]
        total += top + np.log(mass)
        share = np.float32(1) / mass
        for v in range(width):
            z[v] *= share
        for j in range(features):
            out = gradient[index[i, j]]
            for v in range(width):
                out[v] += z[v]
    return total


@jit
def draw(
    index: I32, weights: F32, many: int, allowed: F64, u: F64, code: I32, rest: F64, chance: F64
) -> None:
    """Draw a cell for each row by the inverse of its distribution function.

    Args:
        index: (n, J) features of each row.
        weights: (R, padded V).
        many: V.
        allowed: (V,) share of each cell that a condition allows.
        u: (n,) in [0, 1).
        code: (n,) out: the cell.
        rest: (n,) out: what is left of u within the cell, in [0, 1).
        chance: (n,) out: chance that the condition holds, given the features.
    """
    n, features = index.shape
    width = weights.shape[1]
    z = np.empty(width, np.float32)
    power = np.empty(width, np.float32)
    bits = power.view(np.int32)
    for i in range(n):
        row = weights[index[i, 0]]
        for v in range(width):  # numba compiles an assignment of slices for seconds
            z[v] = row[v]
        for j in range(1, features):
            row = weights[index[i, j]]
            for v in range(width):
                z[v] += row[v]
        for v in range(many, width):
            z[v] = np.float32(-1e30)
        _exponentials(z, bits, power)
        mass = 0.0
        held = 0.0
        last = 0
        for v in range(many):
            mass += z[v]
            if z[v] * allowed[v] > 0.0:
                held += z[v] * allowed[v]
                last = v
        left = u[i] * held
        chosen = last
        part = 0.0
        for v in range(last + 1):
            part = z[v] * allowed[v]
            if left < part:
                chosen = v
                break
            left -= part
        code[i] = chosen
        rest[i] = min(max(left / part, 0.0), 1.0 - 1e-12) if part > 0.0 else 0.5
        chance[i] = held / mass


@jit
def tilted(
    middle: I32, coarse: I32, pairs: I32, triples: I32, starts: I64, middles: I64, coarses: I64,
    theta: F64, weight: F64, mean: F64,
) -> float:  # fmt: skip
    """Weights of rows proportional to exp(theta . psi), psi the one-hots of pairs and triples.

    Args:
        middle: (n, variables) middle cells.
        coarse: (n, variables) coarse cells.
        pairs: (P, 2) variables.
        triples: (Q, 3) variables.
        starts: (P + Q,) where each table starts in theta.
        middles: (variables,) numbers of middle cells.
        coarses: (variables,) numbers of coarse cells.
        theta: (R,).
        weight: (n,) out, sums to 1.
        mean: (R,) added to: the weighted mean of psi.

    Returns:
        log of the mean of the exponentials.
    """
    n = len(middle)
    at = np.empty(len(starts), np.int64)
    top = -np.inf
    for i in range(n):
        _cells(middle[i], coarse[i], pairs, triples, starts, middles, coarses, at)
        s = 0.0
        for q in range(len(at)):
            s += theta[at[q]]
        weight[i] = s
        top = max(top, s)
    total = 0.0
    for i in range(n):
        weight[i] = np.exp(weight[i] - top)
        total += weight[i]
    for i in range(n):
        weight[i] /= total
        _cells(middle[i], coarse[i], pairs, triples, starts, middles, coarses, at)
        for q in range(len(at)):
            mean[at[q]] += weight[i]
    value: float = top + np.log(total / n)
    return value


@jit
def _cells(
    middle: I32, coarse: I32, pairs: I32, triples: I32, starts: I64, middles: I64, coarses: I64,
    at: I64,
) -> None:  # fmt: skip
    """Where the cells of a row stand in the tables."""
    two = len(pairs)
    for q in range(two):
        j, k = pairs[q, 0], pairs[q, 1]
        at[q] = starts[q] + middle[j] * middles[k] + middle[k]
    for q in range(len(triples)):
        a, b, c = triples[q, 0], triples[q, 1], triples[q, 2]
        at[two + q] = (
            starts[two + q] + (coarse[a] * coarses[b] + coarse[b]) * coarses[c] + coarse[c]
        )
