"""One member of a Kafka run, for a process of its own.

It is the real source in the real pipeline; only its pace is slowed, so that there is time to
kill it.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamsketch_consumers.dead_letter import FileDeadLetters
from streamsketch_consumers.kafka import KafkaSource
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy.release import Releaser
from streamsketch.run.signals import stop_on_signals
from streamsketch.schema import Schema
from streamsketch.storage.store import Store

D, M = 3, 16
SCHEMA = Schema.vectors(D, 0, 1)


def features() -> FeatureMap:
    """The operator of all runs."""
    return FeatureMap.from_spec(Spec("gaussian", D, M, schema_hash=SCHEMA.hash))


class Paced(KafkaSource):
    """The Kafka source with a rest after each chunk."""

    rest = 0.0

    def poll(self, timeout: float) -> Iterator[Chunk]:
        """The chunks, slowly."""
        for chunk in super().poll(timeout):
            yield chunk
            time.sleep(self.rest)


def ingest(
    folder: Path,
    settings: Mapping[str, Any],
    rest: float = 0.0,
    name: str = "m",
    shared: str | None = None,
) -> Ingest:
    """The pipeline of one member over the shared folder, or over its own and a shared store."""
    fm = features()
    store = Store(folder, shared=shared)
    source = Paced(KafkaSettings(**settings), SCHEMA)
    source.rest = rest
    return Ingest(
        source,
        SCHEMA,
        fm,
        State(store.state_dir, fm, store.records),
        store,
        lambda: Releaser(fm, SCHEMA),
        FileDeadLetters(folder / f"dead-{name}.jsonl"),
        Schedule(save_seconds=0.2, seconds=None),
    )


def run(
    folder: Path,
    settings: Mapping[str, Any],
    rest: float,
    name: str,
    shared: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run until stopped by a signal."""
    os.environ.update(environment or {})
    ingest(folder, settings, rest, name, shared).run(stop_on_signals())
