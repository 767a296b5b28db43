"""What is declared of several columns, every generated row meets; the encoding stays the same."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from streamsketch.errors import SchemaError
from streamsketch.schema import Column, Schema

TIME = {
    "kind": "timestamp",
    "type": "timestamp[s]",
    "low": "2020-01-01",
    "high": "2020-12-31",
    "nulls": "indicator",
}
PLACES = (("DE", "Bonn"), ("DE", "Köln"), ("FR", "Paris"), ("FR", "Nice"))
COLUMNS = [
    Column("start", **TIME),
    Column("end", **TIME, at_least="start"),
    Column("paid", **TIME, at_least="end"),
    Column("low", "numeric", "int64", low=0, high=100, levels=(0, 10, 20, 50)),
    Column("high", "numeric", "int64", low=5, high=90, at_least="low"),
    Column("land", "categorical", "string", values=("DE", "FR", "IT")),
    Column("city", "categorical", "string", values=("Bonn", "Köln", "Paris", "Nice"), keys=("land",), table=PLACES),
    Column("s", "boolean", "bool", group="size"),
    Column("m", "boolean", "bool", group="size"),
    Column("l", "boolean", "bool", group="size"),
]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 3, 500])
@pytest.mark.parametrize("seed", range(5))
def test_every_row_meets_what_is_declared(rows, seed):
    schema = Schema(COLUMNS)
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, schema.d)).astype(np.float32)
    table = schema.decode(x)
    for row in table.to_pylist():
        times = [row[name] for name in ("start", "end", "paid")]
        for a, b in zip(times, times[1:], strict=False):
            assert a is None or b is None or a <= b
        assert row["low"] <= row["high"]
        assert (row["land"], row["city"]) in PLACES
        assert row["s"] + row["m"] + row["l"] == 1
    if rows == 500:  # every value is one that was drawn
        assert set(table["low"].to_pylist()) == {0, 10, 20, 50}
        assert {(r["land"], r["city"]) for r in table.to_pylist()} == set(PLACES)


def test_constraints_that_share_a_column_are_met_together():
    letters = ("x", "y")
    kind = {"kind": "categorical", "type": "string", "values": letters}
    same = (("x", "x"), ("y", "y"))
    schema = Schema(
        [
            Column("a", **kind),
            Column("b", **kind, keys=("a",), table=same),
            Column("c", **kind, keys=("b",), table=same),
        ]
    )
    x = np.random.default_rng(0).uniform(-1, 1, (300, schema.d)).astype(np.float32)
    assert {tuple(r.values()) for r in schema.decode(x).to_pylist()} == {("x",) * 3, ("y",) * 3}


def test_constraints_change_neither_the_encoding_nor_rows_that_meet_them():
    plain = Schema([replace(c, at_least="", group="", keys=(), table=()) for c in COLUMNS])
    schema = Schema(COLUMNS)
    assert schema.hash == plain.hash
    assert Schema.from_dict(schema.to_dict()).to_dict() == schema.to_dict()
    table = pa.table(
        {
            "start": pa.array([0, None], pa.timestamp("s")), "end": pa.array([5, 0], pa.timestamp("s")),
            "paid": pa.array([5, 1], pa.timestamp("s")), "low": [0, 10], "high": [7, 10],
            "land": ["DE", "FR"], "city": ["Köln", "Nice"], "s": [True, False], "m": [False, True],
            "l": [False, False],
        }
    )  # fmt: skip
    x = schema.encode(table).x
    assert schema.decode(x).equals(plain.decode(x))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ([Column("a", "numeric", low=0, high=1, at_least="b")], "not another column"),
        ([Column("a", "numeric", low=0, high=1, at_least="b"), Column("b", "boolean", "bool")], "of one type"),
        (
            [Column("a", "numeric", low=0, high=1, at_least="b"), Column("b", "numeric", low=2, high=3)],
            "whose low is above its high",
        ),
        ([Column("a", "boolean", "bool", group="g")], "at least two boolean"),
        (
            [Column("a", "categorical", "string", values=("x",), keys=("b",), table=(("q", "x"),))],
            "must be categories that are sketched",
        ),
    ],
)  # fmt: skip
def test_a_wrong_constraint_says_what_is_wrong(columns, says):
    with pytest.raises(SchemaError, match=says):
        Schema(columns)
