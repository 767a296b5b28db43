"""`streamsketch history`: what a sampler issued; fork, merge, reset and restore its memory."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(history)


def history(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="Store, pipeline file, or history file.")
    ],
    fork: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Copy it for a sampler that goes its own way."),
    ] = None,
    merge: Annotated[
        str | None, typer.Option(metavar="FILE", help="Take up what another history issued.")
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Forget all; --restore takes it back once.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Go back to the file before the last change.")
    ] = False,
) -> None:
    """Show what was drawn so far, by which generators; or change the memory of it."""
    from streamsketch.cli.console import print_json, say
    from streamsketch.errors import ConfigError
    from streamsketch.run.named import history_path
    from streamsketch.sampler import History
    from streamsketch.sampler.history import locked

    path = Path(history_path(store))
    if sum((fork is not None, merge is not None, reset, restore)) > 1:
        msg = "Expected one of --fork, --merge, --reset and --restore; call once for each"
        raise ConfigError(msg)
    if reset:
        History.reset(path)
    elif restore:
        History.restore(path)
    elif fork is not None:
        if Path(fork).exists():
            msg = f"{fork} exists already; a fork would overwrite it, name a new file"
            raise ConfigError(msg)
        History.load(path).fork().save(fork)
        say(f"forked to {fork}; take its draws back with --merge {fork}")
    elif merge is not None:
        with locked(path):
            History.load(path).merge(History.load(merge)).save(path)
    print_json(History.load(path).inspect())
