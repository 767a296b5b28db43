"""The schema: round trips, limits that hold, refusals that name the row, mistakes that name the key."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import DataError, SchemaError
from streamsketch.schema import Column, Schema

MIXED = Schema(
    [
        Column("age", "numeric", "int64", low=0, high=120),
        Column("pay", "numeric", "double", low=0, high=1e5, log=True, nulls="indicator"),
        Column("gain", "numeric", "int32", low=0, high=99999, knots=(0, 100, 5000, 99999), atoms=(0, 99999)),
        Column("city", "categorical", "string", values=("a", "b", "c"), nulls="category"),
        Column("smokes", "boolean", "bool"),
        Column("when", "timestamp", "timestamp[s]", low="2013-01-01T00:00:00", high="2013-12-31T23:59:59",
               periods=("week", "day"), resolution=1.0),
        Column("y", "label", "int16", values=(0, 1)),
        Column("note", "ignore", "string"),
    ]
)  # fmt: skip

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.integers(0, 120),
            "pay": st.none() | st.floats(0, 1e5),
            "gain": st.integers(0, 99999),
            "city": st.sampled_from(["a", "b", "c", None]),
            "smokes": st.booleans(),
            "when": st.datetimes(
                dt.datetime(2013, 1, 1), dt.datetime(2013, 12, 31, 23, 59, 59)
            ).map(lambda t: t.replace(microsecond=0)),
            "y": st.sampled_from([0, 1]),
        }
    ),
    min_size=1,
    max_size=20,
)


@given(ROWS)
@settings(deadline=None, max_examples=200)
def test_round_trip(rows):
    back = MIXED.decode(MIXED.encode_rows(rows))
    assert back.schema == MIXED.arrow
    for row, out in zip(rows, back.to_pylist(), strict=True):
        for name in ("age", "gain", "city", "smokes", "y"):
            assert out[name] == row[name], name
        if row["pay"] is None:
            assert out["pay"] is None
        else:
            assert out["pay"] == pytest.approx(row["pay"], rel=1e-4, abs=1e-2)
        assert abs((out["when"] - row["when"]).total_seconds()) <= 1  # float32 angles of a day


@given(ROWS, st.integers(0, 20))
@settings(deadline=None, max_examples=50)
def test_a_row_encodes_to_the_same_bits_in_any_batch(rows, cut):
    whole = MIXED.encode_rows(rows)
    one_by_one = np.stack([MIXED.encode_row(r) for r in rows])
    assert (whole == one_by_one).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1e6))
@settings(deadline=None, max_examples=100)
def test_decoding_anything_stays_within_the_limits(seed, spread):
    x = np.random.default_rng(seed).normal(size=(50, MIXED.d)) * spread
    table = MIXED.decode(x)
    assert set(table["city"].to_pylist()) <= {"a", "b", "c", None}
    assert set(table["y"].to_pylist()) <= {0, 1}
    for name, low, high in (("age", 0, 120), ("pay", 0, 1e5), ("gain", 0, 99999)):
        values = [v for v in table[name].to_pylist() if v is not None]
        assert all(low <= v <= high for v in values), name
    times = table["when"].to_pylist()
    assert all(
        dt.datetime(2013, 1, 1) <= t <= dt.datetime(2013, 12, 31, 23, 59, 59) for t in times
    )
    assert MIXED.encode(table).rejected == ()


@pytest.mark.parametrize(
    "kind", ["float", "double", "halffloat", "int8", "uint16", "decimal128(10, 3)"]
)
def test_bounds_hold_after_rounding_to_the_columns_type(kind):
    schema = Schema([Column("v", "numeric", kind, low=0.1, high=3.3)])
    values = [float(v) for v in schema.decode(np.linspace(-1, 1, 101)[:, None])["v"].to_pylist()]
    assert all(0.1 <= v <= 3.3 for v in values)


def test_numbers_fill_the_box_linearly():
    schema = Schema.vectors(1, -2, 6)
    assert schema.encode_array(np.array([[-2.0], [2.0], [6.0]])).ravel().tolist() == [
        -1.0,
        0.0,
        1.0,
    ]


def test_knots_map_to_their_positions_and_back():
    schema = Schema(
        [Column("v", "numeric", low=0, high=10, knots=(0, 1, 10), positions=(-1, 0.5, 1))]
    )
    x = schema.encode(pa.table({"v": [0.0, 0.5, 1.0, 5.5, 10.0]})).x.ravel()
    assert x.tolist() == [-1.0, -0.25, 0.5, 0.75, 1.0]
    assert schema.decode(x[:, None])["v"].to_pylist() == [0.0, 0.5, 1.0, 5.5, 10.0]


def test_vector_columns_and_their_slices():
    kind = pa.list_(pa.uint8(), 3)
    schema = Schema([Column("image", "vector", str(kind), low=0, high=255)])
    batch = pa.record_batch({"image": pa.array([[0, 0, 0], [255, 0, 255], [1, 2, 3]], kind)})
    assert schema.encode(batch.slice(1, 1)).x.tolist() == [[1.0, -1.0, 1.0]]
    assert schema.decode(schema.encode(batch).x)["image"].to_pylist() == batch["image"].to_pylist()


@pytest.mark.parametrize(
    ("values", "column", "reason"),
    [
        ({"v": [1.0, math.nan]}, Column("v", "numeric", low=0, high=2), "not a finite number"),
        ({"v": [1.0, math.inf]}, Column("v", "numeric", low=0, high=2), "not a finite number"),
        ({"v": [1.0, None]}, Column("v", "numeric", low=0, high=2), "null"),
        (
            {"v": [1.0, 5.0]},
            Column("v", "numeric", low=0, high=2, outside="refuse"),
            "outside the declared limits",
        ),
        ({"v": ["a", "z"]}, Column("v", "categorical", "string", values=("a",)), "not declared"),
        ({"v": ["a", None]}, Column("v", "categorical", "string", values=("a",)), "null"),
    ],
)
def test_a_bad_row_is_set_apart_and_the_others_are_kept(values, column, reason):
    encoded = Schema([column]).encode(pa.table(values))
    assert encoded.rows.tolist() == [0] and len(encoded.x) == 1 and np.isfinite(encoded.x).all()
    assert [(r.row, r.column) for r in encoded.rejected] == [(1, "v")]
    assert reason in encoded.rejected[0].reason


def test_an_undeclared_category_can_have_a_home():
    schema = Schema([Column("v", "categorical", "string", values=("a", "rest"), other="rest")])
    assert schema.encode(pa.table({"v": ["a", "zzz"]})).x.tolist() == [[1, 0], [0, 1]]


def test_nan_counts_as_null_where_nulls_are_declared_and_is_refused_elsewhere():
    schema = Schema([Column("v", "numeric", low=0, high=2, nulls="indicator")])
    encoded = schema.encode(pa.table({"v": [1.0, None, math.nan]}))
    assert encoded.rows.tolist() == [0, 1, 2]
    assert schema.decode(encoded.x)["v"].to_pylist() == [1.0, None, None]
    strict = Schema([Column("v", "numeric", low=0, high=2)])
    assert strict.encode(pa.table({"v": [1.0, math.nan]})).rows.tolist() == [0]


def test_dictionary_columns_are_read_as_their_values():
    schema = Schema([Column("v", "categorical", "string", values=("a", "b"))])
    encoded = schema.encode(pa.table({"v": pa.array(["b", "a"]).dictionary_encode()}))
    assert encoded.x.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"w": [1.0]}, "no single column 'v'"),
        ({"v": ["text"]}, "type string"),
        ({"v": [[1.0]]}, "type list"),
    ],
)
def test_a_table_that_does_not_fit_names_the_column(table, says):
    with pytest.raises(SchemaError, match=says):
        Schema([Column("v", "numeric", low=0, high=1)]).encode(pa.table(table))


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"kind": "numeric", "low": 2, "high": 1}, "reversed"),
        ({"kind": "numeric"}, "must be a number"),
        ({"kind": "numeric", "low": 0, "high": math.inf}, "finite"),
        ({"kind": "number"}, "not one of numeric"),
        ({"kind": "categorical", "values": []}, "values is empty"),
        ({"kind": "categorical", "type": "string", "values": ["a", "a"]}, "duplicates"),
        ({"kind": "categorical", "type": "int8", "values": ["a"]}, "not of type int8"),
        ({"kind": "numeric", "low": 0, "high": 1, "lo": 3}, "lo: unknown key"),
        ({"kind": "numeric", "low": 0, "high": 1, "type": "floaty"}, "not an Arrow type"),
        ({"kind": "numeric", "low": 0, "high": 1, "knots": [0, 0]}, "increase"),
        (
            {"kind": "timestamp", "type": "timestamp[s]", "low": "yesterday", "high": "today"},
            "ISO",
        ),
        ({"kind": "vector", "low": 0, "high": 1}, "fixed_size_list"),
        ({"kind": "ignore"}, "no column to sketch"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declared, says):
    with pytest.raises(SchemaError, match=says):
        Schema.from_dict({"v": declared})


def test_all_wrong_declarations_are_shown_at_once():
    with pytest.raises(SchemaError) as e:
        Schema.from_dict({"a": {"kind": "numeric"}, "b": {"kind": "nope"}})
    assert "'a'" in str(e.value) and "'b'" in str(e.value)


def test_toml_round_trip(tmp_path):
    path = tmp_path / "schema.toml"
    path.write_text(MIXED.to_toml())
    assert Schema.from_toml(path) == MIXED
    assert Schema.from_dict(MIXED.to_dict()).hash == MIXED.hash


def test_propose_reads_limits_and_round_trips_its_own_table():
    rng = np.random.default_rng(0)
    n = 2000
    table = pa.table(
        {
            "amount": np.where(rng.random(n) < 0.5, 0.0, np.round(rng.exponential(100, n), 2)),
            "whole": rng.integers(0, 1000, n),
            "few": rng.integers(1, 4, n),
            "kind": rng.choice(["x", "y"], n),
            "flag": rng.random(n) < 0.1,
            "id": [f"row-{i}" for i in range(n)],
            "when": pa.array(np.arange(n) * 3600, pa.timestamp("s")),
            "hole": pa.array([None if i % 7 == 0 else i / 3 for i in range(n)]),
        }
    )
    schema = Schema.propose(table, label="kind")
    kinds = {c.name: c.kind for c in schema.columns}
    assert kinds == {
        "amount": "numeric", "whole": "numeric", "few": "categorical", "kind": "label", "flag": "boolean",
        "id": "ignore", "when": "timestamp", "hole": "numeric",
    }  # fmt: skip
    assert schema.columns[0].atoms == (0.0,)
    encoded = schema.encode(table)
    assert not encoded.rejected
    back = schema.decode(encoded.x)
    for name in ("amount", "whole", "few", "kind", "flag"):
        assert (
            np.allclose(back[name].to_numpy(), table[name].to_numpy())
            if name in ("amount", "whole")
            else (back[name].to_pylist() == table[name].to_pylist())
        )
    assert back["hole"].null_count == table["hole"].null_count


@pytest.mark.parametrize("kind", ["int64", "double"])
def test_even_coordinates_decode_to_the_frequencies_of_a_proposed_column(kind):
    r = np.random.default_rng(0)
    hours = np.clip(np.round(r.normal(40, 12, 20000)), 1, 99)
    hours[r.random(20000) < 0.4] = 40  # an atom
    hours[r.random(20000) < 0.04] = 60  # frequent, not an atom
    schema = Schema.propose(pa.table({"h": pa.array(hours).cast(kind)}))
    assert schema.columns[0].atoms == (40,)
    x = np.zeros((20000, schema.d), np.float32)
    x[:, 0], x[:, 1] = r.uniform(-1, 1, 20000), 1.0
    made = schema.decode(x)["h"].to_numpy()
    rest = hours[hours != 40]
    assert (made != 40).all()
    bins = np.arange(0.5, 100)
    wrong = (
        0.5
        * np.abs(
            np.histogram(made, bins)[0] / 20000 - np.histogram(rest, bins)[0] / len(rest)
        ).sum()
    )
    assert wrong < 0.04  # two samples of this size differ by 0.02; quantile knots gave 0.2


def test_numbers_on_a_grid_decode_to_values_that_occur():
    """Amounts with gaps between them, half of them rare: no amount is made up."""
    r = np.random.default_rng(0)
    amounts = np.unique(r.integers(100, 100_000, 120))
    given = r.choice(amounts, 5000, p=(w := r.exponential(size=len(amounts))) / w.sum())
    schema = Schema.propose(pa.table({"a": given}))
    x = r.uniform(-1, 1, (20000, 1)).astype(np.float32)
    made = schema.decode(x)["a"].to_numpy()
    assert np.isin(made, given).mean() > 0.998
    share = [np.mean(made == v) - np.mean(given == v) for v in amounts]
    assert 0.5 * np.abs(share).sum() < 0.05


def test_propose_refuses_an_empty_table():
    with pytest.raises(SchemaError, match="without rows"):
        Schema.propose(pa.table({"a": pa.array([], pa.float64())}))


def test_constant_and_all_null_columns_are_survived():
    schema = Schema.propose(
        pa.table({"c": [2.5] * 40, "n": pa.array([None] * 40, pa.float64()), "s": ["k"] * 40})
    )
    assert {c.name: c.kind for c in schema.columns} == {
        "c": "numeric",
        "n": "ignore",
        "s": "categorical",
    }


def test_encode_rows_refuses_with_row_column_and_remedy():
    with pytest.raises(DataError, match=r"row 0, column 'x0'.*dead_letters"):
        Schema.vectors(1, 0, 1).encode_row({"x0": math.nan})
    with pytest.raises(DataError, match="no 'x0'"):
        Schema.vectors(1, 0, 1).encode_row({"y": 1})
    with pytest.raises(DataError, match="not of type double"):
        Schema.vectors(1, 0, 1).encode_row({"x0": "much"})
