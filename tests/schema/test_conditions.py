"""Conditions on rows: what a person types, and which rows meet it."""

import datetime as dt

import pyarrow as pa
import pytest

from streamsketch.errors import ConfigError
from streamsketch.schema import Column, Schema
from streamsketch.schema.conditions import check, matches, parse

SCHEMA = Schema(
    [
        Column("age", "numeric", "int64", low=0, high=99, nulls="indicator"),
        Column("sex", "categorical", "string", values=("F", "M")),
        Column("y", "label", "string", values=("None", "x"), nulls="category"),
        Column("on", "boolean", "bool"),
        Column("at", "timestamp", "timestamp[s]", low="2020-01-01", high="2021-01-01"),
        Column("clock", "numeric", "time32[s]", low=0, high=86399),
    ]
)
ROWS = pa.table(
    {
        "age": pa.array([10, 30, None, 50]),
        "sex": ["F", "M", "F", "M"],
        "y": ["None", "x", None, "None"],
        "on": [True, False, True, False],
        "at": pa.array([dt.datetime(2020, m, 1) for m in (1, 3, 6, 9)], pa.timestamp("s")),
        "clock": pa.array([0, 3600, 7200, 80000], pa.int32()).cast(pa.time32("s")),
    }
)


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        (["age>=30"], [1, 3]),
        (["age>=20", "age <= 40"], [1]),
        (["age=10..30"], [0, 1]),
        (["age = 50"], [3]),
        (["age is null"], [2]),
        (["sex=F"], [0, 2]),
        (["sex=F|M", "on=true"], [0, 2]),
        (["y=None"], [0, 3]),  # the category of that name
        (["y is null"], [2]),
        (["at=2020-02-01..2020-07-01"], [1, 2]),
        (["at=2020-09-01T00:00:00"], [3]),
        (["clock>=02:00"], [2, 3]),
        (["sex=F", "age<=20", "on=TRUE"], [0]),
    ],
)
def test_what_is_typed_is_met_by_these_rows(texts, rows):
    where = parse(texts, SCHEMA)
    assert matches(ROWS, where, SCHEMA).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({"age": 30}, [1]),
        ({"y": ["x", None]}, [1, 2]),
        ({"at": (dt.datetime(2020, 3, 1), None)}, [1, 2, 3]),
        ({"clock": (dt.time(1), dt.time(2))}, [1, 2]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_conditions_of_python(where, rows):
    check(where, SCHEMA)
    assert matches(ROWS, where, SCHEMA).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weight=3", "no column 'weight'"),
        ("sex=X", "'X' is not one of its values: 'F', 'M'"),
        ("sex is null", "None is not one of its values"),
        ("age=old", "'old' is not a number"),
        ("age=40..20", "is empty"),
        ("at>=soon", "'soon' is not of type timestamp"),
        ("age", "is no condition"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text, says):
    with pytest.raises(ConfigError, match=says):
        parse([text], SCHEMA)
    with pytest.raises(ConfigError, match="two conditions"):
        parse(["sex=F", "sex=M"], SCHEMA)
