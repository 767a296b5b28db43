"""A sketching process for kill tests: `run` is what `testing.forks` starts.

A job names the folder of its state, the source and its settings, and the schema.
"""

import importlib
import json
import time
from pathlib import Path

from streamsketch_consumers.dead_letter import make_file

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.watch import Drift, Watch
from streamsketch.privacy.release import Releaser
from streamsketch.run.signals import stop_on_signals
from streamsketch.schema import Schema
from streamsketch.storage.store import Store


def operator(schema):
    """The operator that all workers of a test share."""
    return FeatureMap.from_spec(Spec("gaussian", schema.d, 16, schema_hash=schema.hash))


def ingest(folder, module, settings, schema, save_seconds=0.03, drift=False):
    """A pipeline over that source; releases only at its end."""
    features = operator(schema)
    state = State(Path(folder) / "state", features)
    return Ingest(
        importlib.import_module(module).make(settings, schema),
        schema,
        features,
        state,
        Store(str(Path(folder) / "store")),
        lambda: Releaser(features, schema, stream="test"),
        make_file({"path": str(Path(folder) / "dead.jsonl")}),
        Schedule(save_seconds=save_seconds, seconds=None),
        # so short a window that unchanged rows raise alarms
        watch=Watch(schema, state.folder, Drift(400, 6, actions=()), detector_frequencies=8)
        if drift
        else None,
    )


def saved(folder, schema):
    """The sums as last saved, and their positions."""
    return State(Path(folder) / "state", operator(schema)).cut()


def alarms(folder):
    """Part and row of each alarm, in the order in which they were written down."""
    path = Path(folder) / "state" / "drift.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(event["part"], event["row"]) for event in map(json.loads, lines)]


def run(job):
    """A job until its end, or until stopped by a signal."""
    schema = Schema.from_dict(job["schema"])
    drift = job.get("drift", False)
    sketching = ingest(job["folder"], job["module"], job["settings"], schema, drift=drift)
    pause = job.get("seconds_per_chunk", 0.0)  # slow enough to be hit in the middle
    learn = sketching.learn

    def slowly(chunk):
        learn(chunk)
        time.sleep(pause)

    sketching.learn = slowly
    sketching.run(stop_on_signals())
