"""Structured Streaming: each batch counts once, whatever is killed and wherever a checkpoint comes from."""

import json
import threading
import time

import pytest

from streamsketch.errors import ConfigError, DataError, FencedError, SourceError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.parts import State
from streamsketch.run.config import load
from streamsketch.run.spark import run_spark
from streamsketch.run.worker import make_source
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.spark import Batches

pytest.importorskip("pyspark", reason="pyspark is not installed")

from testing.spark_job import expected, kill, make, saved, start

SCHEMA = Schema.vectors(1, 0, 1)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))


class Killed(Exception):
    """The driver is gone."""


def test_killed_between_the_two_writes(spark, tmp_path, monkeypatch):
    """Before our write, after it and before Spark's: every batch is hit by both."""
    pipeline = make(tmp_path, files=2, rows=50)
    save, moments = State.save, [(k, when) for k in range(2) for when in ("before", "after")]

    def deadly(state, part):
        now = (part.position["batch"], "before")
        if now in moments:
            moments.remove(now)
            raise Killed
        save(state, part)
        now = (part.position["batch"], "after")
        if now in moments:
            moments.remove(now)
            raise Killed

    monkeypatch.setattr(State, "save", deadly)
    kills = 0
    while True:
        try:
            figures = run_spark(pipeline, threading.Event(), spark)
            break
        except Killed:
            kills += 1
    refused, total = expected(pipeline)
    batch, dead, found = saved(pipeline)
    assert kills == 4 and (batch, dead) == (1, refused) and refused > 0
    assert found.tolist() == total.tolist()
    assert figures["rows"] == 100 - refused and figures["dead"] == refused
    letters = (tmp_path / "store" / "state" / "dead" / "member-0.jsonl").read_text().splitlines()
    assert len(letters) >= refused and "pink" in json.loads(letters[0])["raw"]
    _, snapshot = pipeline.store().snapshots.newest(Snapshot.from_bytes)
    assert snapshot.count == 100 - refused


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on(tmp_path):
    pipeline = make(tmp_path, files=4, rows=100)
    job = start(tmp_path)
    try:
        until = time.monotonic() + 120
        while saved(pipeline)[0] < 0:
            assert job.poll() is None and time.monotonic() < until, (
                tmp_path / "job.log"
            ).read_text()
            time.sleep(0.02)
        kill(job)
        assert 0 <= saved(pipeline)[0] < 3, "it was over before it was killed"
        job = start(tmp_path)
        assert job.wait(120) == 0, (tmp_path / "job.log").read_text()
    finally:
        kill(job)
    refused, total = expected(pipeline)
    # a file that was listed and not planned goes into the next batch: their number may differ
    assert saved(pipeline)[1] == refused
    assert saved(pipeline)[2].tolist() == total.tolist()


def test_a_checkpoint_that_does_not_belong_to_the_state_is_refused(tmp_path):
    batches = Batches(State(tmp_path, FM), SCHEMA)
    with pytest.raises(SourceError, match="begins at batch 3"):
        batches.add(None, 3, "mine")
    batches.saved.position = {"query": "mine", "batch": 7}
    assert batches.add(None, 7, "mine") is False
    for number, words in ((6, "older than the state"), (9, "newer than the state")):
        with pytest.raises(SourceError, match=words):
            batches.add(None, number, "mine")
    with pytest.raises(
        SourceError, match="batch 7 of query mine, this checkpoint is of query other"
    ):
        batches.add(None, 8, "other")


def test_a_former_driver_is_fenced(spark, tmp_path):
    old = Batches(State(tmp_path, FM), SCHEMA, merge_tasks=0)
    new = Batches(State(tmp_path, FM), SCHEMA, merge_tasks=0)
    frame = spark.createDataFrame([(0.5,)], "x0 double")
    with pytest.raises(FencedError, match="taken over"):
        old.add(frame, 0, "q")
    assert new.add(frame, 0, "q") and new.saved.sketch.count == 1
    assert old.saved.sketch.count == 0


def test_a_batch_that_cannot_be_saved_counts_once(spark, tmp_path, monkeypatch):
    """A query that is started again in the same process uses the same sums."""
    batches = Batches(State(tmp_path, FM), SCHEMA, on_refused="fail", merge_tasks=0)
    frame = spark.createDataFrame([(0.5,)], "x0 double")
    with monkeypatch.context() as m:
        m.setattr(batches.state, "save", lambda part: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            batches.add(frame, 0, "q")
    with pytest.raises(DataError, match="null"):
        batches.add(spark.createDataFrame([(None,)], "x0 double"), 0, "q")
    assert batches.add(frame, 0, "q")
    assert State(tmp_path, FM).cut()[0].count == 1


def test_a_frame_that_is_no_stream_is_read_once(spark, tmp_path):
    pipeline = make(tmp_path, files=2, rows=20, more="stream = false")
    first = run_spark(pipeline, threading.Event(), spark)
    assert first == run_spark(pipeline, threading.Event(), spark)
    assert saved(pipeline)[2].tolist() == expected(pipeline)[1].tolist()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('format = "parquet"', 'fromat = "parquet"', "fromat: unknown key; did you mean format"),
        ("[store]", "[drift]\n[store]", "drift: needs the rows of a part in their order"),
        ('format = "parquet"', 'format = "papyrus"', "Spark cannot read 'papyrus'"),
    ],
)
def test_what_cannot_run_is_said(spark, tmp_path, old, new, words):
    make(tmp_path, files=0, rows=0)
    file = tmp_path / "pipeline.toml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises((ConfigError, SourceError), match=words) as e:
        run_spark(load(file), threading.Event(), spark)
    assert "\tat " not in str(e.value), "a trace of Java"


def test_another_source_is_not_read_by_spark(tmp_path):
    pipeline = make(tmp_path, files=0, rows=0)
    with pytest.raises(ConfigError, match="source.type is 'files'"):
        run_spark(pipeline.reading("files", path="rows"), threading.Event())
    with pytest.raises(ConfigError, match="use `streamsketch spark`"):
        make_source(pipeline)


def test_spark_connect_is_told_what_it_can_do(tmp_path):
    class Frame:
        sparkSession = object()

    with pytest.raises(ConfigError, match="Spark Connect"):
        Batches(State(tmp_path, FM), SCHEMA)(Frame(), 0)
