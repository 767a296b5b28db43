"""The Arrow stream source over real pipes, sockets and standard input."""

import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.arrow import make, wire

from streamsketch.errors import ConfigError, DataError, SchemaError, SourceError
from streamsketch.schema import Column, Schema

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=1e9),
        Column("c", "categorical", "string", values=("a", "b")),
    ]
)


def rows(n, start=0):
    c = ["a" if i % 3 else "b" for i in range(n)]
    return pa.table({"extra": np.zeros(n), "n": np.arange(start, start + n), "c": c})


def stream(table, batch=10):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as w:
        w.write_table(table, max_chunksize=batch)
    return sink.getvalue().to_pybytes()


class Owner:
    def __init__(self, rows):
        self.rows = rows

    def claim(self, part):
        return {"rows": self.rows} if self.rows else None


def opened(rows=0, schema=SCHEMA, **settings):
    source = make(settings, schema)
    source.open(Owner(rows))
    return source


def read(source, until=None, seconds=10.0):
    got, end = [], time.monotonic() + seconds
    try:
        while not source.finished and (until is None or len(numbers(got)) < until):
            assert time.monotonic() < end, f"only {len(numbers(got))} rows came"
            got += source.poll(0.05)
    finally:
        source.close()
    return got


def numbers(got):
    return [v for c in got if c.batch is not None for v in c.batch.column("n").to_pylist()]


def dead(got):
    return [d for c in got for d in c.dead]


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def send(address, data, pause_at=None):
    with socket.create_connection(address, timeout=5) as s:
        if pause_at is not None:
            s.sendall(data[:pause_at])
            time.sleep(0.2)
            data = data[pause_at:]
        s.sendall(data)


def test_named_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = opened(path=str(path), batch_rows=7)
    assert not source.poll(0.05)  # no producer yet
    writer = in_thread(path.write_bytes, stream(rows(100)))
    got = read(source)
    writer.join(5)
    assert numbers(got) == list(range(100))
    assert [c.position["rows"] for c in got] == list(np.cumsum([c.batch.num_rows for c in got]))
    assert max(c.batch.num_rows for c in got) == 7
    assert got[3].where == {"stream": str(path), "row": got[2].position["rows"]}
    assert got[0].batch.schema.names == ["n", "c"]


def test_a_named_pipe_that_is_kept_open(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = opened(path=str(path), keep_open=True)
    got = []
    for k in range(3):
        writer = in_thread(path.write_bytes, stream(rows(20, 20 * k)))
        while len(numbers(got)) < 20 * (k + 1):
            got += source.poll(0.05)
        writer.join(5)
    source.close()
    assert numbers(got) == list(range(60)) and got[-1].position == {"rows": 60}


def test_standard_input():
    program = (
        "import sys; from streamsketch_consumers.arrow import make; from streamsketch.schema import Schema\n"
        "class Owner:\n    def claim(self, part): return None\n"
        "s = make({'path': '-'}, Schema.vectors(1, 0, 1000)); s.open(Owner()); n = 0\n"
        "while not s.finished:\n    n += sum(c.batch.num_rows for c in s.poll(0.1))\n"
        "s.close(); print(n)"
    )
    data = stream(pa.table({"x0": np.arange(1000.0)}))
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"1000\n"


def test_a_producer_that_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = opened(path=f"tcp://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            connection.sendall(stream(rows(50)))
    assert numbers(read(source)) == list(range(50))


def test_it_waits_for_a_producer_that_comes_late():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = reserved.getsockname()
    source = opened(path=f"tcp://127.0.0.1:{address[1]}", connect_seconds=10.0)
    time.sleep(0.3)
    with socket.create_server(address) as server:
        connection, _ = server.accept()
        with connection:
            connection.sendall(stream(rows(50)))
    assert numbers(read(source)) == list(range(50))


def test_no_producer_at_all():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    source = opened(path=f"tcp://127.0.0.1:{port}", connect_seconds=0.3)
    with pytest.raises(SourceError, match=rf"cannot connect to tcp://127.0.0.1:{port}.*start the"):
        read(source)


def test_listening_for_one_producer_after_the_other():
    source = opened(path="tcp://127.0.0.1:0", listen=True, keep_open=True)
    for k in range(3):
        send(source.address, stream(rows(30, 30 * k)), pause_at=100 * k)
    assert numbers(read(source, until=90)) == list(range(90))


def test_a_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SourceError, match="free the port"):
            opened(path=f"tcp://127.0.0.1:{port}", listen=True)


def test_a_restart_without_replay_goes_on_and_says_so(tmp_path, caplog):
    (tmp_path / "s").write_bytes(stream(rows(30)))
    got = read(opened(rows=100, path=str(tmp_path / "s")))
    assert numbers(got) == list(range(30)) and got[-1].position == {"rows": 130}
    assert "100 rows were counted before" in caplog.text


@pytest.mark.parametrize("counted", [0, 1, 10, 15, 30])
def test_a_replayed_stream_counts_each_row_once(counted, tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(30)))
    got = read(opened(rows=counted, path=str(tmp_path / "s"), replayed=True, batch_rows=4))
    assert numbers(got) == list(range(counted, 30))


def test_a_producer_that_dies_and_replays():
    source = opened(
        path="tcp://127.0.0.1:0", listen=True, keep_open=True, replayed=True, on_error="dlq"
    )
    data = stream(rows(100))
    for cut in (10, len(data) // 3, len(data) // 2, len(data) // 4):
        send(source.address, data[:cut])
    send(source.address, data)
    got = read(source, until=100)
    assert numbers(got) == list(range(100)) and got[-1].position == {"rows": 100}
    assert len(dead(got)) == 4


def test_a_replay_with_fewer_rows_than_before(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(30)))
    with pytest.raises(DataError, match=r"5 rows fewer than were counted before \(35\)"):
        read(opened(rows=35, path=str(tmp_path / "s"), replayed=True))


@settings(max_examples=50, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True))
def test_a_cut_stream_keeps_the_rows_before_the_cut(where, tmp_path_factory):
    data = stream(rows(100))
    cut = int(where * len(data))
    path = tmp_path_factory.mktemp("s") / "s"
    path.write_bytes(data[:cut])
    got = read(opened(path=str(path), on_error="dlq"))
    kept = numbers(got)
    source = pa.BufferReader(data)
    ends = [source.tell() for _ in pa.ipc.open_stream(source)]
    assert kept == list(range(10 * sum(end <= cut for end in ends)))
    for letter in dead(got):
        assert f"after {len(kept)} rows at byte" in letter.reason
        assert letter.where == {"stream": str(path), "row": len(kept)}


def test_a_cut_stream_stops_by_default_after_the_rows_before(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(100))[:-100])
    source = opened(path=str(tmp_path / "s"))
    got = []
    with pytest.raises(
        DataError, match="cut or damaged after 90 rows at byte .*rows before are kept"
    ):
        while True:
            got += source.poll(0.05)
    source.close()
    assert numbers(got) == list(range(90))


def test_a_stream_without_end_mark(tmp_path, caplog):
    (tmp_path / "s").write_bytes(stream(rows(100))[:-8])
    assert numbers(read(opened(path=str(tmp_path / "s")))) == list(range(100))
    assert "without its end mark after 100 rows" in caplog.text


def test_nothing_at_all(tmp_path):
    (tmp_path / "s").touch()
    assert read(opened(path=str(tmp_path / "s"))) == []


def test_streams_one_after_the_other_in_one_connection(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(30)) + stream(rows(30, 30)))
    assert numbers(read(opened(path=str(tmp_path / "s")))) == list(range(60))


def changed(n):
    return rows(n).set_column(1, "n", pa.array(np.arange(float(n))))


def test_a_schema_may_change_between_streams_where_the_declared_one_admits_it(tmp_path, caplog):
    (tmp_path / "s").write_bytes(stream(rows(30)) + stream(changed(30)) + stream(rows(30)))
    got = read(opened(path=str(tmp_path / "s")))
    assert [str(c.batch.schema.field("n").type) for c in got] == ["int64", "double", "int64"]
    assert numbers(got) == 3 * list(range(30))
    assert caplog.text.count("the schema admits both") == 2


def test_a_schema_that_changes_inside_of_a_stream(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(30))[:-8] + stream(changed(30)))
    expected = r"after 30 rows, from \(.*n: int64, c: string\) to \(.*n: double, c: string\)"
    with pytest.raises(SchemaError, match=expected):
        read(opened(path=str(tmp_path / "s")))


def test_missing_column_and_wrong_type(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(30).drop_columns("c")))
    with pytest.raises(SchemaError, match=r"has no column 'c' \(it has 'extra', 'n'\)"):
        read(opened(path=str(tmp_path / "s")))
    (tmp_path / "s").write_bytes(stream(pa.table({"n": ["1"], "c": ["a"]})))
    with pytest.raises(
        SchemaError, match="column 'n' of type string, but the schema expects numeric"
    ):
        read(opened(path=str(tmp_path / "s")))


def test_an_absurd_length_is_refused_before_memory_is_taken(tmp_path):
    claim = b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 1)
    (tmp_path / "s").write_bytes(claim + b"x" * 1000)
    with pytest.raises(DataError, match="exceeds the limit"):
        read(opened(path=str(tmp_path / "s")))
    (tmp_path / "s").write_bytes(stream(rows(1000), batch=1000))
    with pytest.raises(DataError, match=r"exceeds the limit of 2000.*max_message_bytes"):
        read(opened(path=str(tmp_path / "s"), max_message_bytes=2000))


def test_a_file_in_the_ipc_file_format_is_not_a_stream(tmp_path):
    with pa.ipc.new_file(tmp_path / "s", rows(1).schema) as w:
        w.write_table(rows(10))
    with pytest.raises(DataError, match="cut or damaged after 0 rows"):
        read(opened(path=str(tmp_path / "s")))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_altered_bytes_end_in_an_error_not_in_a_crash(data, tmp_path_factory):
    raw = bytearray(stream(rows(50)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("s") / "s"
    path.write_bytes(raw)
    try:
        got = read(opened(path=str(path)))
    except (DataError, SchemaError):
        return
    for chunk in got:
        SCHEMA.encode(chunk.batch)


@pytest.mark.parametrize("how", ["pipe", "listen", "connect"])
def test_close_while_it_waits(how, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    urls = {"pipe": str(path), "listen": "tcp://127.0.0.1:0", "connect": "tcp://127.0.0.1:9"}
    source = opened(path=urls[how], listen=how == "listen")
    source.poll(0.05)
    source.close()
    assert not source._thread.is_alive()


def test_a_producer_that_is_too_fast_waits(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = opened(path=str(path))
    data, sent = stream(rows(200_000), batch=10_000), []

    def produce():
        with path.open("wb", buffering=0) as f:
            for i in range(0, len(data), 65536):
                f.write(data[i : i + 65536])
                sent.append(i)

    writer = in_thread(produce)
    time.sleep(0.5)
    ahead = len(sent) * 65536
    assert ahead < len(data) / 3  # two batches in the queue, one in hand, and the pipe
    assert numbers(read(source)) == list(range(200_000))
    writer.join(5)


def test_a_batch_of_ten_million_rows_is_cut_without_copies(tmp_path):
    path = tmp_path / "s"
    table = pa.table({"x0": np.zeros(10_000_000, np.float32)})
    with pa.ipc.new_stream(path, table.schema) as w:
        w.write_batch(table.to_batches()[0])
    del table
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = opened(schema=Schema.vectors(1, 0, 1), path=str(path))
    n = 0
    while not source.finished:
        for chunk in source.poll(1.0):
            n += chunk.batch.num_rows
            assert chunk.batch.num_rows <= 8192
    source.close()
    assert n == 10_000_000
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2.2 * 40_000_000  # the message itself, and what reads it


def test_tiny_batches_leave_together(tmp_path):
    (tmp_path / "s").write_bytes(stream(rows(5000), batch=1))
    got = read(opened(path=str(tmp_path / "s"), batch_rows=1000))
    assert numbers(got) == list(range(5000)) and len(got) == 5
    assert [c.position["rows"] for c in got] == [1000, 2000, 3000, 4000, 5000]


def test_tiny_batches_do_not_wait_for_more():
    source = opened(path="tcp://127.0.0.1:0", listen=True)
    data = stream(rows(5), batch=1)
    with socket.create_connection(source.address) as s:
        s.sendall(data[:-200])
        got, end = [], time.monotonic() + 5
        while len(numbers(got)) < 4:
            assert time.monotonic() < end
            got += source.poll(0.05)
        s.sendall(data[-200:])
    assert numbers(got + read(source)) == list(range(5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "path: the key is missing"),
        ({"path": "-", "host": "x"}, "host: unknown key; known are path, listen"),
        ({"path": "-", "listen": True}, "listen needs path = tcp://"),
        ({"path": "-", "keep_open": True}, "keep_open"),
        ({"path": "tcp://nowhere"}, "must look like tcp://host:port"),
        ({"path": "-", "batch_rows": -1}, "batch_rows: input should be greater"),
        ({"path": "-", "on_error": "x"}, "on_error: input should be 'fail'"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(wrong, SCHEMA)


def test_a_path_that_is_not_there():
    with pytest.raises(SourceError, match="cannot open 'nowhere'.*correct path"):
        read(opened(path="nowhere"))


def test_a_producer_that_comes_before_the_pipe_is_opened_again_loses_nothing(
    tmp_path, monkeypatch
):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    close = wire.Wire.close

    def slow(self):
        if not self.closed:
            time.sleep(0.6)  # meanwhile the next producer writes all it has, and goes
        close(self)

    monkeypatch.setattr(wire.Wire, "close", slow)
    source = opened(path=str(path), keep_open=True)
    for k in range(2):
        in_thread(path.write_bytes, stream(rows(20, 20 * k))).join(5)
        time.sleep(0.3)
    got, end = [], time.monotonic() + 20
    while len(numbers(got)) < 40 and time.monotonic() < end:
        got += source.poll(0.05)
    source.close()
    assert numbers(got) == list(range(40))
