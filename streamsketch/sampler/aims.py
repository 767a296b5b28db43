"""What the outputs together aim at: the data's sketch, the generator's own, or its latent law."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.features import ONE
from streamsketch.sampler.debt import DebtSelector, energy_map, energy_weights
from streamsketch.sampler.kernels import squared_distances
from streamsketch.sampler.latents import check_latents, decode, finite
from streamsketch.sampler.solve import optimise
from streamsketch.sampler.targets import GaussianTarget

if TYPE_CHECKING:
    from streamsketch.sampler.job import Job

Array = NDArray[np.float64]
Points = NDArray[np.float32]

_log = logging.getLogger(__name__)

_FIRST_POOL = 65_536  # draws that first estimate a generator's own sketch
_OWN_POOL = 16_384  # draws that estimate it where it only steadies a noisy release


@dataclass(frozen=True)
class Pool:
    """Candidates: rows as issued, their points in the space of the aim, and latents if known."""

    rows: Points
    points: Points
    latents: Points | None = None

    def take(self, which: NDArray[Any]) -> Pool:
        """Some of the candidates."""
        latents = None if self.latents is None else self.latents[which]
        return Pool(self.rows[which], self.points[which], latents)


class Aim:
    """A target with the selector, the debt and the candidates that go with it.

    Args:
        job: The call it serves.
        key: Name under which the history keeps its debt.
        selector: The choice among candidates.
        mean: Mean features of the target now.
    """

    def __init__(self, job: Job, key: str, selector: DebtSelector, mean: Array) -> None:
        self.job, self.key, self.selector, self.mean = job, key, selector, mean

    def propose(self, n: int) -> Pool:
        """Draw ``n`` fresh candidates."""
        job = self.job
        if job.solver == "optimize":
            return self._from_latents(n)
        x = job.generator.sample_encoded(n, seed=job.next_seed(), label=job.label)
        return Pool(finite(x), x)

    def choose(self, pool: Pool, k: int) -> Points:
        """Choose ``k`` candidates, enter them in the history, and return their rows."""
        history = self.job.history
        owed = history.owed(self.key, self.mean.size)
        recent = history.windows.get(self.key)
        choice = self.selector.choose(owed, self.mean, pool.points, k, recent)
        chosen, owed = pool.take(choice.rows), choice.owed
        if self.job.solver == "optimize":
            chosen = self._improve(chosen, history.owed(self.key, self.mean.size))
            owed = self.selector.pay(
                history.owed(self.key, self.mean.size), self.mean, chosen.points
            )
        history.record(self.key, owed, chosen.points, str(self.job.generator.id), self.job.window)
        return chosen.rows

    def _from_latents(self, n: int) -> Pool:
        job = self.job
        check_latents(job.generator, job.label)
        rng = np.random.default_rng(job.next_seed())
        z = rng.standard_normal((n, job.generator.latent_dim)).astype(np.float32)
        x = decode(job.generator, z, job.next_seed(), job.label)
        return Pool(x, x, z)

    def _improve(self, chosen: Pool, owed: Array) -> Pool:
        assert chosen.latents is not None
        job = self.job
        z = optimise(job, self.selector, owed, self.mean, chosen.latents, self._smooth)
        x = decode(job.generator, z, job.next_seed(), job.label)
        return Pool(x, x, z)

    def _smooth(self, z: Any, codes: Any) -> Any:
        """Points of latents, differentiable."""
        generator = self.job.generator
        return generator.decode_latent(z) if codes is None else generator.decode_latent(z, codes)


class LatentAim(Aim):
    """The standard Gaussian law of the latents, its mean features exact."""

    def propose(self, n: int) -> Pool:
        """Fresh latents and their rows."""
        pool = self._from_latents(n)
        assert pool.latents is not None
        return Pool(pool.rows, pool.latents, pool.latents)

    def _improve(self, chosen: Pool, owed: Array) -> Pool:
        pool = super()._improve(chosen, owed)
        assert pool.latents is not None
        return Pool(pool.rows, pool.latents, pool.latents)

    def _smooth(self, z: Any, codes: Any) -> Any:
        return z


class GeneratorAim(Aim):
    """The generator's own law, its mean features estimated from all its draws so far."""

    def propose(self, n: int) -> Pool:
        """Fresh candidates; they refine the estimate, and the debt with it."""
        pool = super().propose(n)
        self.refine(pool.points)
        return pool

    def refine(self, x: Points) -> None:
        """Enter draws into the estimate.

        Outputs issued before under this generator owed the old estimate: the difference is paid
        to them too, or its error would grow with their number.
        """
        history, pools = self.job.history, self.job.history.pools
        state = pools[self.key]
        mean = np.asarray(self.selector.features.sum(x) / (ONE * max(len(x), 1)))  # type: ignore[attr-defined]
        share = len(x) / (state["rows"] + len(x))
        refined = self.mean + share * (mean - self.mean)
        issued = {} if state["rows"] == 0 else state["issued"]
        for writer, part in history.parts.items():
            now = part.counts.get(self.key, 0)
            since = now - issued.get(writer, now)
            if since and self.key in part.owed and self.selector.forget == 1.0:
                part.owed[self.key] = part.owed[self.key] + since * (refined - self.mean)
        state["rows"] += len(x)
        self.mean = history.pool_means[self.key] = refined

    def begin(self) -> None:
        """Take up the estimate of this generator, or start one."""
        history, job = self.job.history, self.job
        state = history.pools.get(self.key)
        if state is not None and state["generator"] == str(job.generator.id):
            self.mean = history.pool_means[self.key]
            return
        issued = {w: part.counts.get(self.key, 0) for w, part in history.parts.items()}
        history.pools[self.key] = {
            "generator": str(job.generator.id),
            "rows": 0,
            "issued": {**issued, history.writer: issued.get(history.writer, 0)},
        }
        x = job.generator.sample_encoded(_FIRST_POOL, seed=job.next_seed(), label=job.label)
        self.refine(finite(x))


def aim(job: Job) -> Aim:
    """The aim that a job names, with what its history already knows.

    Raises:
        ConfigError: An unknown target, or one that this generator cannot serve.
        SpecMismatchError: The history was kept against another operator.
    """
    if job.target not in TARGETS:
        raise ConfigError(f"target={job.target!r} is unknown; choose one of {', '.join(TARGETS)}.")
    return TARGETS[job.target](job)


def _data(job: Job) -> Aim:
    snapshot = job.generator.snapshot
    if snapshot is None:
        raise ConfigError(
            'target="data" needs the released snapshot that the generator was trained on, and it '
            'has none; use target="generator".'
        )
    fm, spec = snapshot.features, snapshot.spec
    if job.label is not None and spec.classes == 1:
        _log.warning(
            "the sketch has no block per label (conditional = true), so that the %r rows aim at "
            "the generator's own law of that label, not at the data's",
            job.label,
        )
        return _own(job)
    wanted = {"kind": "snapshot", "fingerprint": spec.fingerprint, "d": spec.d, "m": spec.m}
    key = _key(job, "data")
    job.history.operator(key, wanted)
    selector = DebtSelector(fm, energy_weights(fm.omega), job.forget, job.guard)
    mean, noise = _data_mean(job, selector)
    if noise > 0.0:
        mean = without_noise(mean, _own_mean(job, key, fm), noise, fm.omega)
    return Aim(job, key, selector, mean)


def _data_mean(job: Job, selector: DebtSelector) -> tuple[Array, float]:
    """Mean features of the data, or of its rows with one label; and their noise per coordinate."""
    snapshot = job.generator.snapshot
    blocks = snapshot.mean.reshape(snapshot.spec.classes, -1)
    noise = snapshot.release.noise_std / max(snapshot.count, 1.0)
    if job.label is None:
        return np.asarray(blocks.sum(axis=0)), noise * float(np.sqrt(len(blocks)))
    block = blocks[job.generator.schema.label_classes.index(job.label)]
    # A block is the share of its label times the label's mean; the share follows from a draw of
    # the generator, whose conditional law has nearly the same slow features.
    x = job.generator.sample_encoded(4096, seed=job.next_seed(), label=job.label)
    like = selector.features.features(x).mean(axis=0)
    weights = np.concatenate([selector.weights, selector.weights])
    share = float((weights * block) @ like / ((weights * like) @ like))
    if not share > 0:
        raise ConfigError(f"label={job.label!r} does not occur in the released sketch.")
    return np.asarray(block / share), noise / share


def _own_mean(job: Job, key: str, features: Any) -> Array:
    """The generator's own mean features, estimated once per generator."""
    history, name = job.history, f"{key}/own"
    if history.pools.get(name, {}).get("generator") != str(job.generator.id):
        x = job.generator.sample_encoded(_OWN_POOL, seed=job.next_seed(), label=job.label)
        history.pools[name] = {"generator": str(job.generator.id), "rows": len(x)}
        history.pool_means[name] = np.asarray(features.sum(finite(x)) / (ONE * len(x)))
    return history.pool_means[name]


def without_noise(noisy: Array, own: Array, noise: float, omega: Array, group: int = 32) -> Array:
    """A released mean with its noise shrunk away towards the generator's own mean.

    After N outputs the debt to the noise is N times the noise: taken for data, it would one day
    outweigh what is really missing. Among frequencies of like length, the share of the gap
    between release and generator that is more than noise is kept (positive-part James-Stein).

    Args:
        noisy: Released mean features, ``(2m,)``.
        own: The generator's mean features, ``(2m,)``.
        noise: Standard deviation of the noise on each coordinate of ``noisy``.
        omega: ``(d, m)`` frequencies.
        group: Frequencies that share one factor.

    Examples:
        >>> without_noise(np.ones(4), np.zeros(4), 0.5, np.array([[1.0, 2.0]])).tolist()
        [0.75, 0.75, 0.75, 0.75]
    """
    m = omega.shape[1]
    gap = (noisy - own).reshape(2, m)
    order = np.argsort((omega * omega).sum(axis=0), kind="stable")
    kept = np.empty(m)
    for start in range(0, m, group):
        rows = order[start : start + group]
        energy = float((gap[:, rows] ** 2).sum())
        kept[rows] = max(0.0, 1.0 - 2 * len(rows) * noise**2 / energy) if energy > 0 else 0.0
    return np.asarray(own + (kept * gap).ravel())


def _own(job: Job) -> Aim:
    key = _key(job, "generator")
    some = job.generator.sample_encoded(512, seed=job.next_seed(), label=job.label)
    points = finite(some).astype(np.float64)
    length = float(np.sqrt(squared_distances(points, points)).mean())
    selector = _energy_selector(job, key, some.shape[1], length if length > 1e-9 else 1.0)
    goal = GeneratorAim(job, key, selector, np.zeros(2 * selector.weights.size))
    goal.begin()
    return goal


def _latent(job: Job) -> Aim:
    p = job.generator.latent_dim
    target = GaussianTarget(p)
    selector = _energy_selector(job, _key(job, "latent"), p, target.spread)
    return LatentAim(
        job, _key(job, "latent"), selector, target.mean_features(selector.features.omega)
    )


def _energy_selector(job: Job, key: str, d: int, length: float) -> DebtSelector:
    wanted = {"kind": "energy", "d": d, "m": job.frequencies, "seed": 0, "length": length}
    held = job.history.operator(key, wanted)
    features, weights = energy_map(held["d"], held["m"], held["length"], held["seed"])
    return DebtSelector(features, weights, job.forget, job.guard)


def _key(job: Job, target: str) -> str:
    return target if job.label is None else f"{target}/label={job.label}"


TARGETS: dict[str, Callable[[Job], Aim]] = {
    "data": _data,
    "generator": _own,
    "latent": _latent,
}
