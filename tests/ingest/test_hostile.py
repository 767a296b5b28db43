"""The whole way of hostile rows: decode, judge, write down, save; in every format, through every kind of source."""

import io
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers import arrow, files
from streamsketch_consumers.columns import sound
from streamsketch_consumers.dead_letter import read_file
from streamsketch_consumers.kafka.chunks import Messages
from streamsketch_consumers.kafka.client import Partition, Record, Records
from streamsketch_consumers.kafka.settings import KafkaSettings

from benchmarks.hostile import consume
from testing.hostile import (
    AVRO,
    FILES,
    FORMATS,
    SCHEMA,
    VALUES,
    HostileMessages,
    bad,
    good,
    write_file,
)
from testing.sources import BareSource

ROWS = 600


@pytest.mark.parametrize("form", FORMATS)
def test_messages(form, tmp_path):
    consume(tmp_path, HostileMessages(form, ROWS, seed=3, block=97), ROWS)
    assert all(d.reason and "offset" in d.where for d in read_file(tmp_path / "dead.jsonl"))


@pytest.mark.parametrize("form", FILES)
def test_files(form, tmp_path):
    rng = random.Random(5)
    (tmp_path / "in").mkdir()
    rows = [good(i) if i % 10 == 0 else bad(i, rng) for i in range(ROWS)]
    write_file(form, tmp_path / f"in/a.{form}", rows, rng)
    consume(tmp_path, files.make({"path": str(tmp_path / "in"), "batch_rows": 97}, SCHEMA), ROWS)
    assert all(d.reason and "row" in d.where for d in read_file(tmp_path / "dead.jsonl"))


def test_a_stream_of_batches(tmp_path):
    rng = random.Random(7)
    rows = [good(i) if i % 10 == 0 else bad(i, rng) for i in range(ROWS)]
    write_file("arrow", tmp_path / "a.arrow", rows, rng)
    table = pa.ipc.open_file(str(tmp_path / "a.arrow")).read_all()
    with (
        pa.OSFile(str(tmp_path / "a.arrows"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table, 100)
    consume(tmp_path, arrow.make({"path": str(tmp_path / "a.arrows")}, SCHEMA), ROWS)


class Any(BareSource):
    """These messages."""

    def __init__(self, form, values):
        settings = KafkaSettings(topic="t", format=form, avro_schema=json.dumps(AVRO))
        self.messages, self.values = Messages(settings, SCHEMA), values

    def open(self, owner):
        owner.claim("kafka:t:0")

    def poll(self, timeout):
        self.finished = True
        numbers = range(len(self.values))
        yield from self.messages.chunks(
            Records(Partition("t", 0), self.values, numbers, lambda i: Record(i, 0, None, ())), {}
        )


rows = st.dictionaries(st.sampled_from([c.name for c in SCHEMA.columns]), st.sampled_from(VALUES))
anything = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.recursive(st.sampled_from(VALUES), lambda v: st.lists(v, max_size=3)).map(
        lambda v: json.dumps(v).encode()
    ),
    rows.map(lambda v: json.dumps({**good(0), **v}).encode()),
)


@pytest.mark.parametrize("form", ["json", "csv", "avro"])
@given(st.lists(anything, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_messages(form, tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("any")
    fine = [json.dumps(good(9)).encode()] * (form == "json")
    found = consume(folder, Any(form, [*values, *fine]), 1)
    assert found["learned"] >= len(fine)


def test_offsets_and_codes_that_point_outside_are_damage_and_text_is_not():
    texts = pa.array([b"\xff", b"a"]).view(pa.string())
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int8()), texts)
    for column in (
        texts,
        texts.cast(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
        codes,
    ):
        batch = pa.record_batch({"c": column})
        assert sound(batch) is batch
    offsets = pa.py_buffer(np.array([0, 900, 2], np.int32).tobytes())
    wild = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"ab")])
    with pytest.raises(pa.ArrowInvalid):
        sound(pa.record_batch({"c": wild}))
    beyond = pa.DictionaryArray.from_arrays(pa.array([0, 5], pa.int8()), texts, safe=False)
    with pytest.raises(pa.ArrowInvalid):
        sound(pa.record_batch({"c": beyond}))


def test_in_a_stream_only_the_row_that_is_not_text_is_refused(tmp_path):
    columns = {c.name: pa.array([good(i)[c.name] for i in range(4)]) for c in SCHEMA.columns}
    for name in ("t", "at"):
        columns[name] = columns[name].cast(pa.timestamp("us"))
    columns["c"] = pa.array([b"a", b"\xff", b"b", b"a"]).view(pa.string())
    batch = pa.record_batch(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as out:
        out.write_batch(batch)
    (tmp_path / "a.arrows").write_bytes(sink.getvalue())
    found = consume(tmp_path, arrow.make({"path": str(tmp_path / "a.arrows")}, SCHEMA), 4)
    assert found == {"learned": 3, "dead": 1, "duplicates": 0}
    (letter,) = read_file(tmp_path / "dead.jsonl")
    assert letter.where["row"] == 1 and letter.reason == "column 'c': the text is not UTF-8"
