"""Drawing the rows of [sampler] from each new checkpoint."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsketch.ingest.streams import Sink, plugin
from streamsketch.run.arrivals import arrivals
from streamsketch.run.config import Pipeline
from streamsketch.run.status import rounded
from streamsketch.run.supervisor import finished
from streamsketch.tables import placed
from streamsketch.verdict import verdict

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.generator import Generator

__all__ = ["sample_new"]

log = logging.getLogger(__name__)

MOST_COMPARED = 5000  # rows whose features are taken for a status


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
    drawn = 0
    sink = _sink(pipeline)

    def ended() -> bool:
        return finished(store.state_dir, feeders)

    try:
        for name, generator in arrivals(store.checkpoints, Generator.from_bytes, stop, ended):
            good, said = verdict(generator.metrics)
            if not good:
                log.warning("no rows are drawn from %s: %s", name, said)
                report({"checkpoint": name, "rows": drawn, "verdict": said})
                continue
            # independent draws need no memory; each of the other methods keeps one
            kept = None if s.method == "iid" else store.history
            table = Sampler(generator, s.target, kept, s.seed + drawn, method=s.method).sample(
                s.rows
            )
            sink.write(table)
            sink.flush()
            drawn += table.num_rows
            report({"checkpoint": name, "rows": drawn, **_discrepancy(generator, table)})
    finally:
        sink.close()
    return drawn


def _sink(pipeline: Pipeline) -> Sink:
    """The sink that a pipeline's [sampler] table describes; files go to the store's samples."""
    settings = placed(pipeline.sampler.settings, **pipeline.places())
    sink: Sink = plugin("sinks", pipeline.sampler.sink)(settings)
    return sink


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
        return rounded(square / snapshot.spec.m)

    independent = generator.sample(rows.num_rows, seed=0)
    return {"discrepancy": distance(rows), "discrepancy_iid": distance(independent)}
