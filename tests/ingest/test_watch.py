"""Drift alarms in the pipeline: a snapshot at once, and a memory that starts anew."""

import json
import threading
from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Snapshot, Store
from streamsketch.errors import ConfigError, PrivacyError
from streamsketch.ingest.streams import Chunk
from streamsketch.ingest.watch import Drift, Watch
from streamsketch.privacy.release import Releaser
from streamsketch.run.config import parse
from tests.ingest.test_loop import FM, SCHEMA, Crash, Scripted, ingest


class Moving(Scripted):
    """Values around 300 for `at` rows, then around 700 for as many, and so on."""

    def __init__(self, n, at, batch=200, events=None):
        super().__init__(n, batch, events)
        self.at, self.noise = at, np.random.default_rng(0).normal(size=n)

    def poll(self, timeout):
        for chunk in super().poll(timeout):
            rows = np.arange(chunk.position["row"] - chunk.batch.num_rows, chunk.position["row"])
            centre = np.where(rows // self.at % 2, 700.0, 300.0)
            values = np.clip(centre + 30 * self.noise[rows], 0, 1000)
            yield Chunk("rows", chunk.position, pa.record_batch({"x0": values}), (), chunk.where)


def run(folder, at, actions, n=8000):
    pipeline = ingest(folder, Moving(n, at))
    watch = Watch(SCHEMA, pipeline.state.folder, Drift(100_000, 50, actions=tuple(actions)))
    pipeline.parts.watch = watch
    pipeline.run(threading.Event())
    store = Store(folder)
    return watch, [Snapshot.from_bytes(store.snapshots.read(n)) for n in store.snapshots.names()]


def written(folder):
    text = (folder / "state" / "drift.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_change_is_seen_written_down_and_released_at_once(tmp_path):
    watch, snapshots = run(tmp_path, 5000, ["snapshot"])
    assert watch.alarms == 1 and len(snapshots) == 2
    seen = snapshots[0].span["parts"]["rows"]["row"]
    assert 5000 < seen <= 5600
    events = written(tmp_path)
    assert len(events) == 1 and events[0]["where"]["row"] <= seen
    assert snapshots[1].count == 8000


def test_a_reset_leaves_the_old_law_behind(tmp_path):
    _, snapshots = run(tmp_path, 5000, ["snapshot", "reset"])
    before, after = snapshots
    assert before.count + after.count == 8000
    fresh = FM.features(SCHEMA.encode_array(np.full((1, 1), 700.0)))[0]
    assert np.abs(after.mean - fresh).mean() < 0.05 < np.abs(before.mean - fresh).mean()


def alarms_of(folder, moments, **more):
    """Alarms of a stream whose reader dies at those chunks and is started again."""
    for at in (*moments, None):
        source = Moving(6000, 700, batch=150, events={} if at is None else {at: Crash()})
        pipeline = ingest(folder, source, **more)
        pipeline.parts.watch = Watch(
            SCHEMA,
            pipeline.state.folder,
            Drift(run_length=1000, window=20, every=2, actions=("snapshot",)),
        )
        with nullcontext() if at is None else pytest.raises(Crash):
            pipeline.run(threading.Event())
    return [(event["part"], event["row"]) for event in written(folder)]


def test_a_reader_that_dies_raises_the_alarms_of_one_that_does_not(tmp_path):
    expected = alarms_of(tmp_path / "whole", [])
    assert len(expected) > 4
    assert sum(row > 700 and row % 700 < 60 for _, row in expected) >= 4  # the others are false
    for k, (moments, save_seconds) in enumerate(
        [([3], 0), ([20], 1e9), ([21, 3], 0), ([9] * 6, 1e9)]
    ):
        assert alarms_of(tmp_path / str(k), moments, save_seconds=save_seconds) == expected


def test_a_crash_between_saving_and_telling_of_an_alarm_tells_of_it_once(tmp_path, monkeypatch):
    expected = alarms_of(tmp_path / "whole", [])
    publish = Watch.publish
    for after in (False, True):

        def dies(self, part, after=after):
            if self._parts[part].pending:
                if after:
                    publish(self, part)
                raise Crash

        folder = tmp_path / str(after)
        pipeline = ingest(folder, Moving(6000, 700, batch=150))
        pipeline.parts.watch = Watch(
            SCHEMA, pipeline.state.folder, Drift(run_length=1000, window=20, every=2)
        )
        with monkeypatch.context() as patched, pytest.raises(Crash):
            patched.setattr(Watch, "publish", dies)
            pipeline.run(threading.Event())
        assert (folder / "state" / "drift.jsonl").exists() is after
        assert alarms_of(folder, []) == expected


def test_an_asked_for_reset_survives_a_crash_and_happens_once(tmp_path, monkeypatch):
    pipeline = ingest(tmp_path, Moving(8000, 10**9))
    (tmp_path / "state").mkdir(exist_ok=True)
    (tmp_path / "state" / "release.request").write_text("reset")
    with monkeypatch.context() as patched, pytest.raises(Crash):

        def dies(*args):
            raise Crash

        patched.setattr("streamsketch.ingest.schedule.release_now", dies)
        pipeline.run(threading.Event())
    again = ingest(tmp_path, Moving(8000, 10**9), rows=2000)
    again.run(threading.Event())
    store = Store(tmp_path)
    counts = [Snapshot.from_bytes(store.snapshots.read(n)).count for n in store.snapshots.names()]
    assert counts[0] < 2000 and counts[-1] == 8000 - counts[0]


def test_settings_that_changed_start_the_detector_anew(tmp_path, caplog):
    first = ingest(tmp_path, Moving(1000, 10**9))
    first.parts.watch = Watch(SCHEMA, first.state.folder, Drift(window=50))
    first.run(threading.Event())
    second = ingest(tmp_path, Moving(8000, 5000))
    second.parts.watch = Watch(SCHEMA, second.state.folder, Drift(100_000, 40))
    second.run(threading.Event())
    assert "learned anew" in caplog.text
    assert [5000 < event["row"] < 5200 for event in written(tmp_path)] == [True]
    third = ingest(tmp_path, Moving(9000, 5000))
    third.run(threading.Event())
    assert "drift" not in third.state.claim("rows").extras


def test_no_change_no_alarm(tmp_path):
    watch, snapshots = run(tmp_path, 10**9, ["snapshot"])
    assert watch.alarms == 0 and len(snapshots) == 1


def test_wrong_actions_and_private_streams_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown"):
        Drift(actions=("panic",))
    tables = {
        "schema": SCHEMA.to_dict(), "store": {"path": "s"}, "drift": {},
        "privacy": {"mechanism": "toeplitz", "rho": 0.5},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no budget pays for"):
        parse(tables, tmp_path)
    releaser = Releaser(FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5})
    with pytest.raises(PrivacyError, match="cannot be reset"):
        releaser.forget()
