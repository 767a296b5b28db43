"""The web application: a page, its data, metrics for Prometheus, and rows."""

import io
import json
import re
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import fastapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from streamsketch._version import __version__
from streamsketch.cli.inspect import facts_of
from streamsketch.dashboard.page import PAGE
from streamsketch.errors import ConfigError, StoreError, StreamSketchError

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.generator import Generator
    from streamsketch.storage.store import Store

__all__ = ["make_app"]

Format = Literal["json", "jsonl", "csv", "arrow", "parquet"]


class Newest:
    """The newest checkpoint of a store, loaded again only when there is another one.

    Args:
        store: The store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._name = ""
        self._generator: Generator | None = None
        # One drawing at a time: torch uses all cores for it anyway.
        self._turn = threading.Lock()

    def draw(self, n: int, seed: int, label: str | None) -> "tuple[str, pa.Table]":
        """Draw rows; returns the checkpoint's name and the rows.

        Raises:
            StoreError: There is no checkpoint yet.
            ConfigError: There is no such label.
        """
        from streamsketch.cli.sample import label_value
        from streamsketch.generator import Generator

        with self._turn:
            names = self._store.checkpoints.names()
            if self._generator is None or names[-1:] != [self._name]:
                newest = self._store.checkpoints.newest(Generator.from_bytes)
                if newest is None:
                    raise StoreError(
                        f"the store {self._store.url} has no checkpoint yet; train one with "
                        "`streamsketch train`"
                    )
                self._name, self._generator = newest
            value = label_value(self._generator, label)
            return self._name, self._generator.sample(n, seed=seed, label=value)


def make_app(store: "Store", most: int = 100_000) -> fastapi.FastAPI:
    """The application over one store.

    It listens where it is told to (`streamsketch serve`: this machine only) and knows no users:
    put it behind a proxy that does before others can reach it.

    Args:
        store: The store; its secret state is not read, but for the processes' statuses.
        most: Rows of one request, at most.
    """
    app = fastapi.FastAPI(title="streamsketch", version=__version__)
    newest = Newest(store)

    @app.exception_handler(StreamSketchError)
    def told(request: fastapi.Request, error: StreamSketchError) -> JSONResponse:
        code = 400 if isinstance(error, ConfigError) else 503
        return JSONResponse({"error": str(error)}, code)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        # Nothing from elsewhere runs on the page, whatever names a stream's columns have.
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": policy})

    @app.get("/status")
    def status() -> dict[str, Any]:
        """Snapshots, checkpoints and processes, newest first."""
        return facts_of(store.url, newest=50)

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> str:
        """Figures in the text format of Prometheus."""
        return metrics_text(facts_of(store.url, newest=1))

    @app.get("/sample")
    def sample(
        n: Annotated[int, fastapi.Query(ge=0, le=most)] = 10,
        label: str | None = None,
        seed: Annotated[int | None, fastapi.Query(ge=0, lt=2**63)] = None,
        format: Format = "json",
    ) -> Response:
        """Independent draws of the newest checkpoint; the same seed gives the same rows."""
        used = secrets.randbits(32) if seed is None else seed
        name, table = newest.draw(n, used, label)
        kind, write = WRITERS[format]
        headers = {"X-Checkpoint": name, "X-Seed": str(used)}
        return Response(write(table), media_type=kind, headers=headers)

    return app


def metrics_text(facts: dict[str, Any]) -> str:
    """Figures of `facts_of` in the text format of Prometheus.

    >>> facts = {"snapshots_in_all": 2, "checkpoints_in_all": 0, "snapshots": [],
    ...          "processes": [{"name": "consumer-0", "rows": 7, "phase": "running"}]}
    >>> print(metrics_text(facts), end="")
    streamsketch_snapshots 2
    streamsketch_checkpoints 0
    streamsketch_process_rows{process="consumer-0"} 7
    """
    lines = [
        f"streamsketch_snapshots {facts['snapshots_in_all']}",
        f"streamsketch_checkpoints {facts['checkpoints_in_all']}",
    ]
    for snapshot in facts["snapshots"]:
        for key in ("rows", "moved", "epsilon"):
            if key in snapshot:
                lines.append(f"streamsketch_snapshot_{key} {snapshot[key]}")
    for process in facts["processes"]:
        for key, value in process.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                name = re.sub(r"\W", "_", key)
                lines.append(
                    f"streamsketch_process_{name}{{process={json.dumps(process['name'])}}} {value}"
                )
    return "\n".join(lines) + "\n"


def _json(table: "pa.Table") -> bytes:
    return json.dumps(table.to_pylist(), default=str).encode()


def _lines(table: "pa.Table") -> bytes:
    return "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()).encode()


def _csv(table: "pa.Table") -> bytes:
    from pyarrow import csv

    out = io.BytesIO()
    csv.write_csv(table, out)
    return out.getvalue()


def _arrow(table: "pa.Table") -> bytes:
    import pyarrow as pa

    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def _parquet(table: "pa.Table") -> bytes:
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


WRITERS: dict[str, tuple[str, Callable[["pa.Table"], bytes]]] = {
    "json": ("application/json", _json),
    "jsonl": ("application/x-ndjson", _lines),
    "csv": ("text/csv", _csv),
    "arrow": ("application/vnd.apache.arrow.stream", _arrow),
    "parquet": ("application/vnd.apache.parquet", _parquet),
}
