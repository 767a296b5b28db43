"""Messages with a schema registry: schemas change in mid-stream, and registries go away."""

import base64
import io
import json
import logging
import struct
import threading
import time

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.decode import (
    Options,
    RegistrySettings,
    RegistryUnavailable,
    decoder,
    registry,
)
from streamsketch_consumers.decode.registry import Registry, Schemas
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.errors import ConfigError, SourceError
from streamsketch.schema import Column, Schema
from testing.kafka_tools import Member, Shared, new_topic, produce, read, read_all, source
from testing.registry import RegistryServer

pytest.importorskip("confluent_kafka.schema_registry")
from confluent_kafka.schema_registry import Schema as Theirs
from confluent_kafka.schema_registry import SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

COLUMNS = Schema(
    [
        Column("x", "numeric", "double", low=0, high=100, nulls="indicator"),
        Column("c", "categorical", "string", values=("A", "B")),
    ]
)


@pytest.fixture
def server():
    found = RegistryServer()
    yield found
    found.close()


def register(server, subject, text, kind="AVRO", references=()):
    """By the library's own client."""
    client = SchemaRegistryClient({"url": server.url})
    named = [SchemaReference(name, other, version) for name, other, version in references]
    return client.register_schema(subject, Theirs(text, kind, named))


def decode_with(server, format, schema=COLUMNS, **options):
    return decoder(format, schema, Options(registry=RegistrySettings(server.url), **options))


def header(number, kind="AVRO", indexes=None):
    return SchemaId(kind, number, message_indexes=indexes).id_to_bytes()


def record(*fields, **more):
    return {"type": "record", "name": "Row", "fields": [dict(f) for f in fields], **more}


def avro_message(number, schema, row):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return header(number) + out.getvalue()


def rows_of(found):
    return [row for rows in found for row in rows.batch.to_pylist()]


def reasons(bad):
    return {b.message: b.reason for b in bad}


X = {"name": "x", "type": ["null", "double"]}
C = {"name": "c", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B", "Z"]}}
NEW = {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []}
X_TEXT, C_TEXT = {"name": "x", "type": "string"}, {"name": "c", "type": "string"}


def test_avro_schemas_change_in_mid_stream(server):
    writers = [
        (record(X, C), {"x": 1.5, "c": "A"}),
        (record(C_TEXT, NEW, X), {"x": 2.5, "c": "B", "tags": ["new"]}),  # a new field, any order
        (record(C), {"c": "A"}),  # a column is gone
        (record(X_TEXT, C), {"x": "3", "c": "A"}),  # a column is of another type
        (record(X, C), {"x": 4.5, "c": "A"}),
    ]
    numbers = [register(server, "rows-value", json.dumps(schema)) for schema, _ in writers]
    assert numbers == [1, 2, 3, 4, 1]
    values = [avro_message(n, *writer) for n, writer in zip(numbers, writers, strict=True)]
    decode = decode_with(server, "avro")
    found, bad = decode(values)
    assert [i for rows in found for i in rows.origin] == [0, 1, 4]
    assert rows_of(found) == [{"x": 1.5, "c": "A"}, {"x": 2.5, "c": "B"}, {"x": 4.5, "c": "A"}]
    assert reasons(bad) == {2: "no field 'x'", 3: "field 'x' is '3', not a number"}
    assert server.asked == [f"/schemas/ids/{n}" for n in (1, 2, 3, 4)]
    assert decode(values)[1] == bad and len(server.asked) == 4  # fetched once
    found, bad = decode_with(server, "avro", missing="null")(values)
    assert rows_of(found)[2] == {"x": None, "c": "A"} and list(reasons(bad)) == [3]
    _, bad = decode_with(server, "avro", extra="refuse")(values)
    assert reasons(bad)[1] == "field 'tags' is not declared"


def test_avro_schemas_that_cannot_be_used(server):
    twice = {"name": "next", "type": ["null", "Row"]}
    empty = {"name": "a", "type": {"type": "array", "items": "null"}}
    schemas = {
        "holds itself": record(X, C, twice),
        "take no bytes": record(X, C, empty),
        "not a record": {"type": "array", "items": "double"},
        "not an Avro schema": {"type": "record", "name": "Row", "fields": [{"name": "x"}]},
    }
    numbers = [register(server, "s", json.dumps(schema)) for schema in schemas.values()]
    values = [header(n) + b"\0" * 8 for n in numbers]
    found, bad = decode_with(server, "avro")(values)
    assert found == []
    for (i, reason), expected in zip(reasons(bad).items(), schemas, strict=True):
        assert f"schema {numbers[i]} of the registry: " in reason and expected in reason


def test_avro_types_of_other_subjects(server):
    kind = {"type": "enum", "name": "test.Kind", "symbols": ["A", "B"]}
    register(server, "kind", json.dumps(kind))
    row = record(X, {"name": "c", "type": "test.Kind"})
    number = register(server, "row", json.dumps(row), references=[("test.Kind", "kind", 1)])
    value = avro_message(number, record(X, {"name": "c", "type": kind}), {"x": 1, "c": "B"})
    found, bad = decode_with(server, "avro")([value])
    assert rows_of(found) == [{"x": 1.0, "c": "B"}] and not bad


def file(text):
    return text_format.Parse(
        'name: "row.proto" syntax: "proto3" ' + text, descriptor_pb2.FileDescriptorProto()
    )


def field(name, number, kind, label="OPTIONAL", more=""):
    return f'field {{ name: "{name}" number: {number} label: LABEL_{label} type: TYPE_{kind} {more} }}'


ENUM = 'enum_type { name: "Kind" value { name: "A" number: 0 } value { name: "B" number: 1 } }'
KIND = 'type_name: ".Kind"'
PRESENT = "proto3_optional: true oneof_index: 0"
ONEOF = 'oneof_decl { name: "_x" }'
ROW = f"{field('x', 1, 'DOUBLE', more=PRESENT)} {field('c', 2, 'ENUM', more=KIND)} {ONEOF}"


def proto_number(server, descriptor, subject="p", references=()):
    text = base64.b64encode(descriptor.SerializeToString()).decode()
    return register(server, subject, text, "PROTOBUF", references)


def proto_class(*descriptors, name="Row"):
    pool = descriptor_pool.DescriptorPool()
    for known in ("timestamp", "wrappers"):
        pool.Add(well_known(known))
    for descriptor in descriptors:
        pool.Add(descriptor)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def well_known(name):
    from importlib import import_module

    found = descriptor_pb2.FileDescriptorProto()
    import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.CopyToProto(found)
    return found


def proto_message(number, indexes, message):
    return header(number, "PROTOBUF", indexes) + message.SerializeToString()


def test_protobuf_schemas_change_in_mid_stream(server):
    first = file(f'{ENUM} message_type {{ name: "Row" {ROW} }}')
    more = file(f'{ENUM} message_type {{ name: "Row" {ROW} {field("n", 3, "INT64")} }}')
    gone = file(f'{ENUM} message_type {{ name: "Row" {field("c", 2, "ENUM", more=KIND)} }}')
    text = field("x", 1, "STRING")
    other = file(
        f'{ENUM} message_type {{ name: "Row" {text} {field("c", 2, "ENUM", more=KIND)} }}'
    )
    many = file(f'message_type {{ name: "Row" {field("x", 1, "DOUBLE", "REPEATED")} }}')
    values = []
    for descriptor, row in (
        (first, {"x": 1.5, "c": 1}),
        (more, {"x": 2.5, "n": 7}),  # c is 0, its default, which is no missing value in Protobuf
        (gone, {"c": 1}),
        (other, {"x": "3"}),
        (many, {"x": [1.0, 2.0]}),
        (first, {"c": 1}),  # x is optional, and absent
        (first, {"x": 1.0, "c": 9}),  # not in the enum
    ):
        number = proto_number(server, descriptor)
        values.append(proto_message(number, [0], proto_class(descriptor)(**row)))
    decode = decode_with(server, "protobuf")
    found, bad = decode(values)
    assert rows_of(found) == [{"x": 1.5, "c": "B"}, {"x": 2.5, "c": "A"}]
    wrong = reasons(bad)
    assert wrong[2] == wrong[5] == "no field 'x'" and "not a number" in wrong[3]
    assert "'x' is repeated" in wrong[4] and "'c' is 9" in wrong[6]
    assert len(server.asked) == 5
    found, bad = decode_with(server, "protobuf", missing="null")(values)
    assert [row["x"] for row in rows_of(found)] == [1.5, 2.5, None, None]
    _, bad = decode_with(server, "protobuf", extra="refuse")(values)
    assert reasons(bad)[1].endswith("field 'n' is not declared") and 0 not in reasons(bad)


def test_protobuf_types_within_types_and_of_other_files(server):
    kinds = file(ENUM)
    kinds.name = "kinds.proto"
    proto_number(server, kinds, "kinds")
    stamp = 'type_name: ".google.protobuf.Timestamp"'
    double = 'type_name: ".google.protobuf.DoubleValue"'
    row = (
        f"{field('x', 1, 'MESSAGE', more=double)} {field('c', 2, 'ENUM', more=KIND)} "
        f"{field('t', 3, 'MESSAGE', more=stamp)}"
    )
    rows = file(
        'dependency: "kinds.proto" dependency: "google/protobuf/timestamp.proto" '
        'dependency: "google/protobuf/wrappers.proto" message_type { name: "Other" } '
        f'message_type {{ name: "Outer" nested_type {{ name: "A" }} nested_type {{ name: "Row" {row} }} }}'
    )
    number = proto_number(server, rows, references=[("kinds.proto", "kinds", 1)])
    message = proto_class(kinds, rows, name="Outer.Row")(c=1)
    message.x.value = 3.0
    message.t.FromJsonString("2020-05-01T10:00:00Z")
    schema = Schema(
        [
            *COLUMNS.columns,
            Column("t", "timestamp", "timestamp[s]", low="2020-01-01", high="2021-01-01"),
        ]
    )
    good = proto_message(number, [1, 1], message)
    unknown = proto_message(number, [1, 0], message)  # a type without those fields
    absent = proto_message(number, [1, 7], message)
    found, bad = decode_with(server, "protobuf", schema)([good, unknown, absent, good[:6]])
    (only,) = rows_of(found)
    assert (only["x"], only["c"], only["t"].isoformat()) == (3.0, "B", "2020-05-01T10:00:00")
    wrong = reasons(bad)
    assert "fields that its schema does not have" in wrong[1] and "no message type" in wrong[2]
    assert "ends within the indexes" in wrong[3]


def test_json_messages(server):
    number = register(server, "j", '{"type": "object"}', "JSON")
    avro = register(server, "a", json.dumps(record(X, C)))
    values = [
        header(number) + b'{"x": 1.5, "c": "A", "more": []}',
        header(avro) + b'{"x": 1.5, "c": "A"}',
        b'{"x": 1.5, "c": "A"}',
        header(77) + b'{"x": 1.5, "c": "A"}',
        header(number) + b'{"x": 1.5, "c": ',
        header(number) + b'{"x": 2.5, "c": "B"}',
        None,
    ]
    found, bad = decode_with(server, "json")(values)
    assert rows_of(found) == [{"x": 1.5, "c": "A"}, {"x": 2.5, "c": "B"}]
    assert [i for rows in found for i in rows.origin] == [0, 5]
    wrong = reasons(bad)
    assert "of type AVRO, not JSON" in wrong[1] and "zero byte" in wrong[2]
    assert "no schema 77" in wrong[3] and "not valid JSON" in wrong[4] and "tombstone" in wrong[6]


@pytest.fixture(scope="module")
def decoders():
    server = RegistryServer()
    register(server, "s", json.dumps(record(X, C, NEW)))
    register(server, "s", "{}", "JSON")
    proto_number(server, file(f'{ENUM} message_type {{ name: "Row" {ROW} }}'))
    yield [decode_with(server, format) for format in ("avro", "json", "protobuf")]
    server.close()


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=30)), max_size=6))
def test_whatever_comes_is_good_or_bad_by_itself(decoders, values):
    values = [header(number) + value if number else value for number, value in values]
    for decode in decoders:
        found, bad = decode(values)
        good = [i for rows in found for i in rows.origin]
        assert sorted([*good, *(b.message for b in bad)]) == list(range(len(values)))
        assert all(b.reason for b in bad)
        for i, value in enumerate(values):
            assert bool(decode([value])[0]) == (i in good)


# --- the registry itself


def test_what_is_kept_is_bounded_and_unknown_ids_are_asked_again(server, monkeypatch):
    monkeypatch.setattr(registry, "KEPT", 3)
    monkeypatch.setattr(registry, "UNKNOWN_SECONDS", 0.1)
    numbers = [register(server, "j", f'{{"title": "{i}"}}', "JSON") for i in range(5)]
    kept = Schemas(Registry(RegistrySettings(server.url)), "JSON", lambda found: found.text)
    assert [kept[n] for n in numbers] == [server.schemas[n]["schema"] for n in numbers]
    assert len(kept._kept) == 3
    for _ in range(2):
        with pytest.raises(ValueError, match="no schema 6"):
            kept[6]
    asked = len(server.asked)
    assert server.asked.count("/schemas/ids/6") == 1
    time.sleep(0.12)
    assert register(server, "j", '{"title": "late"}', "JSON") == 6
    assert "late" in kept[6] and len(server.asked) == asked + 1


@pytest.mark.parametrize("gone", ["refused", "status"])
def test_a_registry_that_is_gone_is_asked_rarely_and_said_once(server, caplog, monkeypatch, gone):
    monkeypatch.setattr(registry, "FIRST_WAIT", 0.1)
    number = register(server, "j", "{}", "JSON")
    decode = decode_with(server, "json")
    server.stop() if gone == "refused" else setattr(server, "status", 503)
    with caplog.at_level(logging.WARNING, logger="consumers"):
        for _ in range(50):
            with pytest.raises(RegistryUnavailable):
                decode([header(number) + b'{"x": 1, "c": "A"}'])
        assert len(server.asked) < 10  # each wait is longer than the one before
        server.start() if gone == "refused" else setattr(server, "status", 200)
        time.sleep(0.3)
        found, bad = decode([header(number) + b'{"x": 1, "c": "A"}'])
    assert len(rows_of(found)) == 1 and not bad
    assert caplog.text.count("does not answer") == 1 and "answers again" in caplog.text


def test_user_and_password(monkeypatch, caplog, tmp_path):
    server = RegistryServer("me:hunter2")
    server.register("j", {"schema": "{}", "schemaType": "JSON"})
    (tmp_path / "password").write_text("hunter2\n")
    monkeypatch.setenv("REGISTRY_USER", "me")
    common = {"topic": "t", "registry": server.url, "registry_username": "env:REGISTRY_USER"}
    right = KafkaSettings(**common, registry_password=f"file:{tmp_path / 'password'}")
    message = header(1) + b'{"x": 1, "c": "A"}'
    with caplog.at_level(logging.DEBUG):
        found, _ = decoder("json", COLUMNS, right.decoding())([message])
        assert len(rows_of(found)) == 1
        wrong = KafkaSettings(**common, registry_password="env:REGISTRY_USER")
        with pytest.raises(SourceError, match="HTTP status 401; correct registry, registry_user"):
            decoder("json", COLUMNS, wrong.decoding())([message])
    assert "hunter2" not in caplog.text + repr(right) + repr(right.decoding())
    server.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"registry": "nowhere"}, "http:// or https:// address"),
        ({"registry": "http://me:hunter2@host"}, "must not hold a user or password"),
        ({"registry": "http://host", "format": "csv"}, "'csv' has no schemas in a registry"),
        ({"registry": "http://host", "avro_schema": "{}"}, "use one way"),
        ({"registry": "http://host", "registry_password": "hunter2"}, "must not stand in"),
        ({"registry": "https://host", "registry_cafile": "absent.pem"}, "TLS settings do not fit"),
    ],
)
def test_settings_that_do_not_fit(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        source("127.0.0.1:9", "t", **given)
    assert "hunter2" not in str(caught.value)


def test_protobuf_from_a_registry_without_serialized_schemas(server):
    number = register(server, "p", 'syntax = "proto3"; message Row {}', "PROTOBUF")
    with pytest.raises(SourceError, match="format=serialized"):
        decode_with(server, "protobuf")([header(number, "PROTOBUF", [0])])


# --- over Kafka


def messages(number, low, high):
    return [(i % 2, header(number) + json.dumps({"x0": i}).encode()) for i in range(low, high)]


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_registry_that_goes_and_comes_back_costs_no_rows(
    own_broker, server, client, monkeypatch
):
    monkeypatch.setattr(registry, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(registry, "LONGEST_WAIT", 0.1)
    topic = new_topic(own_broker.bootstrap, 2)
    first, second = (register(server, "j", f'{{"title": "{i}"}}', "JSON") for i in range(2))
    produce(own_broker.bootstrap, topic, messages(first, 0, 100))
    given = {"client": client, "registry": server.url, "format": "json", "max_records": 30}
    stream, member = source(own_broker.bootstrap, topic, **given), Member(Shared())
    stream.open(member)
    read(stream, member, lambda: member.shared.rows() == list(range(100)))
    server.stop()
    produce(own_broker.bootstrap, topic, messages(second, 100, 300))
    for _ in range(15):
        assert list(stream.poll(0.1)) == []
    stop, other = threading.Event(), Member(member.shared)

    def run(stream, member):
        while not stop.is_set():
            for chunk in stream.poll(0.1):
                member.learn(chunk)
            member.save()
        stream.close()

    joining = source(own_broker.bootstrap, topic, **given)
    joining.open(other)
    both = [(stream, member), (joining, other)]
    threads = [threading.Thread(target=run, args=each) for each in both]
    for thread in threads:
        thread.start()
    # the group goes on: a partition moves while the registry is gone
    wait_for(lambda: len(member.mine) == len(other.mine) == 1)
    assert member.shared.rows() == list(range(100))
    server.start()
    wait_for(lambda: member.shared.rows() == list(range(300)))
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not member.dead and not other.dead


def wait_for(condition, limit=90.0):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s"
        time.sleep(0.02)


def test_unknown_schemas_become_dead_letters(own_broker, server):
    topic = new_topic(own_broker.bootstrap, 1)
    number = register(server, "j", "{}", "JSON")
    good = [m for _, m in messages(number, 0, 3)]
    bad = [struct.pack(">BI", 0, unknown) + b"{}" for unknown in (99, 2**32 - 1)]
    produce(own_broker.bootstrap, topic, [(0, m) for m in good + bad])
    member = read_all(source(own_broker.bootstrap, topic, until="end", registry=server.url))
    assert member.shared.rows() == [0, 1, 2]
    assert [(d.raw, d.where["offset"]) for d in member.dead] == [(bad[0], 3), (bad[1], 4)]
    assert "no schema 99" in member.dead[0].reason and "no schema 42949" in member.dead[1].reason
