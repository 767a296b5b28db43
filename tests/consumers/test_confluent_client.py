"""What the confluent client makes of a rebalance in the midst of several messages.

librdkafka decides when it calls back, so its consumer is played here, with its own messages; the
real one runs in `test_kafka.py`.
"""

import pytest
from streamsketch_consumers.kafka.client import Partition
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.errors import ConfigError

pytest.importorskip("confluent_kafka")
from confluent_kafka import OFFSET_BEGINNING, Message
from streamsketch_consumers.kafka import confluent_client

FIRST, SECOND = Partition("t", 0), Partition("t", 1)


class Played:
    """A consumer whose answers and calls are written beforehand."""

    def __init__(self, configuration, logger):
        self.script = []
        self.placed = []
        self.times = 0

    def list_topics(self, timeout):
        """They are there."""

    def subscribe(self, topics, on_assign, on_revoke, on_lost):
        self.came, self.went = on_assign, on_revoke

    def poll(self, timeout):
        found = self.script.pop(0)()
        return found[0] if found else None

    def consume(self, most, timeout):
        return self.script.pop(0)()

    def assign(self, where):
        self.placed = [(tp.topic, tp.partition, tp.offset) for tp in where]
        self.times += 1

    incremental_assign = assign

    def incremental_unassign(self, where):
        self.placed = []


class Claims:
    """Positions of what was claimed."""

    def __init__(self, **positions):
        self.positions = {FIRST: None, SECOND: None}

    def assigned(self, partitions):
        return {at: self.positions[at] for at in partitions}

    def given_up(self, partitions, lost):
        """Nothing to save."""


def message(offset, at=FIRST):
    return Message(topic=at.topic, partition=at.partition, offset=offset, value=b"%d" % offset)


def offsets(found):
    return {records.at: [records[i].offset for i in range(len(records))] for records in found}


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(confluent_client, "Consumer", Played)

    def make(**settings):
        client = confluent_client.ConfluentClient(KafkaSettings(topic="t", **settings))
        claims = Claims()
        client.subscribe(["t"], claims)
        consumer = client._consumer

        def rebalance(gone=(), came=(), then=()):
            def act():
                places = [confluent_client.TopicPartition(*at) for at in gone]
                if gone:
                    consumer.went(consumer, places)
                if came:
                    consumer.came(consumer, [confluent_client.TopicPartition(*at) for at in came])
                return list(then)

            return act

        return client, consumer, claims, rebalance

    return make


def test_what_came_before_a_rebalance_is_not_handed_out(played):
    client, consumer, claims, rebalance = played()
    claims.positions[FIRST] = 5
    first = rebalance(came=[FIRST], then=[message(5)])
    consumer.script = [first, lambda: [message(6)]]
    assert offsets(client.poll(0, 10)) == {FIRST: [5, 6]}  # of after the call
    assert consumer.placed == [("t", 0, 5)] and consumer.times == 1
    # now the partition goes and comes back, while others saved less than what was fetched here
    claims.positions[FIRST] = 3
    consumer.script = [lambda: [message(7)], rebalance([FIRST], [FIRST], [message(8), message(9)])]
    assert client.poll(0, 10) == []
    assert consumer.placed == [("t", 0, 3)] and client.position(FIRST) == 3
    assert consumer.times == 3  # in the call, and once more for what was dropped
    consumer.script = [lambda: [message(3)], lambda: [message(4)]]
    assert offsets(client.poll(0, 10)) == {FIRST: [3, 4]}


def test_cooperatively_what_stays_is_handed_out(played):
    client, consumer, claims, rebalance = played(assignment="cooperative")
    claims.positions.update({FIRST: 0, SECOND: 7})
    consumer.script = [rebalance(came=[FIRST], then=[message(0)]), lambda: []]
    client.poll(0, 10)
    come = rebalance(came=[SECOND], then=[message(2), message(7, SECOND)])
    consumer.script = [lambda: [message(1)], come]
    assert offsets(client.poll(0, 10)) == {FIRST: [1, 2]}
    assert consumer.placed == [("t", 1, 7)] and consumer.times == 3  # from there again


def test_a_partition_that_went_is_not_handed_out(played):
    client, consumer, _, rebalance = played()
    consumer.script = [rebalance(came=[FIRST, SECOND], then=[message(0)]), lambda: []]
    assert offsets(client.poll(0, 10)) == {FIRST: [0]}
    assert consumer.placed == [("t", 0, OFFSET_BEGINNING), ("t", 1, OFFSET_BEGINNING)]
    client.seek(SECOND, 4)
    assert sorted(consumer.placed) == [("t", 0, 1), ("t", 1, 4)]  # the others stay where they are
    consumer.script = [rebalance(gone=[FIRST], then=[message(1)]), lambda: [message(0, SECOND)]]
    assert offsets(client.poll(0, 10)) == {SECOND: [0]}


def test_an_assignment_that_it_does_not_offer():
    with pytest.raises(ConfigError, match="'sticky' is not offered by client = 'confluent'"):
        confluent_client.configuration(KafkaSettings(topic="t", assignment="sticky"))
