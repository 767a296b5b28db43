"""`streamsketch serve`: rows over HTTP, and a page that shows how the pipeline is."""

from typing import Annotated

import typer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAST_TOKEN = 16


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(serve)


def serve(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Store or pipeline file.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8765,
    most: Annotated[
        int, typer.Option(min=1, help="Rows of one request, at most.")
    ] = 1_000_000_000,
    token_file: Annotated[
        str | None,
        typer.Option(
            envvar="STREAMSKETCH_TOKEN_FILE",
            help="File with the token that requests must send; required for other hosts.",
        ),
    ] = None,
) -> None:
    """A live page at /, rows of the newest checkpoint at /sample?n=10, metrics at /metrics.

    /docs tells of all addresses. From other machines a token is required: open /?token=TOKEN.
    """
    from streamsketch.errors import ConfigError

    try:
        import uvicorn  # noqa: F401  # the server that the page runs on

        from streamsketch import dashboard
    except ModuleNotFoundError as error:
        msg = (
            f"serve needs the package {error.name!r}: install it with "
            "`pip install 'streamsketch[serve]'`"
        )
        raise ConfigError(msg) from error
    from streamsketch.cli.console import say
    from streamsketch.run.named import open_store

    token = None if token_file is None else _token(token_file)
    if host not in LOOPBACK and token is None:
        msg = (
            f"--host {host} is open to other machines, so requests need a token: give --token-file"
        )
        raise ConfigError(msg)
    opened = open_store(store)
    _yield_to_consumers()
    say(f"http://{host}:{port}  (Ctrl-C ends)")
    dashboard.serve(opened, host, port, most, token)


def _token(path: str) -> str:
    from pathlib import Path

    from streamsketch.errors import ConfigError

    try:
        token = Path(path).read_text().strip()
    except OSError as e:
        msg = f"cannot read the token file {path}: {e.strerror}"
        raise ConfigError(msg) from None
    if len(token) < LEAST_TOKEN:
        msg = (
            f"the token in {path} has {len(token)} characters; it must have at least {LEAST_TOKEN}"
        )
        raise ConfigError(msg)
    return token


def _yield_to_consumers() -> None:
    """Whoever looks on comes after whoever works."""
    import os

    if hasattr(os, "nice"):
        os.nice(10)
