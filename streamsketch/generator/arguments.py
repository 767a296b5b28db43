"""What `fit` accepts: its arguments are checked before any work is done."""

import math
from typing import Any

import numpy as np
import torch

from streamsketch.errors import ConfigError, PrivacyError, SpecMismatchError, TrainingError
from streamsketch.generator.neural import NetworkGenerator
from streamsketch.generator.objectives import OBJECTIVES
from streamsketch.generator.options import TrainingConfig
from streamsketch.schema.rows import as_table
from streamsketch.snapshot import Snapshot

__all__ = ["check", "check_ranks", "device_of", "rows_of"]

INITS = ("random", "mixture")
MIN_ROWS = 10


def device_of(name: str) -> torch.device:
    """The device by the name of `cpu`, `cuda` or `auto`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise ConfigError(f"device = {name!r} is unknown; choose cpu, cuda or auto")
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(
            f'device = {name!r} was asked for, but torch sees no GPU; use device = "cpu" or "auto"'
        )
    return torch.device(name)


def check_ranks(snapshot: Snapshot, objective: str, batch: int, size: int) -> None:
    """Refuse what several processes cannot train together."""
    if objective != "sketch" or snapshot.spec.classes > 1:
        raise ConfigError(
            f"{size} processes train together by objective = 'sketch' on a sketch without classes; this is "
            f"{objective!r} with {snapshot.spec.classes} classes: train it in one process"
        )
    if batch % size:
        raise ConfigError(
            f"batch = {batch} must be a multiple of the {size} processes that share it"
        )


def check(
    snapshot: Snapshot,
    seconds: float,
    steps: int | None,
    objective: str,
    start: NetworkGenerator | None,
    init: str,
    c: TrainingConfig,
) -> None:
    """Refuse a call of `fit` that cannot work, saying why."""
    _check_call(seconds, steps, objective, init, c)
    _check_snapshot(snapshot, objective)
    if start is not None:
        _check_start(start, snapshot)


def _check_call(
    seconds: float, steps: int | None, objective: str, init: str, c: TrainingConfig
) -> None:
    if objective not in OBJECTIVES:
        raise ConfigError(
            f"objective = {objective!r} is unknown; choose one of {', '.join(OBJECTIVES)}"
        )
    if init not in INITS:
        raise ConfigError(f"init = {init!r} is unknown; choose one of {', '.join(INITS)}")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps = {steps} must be at least 1")
    if steps is None and not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"seconds = {seconds} must be a positive number")
    if not 0 < c.heldout < 1 or c.batch < 2 or c.subset < 1 or c.restarts < 1:
        raise ConfigError(
            "a training needs 0 < heldout < 1, batch >= 2, subset >= 1 and restarts >= 1"
        )
    if not 0 <= c.anneal <= 1:
        raise ConfigError(
            f"anneal = {c.anneal} must be a share of the training, from 0 (off) to 1"
        )


def _check_snapshot(snapshot: Snapshot, objective: str) -> None:
    if snapshot.spec.map != "fourier":
        raise ConfigError(
            f"generators are trained from the fourier map, but the snapshot has map = {snapshot.spec.map!r}; "
            'sketch with map = "fourier"'
        )
    if OBJECTIVES[objective].requires == "second-order sketch":
        _check_second_order(snapshot, objective)
    if snapshot.spec.m < 8:
        raise ConfigError(
            f"a sketch of {snapshot.spec.m} frequencies is too small to learn from; use 8 or more"
        )
    if not math.isfinite(snapshot.count) or snapshot.count < MIN_ROWS:
        raise TrainingError(
            f"the snapshot {snapshot.id} has {snapshot.count:.0f} rows, fewer than the {MIN_ROWS} that training needs; "
            "wait for a later one"
        )
    if not np.isfinite(snapshot.mean).all():
        raise TrainingError(
            f"the snapshot {snapshot.id} holds values that are not finite; use an earlier one"
        )


def _check_start(start: NetworkGenerator, snapshot: Snapshot) -> None:
    if start.schema.hash != snapshot.schema.hash:
        raise SpecMismatchError(
            f"cannot start from this generator: its schema is {start.schema.hash} and the snapshot's is "
            f"{snapshot.schema.hash}; start from a generator of the same schema, or from none"
        )
    if start.network.classes != snapshot.spec.classes:
        raise SpecMismatchError(
            f"cannot start from this generator: it has {start.network.classes} classes and the snapshot "
            f"{snapshot.spec.classes}; start from none"
        )


def _check_second_order(snapshot: Snapshot, objective: str) -> None:
    if snapshot.spec.law != "second_order":
        raise ConfigError(
            f'objective = {objective!r} needs a sketch of the law "second_order", but the snapshot has '
            f'{snapshot.spec.law!r}; sketch with law = "second_order"'
        )
    if snapshot.spec.classes > 1 or any(b.kind != "numeric" for b in snapshot.schema.blocks):
        raise ConfigError(
            f"objective = {objective!r} knows numbers only, and no classes; use objective = 'sketch'"
        )


def rows_of(snapshot: Snapshot, objective: str, samples: Any) -> np.ndarray | None:
    """Encoded rows for an objective that needs them; refused where the snapshot is private."""
    if OBJECTIVES[objective].requires != "samples":
        if samples is not None:
            raise ConfigError(
                f"objective = {objective!r} learns from the sketch alone; leave samples out"
            )
        return None
    others = ", ".join(k for k, v in OBJECTIVES.items() if v.requires == "sketch")
    if snapshot.release.private:
        raise PrivacyError(
            f"objective = {objective!r} needs rows, but the snapshot is private ({snapshot.release.mechanism}); "
            f"use an objective that needs only the sketch: {others}"
        )
    if samples is None:
        raise ConfigError(
            f"objective = {objective!r} needs samples; pass samples = a table of rows, or use an objective that "
            f"needs only the sketch: {others}"
        )
    if snapshot.spec.classes > 1:
        raise ConfigError(
            f"objective = {objective!r} knows no classes; use a sketch that is not conditional"
        )
    if isinstance(samples, np.ndarray):
        rows = np.asarray(samples, np.float32)
        if rows.ndim != 2 or rows.shape[1] != snapshot.schema.d:
            raise ConfigError(
                f"samples have shape {rows.shape}, but encoded rows are (n, {snapshot.schema.d})"
            )
    else:
        rows = np.ascontiguousarray(snapshot.schema.encode(as_table(samples)).x)
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise ConfigError(f"samples must be at least 2 finite rows, got {len(rows)}")
    return rows
