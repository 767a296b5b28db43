"""The sampling methods: each draws encoded rows for one request and enters them in its history."""

import logging
import warnings
from collections.abc import Callable

import numpy as np

from streamsketch.arrays import F32
from streamsketch.errors import ConfigError, DataError
from streamsketch.sampler.energy import energy_points
from streamsketch.sampler.latents import check_latents, finite, rows_of
from streamsketch.sampler.matching import matching
from streamsketch.sampler.request import Request
from streamsketch.sampler.targets import GaussianTarget

_log = logging.getLogger(__name__)

_ENERGY_BATCH = 64
_POOL = 8192  # most candidates drawn at once: the generator's own chunk
_SOBOL = 1 << 30  # points of one sequence
_TRIES = 20  # pools without one new row before unique output is given up


def iid(request: Request, n: int) -> F32:
    """Independent draws: the baseline."""

    def draw(k: int) -> tuple[F32, F32]:
        x = request.generator.sample_encoded(k, seed=request.next_seed(), label=request.label)
        return finite(x), x[:, :0]

    return _filtered(request, n, draw, "iid")


def sobol(request: Request, n: int) -> F32:
    """Latents from one scrambled Sobol sequence, continued where the history stopped."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    check_latents(request.generator, request.label)

    def draw(k: int) -> tuple[F32, F32]:
        state = request.history.pools.setdefault("sobol", {"rows": 0})
        words = [
            request.seed,
            request.history.salt,
            state["rows"] // _SOBOL,
        ]  # a new scrambling when full
        engine = qmc.Sobol(request.generator.latent_dim, rng=np.random.default_rng(words))
        before = state["rows"] % _SOBOL
        k = min(k, _SOBOL - before)
        with warnings.catch_warnings():  # of sizes that are no power of 2: a stream has any size
            warnings.simplefilter("ignore", UserWarning)
            if before:
                engine.fast_forward(before)
            u = engine.random(k)
        state["rows"] += k
        z = ndtri(np.clip(u, 1e-12, 1.0 - 1e-12)).astype(np.float32)
        return _rows(request, z), z

    return _filtered(request, n, draw, "sobol")


def energy(request: Request, n: int) -> F32:
    """Latents by HAW-C against the recent latents issued before (`energy_points`)."""
    check_latents(request.generator, request.label)
    target = GaussianTarget(request.generator.latent_dim)

    def draw(k: int) -> tuple[F32, F32]:
        before = request.history.recent.get("energy")
        z = energy_points(target, min(k, _ENERGY_BATCH), before, request.next_seed(), steps=300)
        points = z.astype(np.float32)
        return _rows(request, points), points

    return _filtered(request, n, draw, "energy")


def history_aware(request: Request, n: int) -> F32:
    """Greedy choice among fresh candidates of what leaves the smallest residual; the default."""
    goal = matching(request)
    issued: list[F32] = []
    have = idle = 0
    while have < n:
        need = goal.needs(min(goal.round, n - have))
        pool = goal.propose(min(-(-(n - have) // goal.round) * need, max(_POOL, need)))
        usable = request.new(pool.rows)
        idle = 0 if usable.any() else idle + 1
        _refuse_exhausted(idle, have, n)
        pool = pool.take(np.flatnonzero(usable))
        for start in range(0, len(pool.points), need):
            part = pool.take(np.arange(start, min(start + need, len(pool.points))))
            k = min(goal.round, n - have, len(part.points))
            if k == 0:
                break
            rows = goal.choose(part, k)
            if request.unique:  # solvers and latents may end where an earlier output was
                rows = rows[request.new(rows)]
            request.enter(rows)
            issued.append(rows)
            have += len(rows)
            request.drawn(have)
    return _concatenated(issued, request.generator.schema.d)


METHODS: dict[str, Callable[[Request, int], F32]] = {
    "history": history_aware,
    "energy": energy,
    "sobol": sobol,
    "iid": iid,
}


def _rows(request: Request, z: F32) -> F32:
    labels = request.generator.draw_labels(len(z), request.next_seed(), request.label)
    return rows_of(request.generator, z, labels, request.next_seed())


def _filtered(request: Request, n: int, draw: Callable[[int], tuple[F32, F32]], key: str) -> F32:
    """Draw until ``n`` rows are accepted, entering each batch in the history."""
    issued: list[F32] = []
    have = idle = 0
    while have < n:
        x, space = draw(n - have)
        keep = request.new(x)
        idle = 0 if keep.any() else idle + 1
        _refuse_exhausted(idle, have, n)
        x, space = x[keep], space[keep]
        request.enter(x)
        none = np.zeros(0)
        request.history.record(key, none, space, str(request.generator.id), request.recent)
        issued.append(x)
        have += len(x)
        request.drawn(have)
    return _concatenated(issued, request.generator.schema.d)


def _refuse_exhausted(idle: int, have: int, n: int) -> None:
    if idle >= _TRIES:
        raise DataError(
            f"only {have} of {n} unique rows could be drawn: {_TRIES} batches in a row held none "
            "that was not issued before; ask for fewer, reset the history, raise unique_capacity, "
            "or train a generator that has not collapsed"
        )


def _concatenated(parts: list[F32], d: int) -> F32:
    return np.concatenate([np.empty((0, d), np.float32), *parts])


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        ConfigError: It is not in `METHODS`.
    """
    if method not in METHODS:
        raise ConfigError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")


__all__ = ["METHODS", "check_method", "history_aware"]
