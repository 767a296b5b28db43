"""Fit the generator of tables to a snapshot that counts cells."""

import time
from typing import Any

import numpy as np

from streamsketch.errors import SpecMismatchError
from streamsketch.generator.autoregressive.columns import order_of
from streamsketch.generator.autoregressive.law import best_law, uniforms
from streamsketch.generator.autoregressive.model import Autoregressive
from streamsketch.generator.autoregressive.targets import targets_of
from streamsketch.generator.autoregressive.tilt import ROWS, Psi, fit_tilt
from streamsketch.generator.autoregressive.validation import validated
from streamsketch.snapshot import Snapshot

__all__ = ["fit_table"]

HIDDEN = 0.5  # share of the pairs below which it is said how many


def fit_table(
    snapshot: Snapshot, seed: int = 0, start: Autoregressive | None = None
) -> Autoregressive:
    """The autoregressive generator of a snapshot's counts.

    Args:
        snapshot: A released snapshot with cells.
        seed: Of the rows that the fit draws.
        start: A generator of the same cells, whose weights the fit starts from: a tenth of the time.

    Raises:
        SpecMismatchError: `start` has other cells.
        TrainingError: The snapshot has too few rows, or values that are not finite.
    """
    begun = time.monotonic()
    layout = snapshot.layout
    assert layout is not None
    if start is not None and start.fingerprint != snapshot.spec.fingerprint:
        raise SpecMismatchError(
            f"cannot start from this generator: its cells are those of the operator {start.fingerprint} and the "
            f"snapshot's of {snapshot.spec.fingerprint}; start from a generator of the same operator, or from none"
        )
    targets = targets_of(snapshot)
    order = order_of(layout) if start is None else start.law.order
    law, went = best_law(targets, order, seed, None if start is None else start.law)
    theta = None  # a tilt of exact counts is not worth its time: it was measured not to help
    if not targets.exact:
        codes, _ = law.draw(uniforms(len(order), ROWS, np.random.default_rng(seed + 3)))
        begin = None if start is None else start.theta
        theta = fit_tilt(Psi(layout), targets, codes, begin)
    figures = validated(law, theta, snapshot, targets, seed)
    metrics: dict[str, Any] = {
        "objective": "likelihood",
        "steps": sum(one["iterations"] for one in went),
        "loss": sum(one.get("loss", 0.0) for one in went),
        **figures,
        "start": "cold" if start is None else "warm",
        "stopped": "moments met" if all(one["met"] for one in went) else "iterations",
        "seconds": round(time.monotonic() - begun, 3),
        "snapshot": snapshot.id,
    }
    if not targets.exact:
        metrics["informed"] = targets.informed
        if targets.informed < HIDDEN:
            metrics["useful"] = False
            metrics["verdict"] = (
                f"the noise hides all dependence but in {targets.informed:.0%} of the pairs, "
                f"columns are drawn independently else; {figures['verdict']}"
            )
    metrics["tilted"] = theta is not None
    return Autoregressive(law, snapshot, metrics, theta)
