"""Descents in latent space, from many starts at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamsketch.errors import ConfigError
from streamsketch.inverse.problem import Problem

__all__ = ["Solution", "solve"]

RATE = 0.05
SCREENED = 10  # latents scored per start before any is descended from


@dataclass(frozen=True)
class Solution:
    """All starts after their descent: latents, rows, rows with their deviation, data terms."""

    z: Tensor
    rows: Tensor
    full: Tensor
    terms: Tensor
    labels: Tensor | None
    best: int


def solve(
    problem: Problem,
    decode: Callable[..., Tensor],
    latent: int,
    classes: int,
    restarts: int,
    steps: int,
    seed: int,
    weight: float = 0.0,
) -> Solution:
    """Draw, screen and descend; the best start is the one of the smallest total."""
    rng = torch.Generator().manual_seed(seed)
    drawn, labels = draw(latent, restarts, classes, rng)
    starts = screen(problem, under(decode, labels), drawn, restarts)
    z, labels = drawn[starts], None if labels is None else labels[starts]
    decode = under(decode, labels)
    nu = torch.zeros_like(decode(z).detach()) if weight else None
    z, nu = descend(problem, decode, z, nu, weight, steps)
    with torch.no_grad():
        rows = decode(z)
        full = rows if nu is None else rows + nu
        terms = problem.data_term(full)
        total = terms + problem.prior(z, rows)
        if nu is not None:
            total += weight * nu.abs().sum(1)
    return Solution(z, rows, full, terms, labels, int(torch.argmin(total)))


def descend(
    problem: Problem,
    decode: Callable[[Tensor], Tensor],
    z: Tensor,
    nu: Tensor | None,
    weight: float,
    steps: int,
) -> tuple[Tensor, Tensor | None]:
    """Adam on all starts at once; the deviation by proximal steps, so that it is truly sparse."""
    z = z.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=RATE / 20)
    bend = 0.0 if nu is None else curvature(problem, nu)
    for _ in range(steps):
        optimizer.zero_grad()
        rows = full = decode(z)
        if nu is not None:
            nu = nu.detach().requires_grad_(True)
            full = rows + nu
        loss = (problem.data_term(full) + problem.prior(z, rows)).sum()
        inputs = [z] if nu is None else [z, nu]  # the weights need no gradient
        loss.backward(inputs=inputs)  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if nu is not None and nu.grad is not None:
            with torch.no_grad():
                moved = nu - nu.grad / bend
                nu = torch.sign(moved) * (moved.abs() - weight / bend).clamp_min(0)
    return z.detach(), None if nu is None else nu.detach()


def curvature(problem: Problem, nu: Tensor) -> float:
    """Largest curvature of the data term in the row, by power iterations on its gradient."""
    base = torch.zeros_like(nu[:1]).requires_grad_(True)
    start = torch.autograd.grad(problem.data_term(base).sum(), base)[0]
    vector = torch.ones_like(base) / np.sqrt(base.numel())
    length = 1.0
    for _ in range(15):
        there = (base.detach() + 1e-2 * vector).requires_grad_(True)
        moved = torch.autograd.grad(problem.data_term(there).sum(), there)[0] - start
        length = float(moved.norm()) / 1e-2
        if not 0 < length < np.inf:
            return 1e6
        vector = moved / moved.norm()
    return 1.1 * length


def draw(
    latent: int, restarts: int, classes: int, rng: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Latents of the prior to start from, and labels that take turns."""
    z = torch.randn(SCREENED * restarts, latent, generator=rng)
    return z, torch.arange(len(z)) % classes if classes > 1 else None


def under(decode: Callable[..., Tensor], labels: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The decoder of a conditional generator under given labels, one for each latent."""
    return decode if labels is None else lambda z: decode(z, labels)


def screen(
    problem: Problem, decode: Callable[[Tensor], Tensor], z: Tensor, restarts: int
) -> Tensor:
    """Numbers of the latents that explain the measurements best."""
    with torch.no_grad():
        terms = problem.data_term(decode(z))
    if not torch.isfinite(terms).any():
        raise ConfigError(
            "the forward operator gives no finite value for any generated row; check its units"
        )
    return torch.argsort(terms.nan_to_num(torch.inf))[:restarts]
