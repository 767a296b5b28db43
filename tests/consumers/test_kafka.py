"""The Kafka source on several brokers: every row once, wherever it starts and stops."""

import io
import logging
import threading
import time

import numpy as np
import orjson
import pyarrow as pa
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from streamsketch_consumers.kafka import contact
from streamsketch_consumers.kafka import source as kafka_source

from streamsketch import Snapshot, Store
from streamsketch.errors import SourceError
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.windows import Windows
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Column, Schema
from testing import kafka_tools
from testing.broker import BrokerProcess
from testing.ingest_worker import operator
from testing.kafka_tools import (
    Member,
    Shared,
    new_topic,
    numbers,
    produce,
    read,
    read_all,
    source,
)


@pytest.fixture(autouse=True, params=["kafka-python", "confluent"])
def client(request, monkeypatch):
    """Every test runs with each client."""
    if request.param == "confluent":
        pytest.importorskip("confluent_kafka")
    monkeypatch.setattr(kafka_tools, "CLIENT", request.param)
    return request.param


def ipc(values):
    table = pa.table({"x0": values})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


# --- on every broker


def test_every_row_once_and_the_bad_set_apart(bootstrap):
    topic = new_topic(bootstrap)
    bad = (2, b"\xff{", b"key", [("origin", b"probe")])
    produce(bootstrap, topic, [*numbers(0, 1000), bad, *numbers(1000, 2000)])
    member = read_all(source(bootstrap, topic, until="end", max_records=300))
    assert member.shared.rows() == list(range(2000))
    (letter,) = member.dead
    assert letter.raw == b"\xff{" and letter.reason.startswith("not valid JSON")
    expected = {"topic": topic, "partition": 2, "offset": 250, "key": "key"}
    assert letter.where == expected | {"headers": {"origin": "probe"}}
    offsets = {name: part.position["offset"] for name, part in member.shared.parts.items()}
    ends = [500, 500, 501, 500]
    assert offsets == {f"kafka:{topic}:{p}": ends[p] for p in range(4)}
    read = member.shared.parts[f"kafka:{topic}:2"].position["read"]
    assert read[0][0] == 500  # the newest record that was read stands in the position


def test_goes_on_from_the_saved_position_whatever_was_committed(bootstrap):
    topic = new_topic(bootstrap, 1)
    produce(bootstrap, topic, numbers(0, 100, 1))
    member = read_all(source(bootstrap, topic, until="end"))
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=f"g-{topic}")
    assert consumer.committed(TopicPartition(topic, 0)) == 100  # for those who watch the group
    consumer.close()
    produce(bootstrap, topic, numbers(100, 150, 1))
    (part,) = member.shared.parts.values()
    part.position, part.rows = {"offset": 40}, part.rows[:40]
    again = read_all(source(bootstrap, topic, until="end"), member.shared)
    assert again.shared.rows() == list(range(150))


def test_members_share_and_hand_over(bootstrap):
    topic = new_topic(bootstrap)
    produce(bootstrap, topic, numbers(0, 400))
    shared, members, stops, threads = Shared(), [], [], []

    def run(member, stop):
        stream = source(bootstrap, topic, max_records=50)
        stream.open(member)
        read(stream, member, stop.is_set, limit=60)
        stream.close()

    def join():
        members.append(Member(shared))
        stops.append(threading.Event())
        threads.append(threading.Thread(target=run, args=(members[-1], stops[-1])))
        threads[-1].start()

    join()
    wait_for(lambda: len(members[0].mine) == 4)
    join()
    wait_for(lambda: [len(m.mine) for m in members] == [2, 2])
    produce(bootstrap, topic, numbers(400, 800))
    wait_for(lambda: shared.rows() == list(range(800)))
    stops[0].set()
    wait_for(lambda: len(members[1].mine) == 4)
    produce(bootstrap, topic, numbers(800, 1000))
    wait_for(lambda: shared.rows() == list(range(1000)))
    stops[1].set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_topics_that_are_empty_or_absent(bootstrap):
    topic = new_topic(bootstrap)
    member = read_all(source(bootstrap, topic, until="end"))
    assert member.shared.rows() == []
    for part in member.shared.parts.values():
        assert part.position["offset"] == 0 and "read" not in part.position
    with pytest.raises(SourceError, match=r"topic 'absent' does not exist .* wait_for_topic"):
        source(bootstrap, "absent").open(Member(Shared()))


def wait_for(condition, limit=40.0):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s"
        time.sleep(0.02)


# --- on our broker, which can be killed, cut and extended


def test_cooperative_members_keep_what_stays_theirs(own_broker):
    topic = new_topic(own_broker.bootstrap)
    produce(own_broker.bootstrap, topic, numbers(0, 400))
    shared = Shared()
    members = [Member(shared), Member(shared)]
    stops = [threading.Event(), threading.Event()]

    def run(i):
        stream = source(own_broker.bootstrap, topic, assignment="cooperative")
        stream.open(members[i])
        read(stream, members[i], stops[i].is_set)
        stream.close()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    threads[0].start()
    wait_for(lambda: len(members[0].mine) == 4)
    threads[1].start()
    wait_for(lambda: [len(m.mine) for m in members] == [2, 2])
    kept = set(members[0].mine)
    for stop in stops:
        stop.set()
    for thread in threads:
        thread.join(20)
    assert not [part for what, part in members[0].log if what == "revoke" and part in kept]
    assert shared.rows() == list(range(400))


def test_arrow_messages_of_two_schemas(own_broker):
    topic = new_topic(own_broker.bootstrap, 1)
    doubles, floats = ipc([1.0, 2.0]), ipc(pa.array([3, 4], pa.float32()))
    produce(own_broker.bootstrap, topic, [(0, v) for v in (doubles, b"?", floats, b"??")])
    stream = source(own_broker.bootstrap, topic, format="arrow", until="end")
    member = Member(Shared())
    stream.open(member)
    chunks = read(stream, member)
    stream.close()
    assert [c.position["offset"] for c in chunks if c.batch or c.dead] == [1, 4]
    assert [d.where["offset"] for d in member.dead] == [1, 3]
    assert member.shared.rows() == [1, 2, 3, 4]
    assert chunks[-1].where["rows"][1]["offset"] == 2


def test_chunks_that_were_not_taken_come_again(own_broker):
    """The pipeline leaves the iterator when a save is due."""
    topic = new_topic(own_broker.bootstrap)
    produce(own_broker.bootstrap, topic, numbers(0, 400))
    stream, member = source(own_broker.bootstrap, topic, until="end"), Member(Shared())
    stream.open(member)
    while not stream.finished:
        for chunk in stream.poll(0.1):
            member.learn(chunk)
            break
    member.save()
    stream.close()
    assert member.shared.rows() == list(range(400))


def test_latest_starts_behind_what_is_there_and_says_where(own_broker):
    topic = new_topic(own_broker.bootstrap, 1)
    produce(own_broker.bootstrap, topic, numbers(0, 10, 1))
    stream, member = source(own_broker.bootstrap, topic, start="latest"), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: member.shared.parts and member.save())
    assert next(iter(member.mine.values())).position == {"offset": 10}
    produce(own_broker.bootstrap, topic, numbers(10, 20, 1))
    read(stream, member, lambda: member.shared.rows() == list(range(10, 20)))
    stream.close()


def test_paused_it_reads_nothing_and_stays_a_member(own_broker):
    topic = new_topic(own_broker.bootstrap)
    stream, member = source(own_broker.bootstrap, topic), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: len(member.mine) == 4)
    stream.pause()
    produce(own_broker.bootstrap, topic, numbers(0, 100))
    for _ in range(5):
        assert list(stream.poll(0.1)) == []
    stream.resume()
    read(stream, member, lambda: member.shared.rows() == list(range(100)))
    assert len(member.mine) == 4
    assert stream.lag() == {f"kafka:{topic}:{p}": 0 for p in range(4)}
    stream.close()


def test_new_partitions_are_found(own_broker):
    topic = new_topic(own_broker.bootstrap, 2)
    produce(own_broker.bootstrap, topic, numbers(0, 100, 2))
    stream, member = source(own_broker.bootstrap, topic, metadata_seconds=0.5), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: member.shared.rows() == list(range(100)))
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
    admin.create_partitions({topic: 3})
    admin.close()
    produce(own_broker.bootstrap, topic, [(2, orjson.dumps({"x0": 100}))])
    # the join lasts longer than a poll: kafka-python alone would forget it
    read(stream, member, lambda: member.shared.rows() == list(range(101)), timeout=0.01)
    stream.close()


def test_a_static_member_that_comes_back_takes_its_own_place(own_broker):
    topic = new_topic(own_broker.bootstrap)
    produce(own_broker.bootstrap, topic, numbers(0, 100))
    settings = {"group_instance_id": "one", "session_timeout_ms": 60_000}
    shared = Shared()
    first = source(own_broker.bootstrap, topic, **settings)
    first.open(member := Member(shared))
    read(first, member, lambda: shared.rows() == list(range(100)))
    produce(own_broker.bootstrap, topic, numbers(100, 200))
    again = source(own_broker.bootstrap, topic, **settings)  # the first has not left the group
    again.open(member := Member(shared))
    read(again, member, lambda: shared.rows() == list(range(200)), limit=20)
    again.close()
    first.close()


def test_waits_for_a_topic(own_broker):
    topic = new_topic(own_broker.bootstrap, 1) + "-later"
    stream, member = source(own_broker.bootstrap, topic, wait_for_topic=True), Member(Shared())
    stream.open(member)
    assert list(stream.poll(0.1)) == []
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    admin.close()
    produce(own_broker.bootstrap, topic, numbers(0, 5, 1))
    read(stream, member, lambda: member.shared.rows() == list(range(5)))
    stream.close()


def delete_before(bootstrap, topic, offset):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition(topic, 0): offset})
    admin.close()


def test_retention_past_the_position_stops_or_is_recorded(own_broker, caplog):
    bootstrap = own_broker.bootstrap
    topic = new_topic(bootstrap, 1)
    produce(bootstrap, topic, numbers(0, 100, 1))
    member = read_all(source(bootstrap, topic, until="end"))
    produce(bootstrap, topic, numbers(100, 300, 1))
    delete_before(bootstrap, topic, 150)
    with pytest.raises(SourceError, match=r"offsets 100 to 149 were deleted .* on_gap"):
        read_all(source(bootstrap, topic, until="end"), member.shared)
    settings = {"until": "end", "on_gap": "continue"}
    with caplog.at_level(logging.ERROR):
        read_all(source(bootstrap, topic, **settings), member.shared)
    assert "offsets 100 to 149 were deleted" in caplog.text
    (part,) = member.shared.parts.values()
    assert (part.position["offset"], part.position["gaps"]) == (300, [[100, 150]])
    assert member.shared.rows() == [*range(100), *range(150, 300)]
    produce(bootstrap, topic, numbers(300, 310, 1))
    read_all(source(bootstrap, topic, until="end"), member.shared)
    assert (part.position["offset"], part.position["gaps"]) == (310, [[100, 150]])


def test_a_position_beyond_the_end_stops(own_broker):
    topic = new_topic(own_broker.bootstrap, 1)
    produce(own_broker.bootstrap, topic, numbers(0, 10, 1))
    member = read_all(source(own_broker.bootstrap, topic, until="end"))
    next(iter(member.shared.parts.values())).position = {"offset": 99}
    with pytest.raises(SourceError, match="made anew"):
        read_all(source(own_broker.bootstrap, topic), member.shared)


def test_broker_gone_and_back(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(contact, "PROBE_SECONDS", 0.3)
    broker = BrokerProcess(tmp_path)
    topic = new_topic(broker.bootstrap)
    produce(broker.bootstrap, topic, numbers(0, 100))
    stream, member = source(broker.bootstrap, topic), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: member.shared.rows() == list(range(100)))
    broker.kill()
    with caplog.at_level(logging.WARNING, logger="streamsketch_consumers.kafka"):
        read(stream, member, lambda: "do not answer" in caplog.text)
        for _ in range(5):
            assert list(stream.poll(0.1)) == []
        broker.start()
        produce(broker.bootstrap, topic, numbers(100, 200))
        read(stream, member, lambda: member.shared.rows() == list(range(200)))
    assert caplog.text.count("do not answer") == 1 and "answers again" in caplog.text
    broker.kill()
    stream.close()  # does not wait for it for ever


def test_a_broker_that_dies_while_a_member_starts_is_waited_for(tmp_path, monkeypatch):
    broker = BrokerProcess(tmp_path)
    topic = new_topic(broker.bootstrap)
    produce(broker.bootstrap, topic, numbers(0, 100))

    def connect_and_die(*args):
        consumer = contact.connect(*args)
        broker.kill()
        return consumer

    monkeypatch.setattr(kafka_source, "connect", connect_and_die)
    stream, member = source(broker.bootstrap, topic), Member(Shared())
    stream.open(member)
    assert list(stream.poll(0.1)) == []
    broker.start()
    read(stream, member, lambda: member.shared.rows() == list(range(100)))
    stream.close()
    broker.close()


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
def test_aborted_transactions_are_hidden_or_not(own_broker, level, monkeypatch):
    monkeypatch.setattr(kafka_source, "HIDDEN_SECONDS", 1.0)
    topic = new_topic(own_broker.bootstrap, 1)
    producer = KafkaProducer(bootstrap_servers=own_broker.bootstrap, transactional_id=f"p{topic}")
    producer.init_transactions()
    for start, commit in ((0, True), (10, False), (20, True), (30, False)):
        producer.begin_transaction()
        for partition, value in numbers(start, start + 10, 1):
            producer.send(topic, value, partition=partition)
        producer.flush()  # an abort would drop what was not sent yet
        producer.commit_transaction() if commit else producer.abort_transaction()
    member = read_all(source(own_broker.bootstrap, topic, until="end", isolation_level=level))
    committed = [*range(10), *range(20, 30)]
    assert member.shared.rows() == (committed if level == "read_committed" else list(range(40)))
    producer.begin_transaction()  # and one that is still open
    producer.send(topic, numbers(50, 51, 1)[0][1], partition=0)
    producer.flush()
    again = read_all(source(own_broker.bootstrap, topic, until="end", isolation_level=level))
    assert (50 in again.shared.rows()) == (level == "read_uncommitted")
    producer.abort_transaction()
    producer.close()


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_compressed_messages(own_broker, codec):
    pytest.importorskip({"zstd": "zstandard"}.get(codec, codec))
    topic = new_topic(own_broker.bootstrap, 1)
    producer = KafkaProducer(bootstrap_servers=own_broker.bootstrap, compression_type=codec)
    for i in range(20):
        producer.send(topic, b'{"x0": %d}' % i, partition=0)
    producer.flush(20)
    producer.close()
    assert read_all(source(own_broker.bootstrap, topic, until="end")).shared.rows() == [*range(20)]


def test_a_huge_message_is_a_dead_letter_and_reading_goes_on(own_broker):
    topic, size = new_topic(own_broker.bootstrap, 1), 20 << 20
    producer = KafkaProducer(bootstrap_servers=own_broker.bootstrap, max_request_size=size * 2)
    for value in (b'{"x0": 1}', b'{"x0": "' + b"1" * size, b'{"x0": 2}'):
        producer.send(topic, value, partition=0).get(20)
    producer.close()
    member = read_all(source(own_broker.bootstrap, topic, until="end"))
    assert member.shared.rows() == [1, 2]
    (letter,) = member.dead
    assert "more than max_message_bytes" in letter.reason
    assert letter.where["bytes"] == size + 8 and len(letter.raw) == 1 << 20


@pytest.mark.parametrize(
    ("security", "problem"),
    [
        (
            {"security_protocol": "SSL"},
            "not answered|transport failure",
        ),  # by a port that does not speak TLS
        ({"security_protocol": "SSL", "ssl_cafile": "absent.pem"}, "security settings"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
            | dict.fromkeys(("sasl_plain_username", "sasl_plain_password"), "env:PATH"),
            "security settings",
        ),
    ],
)
def test_security_settings_that_do_not_fit(own_broker, monkeypatch, security, problem):
    monkeypatch.setattr(contact, "GRACE_SECONDS", 0.5)
    stream = source(own_broker.bootstrap, "t", connect_seconds=0.5, **security)
    with pytest.raises(SourceError, match=problem):
        stream.open(Member(Shared()))


def test_no_broker_at_the_start():
    stream = source("127.0.0.1:9", "t", connect_seconds=0.5)
    with pytest.raises(SourceError, match=r"no Kafka broker answers at 127.0.0.1:9"):
        stream.open(Member(Shared()))


def test_message_timestamps_as_a_column(own_broker):
    schema = Schema(
        [
            Column("x0", "numeric", low=0, high=100),
            Column("at", "timestamp", "timestamp[ms]", low="2020-01-01", high="2100-01-01"),
            Column("old", "derived", "bool", keys=("at",), table=(("2020-01-01", True),)),
        ]
    )
    topic = new_topic(own_broker.bootstrap, 1)
    began = time.time() - 0.001  # stamps are whole milliseconds
    produce(own_broker.bootstrap, topic, numbers(0, 3, 1))
    stream = source(own_broker.bootstrap, topic, schema, until="end", timestamp_column="at")
    member = Member(Shared())
    stream.open(member)
    batches = [c.batch for c in read(stream, member) if c.batch]
    stream.close()
    (batch,) = batches
    assert len(schema.encode(batch).x) == 3
    assert began <= batch["at"][0].as_py().timestamp() <= time.time()


def test_windows_of_the_messages_own_time_over_partitions(own_broker, tmp_path):
    """Each partition has its own order; one is empty; sums are those of grouping by hand."""
    schema = Schema(
        [Column("x0", "numeric", low=0, high=100), Column("at", "event_time", "timestamp[ms]")]
    )
    topic, hour = new_topic(own_broker.bootstrap, 3), 3_600_000
    times = [0, 1, 0, 2, 1, 4, 3, 5]  # hours; of partition i % 2, in this order
    producer = KafkaProducer(bootstrap_servers=own_broker.bootstrap)
    for i, hours in enumerate(times):
        stamp = 1_700_006_400_000 + hours * hour
        value = orjson.dumps({"x0": i})
        producer.send(topic, value, partition=i % 2, timestamp_ms=stamp).get(5)
    producer.close()
    features = operator(schema)
    store = Store(tmp_path / "store")
    run = Ingest(
        source(own_broker.bootstrap, topic, schema, until="end", timestamp_column="at"),
        schema, features, State(tmp_path / "state", features), store,
        lambda: Releaser(features, schema, memory="tumbling"),
        schedule=Schedule(save_seconds=0.05, seconds=None), windows=Windows("at", 3600),
    )  # fmt: skip
    run.run(threading.Event())
    # partition 0 has the hours 0 0 1 3, partition 1 has 1 2 4 5: nobody is late
    found = {}
    for name in store.snapshots.names():
        snapshot = Snapshot.from_bytes(store.snapshots.read(name), name)
        found[snapshot.span["window"]["start"][11:13]] = snapshot
    assert {k: s.count for k, s in found.items()} == {f"{h:02}": times.count(h) for h in range(6)}
    x = schema.encode(pa.table({"x0": [1.0, 4.0], "at": [0, 0]})).x  # both of hour 1
    total = np.rint(found["01"].mean * 2**16 * 2).astype(np.int64)
    assert (total == features.sum(x)).all() and sum(p.late for p in run.state.parts()) == 0
