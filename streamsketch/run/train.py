"""Training: one checkpoint for each newest snapshot, from the last checkpoint on."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamsketch.errors import StoreError
from streamsketch.run.arrivals import arrivals
from streamsketch.run.checkpoints import put
from streamsketch.run.config import Pipeline
from streamsketch.run.status import rounded
from streamsketch.run.supervisor import finished
from streamsketch.snapshot import Snapshot

if TYPE_CHECKING:
    from streamsketch.generator import Generator, Progress
    from streamsketch.storage.store import Store

__all__ = ["newest_snapshot", "start_of", "train_new", "train_on"]

log = logging.getLogger(__name__)


class _Stopped(Exception):
    """Raised in the middle of a training when the process is asked to end."""


def train_new(
    pipeline: Pipeline,
    stop: threading.Event,
    feeders: Sequence[str] = (),
    watch: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> int:
    """Fit a generator to each newest snapshot, from the last checkpoint on; write checkpoints.

    Args:
        pipeline: The pipeline.
        stop: Ends the loop.
        feeders: Processes whose end means that no snapshot will follow.
        watch: Go on for new snapshots; otherwise train once.
        report: Receives what a status line may show.

    Returns:
        Number of checkpoints written.
    """
    store, t = pipeline.store(), pipeline.trainer
    done, written = _trained_snapshot(store), 0

    def ended() -> bool:
        return not watch or finished(store.state_dir, feeders)

    for name, snapshot in arrivals(store.snapshots, Snapshot.from_bytes, stop, ended):
        if snapshot.id == done or snapshot.count <= 0:
            continue
        start = start_of(store, snapshot)
        figures = {"snapshot": name, "start": "warm" if start else "cold"}
        if "window" in snapshot.span:
            figures["window"] = str(snapshot.span["window"]["start"])
        report(figures)

        def progress(p: "Progress", figures: dict[str, Any] = figures) -> None:
            distances = {"loss": p.loss, "heldout": p.heldout, "floor": p.floor}
            said = {key: rounded(value) for key, value in distances.items()}
            report({**figures, **said, "left_s": round(t.seconds - p.seconds)})
            if stop.is_set():
                raise _Stopped

        def keep(trained: "Generator") -> None:
            put(store, trained, t.keep)

        try:
            generator = train_on(
                pipeline,
                snapshot,
                start,
                progress,
                keep,
                t.checkpoint_seconds,
            )
        except _Stopped:
            break
        made = put(store, generator, t.keep)
        level = logging.INFO if made.good else logging.WARNING
        log.log(level, "%s: %s", made.name or "a generator", made.said)
        report(
            {"snapshot": name, "checkpoint": made.name, **_short(generator.metrics)}
            | {"verdict": made.said}
        )
        done, written = snapshot.id, written + 1
        if not watch:
            break
    return written


def newest_snapshot(store: "Store") -> tuple[str, Snapshot]:
    """Name and value of what to train on.

    Raises:
        StoreError: There is none.
    """
    newest = store.snapshots.newest(Snapshot.from_bytes)
    if newest is None:
        raise StoreError(
            f"The store {store.url} has no snapshot to train on; consume or replay a stream first"
        )
    return newest


def start_of(store: "Store", snapshot: Snapshot) -> "Generator | None":
    """The newest checkpoint, where it is of the snapshot's operator: what training goes on from."""
    from streamsketch.generator import Generator

    newest = store.checkpoints.newest(Generator.from_bytes)
    fits = newest is not None and newest[1].fingerprint == snapshot.spec.fingerprint
    return newest[1] if newest is not None and fits else None


def train_on(
    pipeline: Pipeline,
    snapshot: Snapshot,
    start: "Generator | None",
    progress: "Callable[[Progress], None]",
    on_checkpoint: "Callable[[Generator], None]",
    checkpoint_every: float,
) -> "Generator":
    """Fit a generator to a snapshot as [trainer] says.

    Args:
        pipeline: The pipeline.
        snapshot: What to fit.
        start: What to go on from; None for random weights.
        progress: Told now and then how far it is.
        on_checkpoint: Receives the generator as it is, meanwhile.
        checkpoint_every: Seconds between two of these.
    """
    from streamsketch.generator import fit

    t = pipeline.trainer
    return fit(
        snapshot,
        seconds=t.seconds,
        seed=t.seed,
        device=t.device,
        objective=t.objective,
        start=start,
        progress=progress,
        on_checkpoint=on_checkpoint,
        checkpoint_every=checkpoint_every,
        **t.options,
    )


def _trained_snapshot(store: "Store") -> str | None:
    """Id of the snapshot that the newest checkpoint was trained on."""
    from streamsketch.generator import Generator

    newest = store.checkpoints.newest(Generator.from_bytes)
    if (
        newest is None
        or newest[1].snapshot is None
        or newest[1].metrics.get("stopped") == "unfinished"
    ):
        return None
    return newest[1].snapshot.id


def _short(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        k: rounded(v) if isinstance(v, float) else v
        for k, v in metrics.items()
        if isinstance(v, int | float)
    }
