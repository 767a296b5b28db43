"""`streamsketch init`: a schema and a pipeline read off a data file, to be reviewed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamsketch.errors import ConfigError
from streamsketch.plain import plain

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.features.cells import CellLayout
    from streamsketch.features.pilot import Advice
    from streamsketch.schema import Schema
    from streamsketch.schema.propose import Proposal

CHECK_SECONDS = 60.0  # of reading all rows as consume will

WARNING = (
    "This read the data: bounds, knots and categories below come from its rows and are NOT "
    "private. Review them, and before private use replace them by limits that are public knowledge."
)

TABLE_FREQUENCIES = (
    1024  # of a table whose cells are counted: they validate, follow drift, guide the sampler
)

_TEMPLATE = """\
# A pipeline proposed by `streamsketch init {file}` from {rows} rows.
#
# {warning}

[source]
type = "files"            # or "kafka", "arrow", "flight"
{source}
# For Kafka instead:
# type = "kafka"
# bootstrap_servers = "localhost:9092"
# topic = "rows"
# group = "streamsketch"

[sketch]
{sketch}law = "multiscale"
seed = 0                  # sketches merge only where law, scale and seed agree
memory = "landmark"       # or "tumbling", "decayed:0.99", "sliding:24"
{last}
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
    delimiter: Annotated[
        str | None, typer.Option(help="CSV: between values; found by itself if not given.")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Text: such as utf-8 or cp1252; found by itself.")
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(help="CSV: a text that means missing in every column; may be repeated."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="COL=TYPE", help="The Arrow type of a column: zip=string."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="A column to leave out.")
    ] = None,
    unwrap: Annotated[
        str | None,
        typer.Option(help="JSON: the field that holds the row, such as after or payload.after."),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="COL", help="A column that names the row or a thing."),
    ] = None,
) -> None:
    """Propose a schema and a pipeline: `streamsketch init data.parquet > pipeline.toml`.

    Reads the data, so what it proposes is not private until you have reviewed it. Every row is
    then read as `consume` will read it, and what it would refuse is told.
    """
    from streamsketch.ingest.streams import plugin
    from streamsketch.schema import Schema
    from streamsketch.schema.propose import proposal

    tables = plugin("tables", "files")
    asked: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding, "unwrap": unwrap}
    asked["null_values"] = ["", *null] if null else None
    asked = {key: value for key, value in asked.items() if value is not None}
    found = tables.survey(file, rows, asked, _pairs(types or []))
    proposed = proposal(found.table, label, ids or [], ignore or [])
    schema = Schema(proposed.columns)
    name = Path(file.rstrip("/")).stem or "stream"
    settings = {**found.settings, "path": _absolute(found.settings["path"])}
    sketch, last, size = _sketch(schema, found.table)
    text = _TEMPLATE.format(
        file=plain(file),
        rows=found.table.num_rows,
        sketch=sketch,
        last=last,
        warning="\n# ".join(_fold(WARNING)),
        source="\n".join(f"{key} = {_inline(value)}" for key, value in settings.items()),
        store=_quote(store or f"{name}-store"),
    )
    typer.echo(text + _columns(schema.to_dict()), nl=False)
    _tell(file, found, proposed, schema, size, set(asked))
    _try(tables, settings, schema)


def _sketch(schema: "Schema", table: "pa.Table") -> tuple[str, str, int]:
    """First and last lines of [sketch], and a table's bytes in a snapshot (0 for others)."""
    from streamsketch.features.cells import suits
    from streamsketch.features.frequencies import advised
    from streamsketch.features.pilot import advise

    def lines(frequencies: int) -> str:
        return (
            f"frequencies = {frequencies: <12}# more frequencies: finer detail, larger snapshots\n"
        )

    if not suits(schema):
        last = (
            "conditional = false       # true: one block per label value, to sample with --label\n"
        )
        return lines(max(4096, advised(schema.blocks))), last, 0
    advice = advise(schema, table)
    cells, layout = _cells(schema, advice)
    size = 8 * (layout.size + 2 * TABLE_FREQUENCIES)
    return cells + lines(TABLE_FREQUENCIES), _partners(advice), size


def _tell(
    file: str, found: Any, proposed: "Proposal", schema: "Schema", size: int, asked: set[str]
) -> None:
    """Say what was found in the data, what was chosen and what was left out."""
    from streamsketch.cli.console import err, say

    err().print(f"[bold yellow]NOT PRIVATE[/]: {WARNING}")
    whole = found.table.num_rows == found.rows
    spread = "" if whole else f" of {found.rows:,}, spread over the file,"
    say(
        f"Proposed {len(schema.columns)} columns (d = {schema.d}) from {found.table.num_rows:,} rows"
        f"{spread} of {plain(file)}."
    )
    if size:
        say(f"A snapshot will have {size / 1000:,.0f} kB, however many rows come.")
    chosen = {k: v for k, v in found.settings.items() if k != "path" and k not in asked}
    if chosen:
        say("Read with " + ", ".join(f"{k} = {_inline(v)}" for k, v in chosen.items()) + ".")
    derived = [f"{c.name} (from {', '.join(c.keys)})" for c in schema.columns if c.keys]
    if derived:
        say(plain(f"Not sketched, as others determine them: {', '.join(derived)}."))
    for column, reason in {**found.left_out, **proposed.left_out}.items():
        say(plain(f"Left out: {column}: {reason}."))
    for note in (*found.notes, *proposed.notes):
        say(plain(note))


def _try(tables: Any, settings: dict[str, Any], schema: "Schema") -> None:
    """Read the rows as `consume` will, and say what it would refuse."""
    from streamsketch.cli.console import say, working

    with working("Reading every row as consume will"):
        looked, refused, whole = tables.admitted(settings, schema, CHECK_SECONDS)
    if refused:
        reasons = "; ".join(f"{count:,} because {why}" for why, count in refused.most_common(3))
        say(f"WARNING: of {looked:,} rows consume will refuse {refused.total():,}: {reasons}.")
    elif not whole:
        say(f"The first {looked:,} rows are all admitted; the others were not tried.")


def _cells(schema: "Schema", advice: "Advice") -> "tuple[str, CellLayout]":
    """Lines of [sketch] that say what is counted, and its layout."""
    from streamsketch.features.cells import layout_of, pairs_of

    pairs = pairs_of(advice.partners) or None
    layout = layout_of(schema, advice.middle, advice.coarse, advice.triples, pairs)
    what = f"{layout.size:,} counts of values and {len(layout.pairs):,} pairs of columns, for the generator of tables"
    lines = [f"{'cells = true': <26}# {what}"]
    if advice.triples:
        lines.append(
            f"{f'coarse = {advice.coarse}': <26}# and in triples, where pairs do not tell all"
        )
        lines += ["triples = [", *(f"  {_inline(list(t))}," for t in advice.triples), "]"]
    return "".join(f"{line}\n" for line in lines), layout


def _partners(advice: "Advice") -> str:
    """The table of each column's strongest partners, where not all pairs are counted."""
    if not advice.partners:
        return ""
    lines = [f"{_quote(name)} = {_inline(list(near))}" for name, near in advice.partners.items()]
    return "\n".join(["\n[sketch.partners]       # the pairs that are counted", *lines, ""])


def _pairs(texts: list[str]) -> dict[str, str]:
    """Columns and their types of `COL=TYPE`."""
    found = {}
    for text in texts:
        name, sign, kind = text.rpartition("=")
        if not (name and sign and kind):
            msg = f"--type {text!r} is not COL=TYPE, such as zip=string"
            raise ConfigError(msg)
        found[name] = kind
    return found


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
