"""Kafka: the sums are `==` whatever is killed, frozen, or divided differently."""

import threading

import numpy as np
import pytest

from streamsketch.errors import DataError
from testing.faults import KafkaRun, Outcome
from testing.kafka_member import ingest


@pytest.fixture
def run(tmp_path):
    runs = []

    def make(messages, **settings):
        runs.append(KafkaRun(tmp_path / str(len(runs)), messages, **settings))
        return runs[-1]

    yield make
    for each in runs:
        each.close()


@pytest.mark.slow
def test_killed_and_frozen_members_and_a_killed_broker(run):
    disturbed = run(20_000)
    faults = ["kill", "kill", "broker", "runs", "kill", "freeze", "kill", "kill", "kill"]
    outcome = disturbed.run_disturbed(faults, rest=0.05, limit=150)
    assert outcome.refused == 1  # of two runs on one store, the second
    assert outcome.exact and outcome.dead_exact and not outcome.ended, outcome
    assert outcome.while_running >= 6, "the run was over before it was disturbed"


@pytest.mark.parametrize(
    ("partitions", "changes"),
    [
        (1, {"max_records": 5000}),
        (4, {"max_records": 7}),
        (7, {"max_records": 500, "assignment": "cooperative"}),
        (4, {"max_records": 7, "client": "confluent"}),
        (7, {"max_records": 500, "assignment": "cooperative", "client": "confluent"}),
    ],
)
def test_batches_and_partitions_do_not_matter(run, partitions, changes):
    """Other batch sizes and other orders give the same sums, those of all rows at once."""
    outcome = run(2000, partitions=partitions, seed=3).run_undisturbed(**changes)
    assert outcome.exact and outcome.dead_exact, outcome


def test_a_former_owner_is_fenced(run):
    """Two pipelines hold the same partition: the later claim wins, the rows count once."""
    here = run(500, partitions=1)
    old = ingest(here.folder, here.settings(until="end", group="old"), name="old")
    new = ingest(here.folder, here.settings(until="end", group="new"), name="new")
    old.source.open(old.parts)
    while not old.source.finished:
        for chunk in old.source.poll(0.1):
            old.learn(chunk)
    new.run(threading.Event())
    assert list(old.parts) == [f"kafka:{here.topic}:0"]
    old.save()  # comes to late: what it summed is dropped
    assert not old.parts
    old.source.close()
    old.letters.close()
    assert here.check(Outcome(here.messages)).exact


def test_an_error_while_a_chunk_is_learned_saves_nothing_of_it(run):
    """Leaving the group must not save sums whose position was not moved yet."""
    here = run(1500, partitions=1)
    failing = ingest(here.folder, here.settings(max_records=100), name="failing")
    failing.intake.strict = True
    failing.save_seconds = 1e9
    with pytest.raises(DataError, match="not valid JSON"):
        failing.run(threading.Event())
    sketch, *_ = failing.state.cut()
    assert sketch.count == 0 and not np.any(sketch.total)
    assert here.run_undisturbed().exact
