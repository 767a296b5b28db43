"""The sketching process of a pipeline file."""

import gc
import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamsketch.errors import ConfigError
from streamsketch.ingest.loop import Ingest, Progress
from streamsketch.ingest.parts import State
from streamsketch.ingest.streams import Bounded, DeadLetters, Source, plugin
from streamsketch.ingest.watch import Watch
from streamsketch.ingest.windows import iso
from streamsketch.privacy.clipping import user_limits
from streamsketch.run.figures import LagSeconds, Rate
from streamsketch.run.status import Status
from streamsketch.tables import placed

if TYPE_CHECKING:
    from streamsketch.run.config import Pipeline

__all__ = ["dead_letters_of", "run_ingest"]

SHOWN = 20  # parts and reasons that a status tells one by one


def run_ingest(
    pipeline: "Pipeline", source: Source, stop: threading.Event, member: int = 0
) -> Progress:
    """Run the sketching process of a pipeline file with a status file beside its state."""
    features = pipeline.features()
    store = pipeline.store()
    state = State(store.state_dir, features, store.records)
    limits = user_limits(pipeline.releaser(features).settings)
    if limits is not None and (pipeline.source.members > 1 or member > 0):
        raise ConfigError(
            'several members with unit = "user", but users are counted by one process; '
            "set [source] members = 1"
        )
    dead_letters = dead_letters_of(pipeline, member)
    watch = None
    if pipeline.drift is not None:
        watch = Watch(pipeline.schema, store.state_dir, pipeline.drift)
    ingest = Ingest(
        source, pipeline.schema, features, state, store, lambda: pipeline.releaser(features), dead_letters,
        pipeline.snapshots, on_error=pipeline.dead_letters.on_error,
        limits=limits, watch=watch, windows=pipeline.windows,
        record_ids=None if pipeline.dedup is None else pipeline.dedup.ids,
    )  # fmt: skip
    status = Status(store.state_dir, f"consumer-{member}")
    private = pipeline.privacy.mechanism != "none"

    figures = _Figures(ingest, private)
    settled = False

    def tick() -> None:
        nonlocal settled
        if ingest.progress.rows and not settled:
            # What is loaded by now stays: to look through all of it for garbage, again and again,
            # costs half as much as to read and decode small messages.
            gc.collect()
            gc.freeze()
            settled = True
        status.write(figures())

    try:
        return ingest.run(stop, tick)
    finally:
        status.end()


def dead_letters_of(pipeline: "Pipeline", member: int) -> DeadLetters | None:
    """Where the unusable rows of a process go; None where they are dropped, or end the run."""
    if pipeline.dead_letters.on_error != "dlq":
        return None
    settings = placed(pipeline.dead_letters.settings, **pipeline.places(member))
    made: DeadLetters = plugin("dead_letters", pipeline.dead_letters.type)(settings)
    return made


class _Figures:
    """What a status line may show: no exact count where a mechanism is on."""

    def __init__(self, ingest: Ingest, private: bool) -> None:
        self.ingest, self.private = ingest, private
        self._rate = Rate()
        self._lags: defaultdict[str, LagSeconds] = defaultdict(LagSeconds)

    def __call__(self) -> Mapping[str, Any]:
        """The figures now."""
        ingest, p = self.ingest, self.ingest.progress
        public = {"releases": p.releases, "saves": p.saves, "parts": len(ingest.parts)}
        if self.private:
            return public
        by_part = self._lag()
        return {
            **public,
            "rows": p.rows,
            "left": ingest.source.left() if isinstance(ingest.source, Bounded) else None,
            "stored": sum(part.rows - part.dead for part in ingest.parts.values()),
            "rows_per_s": round(self._rate(p.rows)),
            "dead": p.dead,
            "reasons": dict(p.reasons.most_common(SHOWN)),
            "lag": sum(rows for rows, _ in by_part.values()) if by_part else None,
            "lag_s": max(seconds for _, seconds in by_part.values()) if by_part else None,
            "lags": dict(sorted(by_part.items(), key=lambda one: -one[1][0])[:SHOWN]),
            "save_s": round(p.save_seconds, 4),
            "release_s": round(p.release_seconds, 4),
            **_cut_figures(ingest),
            **_drift_figures(ingest),
        }

    def _lag(self) -> dict[str, tuple[int, float]]:
        """Rows and seconds behind the end, per part where known."""
        parts = self.ingest.parts
        found = {}
        for name, behind in self.ingest.source.lag().items():
            if behind is not None and name in parts:
                found[name] = (behind, self._lags[name](parts[name].rows, behind))
        return found


def _drift_figures(ingest: Ingest) -> dict[str, Any]:
    """The part that is nearest to an alarm, and the alarms so far."""
    watch = ingest.parts.watch
    if not isinstance(watch, Watch):
        return {}
    statistic, threshold = watch.nearest
    return {"alarms": watch.alarms, "drift": statistic, "drift_threshold": threshold}


def _cut_figures(ingest: Ingest) -> dict[str, Any]:
    """What windows and deduplication did, over the parts that this process holds."""
    parts = list(ingest.parts.values())
    figures: dict[str, Any] = {}
    admission = ingest.intake.admission
    if admission.windows is not None:
        marks = [p.watermark for p in parts if p.watermark is not None and not p.idle]
        figures["late"] = sum(p.late for p in parts)
        closed = ingest.state.closed()
        held = {k for p in parts for k in p.windows if closed is None or k >= closed}
        figures["open_windows"] = len(held)
        figures["watermark"] = iso(min(marks)) if marks else None
    if admission.record_ids is not None:
        figures["duplicates"] = sum(p.duplicates for p in parts)
    return figures
