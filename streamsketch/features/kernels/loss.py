r"""The fused training step: mean features of generated rows, and the sketch-matching loss.

.. math:: L = \sum_j w_j\, |\hat z_j - z_j|^2, \qquad \hat z_j = \frac1n \sum_i e^{i \omega_j y_i}

The gradient is closed form (Schellekens and Jacques 2020, eq. 7): with a_j, b_j the derivatives of a function by the
mean cosine and sine of frequency j,

.. math:: \nabla_{y_i} = \frac1n \sum_j (b_j \cos \omega_j y_i - a_j \sin \omega_j y_i) \omega_j .

Phases of wide rows are kept for the backward pass where they are few (`KEEP_FROM`, `PHASES`), which saves a
projection of three. Else they are computed again, so that nothing of size n x m is kept.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.weak import WeakTensorKeyDictionary

from streamsketch.errors import ConfigError
from streamsketch.features.kernels import has_numba

__all__ = ["sketch_loss", "sketch_mean"]

_KEPT_TURNS: Any = WeakTensorKeyDictionary()  # frequencies -> (their version, the same in turns)

Frequencies = torch.Tensor | NDArray[np.floating[Any]]
MEAN_UNIT = float(
    1 << 21
)  # fixed point of the mean: fine enough for a loss, sums of 512 rows fit int32
MEAN_ROWS = 512
PHASES = 1 << 23  # phases of a step that are kept at most: 32 MB
KEEP_FROM = 12  # dimensions from which a phase is cheaper kept than computed again
CELLS = 1 << 20  # phases at a time on the plain torch path: 4 MB in float32


def sketch_mean(y: torch.Tensor, omega: Frequencies) -> torch.Tensor:
    """Mean features of rows, differentiable by the rows.

    Args:
        y: (n, d) rows, n >= 1; float32 on a CPU takes the fused kernel, everything else plain
            torch in blocks, in y's own precision.
        omega: (d, m) frequencies, radians per unit; any subset of a sketch's frequencies will do.

    Returns:
        (2m,) mean cosines, then mean sines, on y's device and in its dtype.

    Raises:
        ConfigError: The shapes do not fit, or there are no rows.

    Example:
        >>> y = torch.tensor([[0.5], [-0.5]], requires_grad=True)
        >>> sketch_mean(y, np.array([[np.pi]])).tolist()
        [0.0, 0.0]
    """
    if y.ndim != 2 or omega.ndim != 2 or y.shape[1] != omega.shape[0] or 0 in y.shape:
        raise ConfigError(
            f"rows {tuple(y.shape)} and frequencies {tuple(omega.shape)} do not fit: "
            "they must be (n, d) and (d, m) with at least one row"
        )
    mean: torch.Tensor = _Mean.apply(y, omega)  # type: ignore[no-untyped-call]
    return mean


def sketch_loss(
    y: torch.Tensor,
    omega: Frequencies,
    target: Frequencies,
    weights: Frequencies | None = None,
    unbiased: bool = False,
    over_ranks: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ranks: int = 1,
) -> torch.Tensor:
    r"""Weighted squared distance between the sketch of y and a target sketch.

    Args:
        y: (n, d) generated rows.
        omega: (d, m) frequencies.
        target: (2m,) mean features to match, cosines then sines.
        weights: (m,) weight of each frequency; 1/m each by default, which makes the loss an
            estimate of the squared MMD.
        unbiased: Remove the batch's own noise: :math:`|\hat z_j|^2` exceeds
            :math:`|\mathbb E \hat z_j|^2` by :math:`(1 - |\mathbb E \hat z_j|^2) / n` on average.
            The loss may then be slightly negative; needs two rows.
        over_ranks: Where several processes share a batch: the mean of their mean features.
        ranks: How many share it, evenly.

    Returns:
        The loss, a scalar in y's dtype.

    Raises:
        ConfigError: The shapes do not fit, or `unbiased` with a single row.

    Example:
        >>> y = torch.tensor([[0.5]], dtype=torch.float64)
        >>> sketch_loss(y, np.array([[np.pi]]), np.array([0.0, 0.0])).item()
        1.0
    """
    m, n = omega.shape[1], y.shape[0] * ranks
    z = _tensor(target, y)
    w = _tensor(np.full(m, 1.0 / m) if weights is None else weights, y)
    if z.shape != (2 * m,) or w.shape != (m,):
        raise ConfigError(
            f"target {tuple(z.shape)} and weights {tuple(w.shape)} do not fit {m} frequencies: "
            "they must be (2m,) and (m,)"
        )
    mean = sketch_mean(y, omega)
    mean = mean if over_ranks is None else over_ranks(mean)
    loss = ((mean - z).square().view(2, m) * w).sum()
    if not unbiased:
        return loss
    if n < 2:
        raise ConfigError(
            "the unbiased loss needs at least 2 rows, got 1; generate more or use unbiased=False"
        )
    return loss - ((1 - mean.square().view(2, m).sum(dim=0)) * w).sum() / (n - 1)


class _Mean(torch.autograd.Function):
    """Mean features with the closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, omega: Frequencies) -> torch.Tensor:
        step = _torch_step
        if y.device.type == "cpu" and y.dtype == torch.float32 and has_numba():
            step = _fused_step
        elif y.dtype == torch.float32 and os.environ.get("STREAMSKETCH_TRITON") == "1":
            step = _triton_step
        ctx.save_for_backward(y)
        mean, ctx.gradient = step(y.detach(), omega)
        return mean

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        (y,) = ctx.saved_tensors  # refuses rows that were changed in place meanwhile
        return ctx.gradient(grads[0] / len(y)), None


Gradient = Callable[[torch.Tensor], torch.Tensor]


def features(y: torch.Tensor, omega: torch.Tensor) -> torch.Tensor:
    """Features (n, 2m) of each of the rows y (n, d) at omega (d, m), in their type and on their device.

    For where single rows' features are needed; it holds all n m phases at once.
    """
    phase = y @ omega
    return torch.cat([phase.cos(), phase.sin()], dim=1)


def _tensor(values: Frequencies, y: torch.Tensor) -> torch.Tensor:
    """On y's device, in y's type; a read-only array is copied, which torch would warn about."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()
    return torch.as_tensor(values, dtype=y.dtype, device=y.device)


def _turns(omega: Frequencies) -> NDArray[np.float32]:
    """The frequencies as the compiled kernels take them; those of a tensor are kept while it lives.

    torch counts the changes of a tensor; those through an array that shares its memory it does not see.
    """
    from streamsketch.features.kernels import cpu

    if not isinstance(omega, torch.Tensor):
        return cpu.in_turns(omega)
    if omega.is_inference():  # these changes are not counted
        return cpu.in_turns(omega.cpu().numpy())
    found = _KEPT_TURNS.get(omega)
    if found is None or found[0] != omega._version:
        found = omega._version, cpu.in_turns(omega.detach().cpu().numpy())
        _KEPT_TURNS[omega] = found
    w: NDArray[np.float32] = found[1]
    return w


def _fused_step(y: torch.Tensor, omega: Frequencies) -> tuple[torch.Tensor, Gradient]:
    """Mean features, and the gradient function, with the compiled kernels."""
    from streamsketch.features.kernels import cpu
    from streamsketch.features.kernels.fused import NOTHING, polynomials
    from streamsketch.features.kernels.vectors import PANEL

    w = _turns(omega)
    rows, (n, d), m = y.numpy(), y.shape, omega.shape[1]
    parts = min(cpu.threads(), max(1, n * m // cpu.WORTH_A_THREAD))
    block = cpu.block_rows(d, buffers=2, most=MEAN_ROWS)
    kept = NOTHING
    if d >= KEEP_FROM and n * m <= PHASES:
        shape = (-(-n // block), len(w), 4, -(-min(n, block) // PANEL) * PANEL)
        kept = torch.empty(shape).numpy()

    def mean() -> torch.Tensor:
        run, unit = cpu.kernel("sum_dense"), polynomials(MEAN_UNIT)
        totals = np.zeros((parts, 2, 4 * len(w)), np.int64)
        bad = cpu.by_rows(
            lambda p, i, k: run(rows, i, k, block, w, unit, totals[p], kept), n, parts, block
        )
        if bad:  # training diverged: say so in the loss, as any other torch function would
            return torch.full((2 * m,), torch.nan)
        sums = totals.sum(axis=0)[:, :m].reshape(-1)
        return torch.from_numpy((sums / (MEAN_UNIT * n)).astype(np.float32))

    def gradient(grad: torch.Tensor) -> torch.Tensor:
        run, unit = cpu.kernel("sum_gradient"), polynomials(1.0)
        a, b = grad.detach().numpy().reshape(2, m) * np.float32(2 * np.pi)  # w is in turns
        ab = np.zeros((2, 4 * len(w)), np.float32)
        ab[0, :m], ab[1, :m] = b, -a
        out = np.empty((n, d), np.float32)
        cpu.by_rows(
            lambda p, i, k: run(rows, i, k, block, w, unit, ab, out, kept), n, parts, block
        )
        return torch.from_numpy(out)

    return mean(), gradient


def _torch_step(y: torch.Tensor, omega: Frequencies) -> tuple[torch.Tensor, Gradient]:
    """The same in plain torch, block by block of frequencies, on any device and in any precision."""
    w = _tensor(omega, y)
    step = max(1, CELLS // len(y))
    blocks = [slice(j, min(j + step, w.shape[1])) for j in range(0, w.shape[1], step)]

    def mean() -> torch.Tensor:
        both = torch.empty((2, w.shape[1]), dtype=y.dtype, device=y.device)
        for block in blocks:
            phase = y @ w[:, block]
            both[0, block] = phase.cos().mean(dim=0)
            both[1, block] = phase.sin_().mean(dim=0)
        return both.view(-1)

    def gradient(grad: torch.Tensor) -> torch.Tensor:
        a, b = grad.view(2, -1)
        out = torch.zeros_like(y)
        for block in blocks:
            phase = y @ w[:, block]
            out += (phase.cos() * b[block] - phase.sin_() * a[block]) @ w[:, block].T
        return out

    return mean(), gradient


def _triton_step(y: torch.Tensor, omega: Frequencies) -> tuple[torch.Tensor, Gradient]:
    """The same with the GPU kernels, for up to 256 dimensions."""
    from streamsketch.features.kernels import triton_kernels

    n, d, m = *y.shape, omega.shape[1]
    if d > 256:
        return _torch_step(y, omega)
    w = _tensor(omega, y.double()).div(2 * np.pi).float()
    total = torch.zeros(2, m, dtype=torch.int64, device=y.device)
    triton_kernels.sum_features(y, w, MEAN_UNIT, total)
    mean = total.view(-1).double().div(MEAN_UNIT * n).float()
    if not bool(torch.isfinite(y).all()):
        mean = torch.full_like(mean, torch.nan)

    def gradient(grad: torch.Tensor) -> torch.Tensor:
        a, b = grad.view(2, m) * (2 * np.pi)
        return triton_kernels.gradient(y, w, torch.stack([b, -a]))

    return mean, gradient
