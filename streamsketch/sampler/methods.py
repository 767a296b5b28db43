"""The sampling methods: each draws encoded rows for one job and enters them in its history."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError
from streamsketch.sampler.aims import Aim, aim
from streamsketch.sampler.energy import energy_points
from streamsketch.sampler.job import Job
from streamsketch.sampler.latents import check_latents, decode, finite
from streamsketch.sampler.targets import GaussianTarget

Points = NDArray[np.float32]

_log = logging.getLogger(__name__)

_ROUND = 16  # most outputs chosen from one set of candidates
_SHARE = 25  # candidates per output
_ENERGY_BATCH = 64
_POOL = 8192  # most candidates drawn at once: the generator's own chunk
_SOBOL = 1 << 30  # points of one sequence
_TRIES = 20  # pools without one new row before unique output is given up


def iid(job: Job, n: int) -> Points:
    """Independent draws: the baseline."""

    def draw(k: int) -> tuple[Points, Points]:
        x = job.generator.sample_encoded(k, seed=job.next_seed(), label=job.label)
        return finite(x), x[:, :0]

    return _filtered(job, n, draw, "iid")


def sobol(job: Job, n: int) -> Points:
    """Latents from one scrambled Sobol sequence, continued where the history stopped."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    check_latents(job.generator, job.label)

    def draw(k: int) -> tuple[Points, Points]:
        state = job.history.pools.setdefault("sobol", {"rows": 0})
        words = [job.seed, job.history.salt, state["rows"] // _SOBOL]  # a new scrambling when full
        engine = qmc.Sobol(job.generator.latent_dim, rng=np.random.default_rng(words))
        before = state["rows"] % _SOBOL
        k = min(k, _SOBOL - before)
        with warnings.catch_warnings():  # of sizes that are no power of 2: a stream has any size
            warnings.simplefilter("ignore", UserWarning)
            if before:
                engine.fast_forward(before)
            u = engine.random(k)
        state["rows"] += k
        z = ndtri(np.clip(u, 1e-12, 1.0 - 1e-12)).astype(np.float32)
        return decode(job.generator, z, job.next_seed(), job.label), z

    return _filtered(job, n, draw, "sobol")


def energy(job: Job, n: int) -> Points:
    """Latents by HAW-C against the window of latents issued before (`energy_points`)."""
    check_latents(job.generator, job.label)
    target = GaussianTarget(job.generator.latent_dim)

    def draw(k: int) -> tuple[Points, Points]:
        before = job.history.windows.get("energy")
        z = energy_points(target, min(k, _ENERGY_BATCH), before, job.next_seed(), steps=300)
        points = z.astype(np.float32)
        return decode(job.generator, points, job.next_seed(), job.label), points

    return _filtered(job, n, draw, "energy")


def history_aware(job: Job, n: int) -> Points:
    """Greedy choice among fresh candidates of what pays most of the debt; the default."""
    goal = aim(job)
    per_round = max(1, min(_ROUND, job.candidates // _SHARE))
    issued: list[Points] = []
    have = idle = 0
    while have < n:
        rounds = -(-(n - have) // per_round)
        pool = goal.propose(min(rounds * job.candidates, max(_POOL, job.candidates)))
        usable = job.new(pool.rows)
        idle = 0 if usable.any() else idle + 1
        _refuse_exhausted(idle, have, n)
        pool = pool.take(np.flatnonzero(usable))
        for start in range(0, len(pool.points), job.candidates):
            part = pool.take(np.arange(start, min(start + job.candidates, len(pool.points))))
            k = min(per_round, n - have, len(part.points))
            if k == 0:
                break
            rows = goal.choose(part, k)
            if job.unique:  # solvers and latents may end where an earlier output was
                rows = rows[job.new(rows)]
            job.enter(rows)
            issued.append(rows)
            have += len(rows)
    return _concatenated(issued, job.generator.schema.d)


METHODS: dict[str, Callable[[Job, int], Points]] = {
    "history": history_aware,
    "energy": energy,
    "sobol": sobol,
    "iid": iid,
}


def _filtered(job: Job, n: int, draw: Callable[[int], tuple[Points, Points]], key: str) -> Points:
    """Draw until ``n`` rows are accepted, entering each batch in the history."""
    issued: list[Points] = []
    have = idle = 0
    while have < n:
        x, space = draw(n - have)
        keep = job.new(x)
        idle = 0 if keep.any() else idle + 1
        _refuse_exhausted(idle, have, n)
        x, space = x[keep], space[keep]
        job.enter(x)
        none = np.zeros(0)
        job.history.record(key, none, space, str(job.generator.id), job.window)
        issued.append(x)
        have += len(x)
    return _concatenated(issued, job.generator.schema.d)


def _refuse_exhausted(idle: int, have: int, n: int) -> None:
    if idle >= _TRIES:
        raise DataError(
            f"only {have} of {n} unique rows could be drawn: {_TRIES} batches in a row held none "
            "that was not issued before; ask for fewer, reset the history, raise unique_capacity, "
            "or train a generator that has not collapsed."
        )


def _concatenated(parts: list[Points], d: int) -> Points:
    return np.concatenate([np.empty((0, d), np.float32), *parts])


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Raises:
        ConfigError: It is not in `METHODS`.
    """
    if method not in METHODS:
        raise ConfigError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}.")


__all__ = ["METHODS", "Aim", "check_method", "history_aware"]
