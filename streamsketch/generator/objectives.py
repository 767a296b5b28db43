"""Training objectives: what a batch of generated rows is compared with, and how.

| name | needs | what it is |
|---|---|---|
| `sketch` | sketch | sketch matching (Schellekens and Jacques 2020, equation 6), unbiased; the default |
| `mmd` | samples | exact MMD with IMQ kernels (the same, equation 5): generative moment matching |
| `stein` | samples | Stein gradient of the KL divergence (Li 2017, equations 1 to 3) |
| `energy` | samples | energy distance |
| `sliced` | samples | sliced Wasserstein distance |
| `score` | second-order sketch | KL by the score that the sketch holds; experimental |

An objective that needs samples is refused where a snapshot is private or no samples are given; one
that needs a second-order sketch, where the law is another than `second_order`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from streamsketch.features.kernels.draws import Draws, drawn_loss, draws
from streamsketch.features.kernels.loss import features, sketch_loss, sketch_mean
from streamsketch.generator import score, stein
from streamsketch.generator.ranks import Alone, Ranks

if TYPE_CHECKING:
    from streamsketch.generator.neural import Model

__all__ = ["OBJECTIVES", "Entry", "Objective", "Problem"]

SHARES_EVERY = 10  # steps between looks at the shares of the classes
SLOW = 0.1  # of the frequencies are inside the cut-off when annealing begins


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
        base: Of the frequencies, how many first ones have all their sums and differences next.
        anneal: Share of the training over which the fast frequencies come in; 0 for none.
        ranks: The processes that share each batch.
    """

    omega: Tensor
    targets: Tensor
    rows: Tensor | None
    rng: torch.Generator
    subset: int
    batch: int
    base: int = 0
    anneal: float = 0.0
    ranks: Ranks = field(default_factory=Alone)

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
    """An objective: what it requires and how it is built.

    Attributes:
        requires: `sketch`, `samples` or `second-order sketch`.
        build: Makes it for a problem and a model.
        experimental: Whether it is here to be tried, and may change or go.
    """

    requires: str
    build: "Callable[[Problem, Model], Objective]"
    experimental: bool = False


class SketchMatching:
    """Squared distance of mean features at a block of the frequencies, unbiased.

    Each step takes the next block, so that a sweep over the blocks has the whole sketch's
    gradient, and a step a fraction of its price. With classes, class k's target is matched by
    its share p_k times the mean features of the rows generated for it; p_k comes from the sketch
    itself, by least squares.

    While annealing, frequency j has the weight exp(-r_j^2 / 2 R^2) with a cut-off R that grows
    geometrically from the slow frequencies to beyond the fastest: what is compared is the two
    distributions blurred by a Gaussian of length 1/R.
    """

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.problem, self.model = problem, model
        self.steps = 0
        m, k = problem.omega.shape[1], problem.subset
        cuts = [slice(i, min(i + k, m)) for i in range(0, m, k)]
        if len(cuts) > 1 and cuts[-1].stop - cuts[-1].start < k // 2:
            cuts[-2:] = [slice(cuts[-2].start, m)]
        self.blocks = [self._block(cut) for cut in cuts]
        head = model.head
        self.draws = [draws(omega, head.columns, head.drawn) for omega, _ in self.blocks]
        slots = [b.slice for g in head.groups for b in g.choices]
        self.radii = [radii(omega, slots) for omega, _ in self.blocks]
        every = torch.cat(self.radii)
        self.slow, self.fast = float(torch.quantile(every, SLOW)), float(every.max())
        if model.conditional:
            model.shares.copy_(first_shares(problem.targets))

    def _weights(self, turn: int, done: float) -> Tensor:
        """Weights (m,) of a block's frequencies when the share `done` of the training is over."""
        radius, over = self.radii[turn], done / self.problem.anneal if self.problem.anneal else 1.0
        weights = torch.full_like(radius, 1 / len(radius))
        if over >= 1:
            return weights
        cut = self.slow * (2 * self.fast / self.slow) ** over
        return weights * torch.exp(-0.5 * (radius / cut) ** 2)

    def _block(self, cut: slice) -> tuple[Tensor, Tensor]:
        m = self.problem.omega.shape[1]
        targets = self.problem.targets
        both = torch.cat([targets[:, :m][:, cut], targets[:, m:][:, cut]], 1)
        return self.problem.omega[:, cut].contiguous(), both.contiguous()

    def __call__(self, y: Tensor, done: float) -> Tensor:
        turn = self.steps % len(self.blocks)
        (omega, targets), drawn = self.blocks[turn], self.draws[turn]
        self.steps += 1
        weights = self._weights(turn, done)
        if not self.model.conditional:
            return _loss(y, drawn, targets[0], weights, self.problem.ranks)
        if self.steps % SHARES_EVERY == 0:
            self._update_shares(y.detach(), omega, targets)
        loss = y.new_zeros(())
        for k, part in enumerate(_by_class(y, self.model.classes)):
            share = float(self.model.shares[k])
            if share > 0 and len(part) > 1:
                of_class = share**2 * weights
                loss = loss + _loss(part, drawn, targets[k] / share, of_class, self.problem.ranks)
        return loss

    def _update_shares(self, y: Tensor, omega: Tensor, targets: Tensor) -> None:
        shares = self.model.shares
        for k, part in enumerate(_by_class(y, self.model.classes)):
            mean = sketch_mean(part, omega)
            found = (mean @ targets[k]) / (mean @ mean)
            shares[k] = 0.9 * shares[k] + 0.1 * found.clamp(0, 1)


def radii(omega: Tensor, slots: Sequence[slice]) -> Tensor:
    """How fast each frequency (d, m) is: its length, where the slots of a category count as one.

    A category's phases enter with their mean square, so that a column of many values is not fast
    for their number alone.
    """
    square = omega.square()
    for s in slots:
        square[s] /= s.stop - s.start
    return square.sum(0).sqrt()


def _loss(y: Tensor, frequencies: Draws, target: Tensor, weights: Tensor, ranks: Ranks) -> Tensor:
    if frequencies.turned:
        return drawn_loss(y, frequencies, target, weights, ranks.mean, ranks.size)
    return sketch_loss(y, frequencies.omega, target, weights, True, ranks.mean, ranks.size)


def first_shares(targets: Tensor) -> Tensor:
    """Shares of the classes from their mean features (classes, 2m): the largest modulus of each.

    At a slow frequency all rows of a class are in phase, so the modulus is nearly its share.
    """
    m = targets.shape[1] // 2
    modulus = torch.sqrt(targets[:, :m] ** 2 + targets[:, m:] ** 2)
    top = modulus.max(1).values
    return top / top.sum()


def _by_class(y: Tensor, classes: int) -> list[Tensor]:
    """The rows of each class, of a batch that has them in order."""
    n = len(y)
    edges = [-(-k * n // classes) for k in range(classes + 1)]
    return [y[a:b] for a, b in zip(edges, edges[1:], strict=False)]


class MMD:
    """Exact squared MMD between generated rows and a batch of samples, mixture of IMQ kernels."""

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        scales = stein.scales(x, y.detach())
        kyy, kxy = stein.kernel(y, y, scales), stein.kernel(x, y, scales)
        return kyy.mean() - 2 * kxy.mean()


class SteinKL:
    """Surrogate whose gradient is the Stein estimate of the KL divergence's (Li 2017, equation 1)."""

    K = 128

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        y = y[: self.K]
        x = self.problem.some_rows(len(y))
        direction = stein.direction(y.detach(), x)
        return (direction * y).sum(1).mean()


class Energy:
    """Squared energy distance to a batch of samples (up to a constant)."""

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        n = len(y)
        within = _distance(y, y).sum() / (n * (n - 1))
        return _distance(x, y).mean() - 0.5 * within


class Sliced:
    """Squared sliced 2-Wasserstein distance to a batch of samples, over 128 directions."""

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.problem = problem

    def __call__(self, y: Tensor, done: float) -> Tensor:
        x = self.problem.some_rows(len(y))
        g = torch.randn(
            (y.shape[1], 128), generator=self.problem.rng, device=self.problem.rng.device
        )
        u = (g / g.norm(dim=0)).to(y.device)
        a, b = torch.sort(y @ u, dim=0)[0], torch.sort(x @ u, dim=0)[0]
        return ((a - b) ** 2).mean()


class ScoreKL:
    """Surrogate whose gradient is that of KL(generated || data), both with noise added.

    The data's score comes from the second-order sketch (`score`), the generated rows' from the
    batch by the same estimate. The noise shrinks geometrically, in `STAGES` stages.
    """

    MOST, LEAST, STAGES = 0.5, 0.02, 40  # deviations, of a box of side 2

    def __init__(self, problem: Problem, model: "Model") -> None:
        self.rng = problem.rng
        p = problem.base
        self.omega, self.p = problem.omega.double(), p
        self.mean = problem.targets[0].double()
        self.base = self.omega[:, :p]
        self.stage = -1

    def __call__(self, y: Tensor, done: float) -> Tensor:
        stage = int(done * self.STAGES)
        if stage != self.stage:
            self.stage = stage
            self.sigma = self.MOST * (self.LEAST / self.MOST) ** (stage / self.STAGES)
            first, second = score.moments(
                score.smoothed(self.omega, self.mean, self.sigma), self.p
            )
            self.data = score.score_matrix(first, second, self.base)
        noise = torch.randn(y.shape, generator=self.rng, device=self.rng.device).to(y.device)
        phi = features((y.detach() + self.sigma * noise).double(), self.base)
        mine = score.score_matrix(phi.mean(0), phi.T @ phi / len(phi), self.base)
        direction = (phi @ (mine - self.data)).to(y.dtype)
        return (direction * y).sum(1).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, k), with a finite gradient where points coincide."""
    return torch.sqrt(stein.squared_distances(a, b) + 1e-12)


OBJECTIVES: dict[str, Entry] = {
    "sketch": Entry("sketch", SketchMatching),
    "mmd": Entry("samples", MMD),
    "stein": Entry("samples", SteinKL),
    "energy": Entry("samples", Energy),
    "sliced": Entry("samples", Sliced),
    "score": Entry("second-order sketch", ScoreKL, experimental=True),
}
