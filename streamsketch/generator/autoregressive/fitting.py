"""Fit the generator of tables to a snapshot that counts cells."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import SpecMismatchError
from streamsketch.generator.autoregressive.columns import order_of
from streamsketch.generator.autoregressive.law import Law, best_law, uniforms
from streamsketch.generator.autoregressive.model import Autoregressive
from streamsketch.generator.autoregressive.targets import Targets, targets_of
from streamsketch.generator.autoregressive.tilt import ROWS, Psi, fit_tilt
from streamsketch.generator.autoregressive.validation import GOOD, validated
from streamsketch.snapshot import Snapshot

__all__ = ["fit_table"]

HIDDEN = 0.5  # share of the pairs below which it is said how many
WORSE = 1.25  # a held-out distance this much above another is more than its noise


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
    theta, figures = _tilted(law, snapshot, targets, seed, start)
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
            metrics["verdict"] = (
                f"the noise hides all dependence but in {targets.informed:.0%} of the pairs, "
                f"columns are drawn independently else; {figures['verdict']}"
            )
    metrics["tilted"] = theta is not None
    return Autoregressive(law, snapshot, metrics, theta)


def _tilted(
    law: Law,
    snapshot: Snapshot,
    targets: Targets,
    seed: int,
    start: Autoregressive | None,
) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
    """The tilt, where it helps, and how good the generator is.

    From exact counts the law alone is as good as the stream's own noise on most tables; where its
    held-out distance says that it is not, it is tilted unless that brings the distance up. Noisy counts
    are always worth it: each table is noisy by itself, and what a column is told by several is averaged.
    """
    figures = validated(law, None, snapshot, targets, seed)
    begin = None if start is None else start.theta
    told = start is not None and begin is None  # that it does not help
    if targets.exact and (told or figures["heldout"] <= GOOD * figures["floor"]):
        return None, figures
    codes, _ = law.draw(uniforms(len(law.order), ROWS, np.random.default_rng(seed + 3)))
    theta = fit_tilt(Psi(law.layout), targets, codes, begin)
    better = validated(law, theta, snapshot, targets, seed)
    if targets.exact and better["heldout"] > WORSE * figures["heldout"]:
        return None, figures
    return theta, better
