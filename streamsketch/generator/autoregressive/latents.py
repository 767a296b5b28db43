"""Latents as values of distribution functions, with a slope for inverse problems."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamsketch.generator.autoregressive.law import Law

__all__ = ["decode"]

WINDOW = 0.01  # of the distribution function, to each side: over it the slope is taken


def decode(law: Law, z: Tensor) -> Tensor:
    """Encoded rows (n, d) of latents z (n, p).

    A row is a step function of latents wherever values are counted one by one, so its slope would say
    nothing. The derivative given is that of each column by its own latent over a window of 2 percent
    of its distribution function, the columns before it being held.
    """
    rows: Tensor = _Decode.apply(z, law)  # type: ignore[no-untyped-call]
    return rows


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, law: Law) -> Tensor:
        u = torch.special.ndtr(z.detach().double()).clamp(0, 1 - 1e-9).cpu().numpy().T
        middle = np.zeros(u.shape, np.int32)
        three = [(np.empty(u.shape, np.int32), np.empty(u.shape)) for _ in range(3)]
        low, high = np.maximum(u - WINDOW, 0.0), np.minimum(u + WINDOW, 1 - 1e-9)
        for place, k in enumerate(law.order):
            for (codes, within), at in zip(three, (low[k], high[k], u[k]), strict=True):
                codes[k], within[k], _ = law.step(place, middle, at)
        below, above, rows = (law.layout.rows(*one) for one in three)
        density = torch.exp(-0.5 * z.detach().double() ** 2) / np.sqrt(2 * np.pi)
        ctx.law, ctx.like = law, z
        owner, scale = _owners(law), density / torch.from_numpy((high - low).T.copy())
        slope = torch.from_numpy((above - below).astype(np.float64)) * scale[:, owner].cpu()
        ctx.save_for_backward(slope, torch.from_numpy(owner))
        return torch.from_numpy(rows).to(z.device, z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        slope, owner = ctx.saved_tensors
        out = torch.zeros(ctx.like.shape, dtype=torch.float64)
        out.index_add_(1, owner, grad.double().cpu() * slope)
        return out.to(ctx.like.device, ctx.like.dtype), None


def _owners(law: Law) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each coordinate of a row the first variable of its column."""
    first: dict[str, int] = {}
    for k, v in enumerate(law.layout.variables):
        first.setdefault(v.column, k)
    return np.array([first[b.column] for b in law.layout.schema.blocks for _ in range(b.width)])
