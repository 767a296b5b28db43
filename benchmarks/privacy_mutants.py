"""Releasers with one mistake each. The audit has to find every one of them.

They are made from the real releaser by breaking one thing that has been broken in practice.
Never use them for anything but the audit.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch.features import FeatureMap, build
from streamsketch.ingest.audit import Cut, Verdict, audit
from streamsketch.privacy.clipping import UserLimits
from streamsketch.privacy.noise import Entropy, gaussian
from streamsketch.privacy.noisers import Stored
from streamsketch.privacy.release import Releaser
from streamsketch.privacy.settings import Settings
from streamsketch.schema import Column, Schema
from streamsketch.sketcher import spec_of

RELEASES, FREQUENCIES, RHO = 6, 16, 0.5
SCHEMA = Schema.vectors(2, -1, 1)
TABLE = Schema(
    [
        Column("town", "categorical", "string", values=("a", "b", "c")),
        Column("age", "numeric", "int64", low=0, high=5, nulls="indicator"),
        Column("paid", "boolean", "bool"),
    ]
)
FM = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, FREQUENCIES)))
CELLS = build(spec_of(TABLE, FREQUENCIES, cells=True, middle=4, private=True), TABLE)


def _quieter(releaser: Releaser, by: float) -> None:
    """Divide its noise."""
    method = releaser.method
    noiser = method.plan.noiser(method.noiser.width, method.sigma / by * 65536)
    releaser.method = replace(method, sigma=method.sigma / by, noiser=noiser)


class SensitivityOne(Releaser):
    """Takes the sensitivity for 1 instead of sqrt(m)."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        _quieter(self, self.settings.unit_norm(self.features.norm_bound))


class ForgottenNorm(Releaser):
    """Forgets the norm of the encoder C."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        _quieter(self, self.plan.participation)


class ForgottenTables(Releaser):
    """Takes the norm of a row for that of its Fourier features: its counts are forgotten."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        whole, part = self.features.norm_bound, self.features.fourier.norm_bound
        _quieter(self, self.settings.unit_norm(whole) / self.settings.unit_norm(part))


class _Fresh(Stored):
    """Noise of one release, drawn anew for each snapshot of the running sum."""

    def start(self) -> Any:
        return {"last": np.zeros((1, self.width))}

    def check(self, past: Any) -> Any:
        return past

    def next(self, past: Any, x: Any, entropy: Entropy) -> Any:
        last = past["last"][0]
        noise = self._draw(last, entropy)
        return x + np.rint(noise - last).astype(np.int64), {"last": noise[None]}

    def _draw(self, last: Any, entropy: Entropy) -> Any:
        return gaussian(self.width, self.sigma / np.linalg.norm(self._inverse), entropy)


class _Same(_Fresh):
    """Noise of one release, used for every snapshot."""

    def _draw(self, last: Any, entropy: Entropy) -> Any:
        return last if last.any() else super()._draw(last, entropy)


class _QuietCells(Stored):
    """Leaves the counts of cells half of their noise."""

    def next(self, past: Any, x: Any, entropy: Entropy) -> Any:
        noisy, past = super().next(past, x, entropy)
        cells = slice(CELLS.fourier.width, -1)
        noisy[cells] = (noisy[cells] + x[cells]) // 2
        return noisy, past


class _ExactCount(Stored):
    def next(self, past: Any, x: Any, entropy: Entropy) -> Any:
        noisy, past = super().next(past, x, entropy)
        noisy[-1] = x[-1]
        return noisy, past


def _with(noiser: type[Stored]) -> type[Releaser]:
    class Mutant(Releaser):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            method = self.method
            wrong = noiser(method.plan.encoder, method.noiser.width, method.sigma * 65536)
            self.method = replace(method, noiser=wrong)
            self.state = self.method.start()

    return Mutant


class ReplayedPrefix(Releaser):
    """Saves its state before the release instead of with it, so a crash draws new noise."""

    def release(self, *args: Any, **more: Any) -> Any:
        self._before = super().packed()
        return super().release(*args, **more)

    def packed(self) -> Any:
        return getattr(self, "_before", None) or super().packed()


class DoubleCount(Releaser):
    """Forgets after a restart which rows were counted, and counts them again."""

    def restore(self, *args: Any) -> None:
        super().restore(*args)
        self.state = replace(self.state, seen=np.zeros_like(self.state.seen), seen_count=0)


def maker(
    kind: type[Releaser] = Releaser,
    cells: bool = False,
    mechanism: str = "toeplitz",
    **settings: Any,
) -> Callable[[], Releaser]:
    chosen = Settings(**{"rho": RHO, "releases": RELEASES, **settings})
    features, schema = (CELLS, TABLE) if cells else (FM, SCHEMA)
    return lambda: kind(features, schema, mechanism=mechanism, settings=chosen)


def stream(limited: bool = True, cells: bool = False) -> dict[str, Any]:
    """Cuts of one stream without and with a canary: a user who sends ten rows and may add one."""
    if cells:
        return stream_of_cells()
    rng = np.random.default_rng(1)
    total, count = np.zeros(FM.width, np.int64), 0
    without: list[Cut] = []
    for _ in range(RELEASES):
        total, count = total + FM.sum(rng.uniform(-1, 1, (50, 2))), count + 50
        without.append((total, count))
    row = np.array([[0.3, -0.7]])
    entering = int(UserLimits(rows=1).admit(["canary"] * 10, 0).sum()) if limited else 10
    with_canary = [(t + entering * FM.sum(row), n + entering) for t, n in without]
    return {"without": without, "canary": (FM.sum(row), 1), "with_canary": with_canary}


def stream_of_cells() -> dict[str, Any]:
    """Cuts of a stream of table rows, and a canary row."""
    rng = np.random.default_rng(1)
    made = {"town": rng.choice(list("abc"), 301), "age": rng.integers(0, 6, 301)}
    x = TABLE.encode(pa.table({**made, "paid": rng.random(301) < 0.3})).x
    sums = [CELLS.sum(part) for part in np.split(x[:-1], RELEASES)]
    without = [(total, 50 * (k + 1)) for k, total in enumerate(np.cumsum(sums, axis=0))]
    return {"without": without, "canary": (CELLS.sum(x[-1:]), 1)}


#: Name -> (releaser, its settings, stream options, whether it is killed after the first release).
CORRECT: dict[str, tuple[type[Releaser], dict[str, Any], dict[str, Any], bool]] = {
    "correct": (Releaser, {}, {}, False),
    "correct, killed once": (Releaser, {}, {}, True),
    "correct, strict": (Releaser, {"strict": True}, {}, True),
    "correct, unbounded": (Releaser, {"mechanism": "unbounded", "releases": None}, {}, True),
    "correct, cells": (Releaser, {"cells": True}, {"cells": True}, True),
}
MUTANTS: dict[str, tuple[type[Releaser], dict[str, Any], dict[str, Any], bool]] = {
    "sensitivity 1 instead of sqrt(m)": (SensitivityOne, {}, {}, False),
    "forgotten ||C||": (ForgottenNorm, {}, {}, False),
    "fresh one-shot noise per snapshot": (_with(_Fresh), {}, {}, False),
    "same noise reused": (_with(_Same), {}, {}, False),
    "prefix replayed after a crash": (ReplayedPrefix, {}, {}, True),
    "window counted twice": (DoubleCount, {}, {}, True),
    "rows of a user not limited": (Releaser, {}, {"limited": False}, False),
    "count exact": (_with(_ExactCount), {}, {}, False),
    "norm of a row without its cells": (ForgottenTables, {"cells": True}, {"cells": True}, False),
    "cells with half of the noise": (_with(_QuietCells), {"cells": True}, {"cells": True}, False),
}


def examine(name: str, runs: int) -> Verdict:
    kind, settings, options, killed = {**CORRECT, **MUTANTS}[name]
    return audit(
        maker(kind, **settings), **stream(**options), runs=runs, crash_after=0 if killed else None
    )
