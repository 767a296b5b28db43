"""Rows in every form have the same sums: one by one, mappings, data frames, lazy or not."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher
from streamsketch.errors import DataError
from streamsketch.schema.rows import as_table

RNG = np.random.default_rng(0)
N = 3000
TABLE = pa.table({
    "x": RNG.normal(0, 2, N), "k": RNG.integers(-5, 5, N), "c": RNG.choice(["a", "b"], N),
    "b": RNG.random(N) < 0.3, "n": pa.array(RNG.random(N), mask=RNG.random(N) < 0.1),
    "t": pa.array(np.datetime64("2026-01-01") + RNG.integers(0, 10**6, N).astype("m8[s]")),
})  # fmt: skip
SCHEMA = Schema.from_dict({
    "x": {"kind": "numeric", "low": -4, "high": 4, "outside": "clip"},
    "k": {"kind": "numeric", "type": "int64", "low": -5, "high": 5},
    "c": {"kind": "categorical", "type": "string", "values": ["a", "b"]},
    "b": {"kind": "boolean", "type": "bool"},
    "n": {"kind": "numeric", "low": 0, "high": 1, "nulls": "indicator"},
    "t": {"kind": "timestamp", "type": "timestamp[s]", "low": "2026-01-01", "high": "2026-02-01"},
})  # fmt: skip
PLAIN = Schema.from_dict({k: v for k, v in SCHEMA.to_dict().items() if k in "xkcb"})


def learned(schema, data):
    s = Sketcher(schema, frequencies=32)
    s.learn_many(data)
    return s.sketch


@pytest.mark.parametrize("schema", [SCHEMA, PLAIN], ids=["with times and nulls", "plain"])
def test_one_by_one_is_the_same_sum_as_all_at_once(schema):
    s = Sketcher(schema, frequencies=32)
    for row in TABLE.to_pylist():
        s.learn_one(row)
    whole = learned(schema, TABLE)
    assert s.sketch.count == N and (s.sketch.total == whole.total).all()
    assert s.release().count == N


def test_a_row_is_refused_when_it_comes_and_no_other_is_lost():
    s = Sketcher(PLAIN, frequencies=32)
    good = {"x": 0.5, "k": 1, "c": "a", "b": True}
    s.learn_one(good)
    for bad in ({"c": "z"}, {"x": float("nan")}, {"x": None}, {"k": "one"}, {"b": "yes"}):
        with pytest.raises(DataError):
            s.learn_one(good | bad)
    with pytest.raises(DataError, match="has no 'k'"):
        s.learn_one({"x": 0.5})
    s.learn_one(good)
    assert s.sketch.count == 2


def test_a_kept_row_is_a_copy_and_is_in_every_way_out():
    row = {"x": 0.5, "k": 1, "c": "a", "b": True}
    s, other = Sketcher(PLAIN, frequencies=32), Sketcher(PLAIN, frequencies=32)
    s.learn_one(row)
    row["x"] = 3.0
    other.learn_one(row)
    assert (s.merge(other).sketch.total == learned(PLAIN, [{**row, "x": 0.5}, row]).total).all()
    s.learn_sketch(other.sketch)
    s.learn_one(row)
    assert s.sketch.count == 3


def test_mappings_are_rows():
    rows = TABLE.to_pylist()
    assert (learned(SCHEMA, rows).total == learned(SCHEMA, TABLE).total).all()
    assert as_table([{"a": 1}, {"a": None}]).num_rows == 2


@pytest.mark.parametrize("kind", ["pandas", "polars", "polars lazy", "duckdb", "datasets"])
def test_data_frames_are_rows(kind):
    name = kind.split()[0]
    library = pytest.importorskip(name)
    made = {
        "pandas": lambda: TABLE.to_pandas(),
        "polars": lambda: library.from_arrow(TABLE),
        "polars lazy": lambda: library.from_arrow(TABLE).lazy(),
        "duckdb": lambda: library.from_arrow(TABLE),
        "datasets": lambda: library.Dataset(TABLE),
    }[kind]()
    assert (learned(SCHEMA, made).total == learned(SCHEMA, TABLE).total).all()


@pytest.mark.parametrize(
    "view", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_every_arrow_kind(view):
    column = TABLE.column("c").cast(pa.string())
    cast = column.dictionary_encode() if pa.types.is_dictionary(view) else column.cast(view)
    table = TABLE.set_column(2, "c", cast)
    assert (learned(SCHEMA, table).total == learned(SCHEMA, TABLE).total).all()


def test_times_of_python_are_read_one_by_one():
    s = Sketcher(SCHEMA, frequencies=32)
    s.learn_one({**TABLE.to_pylist()[0], "t": dt.datetime(2026, 1, 5)})
    assert s.sketch.count == 1
