"""Gradient optimisation of latents against the debt: the alternative to greedy choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.sampler.debt import DebtSelector

if TYPE_CHECKING:
    from streamsketch.sampler.job import Job

Array = NDArray[np.float64]
Points = NDArray[np.float32]

_STEPS = 50
_RATE = 0.05


def optimise(
    job: Job,
    selector: DebtSelector,
    owed: Array,
    mean: Array,
    latents: Points,
    smooth: Callable[[Any, Any], Any],
) -> Points:
    """Move latents so that their points pay the debt together.

    Minimises ``|w + K (z_target - mean Phi(G(z)))|_v^2`` by Adam with a cosine-decayed rate from
    a greedy start. Latents keep the norm they were drawn with, so that they stay where the
    generator was trained: a penalty instead collapses diversity (it seeks the mode).

    Args:
        job: The call, for its generator and label.
        selector: Feature map and weights.
        owed: The debt before these outputs, ``(2m,)``.
        mean: Mean features of the target, ``(2m,)``.
        latents: Start, ``(k, p)``.
        smooth: Latents and label codes to points, differentiable.

    Returns:
        Latents ``(k, p)``.
    """
    import torch

    from streamsketch.sampler.latents import label_codes

    k = len(latents)
    network = getattr(job.generator, "network", None)
    device = getattr(network, "device", torch.device("cpu"))
    codes = None
    if network is not None and hasattr(network, "told"):
        rng = torch.Generator().manual_seed(job.next_seed())
        codes = label_codes(job.generator, k, rng, job.label)
    wanted = torch.as_tensor(owed / k + mean, dtype=torch.float32, device=device)
    weights = torch.as_tensor(
        np.concatenate([selector.weights, selector.weights]), dtype=torch.float32, device=device
    )
    start = torch.as_tensor(latents, device=device)
    length = start.norm(dim=1, keepdim=True)
    z = start.clone().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, _STEPS)
    for _ in range(_STEPS):
        adam.zero_grad()
        gap = wanted - selector.features.mean_torch(smooth(z, codes))  # type: ignore[attr-defined]
        (weights * gap * gap).sum().backward()
        adam.step()
        decay.step()
        with torch.no_grad():
            z *= length / z.norm(dim=1, keepdim=True).clamp_min(1e-12)
    moved: Points = z.detach().cpu().numpy()
    return moved if np.isfinite(moved).all() else latents
