"""`streamsketch init`: a schema and a pipeline read off a data file, to be reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WARNING = (
    "This read the data: bounds, knots and categories below come from its rows and are NOT "
    "private. Review them, and before private use replace them by limits that are public knowledge."
)

_TEMPLATE = """\
# A pipeline proposed by `streamsketch init {file}` from {rows} rows.
#
# {warning}

[source]
type = "files"            # or "kafka", "arrow", "flight"
path = {path}
# For Kafka instead:
# type = "kafka"
# bootstrap_servers = "localhost:9092"
# topics = ["rows"]
# group_id = "streamsketch"

[sketch]
frequencies = 4096        # more frequencies: finer detail, larger snapshots
law = "multiscale"
seed = 0                  # sketches merge only where law, scale and seed agree
memory = "landmark"       # or "tumbling", "decayed:0.99", "sliding:24"
conditional = false       # true: one block per label value, to sample with --label

[privacy]
mechanism = "none"        # written into every snapshot; see docs/privacy.md for the others

[snapshots]
seconds = 10.0            # release this often
keep = 100

[trainer]
seconds = 60.0            # of training for each checkpoint

[sampler]
rows = 1000               # drawn from each new checkpoint; 0 for none
method = "history"        # avoids what was drawn before; "iid" for independent draws

[store]
path = {store}

"""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="init")(init)


def init(
    file: Annotated[
        str, typer.Argument(help="Parquet, CSV, JSON-lines or Arrow file, or a folder of them.")
    ],
    label: Annotated[
        str | None, typer.Option(help="A column to condition on and to predict.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Where snapshots will go.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Read this many rows at most.")] = 200_000,
) -> None:
    """Propose a schema and a pipeline: `streamsketch init data.parquet > pipeline.toml`.

    Reads the data, so what it proposes is not private until you have reviewed it.
    """
    from streamsketch.cli.console import err, read_table
    from streamsketch.schema import Schema

    table = read_table(file, rows)
    schema = Schema.propose(table, label=label)
    name = Path(file.rstrip("/")).stem or "stream"
    text = _TEMPLATE.format(
        file=file,
        rows=table.num_rows,
        warning="\n# ".join(_fold(WARNING)),
        path=_quote(_absolute(file)),
        store=_quote(store or f"{name}-store"),
    )
    typer.echo(text + schema.to_toml(), nl=False)
    console = err()
    console.print(f"[bold yellow]NOT PRIVATE[/]: {WARNING}")
    console.print(
        f"Proposed {len(schema.columns)} columns (d = {schema.d}) from {table.num_rows:,} rows of "
        f"{file}."
    )
    left = [c.name for c in schema.columns if not c.encoded]
    if left:
        console.print(f"Left out as identifiers, constants or unknown types: {', '.join(left)}.")


def _absolute(file: str) -> str:
    # The pipeline file may be written anywhere, and paths in it start at its own folder.
    return file if "://" in file else str(Path(file).resolve())


def _quote(text: str) -> str:
    import tomli_w

    return tomli_w.dumps({"x": text}).removeprefix("x = ").strip()


def _fold(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 94)
