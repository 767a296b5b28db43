"""`streamsketch init`: a schema and a pipeline read off a data file, to be reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
# topic = "rows"
# group = "streamsketch"

[sketch]
frequencies = {frequencies: <12}# more frequencies: finer detail, larger snapshots
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
init = "random"           # "mixture": begin as the mixture decoded from the sketch, against dropped modes

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
    rows: Annotated[
        int, typer.Option(min=1, help="Use this many rows at most, spread over the whole file.")
    ] = 500_000,
) -> None:
    """Propose a schema and a pipeline: `streamsketch init data.parquet > pipeline.toml`.

    Reads the data, so what it proposes is not private until you have reviewed it.
    """
    from streamsketch.cli.console import err, read_spread
    from streamsketch.features.frequencies import advised
    from streamsketch.schema import Schema

    table, in_all = read_spread(file, rows)
    schema = Schema.propose(table, label=label)
    name = Path(file.rstrip("/")).stem or "stream"
    text = _TEMPLATE.format(
        file=file,
        rows=table.num_rows,
        frequencies=max(4096, advised(schema.blocks)),
        warning="\n# ".join(_fold(WARNING)),
        path=_quote(_absolute(file)),
        store=_quote(store or f"{name}-store"),
    )
    typer.echo(text + _columns(schema.to_dict()), nl=False)
    console = err()
    console.print(f"[bold yellow]NOT PRIVATE[/]: {WARNING}")
    spread = "" if table.num_rows == in_all else f" of {in_all:,}, spread over the file,"
    console.print(
        f"Proposed {len(schema.columns)} columns (d = {schema.d}) from {table.num_rows:,} rows"
        f"{spread} of {file}."
    )
    if spread:
        console.print("Categories that no row read here has will be refused: add them by hand.")
    derived = [f"{c.name} (from {', '.join(c.keys)})" for c in schema.columns if c.keys]
    if derived:
        console.print(f"Not sketched, as others determine them: {', '.join(derived)}.")
    left = [c.name for c in schema.columns if not c.encoded and not c.keys]
    if left:
        console.print(f"Left out as identifiers, constants or unknown types: {', '.join(left)}.")


def _absolute(file: str) -> str:
    # The pipeline file may be written anywhere, and paths in it start at its own folder.
    return file if "://" in file else str(Path(file).resolve())


def _columns(declared: Mapping[str, Mapping[str, Any]]) -> str:
    """The schema's tables with lists on one line: they are made to be read."""
    lines = []
    for name, keys in declared.items():
        lines.append(f"[schema.{_key(name)}]")
        for key, value in keys.items():
            if key == "table":
                lines += ["table = [", *(f"    {_inline(entry)}," for entry in value), "]"]
            else:
                lines.append(f"{key} = {_inline(value)}")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _inline(value: Any) -> str:
    return f"[{', '.join(map(_quote, value))}]" if isinstance(value, list) else _quote(value)


def _key(name: str) -> str:
    import tomli_w

    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")


def _quote(value: Any) -> str:
    import tomli_w

    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _fold(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 94)
