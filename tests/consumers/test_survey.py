"""What init proposes for a file, consuming the file admits to the last row, or init says what not."""

import csv
import gzip
import io
import json
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamsketch_consumers.files.table import admitted, read, survey
from streamsketch_consumers.sinks import make as make_sink

from streamsketch.errors import ConfigError, DataError
from streamsketch.schema import Schema
from streamsketch.schema.propose import proposal

FAST = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def proposed(path, rows=10_000, label=None, asked=None, types=None):
    """The survey of a file, the proposal, and what consuming refuses."""
    found = survey(str(path), rows, asked, types)
    made = proposal(found.table, label)
    looked, refused, whole = admitted(found.settings, Schema(made.columns), 60.0)
    assert whole
    return found, made, looked, refused


def told(made):
    return any("will be refused" in note for note in made.notes)


CELLS = {
    "whole": st.integers(-999, 10**6).map(str),
    "code": st.integers(0, 999).map(lambda i: f"{i:05d}"),
    "part": st.decimals(-1000, 1000, places=2, allow_nan=False).map(str),
    "flag": st.sampled_from(["true", "False", "TRUE"]),
    "word": st.sampled_from(["x", "New York", 'say "hi"', "a;b", "a,b", "NA", "line\nbreak", "Köln", " pad "]),
    "day": st.dates().map(str),
    "time": st.datetimes().map(lambda t: t.isoformat(" ")),
    "zoned": st.datetimes().map(lambda t: t.isoformat() + "+02:00"),
    "clock": st.times().map(lambda t: t.strftime("%H:%M:%S")),
    "mixed": st.sampled_from(["1", "2.5", "x", "2020-01-01"]),
    "late": st.just("7"),
}  # fmt: skip
NULLS = ["", "NA", "null", "NaN", "?"]


@st.composite
def csv_files(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))
    n = draw(st.integers(1, 40))
    null = draw(st.sampled_from(NULLS))
    gaps = draw(st.booleans())
    columns = [draw(st.lists(CELLS[k], min_size=n, max_size=n)) for k in kinds]
    for column in columns:
        if gaps:
            column[draw(st.integers(0, n - 1))] = null
    names = [f"{string.ascii_letters[i]}{k}" for i, k in enumerate(kinds)]
    out = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(
        out, delimiter=draw(st.sampled_from(",;\t|")), quoting=quoting, lineterminator=end
    )
    writer.writerow(names)
    writer.writerows(zip(*columns, strict=True))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    return out.getvalue().encode(encoding), n


@given(csv_files())
@FAST
def test_a_csv_file_is_admitted_to_the_last_row(tmp_path, file):
    data, rows = file
    (tmp_path / "a.csv").write_bytes(data)
    try:
        found, made, _, refused = proposed(tmp_path / "a.csv")
    except (ConfigError, DataError) as e:  # nothing to sketch, or no value in any row
        assert "no column to sketch" in str(e) or "without rows" in str(e)
        return
    # a line that is no line of its file is refused too: `init` says so after reading all of it
    values = {reason for reason in refused if "CSV parse error" not in reason}
    assert not values or told(made), (refused, found.settings)
    assert found.rows <= rows


VALUES = {
    "whole": st.integers(-(2**62), 2**62),
    "small": st.integers(0, 9),
    "part": st.floats(-1e6, 1e6) | st.just(float("nan")),
    "flag": st.booleans(),
    "word": st.text(max_size=5),
    "time": st.datetimes().map(lambda t: t.isoformat()),
    "list": st.lists(st.integers(0, 3), min_size=2, max_size=2),
    "thing": st.just({"a": 1}),
    "mixed": st.sampled_from([1, "x", None, [1]]),
}


@given(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True), st.data())
@FAST
def test_a_file_of_json_lines_is_admitted_to_the_last_row(tmp_path, kinds, data):
    n = data.draw(st.integers(1, 30))
    rows = [
        {k: data.draw(VALUES[k] | st.none()) for k in kinds if data.draw(st.integers(0, 9))}
        for _ in range(n)
    ]
    (tmp_path / "a.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    try:
        _, made, _, refused = proposed(tmp_path / "a.json")
    except (ConfigError, DataError) as e:
        assert "no column to sketch" in str(e) or "no line holds" in str(e)
        return
    assert not refused or told(made)


TYPES = [
    pa.int8(), pa.uint64(), pa.int64(), pa.float32(), pa.float64(), pa.decimal128(9, 2), pa.bool_(), pa.string(),
    pa.large_string(), pa.string_view(), pa.date32(), pa.timestamp("s"), pa.timestamp("us"), pa.time32("s"),
    pa.time64("us"), pa.duration("ms"), pa.binary(), pa.list_(pa.float64()), pa.null(),
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@given(st.lists(st.sampled_from(TYPES), min_size=1, max_size=5), st.integers(0, 2**31))
@FAST
def test_a_typed_file_is_admitted_to_the_last_row_or_told(tmp_path, suffix, kinds, seed):
    r = np.random.default_rng(seed)
    n = int(r.integers(1, 40))
    columns = {f"c{i}": anything(r, kind, n) for i, kind in enumerate(kinds)}
    table = pa.table(columns)
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        try:
            pq.write_table(table, path)
        except pa.ArrowInvalid:  # a time that Parquet cannot hold
            return
    else:
        with pa.OSFile(str(path), "wb") as f, pa.ipc.new_file(f, table.schema) as w:
            w.write_table(table)
    try:
        _, made, looked, refused = proposed(path)
    except (ConfigError, DataError) as e:
        assert "no column to sketch" in str(e)
        return
    assert looked == n
    assert not refused or told(made)


def anything(r, kind, n):
    """Values of a type, some null, some at its ends."""
    if pa.types.is_null(kind):
        return pa.nulls(n)
    mask = r.random(n) < r.choice([0, 0.2, 1])
    if pa.types.is_list(kind):
        return pa.array([None if m else [1.0, 2.0] for m in mask], kind)
    if pa.types.is_binary(kind) or pa.types.is_string(kind) or "string" in str(kind):
        made = pa.array([None if m else str(r.integers(0, 5)) for m in mask], pa.string())
        return made.cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(r.random(n) < 0.5, mask=mask)
    if pa.types.is_floating(kind):
        return pa.array(np.where(r.random(n) < 0.1, np.inf, r.normal(size=n)), mask=mask).cast(
            kind
        )
    if pa.types.is_decimal(kind):
        return pa.array(r.integers(0, 10**6, n), mask=mask).cast(pa.decimal128(19, 0)).cast(kind)
    wide = 2**31 if kind.bit_width == 32 else 2**62
    values = r.choice([0, 1, wide - 1, -wide, 86399, int(r.integers(0, 10**9))], n)
    if pa.types.is_time(kind):
        values = values % 86400
    if kind == pa.int8():
        values = values % 127
    if kind == pa.uint64():
        return pa.array(values.astype(np.uint64), mask=mask)
    narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
    return (
        pa.array(values, mask=mask).cast(narrow if pa.types.is_temporal(kind) else kind).cast(kind)
    )


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl"])
def test_what_we_write_we_read_back(tmp_path, suffix):
    import datetime as dt
    from decimal import Decimal

    n, r = 300, np.random.default_rng(0)
    table = pa.table({
        "price": pa.array([Decimal(int(i)) / 100 for i in r.integers(0, 10**5, n)], pa.decimal128(12, 2)),
        "at": pa.array([dt.datetime(2020, 1, 1) + dt.timedelta(seconds=int(s)) for s in r.integers(0, 10**7, n)]),
        "zone": pa.array(r.integers(0, 10**9, n)).cast(pa.timestamp("s", tz="Europe/Berlin")),
        "day": pa.array(r.integers(0, 20_000, n).astype("int32")).cast(pa.date32()),
        "clock": pa.array([dt.time(int(h), 30) for h in r.integers(0, 24, n)], pa.time64("us")),
        "took": pa.array(r.integers(0, 10**6, n)).cast(pa.duration("ms")),
        "flag": pa.array([None if i % 9 == 0 else i % 2 == 0 for i in range(n)]),
        "zip": [f"{i % 30:05d}" for i in range(n)],
        "x": pa.array([None if i % 7 == 0 else i / 3 for i in range(n)]),
        "name": [["None", "NA", None, "x"][i % 4] for i in range(n)],
    })  # fmt: skip
    schema = Schema.propose(table)
    made = schema.decode(schema.encode(table).x)
    sink = make_sink({"path": str(tmp_path / f"out{suffix}")})
    sink.write(made)
    sink.flush()
    sink.close()
    looked, refused, whole = admitted({"path": str(tmp_path / f"out{suffix}")}, schema, 60.0)
    assert (looked, dict(refused), whole) == (n, {}, True)
    back = schema.encode(read(str(tmp_path / f"out{suffix}"), schema)).x
    assert np.abs(back - schema.encode(made).x).max() < 1e-6
    assert not proposed(tmp_path / f"out{suffix}")[3]


def test_what_was_found_is_written_down(tmp_path):
    text = "n;amount;word;when\n" + "".join(
        f"{i};1.{i % 999:03d},{i % 90:02d};Köln {i % 3};{'NA' if i % 4 else '2020-01-01 10:00:00'}\n"
        for i in range(900)
    )
    (tmp_path / "a.csv").write_bytes(text.encode("cp1252"))
    found, made, _, refused = proposed(tmp_path / "a.csv")
    assert found.settings == {
        "encoding": "cp1252", "delimiter": ";", "null_numbers": ["NA"], "decimal": ",", "thousands": ".",
        "path": str(tmp_path / "a.csv"),
    }  # fmt: skip
    kinds = {c.name: (c.kind, c.type, c.nulls) for c in made.columns}
    assert kinds["amount"][:2] == ("numeric", "double")
    assert kinds["when"] == ("timestamp", "timestamp[s]", "indicator")
    assert made.left_out == {"n": "a sequential number: it names the row"} and not refused


def test_a_type_holds_for_every_value_not_for_the_first_megabyte(tmp_path):
    n = 200_000
    lines = [f"{i % 500}" for i in range(n)]
    lines[-1] = "0.5"
    (tmp_path / "a.csv").write_text("v\n" + "\n".join(lines) + "\n")
    found, made, looked, refused = proposed(tmp_path / "a.csv", rows=1000)
    assert made.columns[0].type == "double" and not refused
    assert looked == n and 500 <= found.table.num_rows <= 1000 and found.rows == n
    lines[-1] = "seven"
    (tmp_path / "a.csv").write_text("v\n" + "\n".join(lines) + "\n")
    assert survey(str(tmp_path / "a.csv"), 1000).table.schema.field("v").type == pa.string()


def test_a_category_that_no_row_read_had_is_told(tmp_path):
    table = pa.table({"c": ["a", "b"] * 5000 + ["rare"]})
    pq.write_table(table, tmp_path / "a.parquet")
    _, _, looked, refused = proposed(tmp_path / "a.parquet", rows=100)
    # the last row is among those read; one in the middle is not
    assert looked == 10_001 and not refused
    pq.write_table(
        pa.table({"c": ["a", "b"] * 2500 + ["rare"] + ["a", "b"] * 2500}), tmp_path / "a.parquet"
    )
    _, made, _, refused = proposed(tmp_path / "a.parquet", rows=100)
    missed = "rare" not in made.columns[0].values
    assert refused == ({"column 'c': a category that is not declared": 1} if missed else {})


def test_files_that_are_not_alike(tmp_path):
    n = 60
    pq.write_table(
        pa.table({"a": pa.array(range(n)), "note": pa.nulls(n)}), tmp_path / "1.parquet"
    )
    pq.write_table(
        pa.table(
            {"a": pa.array([0.5] * n), "note": ["x", "y"] * (n // 2), "new": [1.5, 2.5] * (n // 2)}
        ),
        tmp_path / "2.parquet",
    )
    found, made, looked, refused = proposed(tmp_path)
    assert (looked, dict(refused)) == (2 * n, {}) and found.settings["missing"] == "null"
    assert {c.name: c.type for c in made.columns} == {
        "a": "double",
        "note": "string",
        "new": "double",
    }
    pq.write_table(pa.table({"a": ["text"] * n}), tmp_path / "3.parquet")
    with pytest.raises(
        DataError, match="column 'a' is of type double, but of type string in file '3.parquet'"
    ):
        survey(str(tmp_path), 100)


def test_folders_and_compressed_files_are_read_with_their_columns(tmp_path):
    for year in (2023, 2024):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        text = "x\tc\n" + "".join(f"{i / 2}\t{'ab'[i % 2]}\n" for i in range(50))
        (folder / "part.tsv.gz").write_bytes(gzip.compress(text.encode()))
    found, made, looked, refused = proposed(tmp_path)
    assert (looked, dict(refused)) == (100, {})
    assert {c.name: c.type for c in made.columns} == {
        "x": "double",
        "c": "string",
        "year": "int64",
    }
    assert "delimiter" not in found.settings


def test_types_that_are_given(tmp_path):
    stamps = [1_700_000_000_000 + i * 60_000 for i in range(300)]
    (tmp_path / "a.csv").write_text("zip,ts\n" + "".join(f"10{t % 9},{t}\n" for t in stamps))
    types = {"zip": "string", "ts": "timestamp[ms]"}
    _, made, _, refused = proposed(tmp_path / "a.csv", types=types)
    assert {c.name: c.type for c in made.columns} == types and not refused
    assert made.columns[1].low.startswith("2023-11-14")
    pq.write_table(
        pa.table({"ts": stamps}),
        tmp_path / "b.parquet",
    )
    _, made, _, refused = proposed(tmp_path / "b.parquet", types={"ts": "timestamp[ms]"})
    assert made.columns[0].low.startswith("2023-11-14") and not refused
    with pytest.raises(ConfigError, match="no column 'no'"):
        survey(str(tmp_path / "b.parquet"), 10, types={"no": "string"})


N = 200
PEOPLE = {
    "a mark before the header": ('\ufeff"Name";"X"\n', '"a{m}";{i}\n', {"Name": "string", "X": "int64"}),
    "spaces around": (" a , b \n", " {i} , x{m} \n", {" a ": "int64", " b ": "string"}),
    "a delimiter at the end": ("a,b,\n", "{i},x{m},\n", {"a": "int64", "b": "string"}),
    "a line break in the header": ('"a\nx",b\n', "{i},x{m}\n", {"a\nx": "int64", "b": "string"}),
    "inches": ("a,b\n", '{i},{m}" pipe\n', {"a": "int64", "b": "string"}),
    "an index without a name": (",a\n", "{n},x{m}\n", {"a": "string"}),
    "more digits than a number keeps": ("k,c\n", "1234567890123456{n:04d},x{m}\n", {"c": "string"}),
    "dates without dashes": ("d\n", "2020{month:02d}{day:02d}\n", {"d": "date32[day]"}),
    "hours of one digit": ("t\n", "{day}:{month:02d}\n", {"t": "time32[s]"}),
    "offsets here and there": ("t\n", "2023-01-{day:02d}T00:00:00{zone}\n", {"t": "timestamp[s]"}),
    "money in quotes": ("m,c\n", '"{i},500.25",x{m}\n', {"m": "double", "c": "string"}),
    "lines of another system": ("a,b\r\n", "{i},x{m}\r\n", {"a": "int64", "b": "string"}),
}  # fmt: skip


@pytest.mark.parametrize("case", PEOPLE)
def test_tables_as_people_have_them(tmp_path, case):
    header, row, types = PEOPLE[case]
    zones = ("Z", "+02:00", "")
    text = header + "".join(
        row.format(
            i=i * 7 % 50 + 1, n=i, m=i % 3, month=i % 12 + 1, day=i % 23 + 1, zone=zones[i % 3]
        )
        for i in range(N)
    )
    (tmp_path / "a.csv").write_bytes(text.encode())
    asked = {"d": "date32[day]"} if "d" in types else None
    _, made, looked, refused = proposed(tmp_path / "a.csv", types=asked)
    assert (looked, dict(refused)) == (N, {})
    assert {c.name: c.type for c in made.columns if c.encoded} == types
    if "d" in types:
        assert made.columns[0].low >= "2020" and made.columns[0].high < "2021"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"sep=;\na;b\n1;2\n", "only Excel"),
        (
            "b.csv",
            b"m\n" + b"".join(b"$%d.50\n" % i for i in range(90)),
            "m: most values occur once",
        ),
        ("a.json", b'[{"a": 1}, {"a": 2}]', "jq -c"),
        ("a.parquet", b"PAR1 not", "Cannot read .*a.parquet.* as parquet"),
        ("a.what", b"x", "Cannot tell the format"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ConfigError, DataError), match=says):
        proposed(tmp_path / name)
