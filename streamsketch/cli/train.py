"""`streamsketch train`: fit generators to the snapshots of a store."""

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamsketch.cli.stream import INTERRUPTED, PipelineFile

if TYPE_CHECKING:
    from streamsketch.generator import Generator, Progress
    from streamsketch.run.config import Pipeline


CHECKPOINT_SECONDS = 2.0  # an interrupted training keeps what it had then


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(train)


def train(
    pipeline: PipelineFile,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with each new snapshot, until interrupted.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, help="Training time for each checkpoint.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from random weights, not the last checkpoint.")
    ] = False,
) -> None:
    """Only the trainer: fit a generator to the newest snapshot. It needs no data.

    Starts from the last checkpoint of the same operator, where there is one.
    """
    from dataclasses import replace

    from streamsketch.run.config import load

    loaded = load(pipeline)
    given = {"seconds": seconds, "device": device}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    loaded = replace(loaded, trainer=replace(loaded.trainer, **changes))
    if watch:
        _watch(loaded)
    else:
        _once(loaded, fresh)


def _watch(loaded: "Pipeline") -> None:
    from streamsketch.cli.progress import lines_shown
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.status import Line
    from streamsketch.run.train import train_new

    stop = stop_on_signals()
    with lines_shown(stop) as show:
        train_new(loaded, stop, report=lambda said: show([Line("trainer", "running", said)]))


def _once(loaded: "Pipeline", fresh: bool) -> None:
    from streamsketch.cli.console import say
    from streamsketch.cli.progress import bar
    from streamsketch.run.checkpoints import put
    from streamsketch.run.train import newest_snapshot, start_of, train_on

    store = loaded.store()
    name, snapshot = newest_snapshot(store)
    start = None if fresh else start_of(store, snapshot)
    so_far: deque[Generator] = deque(maxlen=1)
    interrupted = False
    with bar(f"{'training on' if start is None else 'going on with'} {name}") as update:

        def progress(p: "Progress") -> None:
            update(p.done, f"loss {p.loss:.3g}, held-out {p.heldout:.3g} (best {p.floor:.3g})")

        try:
            made = train_on(loaded, snapshot, start, progress, so_far.append, CHECKPOINT_SECONDS)
        except KeyboardInterrupt:
            if not so_far:
                raise
            say("stopping: saving the generator so far")
            made, interrupted = so_far[-1], True
    kept = put(store, made, loaded.trainer.keep)
    name = kept.name or "not kept"
    say(f"{name}: {made!r}\n{kept.said if kept.good else f'WARNING: {kept.said}'}")
    if interrupted:
        raise typer.Exit(INTERRUPTED)
