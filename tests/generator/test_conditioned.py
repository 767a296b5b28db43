"""Rows under conditions, of a generator that knows none."""

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Sketcher, fit
from streamsketch.errors import ConfigError
from streamsketch.schema import Column, Schema


@pytest.fixture(scope="module")
def generator():
    schema = Schema(
        [
            Column("a", "numeric", low=0, high=1),
            Column("y", "label", "string", values=("None", "x"), nulls="category"),
        ]
    )
    rng = np.random.default_rng(0)
    table = pa.table(
        {"a": rng.random(600), "y": pa.array([["None", "x", None][i % 3] for i in range(600)])}
    )
    sketcher = Sketcher(schema, frequencies=64, conditional=True)
    sketcher.learn_many(table)
    return fit(sketcher.release(), steps=20, seed=0)


@pytest.mark.parametrize("value", ["None", "x", None])
def test_a_null_label_is_another_thing_than_one_named_none(generator, value):
    rows = generator.sample(50, where={"y": value})
    assert rows["y"].to_pylist() == [value] * 50


def test_conditions_of_several_columns_and_ranges(generator):
    rows = generator.sample(200, seed=3, where={"y": ["x", None], "a": (0.2, 0.7)})
    a = rows["a"].to_numpy()
    assert rows.num_rows == 200 and a.min() >= 0.2 and a.max() <= 0.7
    assert set(rows["y"].to_pylist()) == {"x", None}
    assert rows.equals(generator.sample(200, seed=3, where={"y": ["x", None], "a": (0.2, 0.7)}))
    assert not rows.equals(
        generator.sample(200, seed=4, where={"y": ["x", None], "a": (0.2, 0.7)})
    )


def test_what_is_never_drawn_is_told(generator, monkeypatch):
    monkeypatch.setattr("streamsketch.generator.conditioned.MAX_ROWS", 1 << 14)
    with pytest.raises(ConfigError, match="of 16384 rows drawn meet.*widen the conditions"):
        generator.sample(5, where={"a": (0.123456, 0.123456)})
