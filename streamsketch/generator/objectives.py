"""Training objectives: what a batch of generated rows is compared with, and how.

| name | needs | what it is |
|---|---|---|
| `sketch` | sketch | sketch matching (seed 000, eq. 6), unbiased; the default |
| `mmd` | samples | exact MMD with IMQ kernels (seed 000, eq. 5): generative moment matching |
| `stein` | samples | Stein gradient of the KL divergence (seed 004, eq. 1 to 3) |
| `energy` | samples | energy distance |
| `sliced` | samples | sliced Wasserstein distance |

An objective that needs samples is refused where a snapshot is private or no samples are given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from streamsketch.generator import stein

__all__ = ["OBJECTIVES", "Entry", "Objective", "Problem"]


@dataclass
class Problem:
    """What training works on.

    Attributes:
        omega: (d, m) float32 frequencies that are trained on.
        targets: (classes, 2m) float32 mean features per class, over the total count.
        rows: (n, d) float32 samples, for objectives that need them.
        rng: Source of the batches' randomness.
        subset: Frequencies per step.
        batch: Rows per step.
        labels: (n,) codes of the samples' label, or None.
    """

    omega: Tensor
    targets: Tensor
    rows: Tensor | None
    rng: torch.Generator
    subset: int
    batch: int

    def some_rows(self, n: int) -> Tensor:
        """A random batch of samples."""
        assert self.rows is not None
        at = torch.randint(len(self.rows), (n,), generator=self.rng, device=self.rng.device)
        return self.rows[at.to(self.rows.device)]


class Objective(Protocol):
    """Loss of a batch of generated rows."""

    def __call__(self, y: Tensor, done: float) -> Tensor:
        """Differentiable loss of rows y (n, d) when the share `done` of the training is over."""
        ...


@dataclass(frozen=True)
class Entry:
    """An objective: what it `requires` (`sketch` or `samples`) and how it is built."""

    requires: str
    build: Callable[[Problem], Objective]


class SketchMatching:
    """Squared distance of mean features at a random subset of the frequencies, unbiased.

    A step takes the next block of frequencies in a random order, so the expected gradient over
    a sweep is that of the whole sketch at a fraction of the price.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.at = 0

    def block(self) -> slice:
        """The frequencies of the next step."""
        m, k = self.problem.omega.shape[1], self.problem.subset
        start = self.at
        self.at = self.at + k if self.at + 2 * k <= m else 0
        return slice(start, start + k)

    def __call__(self, y: Tensor, done: float) -> Tensor:
        from streamsketch.kernels.loss import sketch_loss

        cut = self.block()
        m = self.problem.omega.shape[1]
        target = self.problem.targets[0]
        part = torch.cat([target[:m][cut], target[m:][cut]])
        return sketch_loss(y, self.problem.omega[:, cut], part, None, True)


class MMD:
    """Exact squared MMD between generated rows and a batch of samples, mixture of IMQ kernels."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.scales: Tensor | None = None

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        scales = stein.scales(x, y.detach(), self.problem.rng)
        kyy, kxy = stein.kernel(y, y, scales), stein.kernel(x, y, scales)
        return kyy.mean() - 2 * kxy.mean()


class SteinKL:
    """Surrogate whose gradient is the Stein estimate of the KL divergence's (seed 004, eq. 1)."""

    K = 128

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        y = y[: self.K]
        x = self.problem.some_rows(len(y))
        direction = stein.direction(y.detach(), x, self.problem.rng)
        return (direction * y).sum(1).mean()


class Energy:
    """Squared energy distance to a batch of samples (up to a constant)."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        n = len(y)
        within = _distance(y, y).sum() / (n * (n - 1))
        return _distance(x, y).mean() - 0.5 * within


class Sliced:
    """Squared sliced 2-Wasserstein distance to a batch of samples, over 128 directions."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        g = torch.randn((y.shape[1], 128), generator=self.problem.rng, device=self.problem.rng.device)
        u = (g / g.norm(dim=0)).to(y.device)
        a, b = torch.sort(y @ u, dim=0)[0], torch.sort(x @ u, dim=0)[0]
        return ((a - b) ** 2).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, k), with a finite gradient where points coincide."""
    return torch.sqrt(stein.squared_distances(a, b) + 1e-12)


OBJECTIVES: dict[str, Entry] = {
    "sketch": Entry("sketch", SketchMatching),
    "mmd": Entry("samples", MMD),
    "stein": Entry("samples", SteinKL),
    "energy": Entry("samples", Energy),
    "sliced": Entry("samples", Sliced),
}
