"""Drift alarms in the pipeline: a snapshot at once, and a memory that starts anew."""

import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Snapshot, Store
from streamsketch.config import parse
from streamsketch.errors import ConfigError, PrivacyError
from streamsketch.privacy.release import Releaser
from streamsketch.streams import Chunk
from streamsketch.watch import Watch
from tests.test_pipeline import FM, SCHEMA, Scripted, ingest


class Moving(Scripted):
    """Values around 300, then around 700 from row `at` on."""

    def __init__(self, n, at):
        super().__init__(n, 200)
        self.at, self.rng = at, np.random.default_rng(0)

    def poll(self, timeout):
        for chunk in super().poll(timeout):
            rows = np.arange(chunk.position["row"] - chunk.batch.num_rows, chunk.position["row"])
            centre = np.where(rows < self.at, 300.0, 700.0)
            values = np.clip(centre + 30 * self.rng.normal(size=len(rows)), 0, 1000)
            yield Chunk("rows", chunk.position, pa.record_batch({"x0": values}), (), chunk.where)


def run(folder, at, actions, n=8000):
    pipeline = ingest(folder, Moving(n, at))
    watch = Watch(SCHEMA, pipeline.state.folder, mean_rows=100_000, window=50, actions=actions)
    pipeline.watch = watch
    pipeline.run(threading.Event())
    store = Store(folder)
    return watch, [Snapshot.from_bytes(store.snapshots.read(n)) for n in store.snapshots.names()]


def test_a_change_is_seen_written_down_and_released_at_once(tmp_path):
    watch, snapshots = run(tmp_path, 5000, ["snapshot"])
    assert watch.alarms == 1 and len(snapshots) == 2
    seen = snapshots[0].span["parts"]["rows"]["row"]
    assert 5000 < seen <= 5600
    text = (tmp_path / "state" / "drift.jsonl").read_text()
    events = [json.loads(line) for line in text.splitlines()]
    assert len(events) == 1 and events[0]["where"]["row"] <= seen
    assert snapshots[1].count == 8000


def test_a_reset_leaves_the_old_law_behind(tmp_path):
    _, snapshots = run(tmp_path, 5000, ["snapshot", "reset"])
    before, after = snapshots
    assert before.count + after.count == 8000
    fresh = FM.features(SCHEMA.encode_array(np.full((1, 1), 700.0)))[0]
    assert np.abs(after.mean - fresh).mean() < 0.05 < np.abs(before.mean - fresh).mean()


def test_no_change_no_alarm(tmp_path):
    watch, snapshots = run(tmp_path, 10**9, ["snapshot"])
    assert watch.alarms == 0 and len(snapshots) == 1


def test_wrong_actions_and_private_streams_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown"):
        Watch(SCHEMA, tmp_path, actions=["panic"])
    tables = {
        "schema": SCHEMA.to_dict(), "store": {"path": "s"}, "drift": {},
        "privacy": {"mechanism": "toeplitz", "rho": 0.5},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no budget pays for"):
        parse(tables, tmp_path)
    releaser = Releaser(FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5})
    with pytest.raises(PrivacyError, match="cannot be reset"):
        releaser.forget()
