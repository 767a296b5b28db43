"""A sketching process for kill tests: `python -m tests.consumers.ingest_worker SETTINGS.json`.

The settings name the folder of its state, the source and its settings, and the schema.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from consumers.dead_letter import make_file
from streamsketch.features import FeatureMap
from streamsketch.pipeline import Ingest
from streamsketch.privacy.release import Releaser
from streamsketch.releasing import Schedule
from streamsketch.schema import Schema
from streamsketch.signals import stop_on_signals
from streamsketch.spec import Spec
from streamsketch.state import State
from streamsketch.store import Store


def operator(schema):
    """The operator that all workers of a test share."""
    return FeatureMap.from_spec(Spec("gaussian", schema.d, 16, schema_hash=schema.hash))


def ingest(folder, module, settings, schema, save_seconds=0.03):
    """A pipeline over that source; releases only at its end."""
    features = operator(schema)
    return Ingest(
        importlib.import_module(module).make(settings, schema),
        schema,
        features,
        State(Path(folder) / "state", features),
        Store(str(Path(folder) / "store")),
        lambda: Releaser(features, schema, stream="test"),
        make_file({"path": str(Path(folder) / "dead.jsonl")}),
        Schedule(save_seconds=save_seconds, release_seconds=None),
    )


def saved(folder, schema):
    """The sums as last saved, and their positions."""
    return State(Path(folder) / "state", operator(schema)).cut()


def main(path):
    job = json.loads(Path(path).read_text())
    schema = Schema.from_dict(job["schema"])
    run = ingest(job["folder"], job["module"], job["settings"], schema)
    pause = job.get("seconds_per_chunk", 0.0)  # slow enough to be hit in the middle
    learn = run.learn

    def slowly(chunk):
        learn(chunk)
        time.sleep(pause)

    run.learn = slowly
    run.run(stop_on_signals())


if __name__ == "__main__":
    main(sys.argv[1])
