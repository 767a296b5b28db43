"""The file source: any batch size and any resume point give each row exactly once, in order."""

import gzip
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.files import make

from streamsketch.errors import ConfigError, DataError, SchemaError, SourceError
from streamsketch.schema import Column, Schema

SCHEMA = Schema(
    [
        Column("n", "numeric", "int64", low=0, high=100_000),
        Column("x", "numeric", "double", low=-1, high=1, nulls="indicator"),
        Column("c", "categorical", "string", values=("a", "b, or c", 'd"e'), nulls="category"),
        Column("b", "boolean"),
        Column("t", "timestamp", "timestamp[ms]", low="2020-01-01", high="2030-01-01"),
        Column("note", "ignore", "string"),
    ]
)


def rows(n, start=0):
    rng = np.random.default_rng(n + start)
    c = rng.choice(["a", "b, or c", 'd"e'], n)
    start_time = 1_600_000_000_000
    return pa.table(
        {
            "note": pa.array([f"ü{i}" for i in range(n)]),
            "n": np.arange(start, start + n),
            "x": pa.array(rng.uniform(-1, 1, n), mask=rng.random(n) < 0.1),
            "c": pa.array(c, mask=rng.random(n) < 0.1),
            "b": rng.random(n) < 0.5,
            "t": pa.array(start_time + 1000 * np.arange(start, start + n), pa.timestamp("ms")),
        }
    )


def write_jsonl(table, path, group):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as f:
        for i, row in enumerate(table.to_pylist()):
            f.write(json.dumps({**row, "t": row["t"].isoformat(timespec="milliseconds")}) + "\n")
            if i % 7 == 3:
                f.write("\n" if i % 2 else "  \r\n")  # blank lines are counted, and no rows


def write_csv(table, path, group):
    pa.csv.write_csv(table, path)


def write_arrows(table, path, group):
    with pa.ipc.new_stream(path, table.schema) as w:
        w.write_table(table, max_chunksize=group)


def write_arrow(table, path, group):
    with pa.ipc.new_file(path, table.schema) as w:
        w.write_table(table, max_chunksize=group)


def write_compressed_arrow(table, path, group):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(path, table.schema, options=options) as w:
        w.write_table(table, max_chunksize=group)


def write_dictionary(table, path, group):
    c = table.column_names.index("c")
    table = table.set_column(c, "c", table["c"].combine_chunks().dictionary_encode())
    pq.write_table(table, path, row_group_size=group)


def write_large_string(table, path, group):
    c = table.column_names.index("c")
    write_arrow(table.set_column(c, "c", table["c"].cast(pa.large_string())), path, group)


WRITERS = {
    "parquet": (".parquet", lambda t, p, g: pq.write_table(t, p, row_group_size=g)),
    "parquet of dictionaries": (".parquet", write_dictionary),
    "csv": (".csv", write_csv),
    "jsonl": (".jsonl", write_jsonl),
    "jsonl.gz": (".ndjson.gz", write_jsonl),
    "arrow file": (".arrow", write_arrow),
    "compressed arrow file": (".ipc", write_compressed_arrow),
    "arrow file of large strings": (".arrow", write_large_string),
    "arrow stream": (".arrows", write_arrows),
    "feather": (".feather", lambda t, p, g: pa.feather.write_feather(t, p, chunksize=g)),
}
every_format = pytest.mark.parametrize("kind", WRITERS)


class Owner:
    def __init__(self, position=None):
        self.position = position

    def claim(self, part):
        return self.position


def opened(position=None, schema=SCHEMA, **settings):
    source = make(settings, schema)
    source.open(Owner(position))
    return source


def chunks(source, stop_after=None, seconds=20.0):
    got, end = [], time.monotonic() + seconds
    while not source.finished and (stop_after is None or len(got) < stop_after):
        assert time.monotonic() < end, "the source did not come to an end"
        got += source.poll(0.05)
    source.close()
    return got


def numbers(got, column="n"):
    return [v for c in got if c.batch is not None for v in c.batch.column(column).to_pylist()]


def dead(got):
    return [d for c in got for d in c.dead]


@every_format
def test_every_format_gives_the_same_encoded_rows(kind, tmp_path):
    suffix, write = WRITERS[kind]
    table = rows(500)
    write(table, tmp_path / f"f{suffix}", 64)
    got = chunks(opened(path=str(tmp_path / f"f{suffix}"), batch_rows=100))
    assert not dead(got)
    read = np.concatenate([SCHEMA.encode(c.batch).x for c in got if c.batch is not None])
    np.testing.assert_array_equal(read, SCHEMA.encode(table).x)


@every_format
@settings(max_examples=12, deadline=None)
@given(
    batch_rows=st.integers(1, 90),
    group=st.integers(1, 70),
    stops=st.lists(st.integers(1, 5), max_size=6),
)
def test_any_batch_size_and_any_resume_point(kind, batch_rows, group, stops, tmp_path_factory):
    suffix, write = WRITERS[kind]
    folder = tmp_path_factory.mktemp("f")
    for k in range(3):
        write(rows(40, 40 * k), folder / f"part-{k}{suffix}", group)
    position, got = None, []
    for stop in [*stops, None]:
        more = chunks(opened(position, path=str(folder), batch_rows=batch_rows), stop)
        got += more
        position = json.loads(json.dumps(more[-1].position)) if more else position
    assert numbers(got) == list(range(120))
    assert not dead(got)
    assert all(c.batch is None or c.batch.num_rows <= batch_rows for c in got)


@every_format
def test_resume_at_every_row(kind, tmp_path):
    suffix, write = WRITERS[kind]
    write(rows(30), tmp_path / f"a{suffix}", 7)
    whole = chunks(opened(path=str(tmp_path / f"a{suffix}"), batch_rows=1))
    for chunk in whole:
        rest = chunks(opened(chunk.position, path=str(tmp_path), batch_rows=8))
        done = sum(c.batch is not None for c in whole[: whole.index(chunk) + 1])
        assert numbers(rest) == list(range(done, 30))


@every_format
def test_a_file_shorter_than_the_saved_position(kind, tmp_path):
    suffix, write = WRITERS[kind]
    write(rows(10), tmp_path / f"a{suffix}", 4)
    with pytest.raises(
        SourceError, match=r"rows, but the saved position is row 1000.*put the old"
    ):
        chunks(opened({"file": f"a{suffix}", "row": 1000}, path=str(tmp_path)))


@every_format
def test_an_empty_file_and_a_file_without_rows(kind, tmp_path):
    suffix, write = WRITERS[kind]
    (tmp_path / f"a{suffix}").touch()
    write(rows(10).slice(0, 0), tmp_path / f"b{suffix}", 4)
    write(rows(10), tmp_path / f"c{suffix}", 4)
    assert numbers(chunks(opened(path=str(tmp_path)))) == list(range(10))


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream", "csv", "feather"])
def test_a_missing_column_names_file_and_column(kind, tmp_path):
    suffix, write = WRITERS[kind]
    write(rows(10).drop_columns("x"), tmp_path / f"a{suffix}", 4)
    with pytest.raises(SchemaError, match=rf"file 'a{suffix}' has no column 'x' \(it has 'note'"):
        chunks(opened(path=str(tmp_path)))


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_a_wrong_type_names_both_types(kind, tmp_path):
    suffix, write = WRITERS[kind]
    table = rows(10)
    table = table.set_column(table.column_names.index("x"), "x", pa.array(["1"] * 10))
    write(table, tmp_path / f"a{suffix}", 4)
    expected = rf"file 'a{suffix}' has column 'x' of type string, but the schema expects numeric"
    with pytest.raises(SchemaError, match=expected):
        chunks(opened(path=str(tmp_path)))
    write(rows(5), tmp_path / f"b{suffix}", 4)
    got = chunks(opened(path=str(tmp_path), on_error="dlq"))
    assert numbers(got) == list(range(5))
    assert [dict(d.where) for d in dead(got)] == [{"file": f"a{suffix}", "row": 0}]
    assert not dead(chunks(opened(path=str(tmp_path), on_error="skip")))


BAD_JSON = {
    "broken": b'{"n": 1, "x": ',
    "two objects": b'{"n": 1, "b": true} {"n": 2, "b": true}',
    "an open object": b'{"n": 1}{"x":',
    "its other half": b"0.5}",
    "a wrong type": b'{"n": "one"}',
    "not an object": b"[1, 2]",
    "bad UTF-8": b'{"n": 1, "c": "\xff"}',
    "a bad time": b'{"n": 1, "t": "yesterday"}',
    "a nested value": b'{"n": {"a": 1}}',
    "a NUL": b"\0\0\0",
    "a lone null": b"null",
    "null between": b"{}null{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
}
BAD_CSV = {
    "a quote left open after a stray one": b'n"ote,1,0.5,a,true,"2020-01-01T00:00:00.000',
    "too few": b"1,2,3",
    "too many": b"n,1,0.5,a,true,2020-01-01T00:00:00.000,more",
    "an open quote": b'"open,1,0.5,a,true,2020-01-01T00:00:00.000',
    "a wrong type": b"note,one,0.5,a,true,2020-01-01T00:00:00.000",
    "a bad time": b"note,1,0.5,a,true,soon",
    "bad UTF-8": b"note,1,0.5,\xff,true,2020-01-01T00:00:00.000",
    "two rows in a line": b"note,1,0.5,a,true,2020-01-01\rnote,1,0.5,a,true,2020-01-01",
    "a NUL": b"\0",
    "a byte order mark": b"\xef\xbb\xbfnote,1,0.5,a,true,2020-01-01",
}


def spoil(path, bad, at):
    """Put bad lines into a text file; their row numbers."""
    lines = path.read_bytes().split(b"\n")[:-1]
    header = path.suffix == ".csv"
    for row, line in sorted(zip(at, bad, strict=True)):
        lines.insert(row + header, line)
    path.write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.mark.parametrize("batch_rows", [1, 3, 17, 1000])
@pytest.mark.parametrize(
    ("suffix", "write", "bad"), [(".jsonl", write_jsonl, BAD_JSON), (".csv", write_csv, BAD_CSV)]
)
def test_exactly_the_bad_rows_are_dead(suffix, write, bad, batch_rows, tmp_path):
    path = tmp_path / f"f{suffix}"
    write(rows(60), path, 0)
    at = list(range(0, 6 * len(bad), 6))
    at[2:4] = [13, 14]  # two next to each other
    spoil(path, list(bad.values()), at)
    got = chunks(opened(path=str(path), batch_rows=batch_rows))
    assert numbers(got) == list(range(60))
    assert [d.where["row"] for d in dead(got)] == at
    assert [d.raw.rstrip(b"\n") for d in dead(got)] == list(bad.values())
    assert all(d.reason and d.where["file"] == path.name for d in dead(got))
    for chunk in got:  # the rows that are left know their place, bad and blank lines counted
        if chunk.batch is not None:
            where = chunk.where.get("rows") or [
                {"row": chunk.where["row"] + i} for i in range(chunk.batch.num_rows)
            ]
            lines = path.read_bytes().split(b"\n")[suffix == ".csv" :]
            for place, n in zip(where, chunk.batch.column("n").to_pylist(), strict=True):
                assert re.search(rb"\b%d\b" % n, lines[place["row"]])


LINE = (
    st.sampled_from([*BAD_JSON.values(), *BAD_CSV.values()])
    | st.binary(max_size=40)
    | st.text('",\\r{}[]:1ant\\\\ ', max_size=20).map(str.encode)
)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@settings(max_examples=100, deadline=None)
@given(garbage=st.lists(LINE.filter(lambda b: b"\n" not in b), max_size=12), data=st.data())
def test_garbage_lines_never_touch_their_neighbours(suffix, garbage, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("g") / f"f{suffix}"
    text_last = rows(20).select(["note", "n", "x", "b", "t", "c"])
    (write_csv if suffix == ".csv" else write_jsonl)(text_last, path, 0)
    at = data.draw(st.lists(st.integers(0, 20), min_size=len(garbage), max_size=len(garbage)))
    spoil(path, garbage, at)
    outcomes = []
    for batch_rows in (1, 4, 1000):
        got = chunks(opened(path=str(path), batch_rows=batch_rows))
        outcomes.append((numbers(got), [(d.where["row"], d.raw) for d in dead(got)]))
        assert [v for v in numbers(got) if v is not None and v in range(20)] == list(range(20))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_row_longer_than_the_limit_is_dead_and_not_held(tmp_path):
    path = tmp_path / "f.jsonl"
    write_jsonl(rows(3), path, 0)
    good = path.read_bytes()
    path.write_bytes(good + b'{"n": "' + b"9" * 5_000_000 + b'"}\n' + good)
    got = chunks(opened(path=str(path), max_row_bytes=1000))
    assert numbers(got) == [0, 1, 2, 0, 1, 2]
    (letter,) = dead(got)
    assert len(letter.raw) <= 4096 and "longer than 1000 bytes" in letter.reason


@pytest.mark.parametrize("batch_rows", [2, 3, 4, 5])
def test_an_open_quote_at_any_place_of_a_block(batch_rows, tmp_path):
    schema = Schema([SCHEMA.columns[0], SCHEMA.columns[2]])
    line = b'no"te,1,"a'  # as many quotes as it takes, but the last is open
    for at in range(10):
        write_csv(rows(10).select(["note", "n", "c"]), tmp_path / "f.csv", 0)
        spoil(tmp_path / "f.csv", [line], [at])
        got = chunks(opened(schema=schema, path=str(tmp_path), batch_rows=batch_rows))
        assert numbers(got) == list(range(10))
        assert [(d.where["row"], d.raw.rstrip(b"\n")) for d in dead(got)] == [(at, line)]


@pytest.mark.parametrize(("suffix", "write"), [(".jsonl", write_jsonl), (".csv", write_csv)])
def test_signals_while_text_is_parsed(suffix, write, tmp_path):
    """Arrow's readers give up when a signal comes; the rows must not count as bad."""
    write(rows(3000), tmp_path / f"f{suffix}", 0)
    handlers = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGTERM, signal.SIGINT)}
    stop = threading.Event()

    def disturb():
        while not stop.wait(0.0003):
            for number in handlers:
                os.kill(os.getpid(), number)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for batch_rows in (7, 300):
            got = chunks(opened(path=str(tmp_path), batch_rows=batch_rows))
            assert numbers(got) == list(range(3000)) and not dead(got)
    finally:
        stop.set()
        thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_byte_order_mark_at_the_beginning_of_a_file(suffix, tmp_path):
    path = tmp_path / f"f{suffix}"
    (write_jsonl if suffix == ".jsonl" else write_csv)(rows(3), path, 0)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    got = chunks(opened(path=str(path), batch_rows=1))
    assert numbers(got) == [0, 1, 2] and not dead(got)


def test_csv_options(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(b'1;0.5;"a";true;2020-01-01\n2;NA;b;1;2020-01-02 03:04:05\n')
    schema = Schema([c for c in SCHEMA.columns if c.kind != "ignore"])
    got = chunks(
        opened(schema=schema, path=str(path), header=False, delimiter=";", null_values=["NA"])
    )
    assert numbers(got) == [1, 2] and numbers(got, "x") == [0.5, None] and not dead(got)
    (letter,) = dead(chunks(opened(schema=schema, path=str(path), header=False, delimiter=";")))
    assert "column 'x'" in letter.reason and "NA" in letter.reason


def test_tabs_and_line_breaks_in_quotes(tmp_path):
    path = tmp_path / "f.tsv"
    path.write_bytes(b'n\tc\r\n1\t"a\nb"\r\n2\ta\r\n3\t"a""\n\n""b"\r\n')
    schema = Schema(
        [SCHEMA.columns[0], Column("c", "categorical", "string", values=("a", "a\nb"))]
    )
    got = chunks(opened(schema=schema, path=str(path), newlines_in_values=True, batch_rows=1))
    assert numbers(got, "c") == ["a\nb", "a", 'a"\n\n"b'] and not dead(got)
    rest = chunks(opened(got[1].position, schema, path=str(path), newlines_in_values=True))
    assert numbers(rest) == [3]
    broken = chunks(opened(schema=schema, path=str(path)))
    assert numbers(broken) == [2] and {d.where["row"] for d in dead(broken)} == {0, 1, 3, 5}
    assert all("quote" in d.reason for d in dead(broken) if d.where["row"] in (0, 3))


def test_vectors_come_from_json_but_not_from_csv(tmp_path):
    schema = Schema([Column("v", "vector", "fixed_size_list<float>[2]", low=0, high=1)])
    (tmp_path / "f.jsonl").write_text('{"v": [0, 1]}\n{"v": [0, 1, 0]}\n{"v": [1, 0.5]}\n')
    got = chunks(opened(schema=schema, path=str(tmp_path / "f.jsonl")))
    assert numbers(got, "v") == [[0, 1], [1, 0.5]] and dead(got)[0].where["row"] == 1
    (tmp_path / "f.csv").write_text("v\n1\n")
    with pytest.raises(SchemaError, match="CSV, which cannot hold column 'v'.*use Parquet"):
        chunks(opened(schema=schema, path=str(tmp_path / "f.csv")))


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream", "jsonl.gz"])
def test_a_truncated_file_keeps_what_comes_before_the_cut(kind, tmp_path):
    suffix, write = WRITERS[kind]
    path = tmp_path / f"a{suffix}"
    write(rows(3000), path, 100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(DataError, match=rf"file 'a{suffix}' cannot be read.*replace it"):
        chunks(opened(path=str(path)))
    write(rows(5, 50_000), tmp_path / f"b{suffix}", 100)
    got = chunks(opened(path=str(tmp_path), on_error="dlq"))
    kept = numbers(got)
    assert kept[-5:] == list(range(50_000, 50_005))
    assert kept[:-5] == list(range(len(kept) - 5))
    assert len(kept) > 1000 or suffix in (
        ".parquet",
        ".arrow",
    )  # these have their index at the end
    assert len(dead(got)) == 1 and dead(got)[0].where["file"] == f"a{suffix}"


def test_a_damaged_page_in_the_middle_of_a_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(rows(3000), path, row_group_size=1000, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 60] = os.urandom(60)
    path.write_bytes(data)
    got = chunks(opened(path=str(path), on_error="dlq", batch_rows=500))
    assert numbers(got) == list(range(1000))
    assert dead(got)[0].where == {"file": "a.parquet", "row": 1000}


@pytest.mark.parametrize(
    "kind", ["parquet", "arrow file", "arrow stream", "compressed arrow file"]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_altered_bytes_end_in_an_error_not_in_a_crash(kind, data, tmp_path_factory):
    suffix, write = WRITERS[kind]
    path = tmp_path_factory.mktemp("x") / f"a{suffix}"
    write(rows(50), path, 10)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        got = chunks(opened(path=str(path)))
    except (DataError, SchemaError, SourceError):
        return
    assert len(numbers(got)) <= 50
    for chunk in got:
        SCHEMA.encode(chunk.batch)


@pytest.mark.parametrize("kind", ["arrow file", "arrow stream", "parquet", "feather"])
def test_tiny_batches_are_read_together(kind, tmp_path):
    suffix, write = WRITERS[kind]
    write(rows(500), tmp_path / f"a{suffix}", 1)
    got = chunks(opened(path=str(tmp_path), batch_rows=100))
    assert numbers(got) == list(range(500))
    assert [c.batch.num_rows for c in got] == [100] * 5


def test_what_a_folder_holds(tmp_path):
    for name in ("b.parquet", "a/z.parquet", "a/_SUCCESS.parquet", ".hidden/x.parquet", "c.tmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(rows(2), tmp_path / name)
    (tmp_path / "readme.txt").write_text("no rows")
    assert [c.position["file"] for c in chunks(opened(path=str(tmp_path)))] == [
        "a/z.parquet",
        "b.parquet",
    ]
    got = chunks(opened(path=str(tmp_path / "*" / "z*.parquet")))
    assert [c.position["file"] for c in got] == ["a/z.parquet"]
    names = [str(tmp_path / n) for n in ("b.parquet", "a/z.parquet")]
    got = chunks(opened(path=names))
    assert [c.position["file"] for c in got] == ["b.parquet", "a/z.parquet"]


def test_a_declared_format_takes_any_suffix(tmp_path):
    write_jsonl(rows(4), tmp_path / "log.2026", 0)
    assert numbers(chunks(opened(path=str(tmp_path), format="jsonl"))) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"format of 'log.2026' is not known.*\.parquet.*format"):
        chunks(opened(path=str(tmp_path / "log.2026")))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": "nowhere"}, "no file or folder 'nowhere'"),
        ({"path": []}, "empty list"),
        ({"path": ["nowhere.csv"]}, "no file"),
        ({}, "path: the key is missing"),
        ({"path": ".", "batchrows": 3}, "batchrows: unknown key; did you mean batch_rows"),
        (
            {"path": ".", "batch_rows": 0},
            "batch_rows: input should be greater than or equal to 1 .found 0",
        ),
        (
            {"path": ".", "batch_rows": "many"},
            "batch_rows: input should be a valid integer .found 'many'",
        ),
        ({"path": ".", "format": "xls"}, "format = 'xls' is not one of parquet"),
        ({"path": ".", "speed": 2.0}, "event_time"),
        ({"path": ".", "speed": 2.0, "rate": 1.0, "event_time": "t"}, "contradict"),
        ({"path": ".", "on_error": "ignore"}, "on_error: input should be 'fail', 'skip' or 'dlq'"),
        ({"path": __file__, "format": "csv", "follow": True}, "follow needs a folder"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises((ConfigError, SourceError), match=message):
        make(wrong, SCHEMA)


def test_a_file_named_twice(tmp_path):
    pq.write_table(rows(2), tmp_path / "a.parquet")
    twice = [str(tmp_path / "a.parquet")] * 2
    with pytest.raises(ConfigError, match="twice"):
        make({"path": twice}, SCHEMA)


def test_a_folder_without_files_and_a_file_that_went_away(tmp_path):
    with pytest.raises(SourceError, match=r"no file to read.*\.parquet.*follow"):
        chunks(opened(path=str(tmp_path)))
    pq.write_table(rows(2), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="'gone.parquet' of the saved position.*put it back"):
        chunks(opened({"file": "gone.parquet", "row": 1}, path=str(tmp_path)))


class World:
    """A source's clock, which only its own sleep moves on."""

    def __init__(self, source):
        self.now = 0.0
        source._pace._clock, source._pace._sleep = (lambda: self.now), self.sleep

    def sleep(self, seconds):
        self.now += seconds


def test_rate(tmp_path):
    pq.write_table(rows(300), tmp_path / "a.parquet")
    source = opened(path=str(tmp_path), rate=1000.0, batch_rows=100)
    world = World(source)
    got = chunks(source)
    assert 0.28 < world.now < 0.32
    assert numbers(got) == list(range(300))
    assert len(got) > 5  # rows come as they are due, not in whole batches


def test_event_time(tmp_path):
    pq.write_table(rows(300), tmp_path / "a.parquet")  # one row a second
    source = opened(path=str(tmp_path), event_time="t", speed=1000.0, batch_rows=128)
    world = World(source)
    got = chunks(source)
    assert world.now == pytest.approx(0.299)
    assert numbers(got) == list(range(300))


def test_event_time_of_a_column_outside_the_schema(tmp_path):
    write_csv(rows(20).append_column("at", rows(20)["t"]), tmp_path / "a.csv", 0)
    got = chunks(opened(path=str(tmp_path), event_time="at", speed=1e6))
    assert numbers(got) == list(range(20))
    with pytest.raises(SchemaError, match="no column 'when'"):
        chunks(opened(path=str(tmp_path), event_time="when", speed=1e6))


@pytest.mark.parametrize("bad", [[], [5, 6]])
def test_paced_rows_keep_their_positions(bad, tmp_path):
    path = tmp_path / "a.csv"
    write_csv(rows(40), path, 0)
    spoil(path, [b"x"] * len(bad), bad)
    got = chunks(opened(path=str(path), rate=400.0))
    assert numbers(got) == list(range(40)) and len(got) > 2
    for i, chunk in enumerate(got):
        rest = chunks(opened(chunk.position, path=str(path)))
        assert numbers(rest) == numbers(got[i + 1 :])
        assert [d.where for d in dead(rest)] == [d.where for d in dead(got[i + 1 :])]


def follow_until(source, n, seconds=10.0):
    got, end = [], time.monotonic() + seconds
    while len(numbers(got)) < n:
        assert time.monotonic() < end, f"only {len(numbers(got))} rows came"
        got += source.poll(0.02)
    end = time.monotonic() + 0.15  # and no more come
    while time.monotonic() < end:
        got += source.poll(0.02)
    return got


def test_a_growing_folder(tmp_path):
    settings = {"path": str(tmp_path), "follow": True, "settle_seconds": 0.05, "batch_rows": 7}
    pq.write_table(rows(10, 0), tmp_path / "b.parquet")
    source = opened(**settings)
    got = follow_until(source, 10)
    pq.write_table(rows(10, 10), tmp_path / "c.parquet")
    got += follow_until(source, 10)
    pq.write_table(rows(10, 20), tmp_path / "a.parquet")  # late, and before the others
    got += follow_until(source, 10)
    assert numbers(got) == list(range(30)) and not source.finished
    read = got[-1].position["read"][str(tmp_path.resolve())]
    assert list(read) == ["b.parquet", "c.parquet", "a.parquet"]
    for i, chunk in enumerate(got):  # a restart at any point reads the rest, late file included
        rest = follow_until(opened(chunk.position, **settings), 30 - len(numbers(got[: i + 1])))
        assert sorted(numbers(got[: i + 1]) + numbers(rest)) == list(range(30))


def test_an_incomplete_file_is_not_read(tmp_path, caplog):
    source = opened(path=str(tmp_path), follow=True, settle_seconds=0.5)
    path = tmp_path / "a.jsonl"
    write_jsonl(rows(10), tmp_path / "x", 0)
    lines = (tmp_path / "x").read_bytes().splitlines(keepends=True)
    with path.open("wb", buffering=0) as f:
        for line in lines:
            f.write(line)
            time.sleep(0.05)
            assert not source.poll(0.01)
    assert numbers(follow_until(source, 10)) == list(range(10))
    with path.open("ab") as f:
        f.write(lines[0])
    for _ in range(40):
        assert not source.poll(0.02)
    assert "changed after it was read" in caplog.text


def test_from_replay_to_follow(tmp_path):
    for k in range(3):
        pq.write_table(rows(10, 10 * k), tmp_path / f"{k}.parquet")
    position = {"file": "1.parquet", "row": 5}
    source = opened(position, path=str(tmp_path), follow=True, settle_seconds=0.0)
    assert numbers(follow_until(source, 15)) == list(range(15, 30))


def test_files_renamed_in_are_complete_at_once(tmp_path):
    pq.write_table(rows(10), tmp_path / "a.tmp")
    old = time.time() - 60
    os.utime(tmp_path / "a.tmp", (old, old))
    Path(tmp_path / "a.tmp").rename(tmp_path / "a.parquet")
    source = opened(path=str(tmp_path), follow=True, settle_seconds=30.0)
    assert numbers(follow_until(source, 10)) == list(range(10))


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_what_is_left_is_known_before_it_is_read(tmp_path, suffix):
    from streamsketch_consumers.files.length import rows_in

    table = pa.table({"x": np.arange(1000.0), "y": np.arange(1000.0)})
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    elif suffix == "arrow":
        with pa.OSFile(str(path), "wb") as f, pa.ipc.new_file(f, table.schema) as writer:
            writer.write_table(table)
    elif suffix == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    found = rows_in({"a": path}, {"a": suffix})["a"]
    assert found == 1000 if suffix in ("parquet", "arrow") else 990 < found < 1010
    assert rows_in({"a": path, "b": tmp_path / "none"}, {"a": suffix, "b": suffix}) is None
