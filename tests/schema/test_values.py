"""Values that exist: samples hold them and no others, exactly; what cannot be sketched is named."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import SchemaError
from streamsketch.schema import Column, Schema
from streamsketch.schema.propose import proposal

N = 2000


def drawn(table, rows=1000, seed=0):
    """Rows of coordinates anywhere in the box: the worst that a generator can do."""
    schema = Schema.propose(table)
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, schema.d)).astype(np.float32)
    return schema.decode(x)


COLUMNS = {
    "a constant": lambda r: np.full(N, 0.0825625),
    "a float32 constant": lambda r: np.full(N, 98.6, np.float32),
    "a constant beyond 2^53": lambda r: np.full(N, 2e16),
    "few levels": lambda r: r.choice([514.8, 3.35, 19.99, 0.1], N),
    "roots of a lattice": lambda r: np.sqrt(30 * r.integers(1, 90, N)),
    "a price list": lambda r: r.choice(np.round(r.exponential(80, 150), 2), N),
    "a smallest integer": lambda r: np.full(N, -128, np.int8),
    "decimals": lambda r: pa.array([decimal.Decimal(int(i)) / 100 for i in r.integers(0, 90, N)], pa.decimal128(12, 2)),
    "times of day": lambda r: pa.array(900 * r.integers(0, 96, N).astype("int32")).cast(pa.time32("s")),
    "month ends": lambda r: pa.array((np.datetime64("2020-01") + r.integers(0, 60, N)).astype("datetime64[D]")),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_few_values_makes_no_others(kind):
    table = pa.table({"v": COLUMNS[kind](np.random.default_rng(1))})
    assert set(drawn(table)["v"].to_pylist()) <= set(table["v"].to_pylist())


@given(
    st.sampled_from([1, 5, 30, 0.1, 0.05, 0.01, 2.5, 0.001]),
    st.integers(0, 29),
    st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_numbers_of_a_lattice_are_exactly_representable(step, start, seed):
    r = np.random.default_rng(seed)
    places = r.integers(0, 10_000, 500)
    text = decimal.Decimal(repr(step))
    values = [float(start + int(k) * text) for k in places]
    made = drawn(pa.table({"v": values}), seed=seed)["v"].to_pylist()
    assert all(v == float(decimal.Decimal(repr(v))) for v in made)
    assert all((decimal.Decimal(repr(v)) - start) % text == 0 for v in made)


def test_a_long_tail_keeps_its_head_and_samples_the_rest_from_its_list():
    r = np.random.default_rng(0)
    cities = [f"c{i:03d}" for i in r.permutation(800)[np.minimum(r.zipf(1.2, 40_000), 800) - 1]]
    table = pa.table({"city": cities})
    schema = Schema.propose(table)
    column = schema.columns[0]
    assert len(column.values) == 256 and column.other == "other"
    assert set(column.values) - {"other"} | set(column.tail) == set(cities)
    encoded = schema.encode(table)
    assert not encoded.rejected
    made = schema.decode(encoded.x)["city"].to_pylist()
    assert set(made) <= set(cities)
    kept = [(a, b) for a, b in zip(made, cities, strict=True) if b in column.values]
    assert all(a == b for a, b in kept)
    assert set(made) >= set(column.tail)


def test_what_cannot_be_sketched_is_left_out_by_name():
    n = 200
    columns = {
        "snow": pa.array([2**60 + 7 * i for i in range(n)]),
        "huge": pa.array([2**64 - 1 - i for i in range(n)], pa.uint64()),
        "row": pa.array(range(n)),
        "bytes": pa.array([b"x"] * n),
        "thing": pa.array([{"a": 1}] * n),
        "ragged": pa.array([[1.0] * (i % 3) for i in range(n)]),
        "empty": pa.nulls(n),
        "wide": pa.array([-1.7e308, 1.7e308] * (n // 2)),
        "said": pa.array(["x", "y"] * (n // 2)),
        "good": pa.array(["x", "y"] * (n // 2)).cast(pa.string_view()),
        "pair": pa.array([[1.0, 2.0]] * n),
    }  # fmt: skip
    table = pa.table([*columns.values(), columns["row"]], names=[*columns, "row"])
    found = proposal(table, ignored=["said"])
    assert set(found.left_out) == set(columns) - {"good", "pair"}
    assert found.left_out["row"] == "2 columns are named row; rename one"
    assert "as you said" in found.left_out["said"]
    assert not Schema(found.columns).encode(table).rejected


def test_nan_is_missing_and_infinity_is_told():
    table = pa.table({"x": [1.5, float("nan"), float("inf"), 2.5] * 50})
    found = proposal(table)
    assert found.columns[0].nulls == "indicator"
    assert found.notes == ["50 values of 'x' are infinite; their rows will be refused."]
    schema = Schema(found.columns)
    encoded = schema.encode(table)
    assert len(encoded.rejected) == 50
    assert schema.decode(encoded.x)["x"].to_pylist()[:3] == [1.5, None, 2.5]


def test_a_label_of_many_values_is_one_when_asked_for():
    table = pa.table({"a": range(0, 12000, 3), "y": [f"k{i % 400}" for i in range(4000)]})
    column = Schema.propose(table, label="y").label
    assert column is not None and len(column.values) == 400
    with pytest.raises(SchemaError, match="'y' cannot be the label: it has 5000 different values"):
        Schema.propose(pa.table({"y": [f"k{i}" for i in range(5000)]}), label="y")


def test_a_sentinel_number_is_a_state():
    r = np.random.default_rng(0)
    table = pa.table({"v": np.where(r.random(N) < 0.02, -999, r.integers(0, 100, N))})
    assert Schema.propose(table).columns[0].atoms == (-999,)


def test_a_value_that_its_type_cannot_hold_is_a_refusal():
    schema = Schema([Column("v", "categorical", "int16", values=(1, 2))])
    encoded = schema.encode(pa.table({"v": [1, 2**40, 2]}))
    assert encoded.rows.tolist() == [0, 2]
    vector = Schema([Column("v", "vector", "fixed_size_list<double>[2]", low=0, high=1)])
    encoded = vector.encode(pa.table({"v": [[0.0, 1.0], [1.0], None, [0.5, None]]}))
    assert encoded.rows.tolist() == [0] and len(encoded.rejected) == 3


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"kind": "numeric", "low": 0, "high": 9, "levels": [3, 2]}, "levels must increase"),
        ({"kind": "numeric", "low": 0, "high": 9, "levels": [3, 12]}, "levels must increase"),
        ({"kind": "numeric", "low": 0, "high": 9, "offset": "x"}, "offset"),
        ({"kind": "categorical", "type": "string", "values": ["a"], "tail": ["b"]}, "name the category"),
        ({"kind": "categorical", "type": "string", "values": ["a", "b"], "other": "b", "tail": ["a"]}, "tail"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_of_values_says_what_is_wrong(declared, says):
    with pytest.raises(SchemaError, match=says):
        Column("v", **declared)
