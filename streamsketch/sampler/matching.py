"""What the outputs together aim at: the data's sketch, the generator's own, or its latent law."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsketch.arrays import F32, F64
from streamsketch.errors import ConfigError
from streamsketch.features import ONE
from streamsketch.features.kernels import has_numba
from streamsketch.sampler.herding import Herding, energy_map, energy_weights
from streamsketch.sampler.kernels import squared_distances
from streamsketch.sampler.latents import check_latents, finite, rows_of
from streamsketch.sampler.request import Pool
from streamsketch.sampler.solve import optimise
from streamsketch.sampler.targets import GaussianTarget

if TYPE_CHECKING:
    from torch import Tensor

    from streamsketch.sampler.cells import CellMatching
    from streamsketch.sampler.request import Request
    from streamsketch.snapshot import Snapshot


_log = logging.getLogger(__name__)

_ROUND = 16  # most outputs chosen from one set of candidates
_SHARE = 25  # candidates per output
_FIRST_POOL = 65_536  # draws that first estimate a generator's own sketch
_OWN_POOL = 16_384  # draws that estimate it where it only steadies a noisy release


class Matching:
    """A target with the selector, the residual and the candidates that go with it.

    Attributes:
        round: Outputs chosen from one set of candidates.

    Args:
        request: The call it serves.
        key: Name under which the history keeps its residual.
        selector: The choice among candidates.
        mean: Mean features of the target now.
    """

    def __init__(self, request: "Request", key: str, selector: Herding, mean: F64) -> None:
        self.request, self.key, self.selector, self.mean = request, key, selector, mean
        self.round = max(1, min(_ROUND, request.candidates // _SHARE))

    def needs(self, k: int) -> int:
        """Candidates for one round of ``k`` outputs."""
        return self.request.candidates

    def gain(self, residual: F64, count: int) -> float:
        """How many times closer to the target ``count`` outputs are than independent draws."""
        return self.selector.gain(residual, count, self.mean)

    def propose(self, n: int) -> Pool:
        """Draw ``n`` fresh candidates."""
        request = self.request
        if request.solver == "optimize":
            return self._from_latents(n)
        x = request.generator.sample_encoded(n, seed=request.next_seed(), label=request.label)
        return Pool(finite(x), x)

    def choose(self, pool: Pool, k: int) -> F32:
        """Choose ``k`` candidates, enter them in the history, and return their rows."""
        history = self.request.history
        residual = history.residual(self.key, self.mean.size)
        recent = history.recent.get(self.key)
        choice = self.selector.choose(residual, self.mean, pool.points, k, recent)
        chosen, residual = pool.take(choice.rows), choice.residual
        if self.request.solver == "optimize":
            chosen = self._improve(chosen, history.residual(self.key, self.mean.size))
            residual = self.selector.after(
                history.residual(self.key, self.mean.size), self.mean, chosen.points
            )
        history.record(
            self.key, residual, chosen.points, str(self.request.generator.id), self.request.recent
        )
        return chosen.rows

    def _from_latents(self, n: int) -> Pool:
        request = self.request
        check_latents(request.generator, request.label)
        rng = np.random.default_rng(request.next_seed())
        z = rng.standard_normal((n, request.generator.latent_dim)).astype(np.float32)
        labels = request.generator.draw_labels(n, request.next_seed(), request.label)
        x = rows_of(request.generator, z, labels, request.next_seed())
        return Pool(x, x, z, labels)

    def _improve(self, chosen: Pool, residual: F64) -> Pool:
        assert chosen.latents is not None
        z = optimise(self.selector, residual, self.mean, chosen.latents, self._points(chosen))
        x = rows_of(self.request.generator, z, chosen.labels, self.request.next_seed())
        return Pool(x, x, z, chosen.labels)

    def _points(self, chosen: Pool) -> "Callable[[Tensor], Tensor]":
        """The points of latents under the labels of those chosen, differentiable."""
        import torch

        labels = None if chosen.labels is None else torch.as_tensor(chosen.labels)
        return lambda z: self.request.generator.decode_latent(z, labels)


class LatentMatching(Matching):
    """The standard Gaussian law of the latents, its mean features exact."""

    def propose(self, n: int) -> Pool:
        """Fresh latents and their rows."""
        pool = self._from_latents(n)
        assert pool.latents is not None
        return replace(pool, points=pool.latents)

    def _improve(self, chosen: Pool, residual: F64) -> Pool:
        pool = super()._improve(chosen, residual)
        assert pool.latents is not None
        return replace(pool, points=pool.latents)

    def _points(self, chosen: Pool) -> "Callable[[Tensor], Tensor]":
        return lambda z: z


class GeneratorMatching(Matching):
    """The generator's own law, its mean features estimated from all its draws so far."""

    def propose(self, n: int) -> Pool:
        """Fresh candidates; they refine the estimate, and the residual with it."""
        pool = super().propose(n)
        self.refine(pool.points)
        return pool

    def refine(self, x: F32) -> None:
        """Enter draws into the estimate.

        Outputs issued before under this generator were measured against the old estimate: their
        residual is revised too, or its error would grow with their number.
        """
        history, pools = self.request.history, self.request.history.pools
        state = pools[self.key]
        mean = np.asarray(self.selector.features.sum(x) / (ONE * max(len(x), 1)))  # type: ignore[attr-defined]
        share = len(x) / (state["rows"] + len(x))
        refined = self.mean + share * (mean - self.mean)
        issued = {} if state["rows"] == 0 else state["issued"]
        for writer, part in history.parts.items():
            now = part.counts.get(self.key, 0)
            since = now - issued.get(writer, now)
            if since and self.key in part.residuals and self.selector.forget == 1.0:
                part.residuals[self.key] = part.residuals[self.key] + since * (refined - self.mean)
        state["rows"] += len(x)
        self.mean = history.pool_means[self.key] = refined

    def begin(self) -> None:
        """Take up the estimate of this generator, or start one."""
        history, request = self.request.history, self.request
        state = history.pools.get(self.key)
        if state is not None and state["generator"] == str(request.generator.id):
            self.mean = history.pool_means[self.key]
            return
        issued = {w: part.counts.get(self.key, 0) for w, part in history.parts.items()}
        history.pools[self.key] = {
            "generator": str(request.generator.id),
            "rows": 0,
            "issued": {**issued, history.writer: issued.get(history.writer, 0)},
        }
        x = request.generator.sample_encoded(
            _FIRST_POOL, seed=request.next_seed(), label=request.label
        )
        self.refine(finite(x))


def matching(request: "Request") -> "Matching | CellMatching":
    """The matching that a request names, with what its history already knows.

    Raises:
        ConfigError: An unknown target, or one that this generator cannot serve.
        SpecMismatchError: The history was kept against another operator.
    """
    if request.target not in TARGETS:
        raise ConfigError(
            f"target={request.target!r} is unknown; choose one of {', '.join(TARGETS)}"
        )
    return TARGETS[request.target](request)


def _data(request: "Request") -> "Matching | CellMatching":
    snapshot = request.generator.snapshot
    if snapshot is None:
        raise ConfigError(
            'target="data" needs the released snapshot that the generator was trained on, and it '
            'has none; use target="generator"'
        )
    fm, spec = snapshot.features, snapshot.spec
    if request.label is not None and spec.classes == 1:
        _log.warning(
            "the sketch has no block per label (conditional = true), so that the %r rows aim at "
            "the generator's own law of that label, not at the data's",
            request.label,
        )
        return _own(request)
    key = _key(request, "data")
    if _by_cells(request, snapshot):
        from streamsketch.sampler.cells import cell_matching

        return cell_matching(request, snapshot, key)
    wanted = {"kind": "snapshot", "fingerprint": spec.fingerprint, "d": spec.d, "m": spec.m}
    request.history.operator(key, wanted)
    selector = Herding(fm, energy_weights(fm.omega), request.forget, request.guard)
    mean, noise = _data_mean(request, selector, snapshot)
    if noise > 0.0:
        mean = without_noise(mean, _own_mean(request, key, fm), noise, fm.omega)
    return Matching(request, key, selector, mean)


def _by_cells(request: "Request", snapshot: "Snapshot") -> bool:
    """Whether counts of cells are there, and serve what is asked for."""
    plain = request.label is None and request.solver == "greedy" and request.forget == 1.0
    return plain and snapshot.cells is not None and has_numba()


def _data_mean(request: "Request", selector: Herding, snapshot: "Snapshot") -> tuple[F64, float]:
    """Mean features of the data, or of its rows with one label; and their noise per coordinate."""
    blocks = snapshot.mean.reshape(snapshot.spec.classes, -1)
    noise = snapshot.release.noise_std / max(snapshot.count, 1.0)
    if request.label is None:
        return np.asarray(blocks.sum(axis=0)), noise * float(np.sqrt(len(blocks)))
    block = blocks[request.generator.schema.label_classes.index(request.label)]
    # A block is the share of its label times the label's mean; the share follows from a draw of
    # the generator, whose conditional law has nearly the same slow features.
    x = request.generator.sample_encoded(4096, seed=request.next_seed(), label=request.label)
    like = selector.features.features(x).mean(axis=0)
    weights = np.concatenate([selector.weights, selector.weights])
    share = float((weights * block) @ like / ((weights * like) @ like))
    if not share > 0:
        raise ConfigError(f"label={request.label!r} does not occur in the released sketch")
    return np.asarray(block / share), noise / share


def _own_mean(request: "Request", key: str, features: Any) -> F64:
    """The generator's own mean features, estimated once per generator."""
    history, name = request.history, f"{key}/own"
    if history.pools.get(name, {}).get("generator") != str(request.generator.id):
        x = request.generator.sample_encoded(
            _OWN_POOL, seed=request.next_seed(), label=request.label
        )
        history.pools[name] = {"generator": str(request.generator.id), "rows": len(x)}
        history.pool_means[name] = np.asarray(features.sum(finite(x)) / (ONE * len(x)))
    return history.pool_means[name]


def without_noise(noisy: F64, own: F64, noise: float, omega: F64, group: int = 32) -> F64:
    """A released mean with its noise shrunk away towards the generator's own mean.

    After N outputs the residual to the noise is N times the noise: taken for data, it would one day
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


def _own(request: "Request") -> Matching:
    key = _key(request, "generator")
    some = request.generator.sample_encoded(512, seed=request.next_seed(), label=request.label)
    points = finite(some).astype(np.float64)
    length = float(np.sqrt(squared_distances(points, points)).mean())
    selector = _energy_selector(request, key, some.shape[1], length if length > 1e-9 else 1.0)
    goal = GeneratorMatching(request, key, selector, np.zeros(2 * selector.weights.size))
    goal.begin()
    return goal


def _latent(request: "Request") -> Matching:
    p = request.generator.latent_dim
    target = GaussianTarget(p)
    selector = _energy_selector(request, _key(request, "latent"), p, target.spread)
    return LatentMatching(
        request, _key(request, "latent"), selector, target.mean_features(selector.features.omega)
    )


def _energy_selector(request: "Request", key: str, d: int, length: float) -> Herding:
    wanted = {
        "kind": "energy",
        "d": d,
        "m": request.history_frequencies,
        "seed": 0,
        "length": length,
    }
    held = request.history.operator(key, wanted)
    features, weights = energy_map(held["d"], held["m"], held["length"], held["seed"])
    return Herding(features, weights, request.forget, request.guard)


def _key(request: "Request", target: str) -> str:
    return target if request.label is None else f"{target}/label={request.label}"


TARGETS: "dict[str, Callable[[Request], Matching | CellMatching]]" = {
    "data": _data,
    "generator": _own,
    "latent": _latent,
}
