"""The training loop of one candidate: steps, averaged weights, held-out distance."""

import copy
import logging
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from streamsketch.errors import TrainingError
from streamsketch.features.kernels.loss import sketch_mean
from streamsketch.generator.neural import Model
from streamsketch.generator.objectives import Objective, Problem
from streamsketch.generator.options import TrainingConfig

__all__ = ["Candidate", "HeldOut"]

log = logging.getLogger(__name__)

VALIDATION_ROWS = 8192  # the distance is unbiased; its noise shrinks with this
SMALLEST_BATCH = 32
WIDE = 192  # width from which matrix products in bfloat16 save more than the conversions cost


def halves_pay(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices several times faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True)
class HeldOut:
    """Frequencies that training never sees: the validation that needs no rows.

    Attributes:
        omega: (d, h) frequencies.
        targets: (classes, 2h) mean features.
        floor: Expected distance of a perfect generator, from the sketch's own noise.
    """

    omega: Tensor
    targets: Tensor
    floor: float

    @property
    def noise(self) -> float:
        """Distance of rows that know nothing: spread so far that their mean features are zero."""
        return float((self.targets**2).sum()) / self.omega.shape[1]

    def distance(self, model: Model, seed: int = 0) -> float:
        """Unbiased mean squared distance of the model's features to the targets."""
        rng = torch.Generator().manual_seed(seed)
        h = self.omega.shape[1]
        n = VALIDATION_ROWS // model.classes
        total = 0.0
        with torch.no_grad():
            for k in range(model.classes):
                labels = torch.full((n,), k, device=model.device) if model.conditional else None
                mean = sketch_mean(model.draw(n, rng, labels), self.omega)
                share = float(model.shares[k]) if model.conditional else 1.0
                square = float(mean @ mean) / h
                gap = share * mean - self.targets[k]
                total += float(gap @ gap) / h - share**2 * (1 - square) / (n - 1)
        return total


@dataclass
class Candidate:
    """A model in training.

    Attributes:
        model: Its weights now.
        objective: What it is trained by.
        problem: What it is trained on.
        rng: Source of its latents.
        config: Run options.
        peak: Height of the learning rate (lower after a warm start).
        ahead: Whether the weights it starts from are any good.
    """

    model: Model
    objective: Objective
    problem: Problem
    rng: torch.Generator
    config: TrainingConfig
    peak: float
    ahead: bool = False
    steps: int = 0
    loss: float = math.nan
    heldout: float = math.inf
    optimizer: torch.optim.Adam = field(init=False)
    average: Model = field(init=False)
    fast: bool = field(init=False)

    def __post_init__(self) -> None:
        fused = self.model.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.peak, fused=fused)
        self.fast = halves_pay(self.model.device) and self.model.config.width >= WIDE
        self.average = copy.deepcopy(self.model)
        for p in self.average.parameters():
            p.requires_grad_(False)

    def step(self, done: float) -> None:
        """One step when the share `done` of the budget is used.

        Raises:
            TrainingError: The loss is not finite; the averaged weights are still sound.
        """
        warm = min(1.0, (self.steps + 1) / 20)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * warm * max(1.0 - done, 0.0)
        try:
            loss = self._loss(done)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.problem.ranks.add_gradients(self.model.parameters())
        except torch.cuda.OutOfMemoryError:
            self._halve()
            return
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.steps + 1}; the last sound weights are kept"
            )
        self.optimizer.step()
        self.steps += 1
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self._follow()

    def _loss(self, done: float) -> Tensor:
        n, model = self.problem.batch, self.model
        z = model.latents(n, self.rng)
        labels = None
        if model.conditional:  # every class gets its share of the batch, in order
            labels = torch.arange(n, device=model.device) * model.classes // n
        share = self.problem.ranks.share
        noise = model.head.noise(n, self.rng, model.device)
        raw = model.raw(share(z), labels, self.fast)
        y = model.head(raw, share(noise), labels)
        return self.objective(y, done)

    def _halve(self) -> None:
        batch = self.problem.batch // 2
        if batch < SMALLEST_BATCH:
            raise TrainingError(
                f"the device has no memory for batches of {2 * batch} rows; use fewer frequencies per step, a "
                'smaller network or device = "cpu"'
            )
        log.warning("the device is out of memory: the batch is halved to %d rows", batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        self.problem.batch = batch

    def _follow(self) -> None:
        """Move the averaged weights; a short memory at first, so that the start is forgotten."""
        keep = min(self.config.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            mine: list[Tensor] = list(self.average.parameters())
            others: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(mine, others, 1 - keep)
            self.average.shares.copy_(self.model.shares)

    def validate(self, held: HeldOut) -> float:
        """Take the held-out distance of the averaged weights."""
        self.average.eval()
        self.heldout = held.distance(self.average, seed=self.steps)
        return self.heldout
