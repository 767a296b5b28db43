"""`streamsketch sample`: draw rows from the newest checkpoint of a store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.latent import LatentModel
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
    from streamsketch.sampler import Sampler
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
    elif history is None and not _is_file(store) and not _is_object(store):
        history = history_path(store)
    drawer = Sampler(
        generator,
        target=target,
        history=history,
        seed=seed,
        method="iid" if iid else "history",
        unique=unique,
        label=label_value(generator, label),
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
    from streamsketch.schema.conditions import parse

    where = parse(texts, generator.schema)
    rows = generator.sample(count, seed=seed, label=label_value(generator, label), where=where)
    write_rows(rows, output)
    say(f"{count} rows from {name} to {output} (where {' and '.join(texts)}; independent draws)")


def _report(drawer: Sampler, rows: pa.Table, path: str) -> None:
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


def open_generator(store: str) -> tuple[str, LatentModel]:
    """The newest sound checkpoint of a store, the one in a file, or a decoder of the user's own.

    Raises:
        StoreError: there is none.
        ConfigError: what a package's name stands for is no latent model.
    """
    from streamsketch.cli.console import open_store
    from streamsketch.errors import StoreError
    from streamsketch.generator import Generator

    if _is_object(store):
        return store, imported(store)
    if _is_file(store):
        return store, Generator.load(store)
    opened = open_store(store)
    newest = opened.checkpoints.newest(Generator.from_bytes)
    if newest is None:
        msg = f"The store {opened.url} has no checkpoint yet; train one with `streamsketch train`."
        raise StoreError(msg)
    return newest


def _is_object(store: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", store) is not None


def imported(name: str) -> LatentModel:
    """The latent model that `package.module:name` is, or makes when called; the folder counts.

    Raises:
        ConfigError: there is no such name, or it is something else.
    """
    import sys
    from importlib import import_module

    from streamsketch.errors import ConfigError

    module, attribute = name.split(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        msg = f"{name} cannot be imported ({e}); name a module on the path and what is in it"
        raise ConfigError(msg) from None
    model = found() if callable(found) and not hasattr(found, "decode_latent") else found
    if not hasattr(model, "decode_latent"):
        msg = f"{name} is a {type(model).__name__}; give a streamsketch.generator.Decoder"
        raise ConfigError(msg)
    decoder: LatentModel = model
    return decoder


def _is_file(store: str) -> bool:
    return store.endswith(".safetensors")


def history_path(store: str) -> str:
    """The history that the pipeline's own sampler keeps: no row is drawn twice by either."""
    if _is_file(store):
        return store
    from streamsketch.cli.console import open_store

    return str(open_store(store).history)


def label_value(generator: LatentModel, text: str | None) -> Any:
    """The declared value that a text stands for: labels may be numbers or booleans.

    Raises:
        ConfigError: there is no such label.
    """
    from streamsketch.errors import ConfigError

    if text is None:
        return None
    # null is no text: it is asked for with --where 'COL is null'
    classes = (value for value in generator.schema.label_classes if value is not None)
    by_text = {str(value): value for value in classes}
    if text not in by_text:
        known = (
            f"its values are {', '.join(by_text)}" if by_text else "the schema has no label column"
        )
        msg = f"There are no rows of label {text!r} to draw: {known}."
        raise ConfigError(msg)
    return by_text[text]
