"""Decoders: every good message's rows, every bad message set apart, whatever the neighbours."""

import datetime as dt
import io
import json
import struct

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode import FORMATS, Limits, Options, decoder
from streamsketch_consumers.decode.values import convert, split, values_of

from streamsketch.errors import ConfigError
from streamsketch.schema import Column, Schema

MIXED = Schema(
    [
        Column("x", "numeric", "double", low=0, high=9),
        Column("n", "numeric", "int64", low=0, high=9, nulls="indicator"),
        Column("c", "categorical", "string", values=("a", "b")),
        Column("k", "categorical", "int8", values=(1, 2)),
        Column("t", "timestamp", "timestamp[s]", low="2013-01-01", high="2014-01-01"),
        Column("b", "boolean", "bool"),
    ]
)
GOOD = {"x": 0.5, "n": 3, "c": "a", "k": 1, "t": "2013-05-01T10:00:00", "b": True}
POINTS = Schema.vectors(3, -1, 1)
AVRO = {
    "type": "record",
    "name": "Point",
    "fields": [{"name": f"x{j}", "type": ["null", "double"]} for j in range(3)],
}


def dumps(**changes):
    return json.dumps(GOOD | changes).encode()


def ipc(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue()


def points(n, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (n, 3))
    return pa.table({f"x{j}": values[:, j] for j in range(3)})


def avro_record(**fields):
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, AVRO, fields)
    return sink.getvalue()


def options(name, **changes):
    return Options(avro_schema=json.dumps(AVRO) if name == "avro" else "", **changes)


def outcome(decode, values):
    """Rows as (message, row) and the bad messages, for comparison; NaN made comparable."""
    rows, bad = decode(values)
    found = []
    for part in rows:
        part.batch.validate(full=True)
        assert len(part.origin) == part.batch.num_rows
        found += zip(part.origin.tolist(), map(repr, part.batch.to_pylist()), strict=True)
    return found, [(b.message, b.line, b.raw) for b in bad]


def check_each_alone(name, schema, values):
    """A block gives exactly what its messages give one by one."""
    decode = decoder(name, schema, options(name))
    together = outcome(decode, values)
    rows, bad = [], []
    for i, value in enumerate(values):
        alone_rows, alone_bad = outcome(decode, [value])
        rows += [(i, row) for _, row in alone_rows]
        bad += [(i, line, raw) for _, line, raw in alone_bad]
        assert alone_rows or alone_bad  # nothing disappears
    assert together == (rows, bad)
    for entry in decode(values)[1]:
        assert entry.reason and "\n" not in entry.reason[:20]


JSON_ISH = st.one_of(
    st.builds(lambda x: dumps(x=x), st.floats(0, 9)),
    st.just(dumps()),
    st.sampled_from(
        [
            b"null", b"{}null{}", b"{}", b"[1]", b"3", b"\xef\xbb\xbf" + dumps(), b'{"x":1',
            b'{"x":1}{"x":2}', dumps() + dumps(), dumps() + b"\n" + dumps(), b" \n", b"\x00", b"",
            dumps(x="3"), dumps(x=True), dumps(x=None), dumps(x=[1]), dumps(n=2**62), dumps(n=1.5),
            dumps(n=2**70), dumps(c=3), dumps(c="a" * 50), dumps(k=300), dumps(k=1.0), dumps(b=1),
            dumps(t=5), dumps(t="soon"), dumps(t="2013-05-01T10:00:00Z"), dumps(t="20130501"),
            b'{"c":"\\ud800"}', b'{"c":"\xff"}', b'{"x":NaN}', b'{"x":1e999}', b"{" * 3000,
            None,
        ]
    ),
    st.binary(max_size=30),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


@given(st.lists(JSON_ISH, max_size=12))
@settings(max_examples=150, deadline=None)
def test_json_block_is_its_messages(values):
    check_each_alone("json", MIXED, values)


@given(st.lists(st.lists(JSON_ISH, max_size=4).map(lambda m: b"\n".join(filter(None, m)))))
@settings(max_examples=80, deadline=None)
def test_ndjson_block_is_its_messages(values):
    check_each_alone("ndjson", MIXED, values)


CSV_CELL = st.sampled_from(
    [
        "1", "0.5", "a", "b", "", '"a,b"', '"', "2013-05-01", "true", "FALSE", "x\ry", "\0", " 2",
        "nan", "é", "1e999",
    ]
)  # fmt: skip
CSV_LINE = st.one_of(
    st.just(b"0.5,3,a,1,2013-05-01 10:00:00,true"),
    st.just(b"0.5,3,a,1,2013-05-01 10:00:00,true\n0.1,,b,2,2013-05-02,false\n"),
    st.lists(CSV_CELL, max_size=8).map(lambda cells: ",".join(cells).encode()),
    st.binary(max_size=20),
    st.just(b"\xef\xbb\xbf0.5,3,a,1,2013-05-01,true"),
)


@given(st.lists(CSV_LINE, max_size=10))
@settings(max_examples=150, deadline=None)
def test_csv_block_is_its_messages(values):
    check_each_alone("csv", MIXED, values)


def flipped(data, at, bit):
    out = bytearray(data)
    out[at % len(out)] ^= 1 << bit
    return bytes(out)


def corrupt(data):
    """The message as it is, with a bit flipped, cut, or with bytes put in."""
    return st.one_of(
        st.just(data),
        st.builds(
            lambda at, bit: flipped(data, at, bit), st.integers(0, 10**6), st.integers(0, 7)
        ),
        st.integers(0, len(data)).map(lambda at: data[:at]),
        st.builds(
            lambda at, more: data[:at] + more + data[at:],
            st.integers(0, len(data)),
            st.binary(min_size=1, max_size=8),
        ),
        st.binary(max_size=40),
    )


MESSAGES = {
    "arrow": [
        ipc(points(4)),
        ipc(points(4), compression="zstd"),
        ipc(points(3).cast(pa.schema([(f"x{j}", pa.float32()) for j in range(3)]))),
    ],
    "raw-f32": [np.ones((2, 3), "<f4").tobytes()],
    "avro": [avro_record(x0=1.0, x1=None, x2=2.0)],
    "json": [json.dumps({"x0": 1, "x1": 2.5, "x2": 0}).encode()],
    "csv": [b"1,2.5,0"],
    "ndjson": [b'{"x0": 1, "x1": 2.5, "x2": 0}\n' * 2],
}


@pytest.mark.parametrize("name", sorted(FORMATS))
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_corrupted_messages_are_set_apart(name, data):
    each = st.one_of([corrupt(message) for message in MESSAGES[name]])
    check_each_alone(name, POINTS, data.draw(st.lists(each, max_size=8)))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_good_messages_have_no_bad(name):
    values = MESSAGES[name] * 3
    rows, bad = decoder(name, POINTS, options(name))(values)
    assert bad == []
    assert sorted({i for part in rows for i in part.origin}) == list(range(len(values)))


def test_a_long_block_is_its_messages():
    good = [b'{"x0": %d, "x1": 0, "x2": 1}' % i for i in range(3000)]
    values = [b"?" if i % 701 == 0 else value for i, value in enumerate(good)]
    (rows,), bad = decoder("json", Schema.vectors(3, 0, 10**6))(values)
    expected = [i for i in range(3000) if i % 701]
    assert rows.origin.tolist() == expected == rows.batch["x0"].to_pylist()
    assert [b.message for b in bad] == list(range(0, 3000, 701))


def test_json_values_and_reasons():
    decode = decoder("json", MIXED)
    values = [dumps(), dumps(x="3"), dumps(n=None), b"nope", dumps(b=1), b"[]", b'{"x": 1}']
    rows, bad = decode(values)
    assert rows[0].origin.tolist() == [0, 2]
    expected = GOOD | {"n": 3.0, "t": dt.datetime(2013, 5, 1, 10)}
    assert rows[0].batch.to_pylist() == [expected, expected | {"n": None}]
    reasons = {b.message: b.reason for b in bad}
    assert reasons[1] == "field 'x' is '3', not a number"
    assert reasons[3].startswith("not valid JSON")
    assert reasons[4] == "field 'b' is 1, not true or false"
    assert reasons[5] == "[] is not an object with the schema's fields"
    assert reasons[6] == "no field 'n'"


def test_missing_field_as_null():
    rows, bad = decoder("json", MIXED, Options(missing="null"))([b'{"x": 1}'])
    assert bad == [] and rows[0].batch.to_pylist()[0]["n"] is None


def test_times_without_zone_are_utc():
    kind = pa.timestamp("us")
    texts = ["2013-05-01T10:00:00", "2013-05-01T12:00:00+02:00", "2013-05-01T10:00:00Z"]
    assert (
        values_of(texts, Reading(kind, kind))[0].to_pylist() == [dt.datetime(2013, 5, 1, 10)] * 3
    )
    zoned = pa.timestamp("us", tz="UTC")
    aware = values_of(texts, Reading(zoned, zoned))[0].to_pylist()
    assert aware == [dt.datetime(2013, 5, 1, 10, tzinfo=dt.UTC)] * 3


@given(st.lists(st.sampled_from([1, 2.5, None, "x", True, 2**70]), min_size=1, max_size=40))
def test_split_finds_exactly_the_bad(values):
    array, bad = split(values, lambda part: convert(part, pa.float64()), pa.float64())
    assert bad == [i for i, v in enumerate(values) if v == "x" or v is True]
    assert len(array) == len(values)


def test_vector_columns():
    schema = Schema([Column("v", "vector", "fixed_size_list<float>[2]", low=0, high=1)])
    rows, bad = decoder("json", schema)([b'{"v": [0, 1]}', b'{"v": [0]}', b'{"v": "ab"}'])
    assert rows[0].batch.column(0).to_pylist() == [[0.0, 1.0]] and [b.message for b in bad] == [
        1,
        2,
    ]
    rows, bad = decoder("raw-f32", schema)([struct.pack("<4f", 0, 1, 2, 3), b"abc"])
    assert rows[0].batch.column(0).to_pylist() == [[0.0, 1.0], [2.0, 3.0]]
    assert rows[0].origin.tolist() == [0, 0] and bad[0].message == 1


def test_raw_f32_refuses_other_columns():
    with pytest.raises(ConfigError, match="numeric columns"):
        decoder("raw-f32", MIXED)


def test_size_limits():
    limits = Limits(message_bytes=2000, rows=10, decoded_bytes=2000)
    decode = decoder("arrow", POINTS, Options(limits=limits))
    zeros = pa.table({f"x{j}": np.zeros(9) for j in range(3)})
    bomb = pa.table({f"x{j}": np.zeros(10**6) for j in range(3)}).slice(0, 10)
    values = [ipc(zeros), ipc(points(11)), ipc(points(200)), ipc(bomb, compression="zstd")]
    rows, bad = decode(values)
    assert rows[0].batch.num_rows == 19  # the last one's slice is small again
    assert [b.reason.split(":")[-1].strip() for b in bad] == [
        "11 rows, more than max_rows = 10",
        f"{len(values[2])} bytes, more than max_message_bytes = 2000",
    ]


def test_compression_bomb_is_refused_before_it_is_unpacked():
    table = pa.table({f"x{j}": np.zeros(200_000) for j in range(3)})
    value = ipc(table, compression="zstd")
    assert len(value) < 4000
    before = pa.total_allocated_bytes()
    decode = decoder("arrow", POINTS, Options(limits=Limits(decoded_bytes=1 << 20)))
    rows, bad = decode([value])
    assert rows == [] and "after decompression" in bad[0].reason
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_arrow_wrong_columns_name_the_column():
    decode = decoder("arrow", MIXED)
    rows, bad = decode([ipc(points(2))])
    assert rows == [] and "no column 'x'" in bad[0].reason


def test_arrow_categories_join_across_messages():
    schema = Schema([Column("c", "categorical", "string", values=("a", "b"))])
    one = pa.table({"c": pa.array(["a", "b"]).dictionary_encode()})
    two = pa.table({"c": pa.array(["b"]).dictionary_encode()})
    rows, bad = decoder("arrow", schema)([ipc(one), ipc(two)])
    assert bad == [] and len(rows) == 1
    assert rows[0].batch.to_pydict() == {"c": ["a", "b", "b"]}
    assert rows[0].origin.tolist() == [0, 0, 1]


def test_arrow_category_out_of_the_declared_type_is_bad():
    schema = Schema([Column("k", "categorical", "int8", values=(1, 2))])
    values = [ipc(pa.table({"k": [1]})), ipc(pa.table({"k": [300]}))]
    rows, bad = decoder("arrow", schema)(values)
    assert rows[0].batch.to_pydict() == {"k": [1]} and bad[0].message == 1


def test_avro_header_and_trailing_bytes():
    record = avro_record(x0=1.0, x1=None, x2=2.0)
    decode = decoder("avro", POINTS, options("avro", confluent_header=True))
    rows, bad = decode([b"\0\0\0\0\7" + record, record, b"\0\0\0\0\7" + record + b"!"])
    assert rows[0].batch.to_pylist() == [{"x0": 1.0, "x1": None, "x2": 2.0}]
    assert [b.message for b in bad] == [1, 2]


@pytest.mark.parametrize(
    "declared",
    [
        "",
        "{",
        '"string"',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", '
        '"items": "null"}}]}',
    ],
)
def test_avro_schema_must_be_flat(declared):
    with pytest.raises(ConfigError, match="avro_schema"):
        decoder("avro", POINTS, Options(avro_schema=declared))


def test_unknown_format_names_the_known():
    with pytest.raises(ConfigError, match="raw-f32"):
        decoder("xml", POINTS)
