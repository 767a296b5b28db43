"""Gradient optimisation of latents against the residual: the alternative to greedy choice."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from streamsketch.arrays import F32, F64
from streamsketch.sampler.herding import Herding

if TYPE_CHECKING:
    from torch import Tensor


_STEPS = 50
_RATE = 0.05


def optimise(
    selector: Herding,
    residual: F64,
    mean: F64,
    latents: F32,
    points: "Callable[[Tensor], Tensor]",
) -> F32:
    """Move latents so that their points bring the residual nearest to zero together.

    Minimises ``|w + K (z_target - mean Phi(G(z)))|_v^2`` by Adam with a cosine-decayed rate from
    a greedy start. Latents keep the norm they were drawn with, so that they stay where the
    generator was trained: a penalty instead collapses diversity (it seeks the mode).

    Args:
        selector: Feature map and weights.
        residual: The residual before these outputs, ``(2m,)``.
        mean: Mean features of the target, ``(2m,)``.
        latents: Start, ``(k, p)``.
        points: Latents to points, differentiable.

    Returns:
        Latents ``(k, p)``.
    """
    import torch

    start = torch.as_tensor(latents)
    device = points(start).device
    wanted = torch.as_tensor(residual / len(start) + mean, dtype=torch.float32, device=device)
    weights = torch.as_tensor(
        np.concatenate([selector.weights, selector.weights]), dtype=torch.float32, device=device
    )
    length = start.norm(dim=1, keepdim=True)
    z = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, _STEPS)
    for _ in range(_STEPS):
        gap = wanted - selector.features.mean_torch(points(z))  # type: ignore[attr-defined]
        loss = (weights * gap * gap).sum()
        (z.grad,) = torch.autograd.grad(loss, [z])
        adam.step()
        decay.step()
        with torch.no_grad():
            z *= length / z.norm(dim=1, keepdim=True).clamp_min(1e-12)
    moved: F32 = z.detach().numpy()
    return moved if np.isfinite(moved).all() else latents
