"""The web application: the page, its figures as they change, metrics for Prometheus, and rows."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from streamsketch._version import __version__
from streamsketch.dashboard.facts import Facts, finite
from streamsketch.dashboard.guard import HERE, Guard
from streamsketch.dashboard.laws import Laws
from streamsketch.dashboard.metrics import metrics_text
from streamsketch.dashboard.rows import FORMATS, Format, Newest, encoded
from streamsketch.errors import ConfigError, DataError, StoreError, StreamSketchError
from streamsketch.run.facts import facts_of
from streamsketch.verdict import verdict

if TYPE_CHECKING:
    from streamsketch.storage.store import Store

__all__ = ["make_app"]

T = TypeVar("T")
STATIC = Path(__file__).parent / "static"
FILES = {
    "page.css": "text/css", "uplot.css": "text/css", "page.js": "text/javascript",
    "charts.js": "text/javascript", "docs.js": "text/javascript", "uplot.js": "text/javascript",
}  # fmt: skip
MOST_READERS = 200  # of the figures as they change
BEAT_SECONDS = 1.0


class Problem(BaseModel):
    """What went wrong."""

    error: str


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The arguments do not fit the store's schema"},
    401: {"model": Problem, "description": "A token is required"},
    421: {"model": Problem, "description": "The Host header names another machine"},
    422: {"model": Problem, "description": "An argument is unknown, given twice, or out of range"},
    503: {"model": Problem, "description": "The store does not hold it yet, or cannot be read"},
}


def make_app(
    store: "Store",
    most: int = 1_000_000_000,
    hosts: Collection[str] = HERE,
    token: str | None = None,
) -> fastapi.FastAPI:
    """The application over one store.

    Args:
        store: The store; its secret state is not read, but for the processes' statuses.
        most: Rows of one request, at most.
        hosts: Names under which it may be asked; all where empty.
        token: What a request must know; None for no token.
    """
    app = fastapi.FastAPI(title="streamsketch", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, hosts=hosts, token=token)
    _errors(app, store)
    facts, newest = Facts(store), Newest(store)
    # Looking never waits for drawing; and neither takes more threads than it needs.
    look, draw = _Worker(1), _Worker(4)
    _page(app)
    _figures(app, store, facts, look)
    _laws(app, Laws(store, newest), draw)
    _rows(app, newest, draw, most)
    _readiness(app, store, look)
    return app


class _Worker:
    """A few threads for one kind of work."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    async def __call__(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def each(self, items: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Items of an iterator, each made when the one before was sent."""
        try:
            while (item := await self(lambda: next(items, None))) is not None:
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                await self(close)


def _errors(app: fastapi.FastAPI, store: "Store") -> None:
    name = store.root.rsplit("/", 1)[-1]

    @app.exception_handler(StreamSketchError)
    def told(request: fastapi.Request, error: StreamSketchError) -> JSONResponse:
        code = 400 if isinstance(error, ConfigError | DataError) else 503
        text = str(error).replace(store.url, name).replace(store.root, name)
        return JSONResponse({"error": text}, code)

    @app.exception_handler(RequestValidationError)
    def refused(request: fastapi.Request, error: RequestValidationError) -> JSONResponse:
        texts = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
        return JSONResponse({"error": "; ".join(texts)}, 422)


def _known(request: fastapi.Request) -> None:
    """Refuse arguments that the route does not know, and those given twice."""
    dependant = request.scope["route"].dependant
    lists = {p.name for p in dependant.query_params if "list" in str(p.field_info.annotation)}
    names = {p.name for p in dependant.query_params}
    seen: set[str] = set()
    for key, _ in request.query_params.multi_items():
        if key not in names or (key in seen and key not in lists):
            why = "is given twice" if key in seen else "is unknown"
            known = f"; known are {', '.join(sorted(names))}" if names else "; there are none here"
            raise RequestValidationError([{"loc": ("query", key[:80]), "msg": f"{why}{known}"}])
        seen.add(key)


KNOWN = [fastapi.Depends(_known)]


def _page(app: fastapi.FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return Response((STATIC / "page.html").read_bytes(), media_type="text/html")

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return Response((STATIC / "docs.html").read_bytes(), media_type="text/html")

    @app.get("/static/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        if name not in FILES:
            return JSONResponse({"error": "there is no such file"}, 404)
        return Response((STATIC / name).read_bytes(), media_type=FILES[name])


def _figures(app: fastapi.FastAPI, store: "Store", facts: Facts, look: _Worker) -> None:
    readers = 0

    @app.get("/status", dependencies=KNOWN, responses=ERRORS)
    async def status() -> dict[str, Any]:
        """Snapshots, checkpoints and processes, newest first, as `streamsketch inspect --json`."""
        found: dict[str, Any] = await look(lambda: finite(facts_of(store, newest=50)))
        return found | {"store": facts.name}

    @app.get("/history", dependencies=KNOWN, responses=ERRORS)
    async def history(since: float = 0.0) -> dict[str, list[dict[str, Any]]]:
        """What each process said over time, oldest first; `since` in seconds since 1970."""
        return await look(lambda: facts.history(since))

    @app.get(
        "/events",
        dependencies=KNOWN,
        responses={**ERRORS, 200: {"content": {"text/event-stream": {}}}},
    )
    async def events() -> Response:
        """All figures as they change, as server-sent events: one JSON document each."""
        nonlocal readers
        if readers >= MOST_READERS:
            return JSONResponse(
                {"error": f"{MOST_READERS} pages are open already; close one"}, 503
            )

        async def changes() -> AsyncIterator[bytes]:
            nonlocal readers
            readers += 1
            try:
                while True:
                    yield f"data: {await look(lambda: json.dumps(finite(facts())))}\n\n".encode()
                    await asyncio.sleep(BEAT_SECONDS)
            finally:
                readers -= 1

        return StreamingResponse(changes(), media_type="text/event-stream")

    @app.get(
        "/metrics", dependencies=KNOWN, responses={**ERRORS, 200: {"content": {"text/plain": {}}}}
    )
    async def metrics() -> Response:
        """Figures in the text format of Prometheus."""
        text = await look(lambda: metrics_text(facts()))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _laws(app: fastapi.FastAPI, laws: Laws, draw: _Worker) -> None:
    @app.get("/marginals", dependencies=KNOWN, responses=ERRORS)
    async def marginals() -> dict[str, Any]:
        """Laws of single columns and pairs, decoded from the newest snapshot, beside the generator's.

        Nothing beyond the snapshot is spent or seen.
        """
        found: dict[str, Any] = await draw(lambda: finite(laws()))
        return found


def _rows(app: fastapi.FastAPI, newest: Newest, draw: _Worker, most: int) -> None:
    kinds: dict[str, Any] = {kind: {} for kind in FORMATS.values()}

    @app.get("/sample", dependencies=KNOWN, responses={**ERRORS, 200: {"content": kinds}})
    async def sample(
        n: Annotated[int, fastapi.Query(ge=0, le=most, description="Rows")] = 10,
        label: Annotated[
            str | None, fastapi.Query(description="Value of the label column")
        ] = None,
        seed: Annotated[int | None, fastapi.Query(ge=0, lt=2**63)] = None,
        format: Format = "json",
        where: Annotated[
            list[str] | None,
            fastapi.Query(description="Conditions: COL=VALUE, COL=A|B, COL=LOW..HIGH, COL>=LOW"),
        ] = None,
    ) -> Response:
        """Independent draws of the newest checkpoint, streamed; the same seed gives the same rows."""
        used = secrets.randbits(32) if seed is None else seed

        def begin() -> tuple[str, str, Iterator[bytes]]:
            name, generator = newest.load()
            tables = newest.draw(generator, n, used, label, where or [])
            good, said = verdict(generator.metrics)
            return name, said if good else f"WARNING: {said}", encoded(tables, format)

        name, said, parts = await draw(begin)
        headers = {"X-Checkpoint": name, "X-Seed": str(used), "X-Verdict": said}
        return StreamingResponse(draw.each(parts), media_type=FORMATS[format], headers=headers)


def _readiness(app: fastapi.FastAPI, store: "Store", look: _Worker) -> None:
    @app.get(
        "/snapshot/latest",
        dependencies=KNOWN,
        responses={**ERRORS, 200: {"content": {"application/octet-stream": {}}}},
    )
    async def latest() -> Response:
        """The newest sound snapshot, the file itself."""
        from streamsketch.snapshot import Snapshot

        found = await look(lambda: store.snapshots.newest(Snapshot.from_bytes))
        if found is None:
            raise StoreError("the store has no snapshot yet; run the pipeline first")
        headers = {"Content-Disposition": f'attachment; filename="{found[0]}"'}
        return Response(
            found[1].to_bytes(), media_type="application/octet-stream", headers=headers
        )

    @app.get("/healthz", dependencies=KNOWN)
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/readyz", dependencies=KNOWN, responses={503: ERRORS[503]})
    async def readyz() -> dict[str, str]:
        """Whether there is a checkpoint to draw from."""
        if not await look(store.checkpoints.names):
            raise StoreError(
                "the store has no checkpoint yet; train one with `streamsketch train`"
            )
        return {"status": "ready"}
