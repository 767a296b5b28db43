"""A schema that changes in mid-stream, over every source: a declared evolution, or dead letters with a reason."""

import json
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from streamsketch_consumers.dead_letter import read_file
from streamsketch_consumers.decode import Options, decoder
from streamsketch_consumers.flight import FlightWriter

from streamsketch.errors import ConfigError, SourceError
from streamsketch.schema import Column, Schema
from testing.ingest_worker import ingest, saved

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=1e9),
        Column("c", "categorical", "string", values=("a", "b"), nulls="category"),
        Column("note", "ignore", "string"),
    ]
)
ROWS = 10


def table(start=0):
    c = ["a" if i % 3 else "b" for i in range(ROWS)]
    return pa.table({"n": np.arange(start, start + ROWS), "c": c, "note": ["x"] * ROWS})


def as_text(whole):
    return whole.set_column(0, "n", pa.array([f"no{i}" for i in range(ROWS)]))


CHANGES = {  # what becomes of the columns, the settings, whether the rows count, the reason
    "extra, ignored": (lambda t: t.append_column("z", t["n"]), {}, True, ""),
    "extra, refused": (
        lambda t: t.append_column("z", t["n"]), {"extra": "refuse"}, False, "not declared",
    ),
    "missing, refused": (lambda t: t.drop_columns("c"), {}, False, "'c'"),
    "missing, null": (lambda t: t.drop_columns("c"), {"missing": "null"}, True, ""),
    "missing and null is refused": (lambda t: t.drop_columns("n"), {"missing": "null"}, False, "null"),
    "another number": (
        lambda t: t.set_column(0, "n", t["n"].cast(pa.float64())), {}, True, "",
    ),
    "text for a number": (as_text, {}, False, "n"),
    "another order": (lambda t: t.select(["note", "c", "n"]), {}, True, ""),
    "ignored column goes, others are refused": (
        lambda t: t.drop_columns("note"), {"extra": "refuse"}, True, "",
    ),
}  # fmt: skip


def write_json(whole, path):
    path.write_text("".join(json.dumps(row) + "\n" for row in whole.to_pylist()))


def stream(whole):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as out:
        out.write_table(whole)
    return sink.getvalue().to_pybytes()


WRITERS = {
    "parquet": pq.write_table,
    "csv": pa.csv.write_csv,
    "jsonl": write_json,
    "arrow": pa.feather.write_feather,
    "arrows": lambda whole, path: path.write_bytes(stream(whole)),
}


def run(tmp_path, module, settings):
    job = ingest(tmp_path / "run", module, settings, SCHEMA)
    job.run(threading.Event())
    letters = tmp_path / "run" / "dead.jsonl"
    return saved(tmp_path / "run", SCHEMA)[0], [d.reason for d in read_file(letters)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", WRITERS)
def test_files(kind, change, tmp_path):
    alter, settings, counts, reason = CHANGES[change]
    if kind == "jsonl" and change == "missing, refused":
        counts = True  # a key that is not there is null
    (tmp_path / "data").mkdir()
    for i, whole in enumerate([table(), alter(table(10)), table(20)]):
        WRITERS[kind](whole, tmp_path / "data" / f"{i}.{kind}")
    sums, reasons = run(
        tmp_path, "streamsketch_consumers.files",
        {"path": str(tmp_path / "data"), "on_error": "dlq", **settings},
    )  # fmt: skip
    assert sums.count == (30 if counts else 20)
    if counts:
        assert not reasons
    else:
        assert len(reasons) in (1, ROWS) and all(reason in r for r in reasons)


@pytest.mark.parametrize("change", CHANGES)
def test_streams_one_after_the_other(change, tmp_path):
    alter, settings, counts, reason = CHANGES[change]
    (tmp_path / "s").write_bytes(b"".join(map(stream, [table(), alter(table(10)), table(20)])))
    sums, reasons = run(
        tmp_path,
        "streamsketch_consumers.arrow",
        {"path": str(tmp_path / "s"), "on_error": "dlq", **settings},
    )
    if counts:
        assert sums.count == 30 and not reasons
    elif change == "missing and null is refused":
        assert sums.count == 20 and len(reasons) == ROWS  # row by row, and the stream goes on
    else:
        assert sums.count == 10 and len(reasons) == 1 and reason in reasons[0]


@pytest.mark.parametrize("change", CHANGES)
def test_flight(change, tmp_path):
    alter, settings, counts, reason = CHANGES[change]
    job = ingest(
        tmp_path / "run", "streamsketch_consumers.flight", {"port": 0, **settings}, SCHEMA
    )
    stop = threading.Event()
    thread = threading.Thread(target=job.run, args=(stop,))
    thread.start()
    try:
        while job.source.port == 0:
            time.sleep(0.01)
        told = []
        for i, whole in enumerate([table(), alter(table(10)), table(20)]):
            try:
                with FlightWriter(f"grpc://127.0.0.1:{job.source.port}", client=f"c{i}") as writer:
                    writer.write(whole.to_batches()[0])
            except SourceError as e:  # the client keeps its rows, and is told why
                told.append(str(e))
    finally:
        stop.set()
        thread.join(20)
    sums = saved(tmp_path / "run", SCHEMA)[0]
    reasons = told + [d.reason for d in read_file(tmp_path / "run" / "dead.jsonl")]
    assert sums.count == (30 if counts else 20)
    assert (not reasons) if counts else (reasons and all(reason in r for r in reasons))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("format", ["json", "ndjson", "arrow"])
def test_messages(format, change, tmp_path):
    alter, settings, counts, reason = CHANGES[change]
    decode = decoder(format, SCHEMA, Options(**settings))
    messages = []
    for whole in (table(), alter(table(10)), table(20)):
        lines = [json.dumps(row).encode() for row in whole.to_pylist()]
        joined = {"json": lines, "ndjson": [b"\n".join(lines)], "arrow": [stream(whole)]}
        messages += joined[format]
    rows, bad = decode(messages)
    reasons = [b.reason for b in bad]
    good = 0
    for run_of in rows:
        encoded = SCHEMA.encode(run_of.batch)
        good += len(encoded.x)
        reasons += [r.reason for r in encoded.rejected]
    if change == "another number" and format != "arrow":
        counts = True
    assert good == (30 if counts else 20)
    assert (not reasons) if counts else (reasons and all(reason in r for r in reasons))


@pytest.mark.parametrize("module", ["files", "arrow", "flight", "kafka"])
def test_what_is_not_known_is_refused(module):
    import importlib

    make = importlib.import_module(f"streamsketch_consumers.{module}").make
    base = {"kafka": {"topic": "t"}, "flight": {}}.get(module, {"path": "."})
    for wrong in ({"missing": "zero"}, {"extra": "keep"}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: input should be"):
            make({**base, **wrong}, SCHEMA)
