"""`streamsketch sample`: draw rows from the newest checkpoint of a store."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.sampler import Sampler


Target = Literal["data", "generator", "latent"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(sample)


def sample(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="Store folder or URL, pipeline file, or checkpoint; or package.module:name, a "
            "decoder of your own (streamsketch.generator.Decoder), or a function that makes one.",
        ),
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Rows to draw.")] = 1000,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Parquet, Arrow, CSV or JSON-lines file; kafka://host:port/topic; - for JSON "
            "lines on standard output.",
        ),
    ] = "-",
    iid: Annotated[
        bool, typer.Option("--iid", help="Independent draws: pay no heed to earlier ones.")
    ] = False,
    label: Annotated[
        str | None, typer.Option(help="Only rows with this value of the label column.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only rows that meet it: COL=VALUE, COL=A|B, COL=LOW..HIGH, COL>=LOW, COL<=HIGH, "
            "'COL is null'; may be repeated. Independent draws.",
        ),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(help="What all draws together should match."),
    ] = "data",
    unique: Annotated[bool, typer.Option("--unique", help="Never issue a row twice.")] = False,
    history: Annotated[
        str | None, typer.Option(help="History file; the store's own by default.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Neither read nor write a history.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    report: Annotated[
        str | None,
        typer.Option(metavar="PNG", help="Print diversity scores, and draw the rows here."),
    ] = None,
) -> None:
    """Draw new rows that differ from those drawn before: the history is kept between calls."""
    from streamsketch.cli.console import say
    from streamsketch.cli.progress import bar
    from streamsketch.cli.rows import write_rows
    from streamsketch.run.named import has_history, history_path, open_generator
    from streamsketch.sampler import Sampler
    from streamsketch.schema.conditions import label_value
    from streamsketch.verdict import verdict

    name, generator = open_generator(store)
    good, said = verdict(getattr(generator, "metrics", {}))
    if not good:
        say(f"WARNING: {name} is no good generator: {said}")
    if where:
        _sample_where(name, generator, count, seed, label, where, output)
        return
    if iid or forget:
        history = None
    elif history is None and has_history(store):
        history = history_path(store)
    drawer = Sampler(
        generator,
        target=target,
        history=history,
        seed=seed,
        method="iid" if iid else "history",
        unique=unique,
        label=label_value(label, generator.schema),
    )
    with bar(f"drawing {count:,} rows") as update:
        rows = drawer.sample(count, lambda have: update(have / count, f"{have:,} of {count:,}"))
    write_rows(rows, output)
    if report is not None:
        _report(drawer, rows, report)
    how = "independent draws" if iid else f"history {history}" if history else "no history"
    say(f"{count} rows from {name} to {output} ({how})")


def _sample_where(
    name: str,
    generator: Any,
    count: int,
    seed: int,
    label: str | None,
    texts: list[str],
    output: str,
) -> None:
    """Independent draws under conditions: no history is read or written."""
    from streamsketch.cli.console import say
    from streamsketch.cli.rows import write_rows
    from streamsketch.schema.conditions import label_value, parse

    where = parse(texts, generator.schema)
    rows = generator.sample(
        count, seed=seed, label=label_value(label, generator.schema), where=where
    )
    write_rows(rows, output)
    say(f"{count} rows from {name} to {output} (where {' and '.join(texts)}; independent draws)")


def _report(drawer: "Sampler", rows: "pa.Table", path: str) -> None:
    """Scores to standard error, beside those of as many independent draws; the picture to a file."""
    from pathlib import Path

    from rich.table import Table

    from streamsketch.cli.console import err
    from streamsketch.sampler import sampling_report
    from streamsketch.storage.files import write_atomic

    found = sampling_report(drawer, rows)
    table = Table(title=f"{rows.num_rows} rows against {found.reference}; {found.outputs} in all")
    for name in ("score", "these rows", "independent draws"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, pair in found.scores.items():
        table.add_row(name, *(f"{value:.4g}" for value in pair))
    err().print(table)
    write_atomic(Path(path), found.picture)
