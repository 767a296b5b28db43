"""`streamsketch evaluate`: synthetic rows against held-out real ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamsketch.schema import Schema


Card = dict[str, dict[str, str]]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(evaluate)


def evaluate(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Store, pipeline file, checkpoint, or a file of synthetic rows."
        ),
    ],
    against: Annotated[str, typer.Option(help="Held-out real rows: a file or a folder.")],
    train: Annotated[
        str | None,
        typer.Option(
            help="The rows that were learned, for the anchors and to look for copies; else the "
            "held-out rows are split."
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option("-n", "--rows", min=30, help="Rows of each kind, at most.")
    ] = 20_000,
    label: Annotated[
        str | None, typer.Option(help="The column that TSTR predicts; the schema's by default.")
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(help="Folder for report.html, pictures and scores.json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Scores as JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of draws, splits and classifiers.")] = 0,
) -> None:
    """Numbers and an HTML report, always between two anchors.

    The floor is the real rows with each column shuffled on its own, the ceiling is other real
    rows. The synthetic rows are independent draws.
    """
    from streamsketch.cli.console import out, print_json, read_table, say, working
    from streamsketch.evaluate import evaluate as measure
    from streamsketch.evaluate.report import verdict, write_report

    synthetic, about, declared, categorical, schema, card = _synthetic(store, rows, seed)
    held = read_table(against, schema)
    other = read_table(train, schema) if train is not None else None
    label = label or declared
    with working(f"Measuring {min(rows, synthetic.num_rows):,} synthetic rows"):
        found = measure(
            synthetic,
            held,
            train=other,
            label=label,
            categorical=categorical,
            seed=seed,
            rows=rows,
        )
        folder = report or _report_folder(store)
        page = (
            write_report(folder, synthetic, held, found, about=about, card=card)
            if folder
            else None
        )
    if as_json:
        print_json({**found.to_dict(), "about": about})
    else:
        out().print(found.table())
    say(verdict(found))
    if page is not None:
        say(f"report: {page}")


def _synthetic(
    store: str, rows: int, seed: int
) -> "tuple[Any, dict[str, str], str | None, tuple[str, ...], Schema | None, Card]":
    """Synthetic rows, facts for the report, the schema's label, categories, the schema, the model card."""
    from streamsketch.cli.console import is_rows, read_table
    from streamsketch.evaluate.card import model_card
    from streamsketch.run.named import open_generator
    from streamsketch.verdict import verdict

    if is_rows(store):
        return read_table(store), {"synthetic rows from": store}, None, (), None, {}
    name, generator = open_generator(store)
    schema = generator.schema
    about = {"checkpoint": name, "generator": repr(generator)}
    if generator.snapshot is not None:
        from streamsketch.privacy.report import explain

        about["snapshot"] = repr(generator.snapshot)
        about["privacy"] = explain(generator.snapshot)
    categorical = tuple(c.name for c in schema.columns if c.encoded and c.categorical)
    label = schema.label.name if schema.label is not None else None
    card = model_card(generator.snapshot, generator.metrics, verdict(generator.metrics)[1])
    return generator.sample(rows, seed=seed), about, label, categorical, schema, card


def _report_folder(store: str) -> str | None:
    """In the store where it is a local folder; nowhere for a single file."""
    from streamsketch.cli.console import is_rows
    from streamsketch.run.named import open_store

    if is_rows(store) or store.endswith(".safetensors"):
        return None
    opened = open_store(store)
    return str(Path(opened.root) / "reports") if opened.local else None
