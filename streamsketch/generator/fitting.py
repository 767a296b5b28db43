"""`fit`: train a generator from a released snapshot; of tables with cells `autoregressive` does it."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from streamsketch.errors import TrainingError
from streamsketch.expect import expect, whole
from streamsketch.features.frequencies import second_order_base
from streamsketch.generator.arguments import check, check_ranks, device_of, rows_of
from streamsketch.generator.autoregressive import Autoregressive
from streamsketch.generator.autoregressive.fitting import fit_table
from streamsketch.generator.generator import Generator
from streamsketch.generator.mixture import Mixture, corrects, decoded, place, weigh_again
from streamsketch.generator.neural import NetworkGenerator
from streamsketch.generator.objectives import OBJECTIVES, Problem
from streamsketch.generator.options import NetworkConfig, TrainingConfig
from streamsketch.generator.ranks import ranks
from streamsketch.generator.threads import Threads
from streamsketch.generator.trainer import Candidate, HeldOut
from streamsketch.snapshot import Snapshot
from streamsketch.tables import checked

__all__ = ["Progress", "fit"]

log = logging.getLogger(__name__)

WARM_RATE = 0.5  # of the full learning rate, after a warm start or from a mixture
GOOD = 3.0  # times the floor
POOR = (
    0.25  # of the distance of rows that know nothing; columns drawn independently are about there
)
WORSE = 1.25  # a held-out distance this much above the least seen is more than its noise


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        done: Share of the budget used, 0 to 1.
        steps: Steps made.
        seconds: Wall-clock seconds since the call.
        loss: Smoothed training loss.
        heldout: Held-out distance of the averaged weights when last taken.
        floor: Held-out distance of a perfect generator.
    """

    done: float
    steps: int
    seconds: float
    loss: float
    heldout: float
    floor: float


def fit(
    snapshot: Snapshot,
    seconds: float = 30,
    seed: int = 0,
    device: str = "auto",
    objective: str = "sketch",
    start: Generator | None = None,
    *,
    steps: int | None = None,
    network: NetworkConfig | Mapping[str, Any] | str | None = None,
    init: str = "random",
    samples: Any = None,
    config: TrainingConfig | Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_checkpoint: Callable[[Generator], None] | None = None,
    checkpoint_every: float = 60.0,
) -> Generator:
    """Train a generator from a snapshot.

    By default it needs nothing but the snapshot. Where that counts cells of a table, the result is the
    autoregressive model of largest likelihood (`generator.autoregressive`): seconds whatever
    the budget, and about one from a `start` of the same operator. Everything that says how a
    network is trained (`network`, `init`, `steps`, `config`, another objective) asks for a network.

    A network's mean features are matched to the released ones (Schellekens and Jacques 2020,
    equation 6). The result holds averaged weights; the best of several
    candidates, and whether there is anything left to learn, are told by held-out frequencies.

    Args:
        snapshot: A released snapshot.
        seconds: Wall-clock budget; it ends the training whatever the progress.
        seed: Seed of weights, latents and held-out frequencies.
        device: `cpu`, `cuda` or `auto`.
        objective: A name in `OBJECTIVES`.
        start: Generator to start from (same schema), as a stream moves on; its network is kept.
        steps: Train for exactly this many steps instead of `seconds`. On a CPU the result then
            depends on nothing but the arguments and the number of threads.
        network: A network's name, or its configuration (a mapping of its fields will do).
        init: `random` weights, or `mixture`: begin as the Gaussian mixture that is decoded from the
            sketch, against dropped modes (see `generator.mixture`). Without meaning where there is
            a generator to start from.
        samples: Arrow table or encoded rows (n, d), for objectives that need samples.
        config: Run options (a mapping of their fields will do).
        progress: Called after each validation.
        on_checkpoint: Called with the generator so far every `checkpoint_every` seconds. To go
            on after a crash, load the last checkpoint and pass it as `start`.
        checkpoint_every: Seconds.

    Returns:
        The generator, on the CPU, with `metrics`.

    Raises:
        ConfigError: A wrong argument.
        PrivacyError: The objective needs samples and the snapshot is private.
        SpecMismatchError: `start` has another schema.
        TrainingError: The loss was never finite, or the snapshot has too few rows.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> s = Sketcher(Schema.vectors(2, -1, 1), frequencies=64)
        >>> s.learn_many(np.random.default_rng(0).uniform(-1, 1, (1000, 2)))
        >>> fit(s.release(), steps=3).sample(2).num_rows
        2
    """
    begun = time.monotonic()
    expect(
        snapshot,
        Snapshot,
        "fit takes a Snapshot",
        "learn rows with a Sketcher and pass its release()",
    )
    seed = whole(seed, "seed")
    as_usual = objective == "sketch" and init == "random"
    plain = as_usual and all(given is None for given in (network, steps, config, samples))
    if snapshot.layout is not None and plain and not isinstance(start, NetworkGenerator):
        return fit_table(snapshot, seed, start if isinstance(start, Autoregressive) else None)
    begins = start if isinstance(start, NetworkGenerator) else None
    if begins is None and start is not None:
        log.info("a network starts from a network only; it starts from random weights")
    if config is None or isinstance(config, Mapping):
        config = checked(TrainingConfig, config or {}, "config")
    if isinstance(network, Mapping):
        network = checked(NetworkConfig, network, "network")
    where = device_of(device)
    check(snapshot, seconds, steps, objective, begins, init, config)
    rows = rows_of(snapshot, objective, samples)
    second = OBJECTIVES[objective].requires == "second-order sketch"
    base = second_order_base(snapshot.spec.m) if second else 0
    training, held = _problem(snapshot, rows, config, seed, where, base)
    training.ranks = ranks()
    if training.ranks.size > 1:
        check_ranks(snapshot, objective, config.batch, training.ranks.size)
    budget = _Budget(begun, seconds, steps)
    alone = training.ranks.size == 1
    threads = Threads(adapt=steps is None and where.type == "cpu" and alone)
    work = _Fit(snapshot, training, held, config, budget, objective, seed, progress, threads)
    if init == "mixture" and begins is None:
        omega, targets = (t.cpu().double().numpy() for t in (training.omega, training.targets))
        work.mixture = decoded(omega, targets, snapshot, seed)
        network = corrects(work.mixture, network, snapshot.schema.d)
    try:
        return work.run(begins, network, where, on_checkpoint, checkpoint_every).to("cpu")
    finally:
        threads.restore()


@dataclass
class _Budget:
    begun: float
    seconds: float
    steps: int | None
    used: int = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    @property
    def done(self) -> float:
        share = self.elapsed / self.seconds if self.steps is None else self.used / self.steps
        return min(share, 1.0)


@dataclass
class _Fit:
    """One call of `fit`: candidates on trial, then the best to the end."""

    snapshot: Snapshot
    problem: Problem
    held: HeldOut
    config: TrainingConfig
    budget: _Budget
    objective: str
    seed: int
    progress: Callable[[Progress], None] | None
    threads: Threads
    mixture: Mixture | None = None

    def run(
        self,
        start: NetworkGenerator | None,
        network: NetworkConfig | str | None,
        where: torch.device,
        on_checkpoint: Callable[[Generator], None] | None,
        every: float,
    ) -> Generator:
        trials = 1 if start is not None else self.config.restarts
        candidates = [self._candidate(k, start, network, where) for k in range(trials)]
        best, stopped = candidates[0], "budget"
        for k, candidate in enumerate(candidates if trials > 1 else []):
            stopped = self._train(candidate, self.config.trial * (k + 1) / trials, None)
            if candidate.heldout < best.heldout:
                best = candidate

        def save() -> None:
            if on_checkpoint is not None:
                on_checkpoint(self._generator(best, "unfinished"))

        stopped = self._train(best, 1.0, save, every)
        if not math.isfinite(best.heldout):
            raise TrainingError(
                f"the {self.objective} loss was not finite from the start; lower the learning rate (config.rate = "
                f"{self.config.rate}) or look at the snapshot {self.snapshot.id}"
            )
        return self._generator(best, stopped)

    def _candidate(
        self,
        k: int,
        start: NetworkGenerator | None,
        network: NetworkConfig | str | None,
        where: torch.device,
    ) -> Candidate:
        seed = self.seed + 7919 * k
        source = start.config if start is not None else network
        fresh = Generator.create(self.snapshot.schema, self.snapshot, source, seed)
        if start is not None:
            fresh.network.load_state_dict(start.network.state_dict())
        model = fresh.network.to(where).train()
        problem = replace(self.problem)
        if model.components is not None and self.mixture is not None:
            place(
                model.components, self.mixture, self.snapshot.schema.blocks, model.config.bounded
            )
        elif model.components is not None:
            weigh_again(model, problem.omega, problem.targets)
        rng = torch.Generator(where).manual_seed(seed + 1)
        ahead = start is not None or self.mixture is not None
        peak = self.config.rate * (WARM_RATE if ahead else 1.0)
        objective = OBJECTIVES[self.objective].build(problem, model)
        candidate = Candidate(model, objective, problem, rng, self.config, peak, ahead)
        if self.config.compile and where.type == "cuda":
            model.network = torch.compile(model.network)  # type: ignore[assignment]
        return candidate

    def _train(
        self,
        candidate: Candidate,
        until: float,
        save: Callable[[], None] | None,
        every: float = math.inf,
    ) -> str:
        """Train up to a share of the budget; returns why it stopped."""
        budget, saved = self.budget, self.budget.elapsed
        gap = 1.0 / self.config.validations
        recent: list[float] = []
        check = budget.done + gap
        good = best = _weights(candidate)
        # what begins well may be better than what the first, largest steps make of it
        least = candidate.validate(self.held) if candidate.ahead else math.inf
        while (done := self._done()) < until:
            try:
                before = candidate.steps
                self.threads.run(partial(candidate.step, done))
                budget.used += candidate.steps - before
            except TrainingError as e:
                log.warning("training stopped: %s", e)
                candidate.average.load_state_dict(good)
                if candidate.steps and math.isinf(candidate.heldout):
                    candidate.validate(self.held)
                return "loss not finite"
            if (done := self._done()) >= check:
                check = done + gap
                distance = candidate.validate(self.held)
                self._report(candidate)
                if not math.isfinite(distance):
                    candidate.average.load_state_dict(good)
                    candidate.validate(self.held)
                    return "loss not finite"
                good = _weights(candidate)
                if distance < least:
                    least, best = distance, good
                recent = [*recent[-4:], distance]  # one look is noisier than the floor
                if len(recent) == 5 and sum(recent) <= 5 * self.held.floor:
                    return "held-out distance at the sketch's own noise"
            if save is not None and budget.elapsed - saved >= every:
                saved = budget.elapsed
                candidate.validate(self.held)
                save()
        stopped = "budget"
        if candidate.validate(self.held) > WORSE * max(least, self.held.floor):
            # more training has fitted the frequencies it sees at the cost of the others
            candidate.average.load_state_dict(best)
            candidate.validate(self.held)
            stopped = "budget; earlier weights were better on held-out frequencies"
        self._report(candidate)
        return stopped

    def _done(self) -> float:
        """The share of the budget that is used, as the first of several processes sees it."""
        return self.problem.ranks.agree(self.budget.done)

    def _report(self, c: Candidate) -> None:
        if self.progress is not None:
            b = self.budget
            self.progress(Progress(b.done, b.used, b.elapsed, c.loss, c.heldout, self.held.floor))

    def _generator(self, c: Candidate, stopped: str) -> Generator:
        """The averaged weights as a generator of their own."""
        fresh = Generator.create(self.snapshot.schema, self.snapshot, c.model.config, 0)
        fresh.network.load_state_dict(c.average.state_dict())
        fresh.network.eval()
        taught = c.steps > 0 or c.ahead
        fresh.metrics = {
            "objective": self.objective,
            "steps": c.steps,
            "seconds": round(self.budget.elapsed, 3),
            "loss": c.loss if math.isfinite(c.loss) else None,
            "heldout": c.heldout if math.isfinite(c.heldout) else None,
            "floor": self.held.floor,
            "noise": self.held.noise,
            "useful": taught and c.heldout <= max(GOOD * self.held.floor, POOR * self.held.noise),
            "batch": c.problem.batch,
            "stopped": stopped,
            "snapshot": self.snapshot.id,
        }
        return fresh


def _weights(candidate: Candidate) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in candidate.average.state_dict().items()}


def _problem(
    snapshot: Snapshot,
    rows: np.ndarray | None,
    config: TrainingConfig,
    seed: int,
    where: torch.device,
    base: int,
) -> tuple[Problem, HeldOut]:
    """Split the frequencies at random into those trained on and those held out.

    A second-order sketch keeps its base frequencies and their pairs together, and in order.
    """
    omega = snapshot.features.omega
    m, classes = snapshot.spec.m, snapshot.spec.classes
    pairs = base + base**2
    order = pairs + np.random.default_rng(seed).permutation(m - pairs)
    h = max(2, min(round(config.heldout * m), 512, len(order) - 1))
    targets = snapshot.mean.reshape(classes, 2, m)

    def part(columns: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        w = torch.tensor(omega[:, columns], dtype=torch.float32, device=where)
        z = torch.tensor(
            targets[:, :, columns].reshape(classes, -1), dtype=torch.float32, device=where
        )
        return w, z

    held_omega, held_targets = part(order[:h])
    train_omega, train_targets = part(np.concatenate([np.arange(pairs), order[h:]]))
    # a perfect generator still differs by what sampling and privacy noise put into the targets
    square = float((held_targets**2).sum()) / h
    n, std = snapshot.count, snapshot.release.noise_std
    floor = max(1 - square, 0.0) / n + 2 * classes * (std / n) ** 2
    rng = torch.Generator().manual_seed(seed + 2)
    data = None if rows is None else torch.from_numpy(rows).to(where)
    subset = min(config.subset, m - h)
    problem = Problem(
        train_omega, train_targets, data, rng, subset, config.batch, base, config.anneal
    )
    return problem, HeldOut(held_omega, held_targets, floor)
