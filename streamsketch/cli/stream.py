"""`streamsketch run`, `consume` and `replay`: the commands that read a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamsketch.ingest.loop import Progress
    from streamsketch.run.config import Pipeline

PipelineFile = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="The pipeline file (see `streamsketch init`).")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(run)
    app.command()(consume)
    app.command()(replay)


def run(
    pipeline: PipelineFile,
    members: Annotated[
        int | None, typer.Option(min=1, help="Consumer processes; [source] members by default.")
    ] = None,
    sample: Annotated[
        bool, typer.Option(help="Draw rows from each new checkpoint, as [sampler] says.")
    ] = True,
) -> None:
    """Everything: consume, snapshot, train and sample, as processes that are kept alive.

    Shows one line for each process. Ctrl-C ends all of them cleanly; a bounded source ends by
    itself. Run it again to go on where it stopped.
    """
    from streamsketch.cli.progress import lines_shown
    from streamsketch.run.config import load
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.supervisor import Supervisor, children_of

    loaded = load(pipeline)
    state = loaded.store().state_dir
    wanted = sample and loaded.sampler.rows > 0
    children = children_of(pipeline, members or loaded.source.members, wanted)
    stop = stop_on_signals()
    with lines_shown() as show:
        code = Supervisor(children, state).run(stop, show)
    if code:
        raise typer.Exit(code)
    _say_where(loaded)


def consume(
    pipeline: PipelineFile,
    member: Annotated[
        int, typer.Option(min=0, help="Number of this process among those of one host.")
    ] = 0,
) -> None:
    """Only the sketching process: read the source, keep the sketch, release snapshots."""
    from streamsketch.run.config import load

    _ingest(load(pipeline), member)


def replay(
    files: Annotated[
        list[str], typer.Argument(help="Files, folders or globs; read in the order of names.")
    ],
    pipeline: Annotated[str, typer.Option(help="The pipeline file; its source is not used.")],
    rate: Annotated[float | None, typer.Option(min=0, help="Rows per second.")] = None,
    event_time: Annotated[
        str | None, typer.Option(help="Column with the time of each row, to pace by.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0, help="With --event-time: times as fast as it happened.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for more files in a folder when all are read.")
    ] = False,
) -> None:
    """Files as a stream: as fast as it goes, at a rate, or paced by event time.

    Goes on where it stopped: a second call with the same files and store reads only what is new.
    """
    from dataclasses import replace
    from pathlib import Path

    from streamsketch.run.config import SourceTable, load

    loaded = load(pipeline)
    paths = [f if "://" in f else str(Path(f).absolute()) for f in files]
    if event_time is not None and speed is None:
        speed = 1.0
    given = {"rate": rate, "event_time": event_time, "speed": speed}
    # What the pipeline says of reading files (format, delimiter, ...) holds for a replay too.
    kept = loaded.source.settings if loaded.source.type == "files" else {}
    settings = {
        **kept,
        **{key: value for key, value in given.items() if value is not None},
        **({"follow": True} if follow else {}),
        "path": paths[0] if len(paths) == 1 else paths,
    }
    source = SourceTable(type="files", name=loaded.source.name, **settings)
    _ingest(replace(loaded, source=source), 0)


def _ingest(loaded: Pipeline, member: int) -> None:
    from streamsketch.cli.progress import status_shown
    from streamsketch.run.consume import run_ingest
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.worker import make_source

    source = make_source(loaded)
    stop = stop_on_signals()
    with status_shown(loaded.store().state_dir, [f"consumer-{member}"]):
        progress = run_ingest(loaded, source, stop, member)
    if loaded.privacy.mechanism == "none":
        _say_counts(loaded, progress, member)
    _say_where(loaded)


def _say_counts(loaded: Pipeline, progress: Progress, member: int) -> None:
    """What was learned and what was refused, with the first reason: it must not go unseen."""
    import json

    from streamsketch.cli.console import say

    say(f"{progress.rows:,} rows learned")
    if not progress.dead:
        return
    letters = loaded.store().state_dir / "dead" / f"member-{member}.jsonl"
    if not letters.exists():
        say(f"WARNING: {progress.dead:,} rows refused")
        return
    with letters.open(encoding="utf-8") as file:
        first = json.loads(file.readline() or "{}")
    say(
        f"WARNING: {progress.dead:,} rows refused, the first because {first.get('reason')}; "
        f"all are in {letters}"
    )


def _say_where(loaded: Pipeline) -> None:
    from streamsketch.cli.console import say

    store = loaded.store()
    families = {"snapshots": store.snapshots, "checkpoints": store.checkpoints}
    held = ", ".join(
        f"{len(family.names())} {kind}"
        + (f" (newest {family.names()[-1]})" if family.names() else "")
        for kind, family in families.items()
    )
    say(f"{store.url}: {held}; look at them with: streamsketch inspect {store.url}")
