"""`streamsketch sample`: draw rows from the newest checkpoint of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streamsketch.generator import Generator


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(sample)


def sample(
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="Store folder or URL, pipeline file, or checkpoint."),
    ],
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Rows to draw.")] = 1000,
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", help="Parquet, Arrow, CSV or JSON-lines file; - for JSON lines."
        ),
    ] = "-",
    iid: Annotated[
        bool, typer.Option("--iid", help="Independent draws: pay no heed to earlier ones.")
    ] = False,
    label: Annotated[
        str | None, typer.Option(help="Only rows with this value of the label column.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="What all draws together should match: data, generator or latent."),
    ] = "data",
    history: Annotated[
        str | None, typer.Option(help="History file; the store's own by default.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Neither read nor write a history.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Draw new rows that differ from those drawn before: the history is kept between calls."""
    from streamsketch.cli.console import say
    from streamsketch.cli.rows import write_rows

    name, generator = open_generator(store)
    if iid or forget or _is_file(store):
        history = history if not (iid or forget) else None
    elif history is None:
        history = _history(store)
    value = _label(generator, label)
    if iid:
        table = generator.sample(count, seed=seed, label=value)
    else:
        from streamsketch.sampler import Sampler

        drawer = Sampler(generator, target=target, history=history, seed=seed)
        table = drawer.sample(count) if value is None else drawer.sample(count, label=value)
    write_rows(table, output)
    how = "independent" if iid else f"history {history}" if history else "no history"
    say(f"{table.num_rows} rows from {name} ({how}) to {output}")


def open_generator(store: str) -> tuple[str, Generator]:
    """The newest sound checkpoint of a store, or the one in a file.

    Raises:
        StoreError: there is none.
    """
    from streamsketch.cli.console import open_store
    from streamsketch.errors import StoreError
    from streamsketch.generator import Generator

    if _is_file(store):
        return store, Generator.load(store)
    opened = open_store(store)
    newest = opened.checkpoints.newest(Generator.from_bytes)
    if newest is None:
        msg = f"The store {opened.url} has no checkpoint yet; train one with `streamsketch train`."
        raise StoreError(msg)
    return newest


def _is_file(store: str) -> bool:
    return store.endswith(".safetensors")


def _history(store: str) -> str:
    """The history that the pipeline's own sampler keeps: no row is drawn twice by either."""
    from streamsketch.cli.console import open_store

    opened = open_store(store)
    name = "history.safetensors"
    return opened.path(f"history/{name}") if opened.local else str(opened.state_dir / name)


def _label(generator: Generator, text: str | None) -> Any:
    """The declared value that the text stands for: labels may be numbers or booleans."""
    if text is None:
        return None
    by_text = {str(value): value for value in generator.schema.label_classes}
    return by_text.get(text, text)
