"""Limits before the cost: what is small on the wire and large in memory, and producers that say nothing."""

import io
import socket
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamsketch_consumers import arrow, files
from streamsketch_consumers.arrow import crowd
from streamsketch_consumers.decode.binary import BodyLimit
from streamsketch_consumers.files import binary, pieces

from streamsketch import Schema
from streamsketch.errors import DataError
from streamsketch.schema import Column

SCHEMA = Schema(
    [
        Column("c", "categorical", "string", values=("a", "b")),
        Column("x", "numeric", low=0, high=1),
    ]
)
MIB = 1 << 20


class Owner:
    def claim(self, part):
        return None


def stream(batch, compression="zstd"):
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as out:
        out.write_batch(batch)
    return sink.getvalue()


def junk(mib):
    return pa.array([b"\0" * (mib * MIB)], pa.large_binary())


def chunks(source, seconds=20.0):
    source.open(Owner())
    got, end = [], time.monotonic() + seconds
    while not source.finished:
        assert time.monotonic() < end
        got += source.poll(0.05)
    source.close()
    return got


def rows(got):
    return sum(c.batch.num_rows for c in got if c.batch is not None)


@pytest.fixture
def taken():
    """What Arrow's memory grew by, at most, since the test began to read."""
    pool = pa.default_memory_pool()
    before = max(pool.bytes_allocated(), pool.max_memory())
    return lambda: max(0, pool.max_memory() - before) / MIB


def test_columns_that_are_not_read_are_not_unpacked(tmp_path, taken):
    data = stream(pa.record_batch({"c": ["a"], "j": junk(64), "x": [0.5], "k": junk(64)}))
    before = taken()
    assert len(data) < MIB / 16
    for name in ("a.arrows", "b.arrows"):
        (tmp_path / name).write_bytes(data)
    got = chunks(arrow.make({"path": str(tmp_path / "a.arrows")}, SCHEMA))
    got += chunks(files.make({"path": str(tmp_path / "b.arrows")}, SCHEMA))
    assert rows(got) == 2 and got[0].batch.schema.names == ["c", "x"]
    assert taken() - before < 8


@pytest.mark.parametrize("column", ["text", "codes"])
def test_a_column_that_is_read_is_measured_before_it_is_unpacked(column, tmp_path, taken):
    text = pa.array(["a" * 64 * MIB])
    if column == "codes":
        text = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), text)
    data = stream(pa.record_batch({"j": junk(1), "c": text, "x": [0.5]}))
    before = taken()
    (tmp_path / "a.arrows").write_bytes(data)
    settings = {"path": str(tmp_path / "a.arrows"), "max_message_bytes": 16 * MIB}
    with pytest.raises(DataError, match="after decompression exceeds the limit of 16777216"):
        chunks(arrow.make(settings, SCHEMA))
    (letter,) = [
        d for c in chunks(arrow.make({**settings, "on_error": "dlq"}, SCHEMA)) for d in c.dead
    ]
    assert "after decompression" in letter.reason
    assert taken() - before < 8


def test_which_buffers_are_counted():
    """Against what Arrow itself takes for the columns that are read."""
    columns = {
        "n": pa.nulls(9),
        "b": pa.array([True] * 9),
        "s": pa.array(["x" * 999] * 9),
        "l": pa.array([[1, 2]] * 9),
        "f": pa.array([[1.0, 2.0]] * 9, pa.list_(pa.float32(), 2)),
        "t": pa.array([{"a": 1, "b": "y" * 500}] * 9),
        "m": pa.array([[("k", 1)]] * 9, pa.map_(pa.string(), pa.int64())),
        "d": pa.array(["q"] * 9).dictionary_encode(),
        "v": pa.array(np.zeros(9)),
    }
    batch = pa.record_batch(columns)
    messages = list(pa.ipc.MessageReader.open_stream(pa.py_buffer(stream(batch))))
    body = next(m for m in messages if m.type == "record batch")
    types = batch.schema.types
    for i, name in enumerate(columns):
        size = 8 * columns[name].nbytes + 1000  # with padding and all of the bits
        BodyLimit(types, {i}, size)(body.metadata.to_pybytes(), body.body)
        if name in ("s", "t"):
            with pytest.raises(DataError, match="after decompression"):
                BodyLimit(types, {i}, 4000)(body.metadata.to_pybytes(), body.body)
    BodyLimit(types, set(), 0)(body.metadata.to_pybytes(), body.body)


def test_a_text_that_many_rows_of_a_parquet_file_share(tmp_path, monkeypatch):
    for module in (binary, pieces):
        monkeypatch.setattr(module, "PART_BYTES", MIB)
    codes = pa.array(np.arange(300, dtype=np.int32) % 2)
    text = pa.DictionaryArray.from_arrays(codes, pa.array(["a" * MIB, "b"]))
    pq.write_table(pa.table({"c": text, "x": np.linspace(0, 1, 300)}), tmp_path / "a.parquet")
    got = chunks(files.make({"path": str(tmp_path)}, SCHEMA))
    assert rows(got) == 300 and max(c.batch.nbytes for c in got) < 3 * MIB
    whole = pa.Table.from_batches([c.batch for c in got])
    assert whole["x"].to_pylist() == np.linspace(0, 1, 300).tolist()
    assert [len(v) for v in whole["c"].to_pylist()] == [MIB, 1] * 150


def connected(source):
    found = socket.create_connection(source.address)
    return found


def poll_until(source, n, seconds=15.0):
    got, end = 0, time.monotonic() + seconds
    while got < n:
        assert time.monotonic() < end, f"only {got} rows came"
        got += rows(source.poll(0.05))
    return got


def listening():
    settings = {"path": "tcp://127.0.0.1:0", "listen": True, "keep_open": True, "on_error": "skip"}
    source = arrow.make(settings, SCHEMA)
    source.open(Owner())
    return source


def test_silent_producers_do_not_hold_up_the_others():
    source = listening()
    silent = [connected(source) for _ in range(3)]
    silent[0].sendall(stream(pa.record_batch({"c": ["a"], "x": [0.5]}))[:100])
    data = stream(pa.record_batch({"c": ["a"] * 7, "x": [0.5] * 7}))
    good = connected(source)
    good.sendall(data)
    assert poll_until(source, 7) == 7
    good.sendall(data)  # goes on although it had been quiet
    assert poll_until(source, 7) == 7
    source.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("_read")]
    for s in [*silent, good]:
        s.close()


def test_where_there_is_no_more_room_the_most_silent_makes_some(monkeypatch, caplog):
    monkeypatch.setattr(crowd, "MOST", 2)
    monkeypatch.setattr(crowd, "SILENT_SECONDS", 0.3)
    source = listening()
    data = stream(pa.record_batch({"c": ["a"], "x": [0.5]}))
    silent = [connected(source) for _ in range(2)]
    good = connected(source)
    good.sendall(data)
    assert poll_until(source, 1) == 1 and "the most silent one is cut off" in caplog.text
    source.close()
    for s in [*silent, good]:
        s.close()


def test_names_of_columns_cannot_forge_lines_of_the_log(caplog):
    source = listening()
    evil = "a\n2026-01-01 ERROR forged\x1b[2J"
    with connected(source) as producer:
        for k in "12":
            producer.sendall(stream(pa.record_batch({"c": ["a"], "x": [0.5], evil + k: [1.0]})))
    poll_until(source, 2)
    source.close()
    assert "columns changed" in caplog.text
    assert "\n2026" not in caplog.text and "\x1b" not in caplog.text
