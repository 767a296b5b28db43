"""The live page of a store, and rows over HTTP. It reads released files and statuses only."""

from typing import TYPE_CHECKING

import uvicorn

from streamsketch.dashboard.app import make_app
from streamsketch.dashboard.guard import HERE
from streamsketch.dashboard.server import config

if TYPE_CHECKING:
    from streamsketch.storage.store import Store

__all__ = ["make_app", "serve"]


def serve(store: "Store", host: str, port: int, most: int, token: str | None) -> None:
    """Serve a store until a signal ends it.

    Args:
        store: The store.
        host: Address to listen on.
        port: Port.
        most: Rows of one request, at most.
        token: What requests must know; None for none. With one, any name of this machine will do:
            a name that points here from elsewhere gains nothing.
    """
    app = make_app(store, most, HERE if token is None else (), token)
    uvicorn.Server(config(app, host, port)).run()
