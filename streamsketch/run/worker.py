"""The processes of a pipeline: consumer, trainer, sampler. `python -m streamsketch.run.worker ROLE FILE`.

The trainer and the sampler see released objects only: snapshots, and checkpoints made of them.
"""

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streamsketch.errors import ConfigError, StreamSketchError
from streamsketch.ingest.streams import Sink, Source, plugin
from streamsketch.plain import PlainFormatter
from streamsketch.run.checkpoints import put
from streamsketch.run.config import Pipeline, load
from streamsketch.run.consume import run_ingest
from streamsketch.run.signals import end_with_parent, stop_on_signals
from streamsketch.run.status import Status
from streamsketch.run.supervisor import finished
from streamsketch.snapshot import Snapshot
from streamsketch.storage.store import Family
from streamsketch.verdict import verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.generator import Generator, Progress

__all__ = ["main", "make_sink", "make_source", "sample_new", "train_new"]

log = logging.getLogger(__name__)

# keys of [source] that name files as seen from the pipeline file
PATHS = {
    "files": ("path",),
    "arrow": ("path",),
    "flight": ("samples", "token_file", "tls_cert", "tls_key", "tls_client_ca"),
}
MOST_COMPARED = 5000  # rows whose features are taken for a status
LOOK_SECONDS = 0.5  # how often the store is looked at for something new


T = TypeVar("T")


class _Arrivals(Generic[T]):
    """New files of a family, each looked into once; a file that was there is not read again."""

    def __init__(self, family: Family, parse: Callable[[bytes, str], T]) -> None:
        self._family, self._parse = family, parse
        self._looked: str | None = None

    def newest(self) -> tuple[str, T] | None:
        """Name and value of the newest sound file, if the family has a newer file than last time."""
        names = self._family.names()
        if not names or names[-1] == self._looked:
            return None
        self._looked = names[-1]
        return self._family.newest(self._parse)


class _Stopped(Exception):
    """Raised in the middle of a training when the process is asked to end."""


def make_source(pipeline: Pipeline) -> Source:
    """The source that a pipeline's [source] table describes."""
    settings = pipeline.source.settings
    for key in PATHS.get(pipeline.source.type, ()):
        value = settings.get(key)
        if isinstance(value, str):
            settings[key] = pipeline.resolve(value)
        elif isinstance(value, list):
            settings[key] = [pipeline.resolve(path) for path in value]
    source: Source = plugin("sources", pipeline.source.type)(settings, pipeline.schema)
    return source


def make_sink(pipeline: Pipeline) -> Sink:
    """The sink that a pipeline's [sampler] table describes; files go to the store's samples."""
    settings = pipeline.sampler.settings
    if pipeline.sampler.sink == "file":
        path = settings.get("path")
        settings["path"] = (
            pipeline.resolve(path) if path else pipeline.store().path("samples/samples.parquet")
        )
        settings.setdefault("mode", "parts")  # each checkpoint's rows are readable at once
    sink: Sink = plugin("sinks", pipeline.sampler.sink)(settings)
    return sink


def train_new(
    pipeline: Pipeline,
    stop: threading.Event,
    feeders: Sequence[str] = (),
    watch: bool = True,
    report: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> int:
    """Fit a generator to each newest snapshot, from the last checkpoint on; write checkpoints.

    Args:
        pipeline: The pipeline.
        stop: Ends the loop.
        feeders: Processes whose end means that no snapshot will follow.
        watch: Go on for new snapshots; otherwise train once.
        report: Receives what a status line may show.

    Returns:
        Number of checkpoints written.
    """
    from streamsketch.generator import Generator, fit

    store, t = pipeline.store(), pipeline.trainer
    snapshots = _Arrivals(store.snapshots, Snapshot.from_bytes)
    done, written = _trained_snapshot(pipeline), 0
    while not stop.is_set():
        # asked before looking, so that what came last is seen
        last_round = finished(store.state_dir, feeders)
        newest = snapshots.newest()
        if newest is None or newest[1].id == done or newest[1].count <= 0:
            if last_round or not watch:
                break
            stop.wait(LOOK_SECONDS)
            continue
        name, snapshot = newest
        started = store.checkpoints.newest(Generator.from_bytes)
        fits = started is not None and started[1].fingerprint == snapshot.spec.fingerprint
        start = started[1] if started is not None and fits else None
        figures = {"snapshot": name, "start": "warm" if start else "cold"}
        if "window" in snapshot.span:
            figures["window"] = str(snapshot.span["window"]["start"])
        report(figures)

        def progress(p: "Progress", figures: dict[str, Any] = figures) -> None:
            report(
                {
                    **figures,
                    "loss": _rounded(p.loss),
                    "heldout": _rounded(p.heldout),
                    "floor": _rounded(p.floor),
                    "left_s": round(t.seconds - p.seconds),
                }
            )
            if stop.is_set():
                raise _Stopped

        def keep(trained: "Generator") -> None:
            put(store, trained, t.keep)

        try:
            generator = fit(
                snapshot, seconds=t.seconds, seed=t.seed, device=t.device, objective=t.objective, start=start,
                progress=progress, on_checkpoint=keep, checkpoint_every=t.checkpoint_seconds, **t.settings,
            )  # fmt: skip
        except _Stopped:
            break
        made = put(store, generator, t.keep)
        level = logging.INFO if made.good else logging.WARNING
        log.log(level, "%s: %s", made.name or "a generator", made.said)
        report(
            {"snapshot": name, "checkpoint": made.name, **_short(generator.metrics)}
            | {"verdict": made.said}
        )
        done, written = snapshot.id, written + 1
        if not watch:
            break
    return written


def sample_new(
    pipeline: Pipeline,
    stop: threading.Event,
    feeders: Sequence[str] = (),
    report: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> int:
    """Draw [sampler] rows from each new checkpoint into the sink; returns the rows drawn.

    The history of everything drawn is kept beside the checkpoints, so that a later checkpoint
    goes on where an earlier one stopped. From a generator that is of no use nothing is drawn.
    """
    from streamsketch.generator import Generator
    from streamsketch.sampler import Sampler

    store, s = pipeline.store(), pipeline.sampler
    checkpoints = _Arrivals(store.checkpoints, Generator.from_bytes)
    drawn, seen = 0, None
    sink = make_sink(pipeline)
    try:
        while not stop.is_set():
            last_round = finished(store.state_dir, feeders)
            newest = checkpoints.newest()
            if newest is None or newest[0] == seen:
                if last_round:
                    break
                stop.wait(LOOK_SECONDS)
                continue
            seen, generator = newest
            good, said = verdict(generator.metrics)
            if not good:
                log.warning("no rows are drawn from %s: %s", seen, said)
                report({"checkpoint": seen, "rows": drawn, "verdict": said})
                continue
            # independent draws need no memory; each of the other methods keeps one
            kept = None if s.method == "iid" else store.history
            table = Sampler(generator, s.target, kept, s.seed + drawn, method=s.method).sample(
                s.rows
            )
            sink.write(table)
            sink.flush()
            drawn += table.num_rows
            report({"checkpoint": seen, "rows": drawn, **_discrepancy(generator, table)})
    finally:
        sink.close()
    return drawn


def _discrepancy(generator: "Generator", rows: "pa.Table") -> dict[str, Any]:
    """How far the rows are from the target, beside as many independent draws."""
    snapshot = generator.snapshot
    if snapshot is None or not 0 < rows.num_rows <= MOST_COMPARED or snapshot.spec.classes > 1:
        return {}
    from streamsketch.features import ONE

    mean = snapshot.mean

    def distance(table: "pa.Table") -> float | None:
        x = snapshot.schema.encode(table).x
        total = snapshot.features.sum(x)[: len(mean)]
        square = float(np.square(total / ONE / max(len(x), 1) - mean).sum())
        return _rounded(square / snapshot.spec.m)

    independent = generator.sample(rows.num_rows, seed=0)
    return {"discrepancy": distance(rows), "discrepancy_iid": distance(independent)}


def _trained_snapshot(pipeline: Pipeline) -> str | None:
    """Id of the snapshot that the newest checkpoint was trained on."""
    from streamsketch.generator import Generator

    newest = pipeline.store().checkpoints.newest(Generator.from_bytes)
    if (
        newest is None
        or newest[1].snapshot is None
        or newest[1].metrics.get("stopped") == "unfinished"
    ):
        return None
    return newest[1].snapshot.id


def _short(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        k: _rounded(v) if isinstance(v, float) else v
        for k, v in metrics.items()
        if isinstance(v, int | float)
    }


def _rounded(value: float) -> float | None:
    """Four digits; None where it is no number (yet)."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def main(arguments: Sequence[str]) -> int:
    """Run one role; returns the exit code."""
    role, file, *rest = arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("kafka", "httpx2"):  # the latter tells of each schema that is fetched
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # it warns of every busy moment
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    stop = stop_on_signals()
    end_with_parent(stop, saves=role == "consume")
    try:
        pipeline = load(file)
        if role == "consume":
            run_ingest(pipeline, make_source(pipeline), stop, int(rest[0]))
            return 0 if not stop.is_set() else 143
        if role not in ("train", "sample"):
            raise ConfigError(f"role {role!r} is unknown; choose consume, train or sample")
        status = Status(pipeline.store().state_dir, "trainer" if role == "train" else "sampler")
        if role == "train":
            train_new(pipeline, stop, rest, report=_throttled(status))
        else:
            sample_new(pipeline, stop, rest, status.write)
        status.end()
        return 0
    except StreamSketchError as e:
        log.error("%s", e)
        return e.exit_code


def _throttled(status: Status) -> Callable[[dict[str, Any]], None]:
    """Write a status at most twice a second, and always when its keys change."""
    last: dict[str, Any] = {"time": 0.0, "keys": None}

    def write(figures: dict[str, Any]) -> None:
        now = time.monotonic()
        if list(figures) != last["keys"] or now - last["time"] > 0.5:
            status.write(figures)
            last.update(time=now, keys=list(figures))

    return write


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
