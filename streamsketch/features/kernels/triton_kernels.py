"""The fused kernels for GPUs (Triton): map and sum, and the gradient, without an n x m buffer.

The arithmetic is that of `fused`: phases in turns by multiply-adds in the order of the dimensions,
the same polynomials, integers summed. Sums are therefore exact for any split of the rows.

Tested through Triton's interpreter (TRITON_INTERPRET=1), never yet on a GPU: `STREAMSKETCH_TRITON=1`
turns the training step on, `backend="triton"` the sums. Import this module inside functions.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import torch

from streamsketch.features.kernels.polynomials import COSINE, SINE

__all__ = ["gradient", "sum_features"]

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")

F = TypeVar("F", bound=Callable[..., Any])

ROWS, COLUMNS = 128, 64  # a block of phases
SPLIT = 4096  # rows per program
S0, S1, S2, S3, S4 = (tl.constexpr(v) for v in SINE)
C0, C1, C2, C3, C4 = (tl.constexpr(v) for v in COSINE)


def jit(function: F) -> F:
    """A Triton kernel, or a part of one."""
    compiled: F = triton.jit(function)
    return compiled


@jit
def _feature_pair(t: Any) -> Any:
    """Cosine and sine of t turns."""
    magic = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, for phases below 2^22
    r = t - tl.where(tl.abs(t) < 4194304.0, (t + magic) - magic, tl.floor(t))
    u = r * r
    s = tl.fma(tl.fma(tl.fma(tl.fma(u * 0 + S4, u, S3), u, S2), u, S1), u, S0) * r
    c = tl.fma(tl.fma(tl.fma(tl.fma(u * 0 + C4, u, C3), u, C2), u, C1), u, C0)
    return 1.0 - 2.0 * s * s, 2.0 * s * c


@jit
def _sum(
    x: Any, w: Any, total: Any, n: Any, d: Any, m: Any, unit: Any,
    split: tl.constexpr, row_block: tl.constexpr, column_block: tl.constexpr,
) -> None:  # fmt: skip
    """One program: `split` rows times `column_block` frequencies, added to total (2, m) int64."""
    j = tl.program_id(0) * column_block + tl.arange(0, column_block)
    first = tl.program_id(1) * split
    cosines = tl.zeros((column_block,), tl.int64)
    sines = tl.zeros((column_block,), tl.int64)
    for start in range(0, split, row_block):
        i = first + start + tl.arange(0, row_block)
        t = tl.zeros((row_block, column_block), tl.float32)
        for k in range(d):
            a = tl.load(x + i * d + k, mask=i < n, other=0.0)
            b = tl.load(w + k * m + j, mask=j < m, other=0.0)
            t += a[:, None] * b[None, :]
        c, s = _feature_pair(t)
        inside = (i < n)[:, None]
        cosines += tl.sum(tl.where(inside, (c * unit).to(tl.int32), 0), axis=0).to(tl.int64)
        sines += tl.sum(tl.where(inside, (s * unit).to(tl.int32), 0), axis=0).to(tl.int64)
    tl.atomic_add(total + j, cosines, mask=j < m)
    tl.atomic_add(total + m + j, sines, mask=j < m)


@jit
def _gradient(
    y: Any, w: Any, ab: Any, out: Any, n: Any, d: Any, m: Any,
    row_block: tl.constexpr, column_block: tl.constexpr, width: tl.constexpr,
) -> None:  # fmt: skip
    """One program: the gradient of `row_block` rows, through all frequencies; width >= d, a power of 2."""
    i = tl.program_id(0) * row_block + tl.arange(0, row_block)
    k = tl.arange(0, width)
    rows = tl.load(
        y + i[:, None] * d + k[None, :], mask=(i < n)[:, None] & (k < d)[None, :], other=0.0
    )
    grad = tl.zeros((row_block, width), tl.float32)
    for start in range(0, m, column_block):
        j = start + tl.arange(0, column_block)
        tile = tl.load(
            w + k[:, None] * m + j[None, :], mask=(k < d)[:, None] & (j < m)[None, :], other=0.0
        )
        c, s = _feature_pair(tl.dot(rows, tile, input_precision="ieee"))
        a = tl.load(ab + j, mask=j < m, other=0.0)
        b = tl.load(ab + m + j, mask=j < m, other=0.0)
        grad += tl.dot(a[None, :] * c + b[None, :] * s, tl.trans(tile), input_precision="ieee")
    tl.store(out + i[:, None] * d + k[None, :], grad, mask=(i < n)[:, None] & (k < d)[None, :])


def sum_features(x: torch.Tensor, w: torch.Tensor, unit: float, total: torch.Tensor) -> None:
    """Add the features of rows x (n, d) at frequencies w (d, m) in turns to total (2, m) int64.

    Features count in units of 1/unit, truncated; 128 units must stay below 2^31.
    """
    (n, d), m = x.shape, w.shape[1]
    grid = (triton.cdiv(m, COLUMNS), triton.cdiv(n, SPLIT))
    launch: Any = _sum
    launch[grid](
        x.contiguous(), w.contiguous(), total, n, d, m, unit,
        split=SPLIT, row_block=ROWS, column_block=COLUMNS,
    )  # fmt: skip


def gradient(y: torch.Tensor, w: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
    """Rows of sum_j (a_j cos_ij + b_j sin_ij) w_j for y (n, d), w (d, m) in turns, ab (2, m)."""
    (n, d), m = y.shape, w.shape[1]
    out = torch.empty_like(y, memory_format=torch.contiguous_format)
    width = max(16, triton.next_power_of_2(d))
    launch: Any = _gradient
    launch[(triton.cdiv(n, 32),)](
        y.contiguous(), w.contiguous(), ab.contiguous(), out, n, d, m,
        row_block=32, column_block=COLUMNS, width=width,
    )  # fmt: skip
    return out
