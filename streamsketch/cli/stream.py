"""`streamsketch run`, `consume` and `replay`: the commands that read a stream."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamsketch.run.config import Pipeline

INTERRUPTED = 130
MOST_REASONS = 10

PipelineFile = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="The pipeline file (see `streamsketch init`).")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(run)
    app.command()(consume)
    app.command()(spark)
    app.command()(replay)
    app.command()(redrive)


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
    from streamsketch.run.status import read_all
    from streamsketch.run.supervisor import Supervisor, children_of

    loaded = load(pipeline)
    state = loaded.store().state_dir
    wanted = sample and loaded.sampler.rows > 0
    children = children_of(pipeline, members or loaded.source.members, wanted)
    _say_budget(loaded)
    stop = stop_on_signals()
    with lines_shown(stop) as show:
        code = Supervisor(children, state).run(stop, show)
    if code:
        raise typer.Exit(code)
    _say_where(loaded)
    said = read_all(state)
    _judge(loaded, [said[c.name] for c in children if c.saves and c.name in said])


def consume(
    pipeline: PipelineFile,
    member: Annotated[
        int, typer.Option(min=0, help="Number of this process among those of one host.")
    ] = 0,
) -> None:
    """Only the sketching process: read the source, keep the sketch, release snapshots."""
    from streamsketch.run.config import load

    _ingest(load(pipeline), member)


def spark(pipeline: PipelineFile) -> None:
    """Only the sketching process, where Spark reads: [source] has type = "spark".

    Runs in the session of spark-submit, or in one of this machine. Run it again to go on where it
    stopped.
    """
    from streamsketch.cli.progress import status_shown
    from streamsketch.run.config import load
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.spark import run_spark

    loaded = load(pipeline)
    _say_budget(loaded)
    stop = stop_on_signals()
    with status_shown(loaded.store().state_dir, ["consumer-0"], stop):
        figures = run_spark(loaded, stop)
    _say_where(loaded)
    _judge(loaded, [figures])


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
    start: Annotated[
        str | None, typer.Option(help="With --event-time: leave out earlier rows.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="With --event-time: leave out rows of this time and later.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for more files in a folder when all are read.")
    ] = False,
) -> None:
    """Files as a stream: as fast as it goes, at a rate, or paced by event time.

    Goes on where it stopped: a second call with the same files and store reads only what is new.
    """
    from pathlib import Path

    from streamsketch.run.config import load

    loaded = load(pipeline)
    paths = [f if "://" in f else str(Path(f).absolute()) for f in files]
    cut = start is not None or until is not None
    if event_time is not None and speed is None and not cut:
        speed = 1.0
    given = {
        "rate": rate, "event_time": event_time, "speed": speed, "start": start, "until": until,
    }  # fmt: skip
    settings: dict[str, Any] = {
        **{key: value for key, value in given.items() if value is not None},
        **({"follow": True} if follow else {}),
    }
    # What the pipeline says of reading files (format, delimiter, ...) holds for a replay too.
    loaded = loaded.reading("files", path=paths[0] if len(paths) == 1 else paths, **settings)
    _ingest(loaded, 0, bounded=not follow)


def redrive(
    pipeline: PipelineFile,
    files: Annotated[
        list[str] | None, typer.Argument(help="Files of dead letters; the store's own if none.")
    ] = None,
) -> None:
    """Send dead letters through again, after the schema or the source was corrected.

    Letters that are refused again are dead letters again. A letter is learned once, however often
    this is called or breaks off; read letters are kept in the folder dead/redriven of the store.
    """
    from streamsketch.cli.console import say
    from streamsketch.run.config import load
    from streamsketch.run.redrive import collect

    loaded = load(pipeline)
    folder, count, other = collect(loaded, files or [])
    if other:
        say(f"WARNING: {other:,} letters hold no JSON object and stay where they are")
    if folder is None:
        say("there are no dead letters to send through")
        return
    say(f"sending {count:,} dead letters through")
    _ingest(
        loaded.reading("files", fresh=True, path=str(folder), part="redrive", format="jsonl"),
        0,
        bounded=True,
    )


def _ingest(loaded: "Pipeline", member: int, bounded: bool = False) -> None:
    from streamsketch.cli.progress import status_shown
    from streamsketch.run.consume import run_ingest
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.status import read_all
    from streamsketch.run.worker import make_source

    source = make_source(loaded)
    _say_budget(loaded)
    stop = stop_on_signals()
    state, name = loaded.store().state_dir, f"consumer-{member}"
    with status_shown(state, [name], stop):
        run_ingest(loaded, source, stop, member)
    _say_where(loaded)
    _judge(loaded, [read_all(state)[name]])
    if stop.is_set() and bounded:
        raise typer.Exit(INTERRUPTED)


def _say_budget(loaded: "Pipeline") -> None:
    """Say how long the privacy budget lasts, where a mechanism is on."""
    from streamsketch.cli.console import say
    from streamsketch.privacy.horizon import made_in, outlook
    from streamsketch.privacy.mechanisms import planned

    mechanism, memory = loaded.privacy.mechanism, loaded.sketch.memory
    plan = planned(mechanism, memory, loaded.privacy.settings)[1]
    if plan is None:
        return
    settings = plan.settings
    seconds, rows = loaded.snapshots.seconds, loaded.snapshots.rows
    if loaded.windows is not None:
        seconds, rows = loaded.windows.width, None
    made = made_in(loaded.store())
    say(outlook(settings.releases, settings.epochs, made=made, seconds=seconds, rows=rows))


def _judge(loaded: "Pipeline", figures: "Sequence[Mapping[str, Any]]") -> None:
    """Say what was learned and refused, and why; exit with 1 where too little was learned.

    Where a mechanism is on, nothing is said: how many rows came is no public figure.
    """
    from streamsketch.cli.console import say
    from streamsketch.cli.figures import counted

    if loaded.privacy.mechanism != "none":
        return
    rows, stored, dead = (
        sum(f.get(key) or 0 for f in figures) for key in ("rows", "stored", "dead")
    )
    say(f"{counted(rows, 'row')} learned" + (f", {stored:,} in all" if stored > rows else ""))
    if not dead:
        return
    letters = sorted(loaded.store().dead.glob("member-*.jsonl"))
    reasons = _first_reasons(letters)
    why = f", the first because {'; '.join(reasons)}" if reasons else ""
    kept = f"; all are in {', '.join(map(str, letters))}" if letters else ""
    say(f"WARNING: {counted(dead, 'row')} refused{why}{kept}")
    for reason, count in _by_reason(figures):
        say(f"{count:>9,}  {reason}")
    most = loaded.dead_letters.max_share
    if rows == 0 or dead > most * (rows + dead):
        limit = "every row" if rows == 0 else f"more than the share {most:g} of all"
        say(
            f"error: {limit} was refused; correct the schema or the source, then send them through "
            "again with `streamsketch redrive`"
        )
        raise typer.Exit(1)


def _by_reason(figures: "Sequence[Mapping[str, Any]]") -> list[tuple[str, int]]:
    """How many rows were refused for each reason (# for its numbers), where there are several."""
    from collections import Counter

    found: Counter[str] = Counter()
    for one in figures:
        found.update(one.get("reasons") or {})
    return found.most_common(MOST_REASONS) if len(found) > 1 else []


def _first_reasons(letters: "Sequence[Path]") -> list[str]:
    """The first different reasons in files of dead letters, three at most."""
    import json
    from itertools import islice

    found: dict[str, None] = {}
    for path in letters:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in islice(file, 1000):
                try:
                    found[str(json.loads(line).get("reason"))] = None
                except (ValueError, AttributeError):
                    continue
    return list(found)[:3]


def _say_where(loaded: "Pipeline") -> None:
    from streamsketch.cli.console import say
    from streamsketch.cli.figures import counted

    store = loaded.store()
    families = {"snapshot": store.snapshots, "checkpoint": store.checkpoints}
    held = ", ".join(
        counted(len(family.names()), kind)
        + (f" (newest {family.names()[-1]})" if family.names() else "")
        for kind, family in families.items()
    )
    say(f"{store.url}: {held}; look at them with: streamsketch inspect {store.url}")
