"""The processes of a pipeline: consumer, trainer, sampler. `python -m streamsketch.run.worker ROLE FILE`.

The trainer and the sampler see released objects only: snapshots, and checkpoints made of them.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from streamsketch.errors import ConfigError, StreamSketchError
from streamsketch.ingest.streams import Source, plugin
from streamsketch.plain import PlainFormatter
from streamsketch.run.config import Pipeline, load
from streamsketch.run.consume import run_ingest
from streamsketch.run.sample import sample_new
from streamsketch.run.signals import end_with_parent, stop_on_signals
from streamsketch.run.status import Status
from streamsketch.run.train import train_new

__all__ = ["main", "make_source"]

log = logging.getLogger(__name__)


def make_source(pipeline: Pipeline) -> Source:
    """The source that a pipeline's [source] table describes."""
    source: Source = plugin("sources", pipeline.source.type)(
        pipeline.source.settings, pipeline.schema
    )
    return source


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
