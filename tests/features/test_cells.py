"""Cells: exact counts under every split, values that come back, and a layout that the schema fixes."""

import datetime as dt
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch import Schema
from streamsketch.errors import ConfigError
from streamsketch.features.cell_columns import Edges
from streamsketch.features.cells import fitting_middle, layout_of, suits
from streamsketch.features.kernels.counts import add_counts, cells_of_rows
from streamsketch.schema import Column


def table(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    start = dt.datetime(2024, 1, 1)
    return pa.table(
        {
            "sex": rng.choice(["f", "m"], n),
            "town": rng.choice([f"t{k}" for k in range(300)], n),
            "age": rng.integers(17, 90, n),
            "price": np.round(rng.gamma(2, 20, n), 2),
            "height": rng.normal(170, 10, n),
            "gain": np.where(rng.random(n) < 0.8, 0, rng.integers(1, 9000, n)),
            "rate": pa.array(
                np.where(rng.random(n) < 0.1, np.nan, rng.random(n)), from_pandas=True
            ),
            "day": [(start + dt.timedelta(days=int(d))).date() for d in rng.integers(0, 90, n)],
            "at": [start + dt.timedelta(minutes=int(d)) for d in rng.integers(0, 90000, n)],
        }
    )


def counts_of(layout, x) -> np.ndarray:
    counts = np.zeros(layout.size, np.int64)
    add_counts(layout, layout.codes(x), counts)
    return counts


@pytest.fixture(scope="module")
def rows() -> tuple[Schema, np.ndarray]:
    made = table(3000)
    schema = Schema.propose(made)
    return schema, schema.encode(made).x


def slow_counts(layout, x) -> np.ndarray:
    """The definition, in numpy: one-hot by one-hot."""
    codes = layout.codes(x)
    v = layout.variables
    middle = [one.middle_of[c] for one, c in zip(v, codes, strict=True)]
    coarse = [one.coarse_of[c] for one, c in zip(v, middle, strict=True)]
    parts = [np.bincount(c, minlength=one.finest) for one, c in zip(v, codes, strict=True)]
    for j, k in combinations(range(len(v)), 2):
        both = np.zeros((v[j].middle, v[k].middle), np.int64)
        np.add.at(both, (middle[j], middle[k]), 1)
        parts.append(both.ravel())
    for i, j, k in layout.triples:
        three = np.zeros((v[i].coarse, v[j].coarse, v[k].coarse), np.int64)
        np.add.at(three, (coarse[i], coarse[j], coarse[k]), 1)
        parts.append(three.ravel())
    return np.concatenate(parts)


def test_counts_equal_their_definition(rows) -> None:
    schema, x = rows
    layout = layout_of(schema, 16, 4)
    counts = counts_of(layout, x)
    assert (counts == slow_counts(layout, x)).all()
    assert counts.sum() == len(x) * layout.tables
    j, k = 1, 4
    assert layout.pair(counts, j, k).sum(1).tolist() == (
        np.bincount(layout.variables[j].middle_of, layout.single(counts, j)).tolist()
    )
    assert (layout.pair(counts, k, j) == layout.pair(counts, j, k).T).all()


def test_a_row_adds_one_to_a_cell_of_each_table(rows) -> None:
    schema, x = rows
    layout = layout_of(schema, 16, 4)
    one = counts_of(layout, x[:1])
    assert one.max() == 1 and np.square(one).sum() == layout.tables
    two = one - counts_of(layout, x[1:2])
    assert np.square(two).sum() <= 2 * layout.tables


@given(st.lists(st.integers(0, 3000), max_size=5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_counts_do_not_depend_on_the_split(rows, cuts: list[int], backwards: bool) -> None:
    schema, x = rows
    layout = layout_of(schema, 16, 0)
    edges = [0, *sorted(cuts), len(x)]
    total = np.zeros(layout.size, np.int64)
    for a, b in zip(edges, edges[1:], strict=False):
        part = x[a:b][::-1] if backwards else x[a:b]
        total += counts_of(layout, np.asfortranarray(part))
    assert (total == counts_of(layout, x)).all()


def test_codes_of_the_rows_of_codes_are_the_codes(rows) -> None:
    schema, x = rows
    layout = layout_of(schema, 16, 0)
    codes = layout.codes(x)
    made = layout.rows(codes, np.random.default_rng(1).random(codes.shape))
    assert np.isfinite(made).all() and np.abs(made).max() <= 1
    assert (layout.codes(made) == codes).all()
    # and any combination of cells is a row
    rng = np.random.default_rng(2)
    free = np.stack([rng.integers(0, v.finest, 500) for v in layout.variables]).astype(np.int32)
    week, weekday = (
        next(k for k, v in enumerate(layout.variables) if v.name == f"at.{part}")
        for part in ("week", "weekday")
    )
    free[week] = np.clip(free[week], 1, layout.variables[week].finest - 2)
    assert (layout.codes(layout.rows(free, rng.random(free.shape)))[week] == free[week]).all()
    assert schema.decode(layout.rows(free, rng.random(free.shape))).num_rows == 500 and weekday


def test_values_that_exist_come_back(rows) -> None:
    schema, x = rows
    made = table(3000)
    layout = layout_of(schema, 16, 0)
    back = schema.decode(layout.rows(layout.codes(x), np.zeros((len(layout.variables), len(x)))))
    for name in ("sex", "age", "day"):
        assert back[name].to_pylist() == made[name].to_pylist()
    assert back["rate"].null_count == made["rate"].null_count
    zero = np.array(made["gain"]) == 0
    assert (np.array(back["gain"])[zero] == 0).all()


def test_cells_of_rows_are_those_that_they_are_counted_in(rows) -> None:
    schema, x = rows
    layout = layout_of(
        schema, 16, 4, [("sex", "age", "at.time")], [("sex", "age"), ("day.week", "gain")]
    )
    codes = layout.codes(x)
    cells = cells_of_rows(layout, codes)
    assert cells.shape == (len(x), layout.tables)
    assert (np.bincount(cells.ravel(), minlength=layout.size) == counts_of(layout, x)).all()
    assert (cells >= layout.starts[:-1]).all() and (cells < layout.starts[1:]).all()


EDGE = st.floats(-1, 1, width=32)


@given(st.lists(EDGE, max_size=40), st.lists(st.floats(-2, 2, width=32), max_size=40))
@settings(max_examples=200, deadline=None)
def test_cells_of_numbers_are_those_of_a_sorted_search(
    edges: list[float], values: list[float]
) -> None:
    sorted_edges = np.sort(np.array(edges, np.float32))
    x = np.array([*values, *edges], np.float32)  # values on an edge too
    assert (Edges(sorted_edges).below(x) == np.searchsorted(sorted_edges, x, "right")).all()


def test_few_values_are_each_a_middle_cell() -> None:
    column = Column("size", "numeric", "float64", low=0.5, high=36, levels=(0.5, 1.5, 2, 36))
    (one,) = layout_of(Schema([column]), 8, 4).variables
    assert (one.finest, one.middle, one.coarse) == (4, 4, 4)
    (few,) = layout_of(Schema([column]), 3, 2).variables
    assert few.finest == 4 and few.middle < 4


def test_the_layout_is_fixed_by_the_schema(rows) -> None:
    schema, _ = rows
    again = Schema.from_dict(schema.to_dict())
    assert (layout_of(schema, 16, 4).starts == layout_of(again, 16, 4).starts).all()
    chosen = layout_of(schema, 16, 4, [("sex", "age", "at.time")])
    assert len(chosen.triples) == 1


def test_what_has_no_cells_is_refused(rows) -> None:
    schema, _ = rows
    image = Schema([Column("x", "vector", "fixed_size_list<float>[4]", low=0, high=1)])
    with pytest.raises(ConfigError, match="cells = false"):
        layout_of(image, 16, 0)
    with pytest.raises(ConfigError, match="3 of the variables"):
        layout_of(schema, 16, 4, [("sex", "nobody", "age")])
    with pytest.raises(ConfigError, match="max_cells.*'town'"):
        fitting_middle(schema, 32, 5000)
    assert fitting_middle(schema, 32, 20_000) < 32
    assert suits(schema) and not suits(image) and not suits(Schema.vectors(2, -1, 1))


def test_one_value_and_two_rows() -> None:
    made = pa.table(
        {"same": ["a", "a"], "x": [1.5, 1.5], "n": pa.array([None, None], pa.float64())}
    )
    schema = Schema.propose(made)
    layout = layout_of(schema, 8, 3)
    counts = counts_of(layout, schema.encode(made).x)
    assert counts.sum() == 2 * layout.tables
