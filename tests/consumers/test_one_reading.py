"""Values are read in one way, whatever they come in: messages and files, JSON, CSV and Arrow."""

import datetime as dt
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.decode import FORMATS, Options, decoder
from streamsketch_consumers.files import make

from streamsketch.errors import ConfigError, SchemaError
from streamsketch.schema import Column, Schema

LOW, HIGH = "0001-01-01T00:00:00", "9999-12-31T23:59:59"
KINDS = [
    "timestamp[s]",
    "timestamp[ms]",
    "timestamp[us]",
    "date32[day]",
    "time64[us]",
    "duration[s]",
]


def column(kind):
    if kind.startswith(("time6", "dur")):
        return Column("v", "numeric", kind, low=-1e12, high=1e12)
    return Column("v", "timestamp", kind, low=LOW, high=HIGH)


class Owner:
    def claim(self, part):
        return None


def from_file(path, schema, **settings):
    """The one column of the good rows of a file, and how many were bad."""
    source = make({"path": str(path), **settings}, schema)
    source.open(Owner())
    values, bad = [], 0
    while not source.finished:
        for chunk in source.poll(0.1):
            bad += len(chunk.dead)
            if chunk.batch is not None:
                values += encoded(schema, chunk.batch)
    return values, bad


def encoded(schema, batch):
    """The coordinates of the rows that the schema keeps."""
    return schema.encode(batch).x[:, 0].tolist()


VALUES = st.one_of(
    st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(lambda t: t.isoformat()),
    st.dates().map(str),
    st.times().map(str),
    st.integers(-(2**62), 2**62),
    st.integers(0, 86399),
    st.sampled_from(["2023-11-14T22:13:20Z", "1969-12-31 23:59:59.5+02:00", "P1DT2H", "later", "2023-02-30"]),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(values=st.lists(VALUES, min_size=1, max_size=8))
@settings(max_examples=12, deadline=None)
def test_files_accept_what_messages_accept_and_read_the_same(kind, values, tmp_path_factory):
    schema = Schema([column(kind)])
    folder = tmp_path_factory.mktemp("one")
    lines = [json.dumps({"v": v}) for v in values]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "a.csv").write_text("v\n" + "".join(f"{v}\n" for v in values))
    got = {}
    for format, messages in (("json", lines), ("csv", map(str, values))):
        rows, bad = decoder(format, schema)([m.encode() for m in messages])
        kept = [v for row in rows for v in encoded(schema, row.batch)]
        got[format] = (kept, len(bad))
    assert got["json"] == got["csv"]
    assert from_file(folder / "a.jsonl", schema) == got["json"]
    assert from_file(folder / "a.csv", schema) == got["json"]


@pytest.mark.parametrize("format", ["json", "ndjson", "csv", "avro"])
def test_epoch_milliseconds_are_milliseconds(format):
    schema = Schema(
        [Column("t", "event_time", "timestamp[ms]"), Column("x", "numeric", low=0, high=1)]
    )
    avro = json.dumps({"type": "record", "name": "r", "fields": [
        {"name": "t", "type": "long"}, {"name": "x", "type": "double"}]})  # fmt: skip
    stamp = 1_700_000_000_000
    message = json.dumps({"t": stamp, "x": 0.5}).encode()
    if format == "csv":
        message = f"{stamp},0.5".encode()
    if format == "avro":
        import fastavro

        out = io.BytesIO()
        fastavro.schemaless_writer(out, json.loads(avro), {"t": stamp, "x": 0.5})
        message = out.getvalue()
    rows, bad = decoder(format, schema, Options(avro_schema=avro))([message])
    assert not bad
    assert rows[0].batch["t"].cast(pa.timestamp("ms")).to_pylist() == [
        dt.datetime(2023, 11, 14, 22, 13, 20)
    ]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(
        [2**62, -(2**63), 10**400, "9999-12-31T23:59:59-14:00", "0000-01-01", 4611686018427387904]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
WIDE = Schema(
    [
        Column("n", "numeric", low=0, high=1, nulls="indicator"),
        Column("i", "categorical", "int16", values=(1, 2)),
        Column("c", "categorical", "string", values=("a", "b")),
        Column("b", "boolean", "bool"),
        Column("t", "timestamp", "timestamp[ms]", low="2020-01-01", high="2021-01-01", outside="refuse"),
        Column("d", "timestamp", "date32[day]", low="2020-01-01", high="2021-01-01"),
        Column("o", "numeric", "time32[s]", low=0, high=86399),
        Column("p", "numeric", "decimal128(9, 2)", low=0, high=10),
        Column("v", "vector", "fixed_size_list<float>[2]", low=0, high=1),
        Column("u", "user_id", "string"),
    ]
)  # fmt: skip


@pytest.mark.parametrize("format", ["json", "ndjson"])
@given(
    st.lists(
        st.fixed_dictionaries({c.name: ANYTHING for c in WIDE.columns}), min_size=1, max_size=6
    )
)
@settings(max_examples=60, deadline=None)
def test_no_value_stops_a_decoder_or_a_codec(format, rows):
    messages = [json.dumps(row).encode() for row in rows]
    found, bad = decoder(format, WIDE)(messages)
    assert sum(r.batch.num_rows for r in found) + len(bad) == len(messages)
    for row in found:
        kept = WIDE.encode(row.batch)
        assert np.isfinite(kept.x).all()
        assert len(kept.rows) + len({r.row for r in kept.rejected}) == row.batch.num_rows


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)))
@settings(max_examples=80, deadline=None)
def test_no_bytes_stop_a_decoder(data, format):
    schema = Schema.vectors(2, 0, 1) if format == "raw-f32" else WIDE
    if format in ("avro", "csv"):
        schema = Schema([c for c in WIDE.columns if c.kind != "vector"])
    avro = json.dumps(
        {"type": "record", "name": "r", "fields": [{"name": "n", "type": ["null", "double"]}]}
    )
    found, bad = decoder(format, schema, Options(avro_schema=avro))([data, data])
    assert all(b.reason for b in bad) and (bad or found)


def test_decimals_come_back_from_json_text():
    schema = Schema([Column("p", "numeric", "decimal128(12, 2)", low=0, high=1000)])
    rows, bad = decoder("json", schema)(
        [b'{"p": "642.75"}', b'{"p": 1.5}', b'{"p": "1_0"}', b'{"p": "x"}']
    )
    assert rows[0].batch["p"].to_pylist() == [642.75, 1.5] and [b.message for b in bad] == [2, 3]
    strict = Schema([Column("p", "numeric", low=0, high=1000)])
    assert len(decoder("json", strict)([b'{"p": "642.75"}'])[1]) == 1


def test_nan_in_json_is_a_number_that_is_missing():
    schema = Schema([Column("x", "numeric", low=0, high=1, nulls="indicator")])
    rows, bad = decoder("json", schema)([b'{"x": NaN}', b'{"x": 1}', b'{"x": nan}'])
    assert [b.message for b in bad] == [2]
    assert schema.decode(schema.encode(rows[0].batch).x)["x"].to_pylist() == [None, 1.0]


# --- files


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "shift_jis", "utf-8"])
def test_text_files_of_other_encodings(tmp_path, encoding):
    names = ("Köln", "Münster") if encoding != "shift_jis" else ("東京", "大阪")
    schema = Schema([Column("city", "categorical", "string", values=names)])
    text = "city\n" + "".join(f"{names[i % 2]}\n" for i in range(9000))
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    values, bad = from_file(tmp_path / "a.csv", schema, encoding=encoding)
    assert (len(values), sum(values), bad) == (9000, 4500, 0)


def test_a_byte_that_is_not_of_the_encoding_is_one_dead_row(tmp_path):
    schema = Schema([Column("c", "categorical", "string", values=("a", "b"))])
    (tmp_path / "a.csv").write_bytes("c\na\n".encode("ascii") + b"\xe9\n" + b"b\n")
    assert from_file(tmp_path / "a.csv", schema)[1] == 1
    assert from_file(tmp_path / "a.csv", schema, encoding="utf-8-sig")[1] == 1
    (tmp_path / "b.csv").write_bytes(b"c\na\n\x81\nb\n")
    assert from_file(tmp_path / "b.csv", schema, encoding="cp1252")[1] == 1


def test_numbers_written_for_people(tmp_path):
    schema = Schema([Column("x", "numeric", low=-2e6, high=2e6, nulls="indicator")])
    lines = ["1.234.567,5", "-12,25", "7", "NA", "", "+3", "1.2", "12.34,5"]
    (tmp_path / "a.csv").write_text("x;k\n" + "".join(f"{v};1\n" for v in lines))
    options = {"delimiter": ";", "decimal": ",", "thousands": ".", "null_numbers": ["NA"]}
    source = make({"path": str(tmp_path / "a.csv"), **options}, schema)
    source.open(Owner())
    (chunk,) = source.poll(1.0)
    assert chunk.batch["x"].to_pylist() == [1234567.5, -12.25, 7, None, None, 3]
    assert [d.where["row"] for d in chunk.dead] == [6, 7]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_folders_that_name_columns(tmp_path, suffix):
    schema = Schema(
        [
            Column("x", "numeric", low=0, high=10),
            Column("year", "categorical", "int64", values=(2023, 2024)),
            Column("city", "categorical", "string", values=("New York",), nulls="category"),
        ]
    )
    for year, city in ((2023, "New%20York"), (2024, "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / f"year={year}" / f"city={city}"
        folder.mkdir(parents=True)
        table = pa.table({"x": [1.0, 2.0]})
        if suffix == ".parquet":
            pq.write_table(table, folder / "part.parquet")
        else:
            text = "x\n1\n2\n" if suffix == ".csv" else '{"x": 1}\n{"x": 2}\n'
            (folder / f"part{suffix}").write_text(text)
    source = make({"path": str(tmp_path)}, schema)
    source.open(Owner())
    rows = []
    while not source.finished:
        rows += [r for c in source.poll(0.1) for r in c.batch.to_pylist()]
    assert [(r["x"], r["year"], r["city"]) for r in rows] == [
        (1.0, 2023, "New York"), (2.0, 2023, "New York"), (1.0, 2024, None), (2.0, 2024, None),
    ]  # fmt: skip
    (tmp_path / "year=soon").mkdir()
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "year=soon" / "a.parquet")
    source = make({"path": str(tmp_path)}, schema)
    source.open(Owner())
    with pytest.raises(SchemaError, match="year=soon.*rename the folder"):
        while not source.finished:
            source.poll(0.1)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"encoding": "klingon"}, "klingon"),
        ({"decimal": ";"}, "decimal"),
        ({"decimal": ",", "thousands": ","}, "must differ"),
    ],
)
def test_a_wrong_dialect_says_what_is_wrong(tmp_path, setting, says):
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(ConfigError, match=says):
        make({"path": str(tmp_path / "a.csv"), **setting}, Schema.vectors(1, 0, 1))
