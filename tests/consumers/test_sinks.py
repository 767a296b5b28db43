"""Sinks: what is written is read back, and no reader ever finds half a file."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamsketch_consumers.files import make as make_source
from streamsketch_consumers.sinks import make, make_stdout
from streamsketch_consumers.sinks.writers import WRITERS

from streamsketch.errors import (
    ConfigError,
    DataError,
    LockedError,
    SchemaError,
    StoreError,
)
from streamsketch.schema import Column, Schema

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=1e6),
        Column("x", "numeric", "double", low=-1, high=1, nulls="indicator"),
        Column("c", "categorical", "string", values=("a", 'b, "c"', "d\ne"), nulls="category"),
        Column("b", "boolean"),
        Column("t", "timestamp", "timestamp[ns, tz=UTC]", low="2020-01-01", high="2030-01-01"),
        Column("s", "timestamp", "timestamp[s]", low="2020-01-01", high="2030-01-01"),
    ]
)
SUFFIX = {
    "parquet": ".parquet",
    "arrow": ".arrow",
    "arrows": ".arrows",
    "csv": ".csv",
    "jsonl": ".jsonl",
}
every_format = pytest.mark.parametrize("kind", WRITERS)


def rows(n, start=0):
    rng = np.random.default_rng(start)
    stamps = 1_600_000_000_000_000_000 + rng.integers(0, 10**17, n)
    return pa.table(
        {
            "n": np.arange(start, start + n),
            "x": pa.array(rng.uniform(-1, 1, n), mask=rng.random(n) < 0.2),
            "c": pa.array(rng.choice(["a", 'b, "c"', "d\ne"], n), mask=rng.random(n) < 0.2),
            "b": rng.random(n) < 0.5,
            "t": pa.array(stamps, pa.timestamp("ns", "UTC")),
            "s": pa.array(stamps // 10**9, pa.timestamp("s")),
        }
    )


class Owner:
    def claim(self, part):
        return None


def read_back(path):
    source = make_source({"path": str(path), "newlines_in_values": True}, SCHEMA)
    source.open(Owner())
    batches = []
    while not source.finished:
        for chunk in source.poll(0.1):
            assert not chunk.dead
            batches.append(chunk.batch)
    return np.concatenate([SCHEMA.encode(b).x for b in batches if b is not None])


@every_format
def test_written_and_read_back_by_the_file_source(kind, tmp_path):
    with make({"path": str(tmp_path / f"new/s{SUFFIX[kind]}")}) as sink:
        sink.write(rows(50))
        sink.flush()
        assert [p.name for p in (tmp_path / "new").glob("[!.]*")] == []
        sink.write(rows(30, 50))
    assert [p.name for p in (tmp_path / "new").iterdir()] == [f"s{SUFFIX[kind]}"]
    expected = np.concatenate([SCHEMA.encode(rows(50)).x, SCHEMA.encode(rows(30, 50)).x])
    np.testing.assert_array_equal(read_back(tmp_path / "new"), expected)


@every_format
def test_parts(kind, tmp_path):
    settings = {"path": str(tmp_path / f"s{SUFFIX[kind]}"), "mode": "parts", "part_rows": 20}
    sink = make(settings)
    sink.write(rows(50))
    sink.flush()
    sink.flush()
    sink.close()
    sink = make(settings)  # a restart goes on with the next number
    sink.write(rows(10, 50))
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"s-{k:06d}{SUFFIX[kind]}" for k in (1, 2, 3, 4)
    ]
    assert len(read_back(tmp_path)) == 60


@every_format
def test_standard_output(kind, tmp_path):
    if kind in ("parquet", "arrow"):
        if kind == "parquet":
            with pytest.raises(ConfigError, match="format: input should be 'csv', 'jsonl'"):
                make_stdout({"format": kind})
        return
    program = (
        "import sys, pyarrow as pa; from streamsketch_consumers.sinks import make_stdout\n"
        f"s = make_stdout({{'format': {kind!r}}})\n"
        "for k in range(3): s.write(pa.table({'n': [2 * k, 2 * k + 1]})); s.flush()\n"
        "s.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=30
    )
    (tmp_path / f"s{SUFFIX[kind]}").write_bytes(done.stdout)
    source = make_source({"path": str(tmp_path)}, Schema([SCHEMA.columns[0]]))
    source.open(Owner())
    got = []
    while not source.finished:
        got += [v for c in source.poll(0.1) for v in c.batch.column("n").to_pylist()]
    assert got == list(range(6))


def test_a_reader_of_standard_output_that_goes_away():
    program = (
        "import pyarrow as pa; from streamsketch_consumers.sinks import make_stdout\n"
        "from streamsketch.errors import StoreError\n"
        "s = make_stdout({'format': 'jsonl'})\n"
        "try:\n"
        "    while True: s.write(pa.table({'n': range(1000)})); s.flush()\n"
        "except StoreError as e: raise SystemExit(7 if 'has gone' in str(e) else 8)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout.readline() == b'{"n": 0}\n'
        run.stdout.close()
        assert run.wait(20) == 7
        assert run.stderr.read() == b""


def test_nothing_written_makes_no_file(tmp_path):
    make({"path": str(tmp_path / "s.parquet")}).close()
    assert [p.name for p in tmp_path.iterdir()] == []


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "s.csv"
    with make({"path": str(path)}) as sink:
        sink.write(pa.table({"n": [1]}))
    old = path.read_bytes()
    with pytest.raises(KeyError), make({"path": str(path)}) as sink:
        sink.write(pa.table({"n": [2]}))
        raise KeyError
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def write_for_ever(path, started):
    sink = make({"path": path, "mode": "parts"})
    for k in range(10**6):
        sink.write(pa.table({"n": np.arange(1000 * k, 1000 * (k + 1))}))
        sink.flush()
        started.set()


def test_killed_while_writing_leaves_only_whole_parts(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    path = str(tmp_path / "s.parquet")
    worker = context.Process(target=write_for_ever, args=(path, started))
    worker.start()
    assert started.wait(30)
    time.sleep(0.1)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    parts = sorted(tmp_path.glob("s-*.parquet"))
    got = pa.concat_tables([pq.read_table(p) for p in parts])
    assert got["n"].to_pylist() == list(range(1000 * len(parts)))
    with make({"path": path, "mode": "parts"}) as sink:  # and the next one goes on
        sink.write(pa.table({"n": [0]}))
    assert sorted(tmp_path.glob("s-*.parquet"))[-1].name == f"s-{len(parts) + 1:06d}.parquet"


def test_two_writers_of_one_path(tmp_path):
    first, second = (make({"path": str(tmp_path / "s.csv"), "mode": "parts"}) for _ in range(2))
    first.write(pa.table({"n": [1]}))
    with pytest.raises(LockedError, match=r"another process is writing.*another path"):
        second.write(pa.table({"n": [2]}))
    first.close()
    second.write(pa.table({"n": [2]}))
    second.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s-000001.csv", "s-000002.csv"]


def test_a_full_disk_is_an_error_that_says_so(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    sink = make({"path": str(tmp_path / "s.parquet")})
    sink.write(rows(10))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot finish .*No space left on device.*another disk"):
        sink.close()
    assert [p.name for p in tmp_path.iterdir()] == []


def test_columns_that_change(tmp_path):
    sink = make({"path": str(tmp_path / "s.parquet")})
    sink.write(pa.table({"n": [1]}))
    with pytest.raises(SchemaError, match=r"from \(n: int64\) to \(n: double\)"):
        sink.write(pa.table({"n": [1.0]}))
    sink.discard()


def test_what_a_format_cannot_hold(tmp_path):
    vectors = pa.table({"v": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))})
    with pytest.raises(SchemaError, match="csv cannot hold these columns.*use parquet"):
        make({"path": str(tmp_path / "s.csv")}).write(vectors)
    with pytest.raises(DataError, match="JSON cannot"):
        make({"path": str(tmp_path / "s.jsonl")}).write(pa.table({"x": [float("nan")]}))
    sink = make({"path": str(tmp_path / "ok.jsonl")})
    sink.write(vectors)
    sink.close()
    assert (tmp_path / "ok.jsonl").read_bytes() == b'{"v": [1.0, 2.0]}\n'


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "path: the key is missing"),
        ({"path": "samples"}, r"does not say the format; end it in one of \.parquet"),
        ({"path": "s.csv", "format": "xls"}, "format = 'xls' is not one of parquet"),
        ({"path": "s.csv", "mode": "append"}, "mode: input should be 'file' or 'parts'"),
        ({"path": "s.csv", "part_rows": 0}, "part_rows: input should"),
        ({"path": "s.csv", "compress": True}, "compress: unknown key; known are path"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(wrong)
    with pytest.raises(ConfigError, match="path: unknown key; known are format"):
        make_stdout({"path": "x"})
