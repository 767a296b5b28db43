"""Dead letters: kept once flushed, in a file or a topic, raw bytes and all."""

import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaConsumer
from streamsketch_consumers.dead_letter import FileDeadLetters, make_file, make_kafka, read_file
from streamsketch_consumers.kafka import sink as kafka_sink

from streamsketch.errors import ConfigError, StoreError
from streamsketch.ingest.streams import Dead
from testing.broker import BrokerProcess
from testing.kafka_tools import new_topic


@given(st.lists(st.one_of(st.binary(max_size=20), st.text(max_size=20))))
@settings(max_examples=50, deadline=None)
def test_file_keeps_what_came(tmp_path_factory, raws):
    path = tmp_path_factory.mktemp("dead") / "dead.jsonl"
    letters = make_file({"path": str(path)})
    letters.put([Dead(raw, f"reason {i}", {"offset": i}) for i, raw in enumerate(raws)])
    letters.flush()
    found = read_file(path)
    letters.close()
    as_bytes = [
        raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw for raw in raws
    ]
    assert [(d.raw, d.reason, d.where) for d in found] == [
        (raw, f"reason {i}", {"offset": i}) for i, raw in enumerate(as_bytes)
    ]


def test_file_is_private_and_survives_a_torn_line(tmp_path):
    path = tmp_path / "new" / "dead.jsonl"
    letters = FileDeadLetters(path)
    letters.put([Dead(b"one", "bad", {})])
    letters.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])  # killed while it wrote
    letters = FileDeadLetters(path)
    letters.put([Dead(b"two", "bad", {})])
    letters.close()
    assert [d.raw for d in read_file(path)] == [b"one", b"two"]


def test_no_file_goes_before_there_are_too_many(tmp_path):
    path = tmp_path / "dead.jsonl"
    letters = FileDeadLetters(path, max_bytes=1, keep=10)
    for number in range(12):
        letters.put([Dead(b"x", "bad", {"n": number})])
        letters.flush()
        kept = {int(p.suffix[1:]) for p in tmp_path.glob("dead.jsonl.*")}
        assert kept == set(range(max(1, number - 8), number + 2))
    letters.close()


def test_file_is_put_aside_when_full(tmp_path):
    path = tmp_path / "dead.jsonl"
    letters = FileDeadLetters(path, max_bytes=100, keep=2)
    for i in range(5):
        letters.put([Dead(b"x" * 100, "bad", {"offset": i})])
        letters.flush()
    letters.put([Dead(b"last", "bad", {"offset": 5})])
    letters.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "dead.jsonl",
        "dead.jsonl.4",
        "dead.jsonl.5",
    ]
    kept = [read_file(path.with_name(f"dead.jsonl.{i}"))[0].where["offset"] for i in (4, 5)]
    assert kept == [3, 4] and read_file(path)[0].raw == b"last"


def test_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="dead letters cannot be written"):
        make_file({"path": str(tmp_path / "file" / "dead.jsonl")})
    with pytest.raises(ConfigError, match="max_bytes: input should"):
        make_file({"path": str(tmp_path / "dead.jsonl"), "max_bytes": 0})
    if (full := _full_device()) is not None:
        letters = FileDeadLetters(full)
        letters.put([Dead(b"x", "bad", {})])
        with pytest.raises(StoreError, match="make room"):
            letters.flush()
        with pytest.raises(StoreError):
            letters.close()


def _full_device():
    from pathlib import Path

    full = Path("/dev/full")
    return full if full.exists() else None


def test_topic_gets_raw_bytes_and_position(own_broker):
    topic = new_topic(own_broker.bootstrap, 1)
    letters = make_kafka({"bootstrap_servers": own_broker.bootstrap, "topic": topic})
    where = {"topic": "t", "partition": 3, "offset": 7, "key": "k", "headers": {"a": "b"}}
    letters.put([Dead(b"\xff\0", "not valid JSON", where), Dead("{}", "null", {})])
    letters.flush()
    letters.close()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=own_broker.bootstrap, auto_offset_reset="earliest"
    )
    found = []
    while len(found) < 2:
        for records in consumer.poll(500).values():
            found += records
    consumer.close()
    assert [bytes(r.value) for r in found] == [b"\xff\0", b"{}"] and found[0].key == b"k"
    headers = {name: value.decode() for name, value in found[0].headers}
    assert headers.pop("headers") == json.dumps({"a": "b"})
    assert headers == {"reason": "not valid JSON", "topic": "t", "partition": "3", "offset": "7"}


def test_flush_refuses_until_the_broker_has_all(tmp_path, monkeypatch):
    """A position must not be saved before the dead letters up to it are safe."""
    monkeypatch.setattr(kafka_sink, "FLUSH_SECONDS", 0.5)
    broker = BrokerProcess(tmp_path)
    topic = new_topic(broker.bootstrap, 1)
    letters = make_kafka({"bootstrap_servers": broker.bootstrap, "topic": topic})
    letters.put([Dead(b"one", "bad", {})])
    letters.flush()
    broker.kill()
    letters.put([Dead(b"two", "bad", {})])
    with pytest.raises(StoreError, match="1 messages were not acknowledged"):
        letters.flush()
    broker.start()
    monkeypatch.setattr(kafka_sink, "FLUSH_SECONDS", 20.0)
    letters.flush()
    letters.close()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    )
    found = set()
    while len(found) < 2:
        for records in consumer.poll(500).values():
            found |= {bytes(r.value) for r in records}
    consumer.close()
    broker.close()
    assert found == {b"one", b"two"}


def test_a_topic_that_does_not_exist_is_told_at_the_first_flush(own_broker, monkeypatch):
    monkeypatch.setattr(kafka_sink, "BLOCK_MS", 500)
    letters = make_kafka({"bootstrap_servers": own_broker.bootstrap, "topic": "absent"})
    with pytest.raises(ConfigError, match="topic 'absent' does not exist"):
        letters.flush()


def test_topic_must_be_named():
    with pytest.raises(ConfigError, match="topic is missing"):
        make_kafka({})
