"""`streamsketch serve`: rows over HTTP, and a page that shows how the pipeline is."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(serve)


def serve(
    store: Annotated[str, typer.Argument(metavar="STORE", help="Store or pipeline file.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port.")] = 8765,
    most: Annotated[int, typer.Option(min=1, help="Rows of one request, at most.")] = 100_000,
) -> None:
    """A live page at /, and rows of the newest checkpoint at /sample?n=10 (JSON, CSV, Arrow)."""
    from streamsketch.errors import ConfigError

    try:
        import uvicorn

        from streamsketch.dashboard import make_app
    except ModuleNotFoundError as error:
        msg = (
            f"serve needs the package {error.name!r}: install it with "
            "`pip install 'streamsketch[serve]'`."
        )
        raise ConfigError(msg) from error
    from streamsketch.cli.console import open_store, say

    app = make_app(open_store(store), most=most)
    say(f"http://{host}:{port}  (Ctrl-C ends)")
    uvicorn.run(app, host=host, port=port, log_level="warning")
