"""An offset belongs to a log: topics made anew, logs cut, partitions added, and where a new one begins."""

import datetime as dt
import logging
import shutil
import time

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from streamsketch_consumers.kafka import contact
from streamsketch_consumers.kafka.client import Record, Records
from streamsketch_consumers.kafka.witness import STEPS, advanced, witnesses

from streamsketch.errors import SourceError
from testing import kafka_tools
from testing.broker import BrokerProcess
from testing.kafka_tools import Member, Shared, new_topic, numbers, produce, read, read_all, source


@pytest.fixture(autouse=True, params=["kafka-python", "confluent"])
def client(request, monkeypatch):
    """Every test runs with each client."""
    if request.param == "confluent":
        pytest.importorskip("confluent_kafka")
    monkeypatch.setattr(kafka_tools, "CLIENT", request.param)
    return request.param


@pytest.fixture
def broker(tmp_path):
    made = BrokerProcess(tmp_path / "broker")
    yield made
    made.close()


def make(broker, topic, partitions=1):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})
    admin.close()


def made_anew(broker, tmp_path, topic, low, high):
    """The topic with other messages, as after it was deleted and created."""
    broker.kill()
    shutil.rmtree(tmp_path / "broker")
    broker.start()
    make(broker, topic)
    produce(broker.bootstrap, topic, numbers(low, high, 1))


@pytest.mark.parametrize("messages", [30, 50, 51, 80])
def test_a_topic_made_anew_is_told_and_never_skipped(messages, broker, tmp_path, caplog):
    make(broker, "t")
    produce(broker.bootstrap, "t", numbers(0, 50, 1))
    shared = read_all(source(broker.bootstrap, "t", until="end")).shared
    made_anew(broker, tmp_path, "t", 100, 100 + messages)
    with pytest.raises(SourceError, match=r"is not the log that was read.*made anew or cut"):
        read_all(source(broker.bootstrap, "t", until="end"), shared)
    assert shared.rows() == list(range(50))
    settings = {"until": "end", "on_gap": "continue"}
    with caplog.at_level(logging.ERROR):
        read_all(source(broker.bootstrap, "t", **settings), shared)
    assert "made anew or cut" in caplog.text
    assert shared.rows() == [*range(50), *range(100, 100 + messages)]
    produce(broker.bootstrap, "t", numbers(300, 310, 1))
    read_all(source(broker.bootstrap, "t", until="end"), shared)
    assert shared.rows()[-10:] == list(range(300, 310))


def test_a_log_that_lost_its_end_is_read_on_from_where_it_is_another(broker, tmp_path, caplog):
    """As after an unclean election: the messages from offset 2000 on were replaced by others."""
    make(broker, "t")
    produce(broker.bootstrap, "t", numbers(0, 2000, 1))
    shared = read_all(source(broker.bootstrap, "t", until="end", max_records=1000)).shared
    broker.kill()
    shutil.copytree(tmp_path / "broker", tmp_path / "lagging")
    broker.start()
    produce(broker.bootstrap, "t", numbers(2000, 3000, 1))
    read_all(source(broker.bootstrap, "t", until="end", max_records=1000), shared)
    broker.kill()
    shutil.rmtree(tmp_path / "broker")
    (tmp_path / "lagging").rename(tmp_path / "broker")
    broker.start()
    produce(broker.bootstrap, "t", numbers(5000, 6500, 1))
    with pytest.raises(SourceError, match=r"the record at offset 2999 is another"):
        read_all(source(broker.bootstrap, "t", until="end"), shared)
    with caplog.at_level(logging.ERROR):
        read_all(source(broker.bootstrap, "t", until="end", on_gap="continue"), shared)
    assert "is the same up to offset 1999 only" in caplog.text
    assert shared.rows() == [*range(3000), *range(5000, 6500)]


def test_a_log_replaced_while_it_is_read(broker, tmp_path, monkeypatch):
    monkeypatch.setattr(contact, "PROBE_SECONDS", 0.3)
    make(broker, "t")
    produce(broker.bootstrap, "t", numbers(0, 50, 1))
    stream, member = source(broker.bootstrap, "t", on_gap="continue"), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: member.shared.rows() == list(range(50)))
    broker.kill()
    end = time.monotonic() + 20
    while stream._contact._silent_since is None and time.monotonic() < end:
        list(stream.poll(0.1))
    shutil.rmtree(tmp_path / "broker")
    broker.start()
    make(broker, "t")
    produce(broker.bootstrap, "t", numbers(100, 180, 1))
    read(stream, member, lambda: member.shared.rows() == [*range(50), *range(100, 180)])
    stream.close()


@pytest.mark.parametrize("start", ["latest", "2100-01-01T00:00Z"])
def test_a_partition_that_is_added_is_read_from_its_beginning(start, broker):
    topic = new_topic(broker.bootstrap, 1)
    produce(broker.bootstrap, topic, numbers(0, 10, 1))
    settings = {"start": start, "metadata_seconds": 0.5}
    shared = Shared()

    def add(partitions, low):
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_partitions({topic: partitions})
        admin.close()
        produce(broker.bootstrap, topic, [(partitions - 1, v) for _, v in numbers(low, low + 10)])

    stream, member = source(broker.bootstrap, topic, **settings), Member(shared)
    stream.open(member)
    read(stream, member, lambda: any(p.position for p in shared.parts.values()))
    add(2, 100)  # while it is read
    read(stream, member, lambda: shared.rows() == list(range(100, 110)))
    stream.close()
    add(3, 200)  # while nothing reads it
    stream, member = source(broker.bootstrap, topic, **settings), Member(shared)
    stream.open(member)
    read(stream, member, lambda: shared.rows() == [*range(100, 110), *range(200, 210)])
    stream.close()


def test_a_stream_may_begin_at_a_time(broker):
    topic = new_topic(broker.bootstrap, 2)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    day = 86_400_000
    begin = int(dt.datetime(2026, 11, 1, tzinfo=dt.UTC).timestamp() * 1000)
    for i in range(10):
        _, value = numbers(i, i + 1)[0]
        producer.send(topic, value, partition=0, timestamp_ms=begin + (i - 5) * day).get(5)
    producer.close()
    settings = {"start": "2026-11-01T00:00Z", "until": "end"}
    member = read_all(source(broker.bootstrap, topic, **settings))
    assert member.shared.rows() == [5, 6, 7, 8, 9]
    produce(broker.bootstrap, topic, [(1, numbers(20, 21)[0][1])])
    read_all(source(broker.bootstrap, topic, **settings), member.shared)
    assert member.shared.rows() == [5, 6, 7, 8, 9, 20]


def test_a_position_keeps_a_few_records_at_growing_distances(client):
    position, offset = {}, 0
    for _ in range(3000):
        values = [b"%d" % i for i in range(offset, offset + 100)]
        records = Records(
            ("t", 0), values, range(offset, offset + 100), lambda i: Record(i, 5, None, ())
        )
        position = advanced(position, records, 99)
        offset += 100
    found = [w.offset for w in witnesses(position)]
    assert position["offset"] == offset and found[0] == offset - 1
    # the last one before the thousand, the four thousand, ... that the position is in
    expected = {offset - 1} | {(offset - 1) // step * step - 1 for step in STEPS}
    assert found == sorted((o for o in expected if o >= 0), reverse=True)


def test_topics_by_pattern_and_those_that_come_later(broker):
    for topic, low in (("rows-a", 0), ("rows-b", 10), ("other", 100)):
        make(broker, topic)
        produce(broker.bootstrap, topic, numbers(low, low + 10, 1))
    shared = read_all(source(broker.bootstrap, "^rows-", until="end")).shared
    assert shared.rows() == list(range(20))
    settings = {"start": "latest", "metadata_seconds": 0.5}
    stream, member = source(broker.bootstrap, ["^rows-", "other"], **settings), Member(shared)
    stream.open(member)
    read(stream, member, lambda: len(member.mine) == 3 and shared.parts["kafka:other:0"].position)
    make(broker, "rows-c")
    produce(broker.bootstrap, "rows-c", numbers(20, 30, 1))
    read(stream, member, lambda: shared.rows() == list(range(30)))
    stream.close()
    with pytest.raises(SourceError, match=r"topic '\^no-' does not exist"):
        source(broker.bootstrap, "^no-").open(Member(Shared()))


def test_at_a_rate(broker):
    topic = new_topic(broker.bootstrap, 2)
    produce(broker.bootstrap, topic, numbers(0, 100, 2))
    begin = time.monotonic()
    stream = source(broker.bootstrap, topic, until="end", rate=50.0)
    member = read_all(stream)
    assert member.shared.rows() == list(range(100))
    assert time.monotonic() - begin > 0.9  # never sooner: 50 at once, then 50 a second
