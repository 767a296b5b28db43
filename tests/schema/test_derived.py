"""Derived columns against a slow, obvious lookup, and how tables are searched for them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsketch.errors import SchemaError
from streamsketch.schema import Column, Schema
from streamsketch.schema.columns import arrow_type
from streamsketch.schema.derived import Lookup
from streamsketch.schema.propose import propose

PORT = Column("port", "categorical", "string", values=("a", "b", "c"), nulls="category")
BUSY = Column("busy", "boolean", "bool")
TIME = Column("time", "numeric", "int64", low=-20, high=20)
WHEN = Column("when", "timestamp", "timestamp[s]", low="2020-01-01", high="2020-02-01")
KEYS = {"port": st.sampled_from(["a", "b", "c"]), "busy": st.booleans(), "time": st.integers(-20, 20)}  # fmt: skip


def slow(keys, table, row):
    """Agreement in most keys, then the nearest number, then the first entry."""
    if any(row[key.name] is None for key in keys):
        return None
    best, least = None, None
    for entry in table:
        others = gap = 0
        for key, value in zip(keys, entry, strict=False):
            if key.kind == "numeric":
                gap = abs(row[key.name] - value)
            else:
                others += row[key.name] != value
        if least is None or (others, gap) < least:
            best, least = entry[-1], (others, gap)
    return best


@st.composite
def lookups(draw):
    keys = draw(
        st.sampled_from([(PORT,), (TIME,), (BUSY, PORT), (PORT, TIME), (PORT, BUSY, TIME)])
    )
    combos = st.tuples(*(KEYS[k.name] for k in keys))
    known = draw(st.lists(combos, min_size=1, max_size=12, unique=True))
    table = tuple((*combo, draw(st.integers(0, 99))) for combo in known)
    rows = draw(st.lists(st.fixed_dictionaries({k.name: KEYS[k.name] for k in keys}), max_size=20))
    if keys[0] is PORT and rows and draw(st.booleans()):
        rows[0] = {**rows[0], "port": None}
    return keys, table, rows


@given(lookups())
def test_lookup_is_the_slow_one(case):
    keys, table, rows = case
    column = Column("x", "derived", "int64", keys=tuple(k.name for k in keys), table=table)
    types = {"port": pa.string(), "busy": pa.bool_(), "time": pa.int64()}
    arrays = {k.name: pa.array([row[k.name] for row in rows], types[k.name]) for k in keys}
    found = Lookup(column, keys)(arrays).to_pylist()
    assert found == [slow(keys, table, row) for row in rows]


def schema(**changes):
    declared = {"keys": ("port",), "table": (("a", 1.5), ("b", 2.5), ("c", 9.0))} | changes
    return Schema([Column("toll", "derived", "double", **declared), PORT, TIME, BUSY])


def test_a_derived_column_is_neither_read_nor_sketched_but_generated():
    s = schema()
    assert s.names == ("toll", "port", "time", "busy")
    without = pa.table({"port": ["b", None, "a"], "time": [1, 2, 3], "busy": [True, False, True]})
    x = s.encode(without).x
    assert x.shape == (3, 4 + 1 + 2) and [b.column for b in s.blocks] == ["port", "time", "busy"]
    assert s.decode(x).to_pydict() == {"toll": [2.5, None, 1.5], **without.to_pydict()}
    wrong = without.append_column("toll", pa.array([7.0, 7.0, 7.0]))
    assert np.array_equal(s.encode(wrong).x, x)


def test_the_table_is_part_of_what_is_declared(tmp_path):
    path = tmp_path / "pipeline.toml"
    path.write_text(schema().to_toml())
    assert Schema.from_toml(path) == schema()
    assert schema() != schema(table=(("a", 1.5), ("b", 2.5), ("c", 9.5)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ()}, "must name the columns that determine it"),
        ({"keys": ("port", "port")}, "each once"),
        ({"keys": ("bridge",)}, r"keys \['bridge'\] are not columns that are sketched"),
        ({"table": ()}, "table is empty"),
        ({"table": (("a", 1.0), ("b",))}, r"has the entry \['b'\]"),
        ({"table": (("a", 1.0), ("a", 2.0))}, "two entries for the same keys"),
        ({"table": (("a", "cheap"),)}, "does not fit the declared types"),
        ({"table": ((1, 1.0),)}, "does not fit the declared types"),
    ],
)
def test_errors_name_the_mistake(changes, message):
    with pytest.raises(SchemaError, match=f"column 'toll': .*{message}"):
        schema(**changes)


@pytest.mark.parametrize("other", [Column("late", "numeric", low=0, high=1), WHEN])
def test_two_numbers_cannot_be_keys(other):
    toll = Column("toll", "derived", keys=("time", other.name), table=((1, 0.5, 2.0),))
    with pytest.raises(SchemaError, match="at most one can be"):
        Schema([toll, TIME, other])


@pytest.mark.parametrize("kind", ["timestamp[s]", "timestamp[ns, tz=UTC]", "date32[day]"])
def test_the_nearest_time_is_taken(kind):
    key = replace(WHEN, type=kind)
    table = (("2020-01-03T00:00:00", 3), ("2020-01-07", 7))
    week = Column("week", "derived", "int8", keys=("when",), table=table)
    times = pa.array(["2020-01-01", "2020-01-04", "2020-01-06", None], pa.string())
    when = times.cast(pa.timestamp("s")).cast(arrow_type(kind))
    assert Lookup(week, [key])({"when": when}).to_pylist() == [3, 3, 7, None]
    with pytest.raises(SchemaError, match="does not fit"):
        Lookup(replace(week, table=(("soon", 1),)), [key])


# --- proposals


def derived(table, label=None):
    return {c.name: c for c in propose(pa.table(table), label) if c.kind == "derived"}


def stream(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    return rng, {
        "school": rng.choice(["a", "b", "c", "d"], n),
        "town": rng.choice(["x", "y", "z"], n),
        "age": rng.integers(0, 80, n),
        "pay": rng.normal(size=n).round(3),
    }


def test_nothing_is_derived_from_what_is_independent():
    assert derived(stream()[1]) == {}


def test_of_two_that_determine_each_other_the_first_stays():
    _, table = stream()
    table["years"] = np.array([{"a": 3, "b": 1, "c": 7, "d": 5}[s] for s in table["school"]])
    found = derived(table)
    assert list(found) == ["years"] and found["years"].keys == ("school",)
    assert found["years"].table == (("a", 3), ("b", 1), ("c", 7), ("d", 5))
    assert list(derived(dict(reversed(table.items())))) == ["school"]


def test_a_step_function_of_a_number_keeps_the_ends_of_its_steps():
    _, table = stream()
    table["decade"] = table["age"] // 10
    found = derived(table)["decade"]
    assert found.keys == ("age",) and len(found.table) == 16
    s = Schema.propose(pa.table(table))
    assert s.decode(s.encode(pa.table(table)).x)["decade"].to_pylist() == list(table["decade"])


def test_calendar_columns_are_looked_up_from_the_time():
    rng, table = stream()
    start = np.datetime64("2024-01-01T00:00:00")
    stamp = start + rng.integers(0, 8 * 24, 4000).astype("timedelta64[h]")
    local = stamp - np.timedelta64(5, "h")  # a zone that nobody told
    table["stamp"] = pa.array(stamp)
    table["day"] = local.astype("datetime64[D]").astype(int) % 100
    found = derived(table)
    assert found["day"].keys == ("stamp",) and len(found["day"].table) <= 2 * 9
    s = Schema.propose(pa.table(table))
    assert s.decode(s.encode(pa.table(table)).x)["day"].to_pylist() == list(table["day"])


def test_two_categories_can_determine_a_number():
    _, table = stream()
    apart = {s + t: 10 * i + j for i, s in enumerate("abcd") for j, t in enumerate("xyz", 1)}
    table["miles"] = np.array(
        [apart[s + t] for s, t in zip(table["school"], table["town"], strict=True)]
    )
    assert derived(table)["miles"].keys == ("school", "town")
    assert len(derived(table)["miles"].table) == 12


def test_few_rows_may_differ_and_more_may_not():
    rng, table = stream()
    years = np.array([{"a": 3, "b": 1, "c": 7, "d": 5}[s] for s in table["school"]])
    odd = years.copy()
    odd[:3] = 7
    assert derived({**table, "years": odd})["years"].table[1] == ("b", 1)
    odd[:12] = 7
    assert derived({**table, "years": odd}) == {}


def test_a_number_may_give_way_to_one_near_it():
    _, table = stream()
    miles = np.array([{"a": 300, "b": 100, "c": 700, "d": 500}[s] for s in table["school"]])
    miles[:3] += 1  # three rows of values of their own, a mile apart
    assert derived({**table, "miles": miles})["miles"].keys == ("school",)
    miles[:3] += 50
    assert "miles" not in derived({**table, "miles": miles})


def test_a_rare_value_is_not_derived_away():
    rng, table = stream(40_000)
    flag = np.zeros(40_000, int)
    flag[rng.choice(40_000, 20, replace=False)] = 1
    assert derived({**table, "flag": flag}) == {}


def test_labels_and_nulls_of_their_own_are_sketched():
    _, table = stream()
    years = [{"a": 3, "b": 1, "c": 7, "d": 5}[s] for s in table["school"]]
    assert derived({**table, "years": years}, label="years")["school"].keys == ("years",)
    assert derived({**table, "years": [None, *years[1:]]}) == {}
    both = {**table, "school": [None, *table["school"][1:]], "years": [None, *years[1:]]}
    assert derived(both)["years"].keys == ("school",)


def test_what_holds_by_chance_is_not_derived():
    rng, table = stream(n=60)
    table["room"] = np.arange(60) // 2
    table["door"] = rng.permutation(60)[table["room"]]
    assert "door" not in derived(table)
