"""Training on several processes: each generates its share of a batch, and only means are exchanged.

A step's loss needs nothing of the rows but their mean features: 8m bytes a rank, however many rows a
batch has. The gradients of the weights are added up likewise. Every rank draws the latents of the whole
batch from the same seed and takes its share, so that the result is that of one process with the same
batch, up to the order of a few float32 additions.

Start it with `torchrun --nproc-per-node 2 your_script.py`, and call `torch.distributed.init_process_group`
(gloo on CPUs, nccl on GPUs) before `fit`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from streamsketch.errors import ConfigError

__all__ = ["Alone", "Group", "Ranks", "ranks"]


class Alone:
    """One process: nothing to exchange."""

    size = 1

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of a batch (n, ...)."""
        return rows

    def mean(self, local: Tensor) -> Tensor:
        """Mean over the ranks, differentiable; the gradient is that of this rank's own part."""
        return local

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients of all ranks, in place."""

    def agree(self, value: float) -> float:
        """The first rank's value, everywhere."""
        return value


class Group(Alone):
    """The ranks of the default process group of `torch.distributed`."""

    def __init__(self) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()

    def share(self, rows: Tensor) -> Tensor:
        """Every size-th row, from this rank's number on.

        Raises:
            ConfigError: The batch cannot be dealt evenly.
        """
        if len(rows) % self.size:
            raise ConfigError(
                f"batch = {len(rows)} rows cannot be dealt to {self.size} ranks evenly; choose a multiple"
            )
        return rows[self.rank :: self.size]

    def mean(self, local: Tensor) -> Tensor:
        """See `Alone.mean`."""
        mean: Tensor = _Mean.apply(local, self.size)  # type: ignore[no-untyped-call]
        return mean

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """See `Alone.add_gradients`."""
        found = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in found])
        torch.distributed.all_reduce(flat)
        for gradient, part in zip(
            found, torch.split(flat, [g.numel() for g in found]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: float) -> float:
        """See `Alone.agree`."""
        on = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        told = torch.tensor([value], dtype=torch.float64, device=on)
        torch.distributed.broadcast(told, 0)
        return float(told)


Ranks = Alone  # the interface is that of a single process


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = local.clone()
        torch.distributed.all_reduce(total)
        return total / size

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] / ctx.size, None


def ranks() -> Ranks:
    """The process group where one was started, else this process alone."""
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Group() if started and torch.distributed.get_world_size() > 1 else Alone()
