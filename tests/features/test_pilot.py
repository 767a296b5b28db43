"""What to count: strongest partners where pairs do not fit, triples where pairs do not tell all."""

import logging
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher, fit
from streamsketch.errors import ConfigError
from streamsketch.features.cells import layout_of, pairs_of
from streamsketch.features.kernels.counts import add_counts
from streamsketch.features.pilot import advise, strengths, strongest
from streamsketch.schema import Column


def determined(n: int = 4000) -> pa.Table:
    rng = np.random.default_rng(0)
    a, b = rng.random(n), rng.random(n)
    side = rng.choice(["l", "r"], n)
    both = np.where((a > 0.5) == (side == "l"), "x", "y")  # only three together say anything
    return pa.table(
        {"a": a, "b": b, "sum": a + b, "free": rng.random(n), "side": side, "xor": both}
    )


def wide(columns: int, n: int = 1500) -> pa.Table:
    """Columns 2k and 2k + 1 go together."""
    rng = np.random.default_rng(1)
    half = rng.normal(size=(columns // 2, n))
    made = np.repeat(half, 2, axis=0) + 0.3 * rng.normal(size=(columns, n))
    return pa.table({f"c{k}": made[k] for k in range(columns)})


def test_triples_are_those_that_pairs_do_not_tell() -> None:
    table = determined()
    schema = Schema.propose(table)
    found = advise(schema, table)
    assert {("a", "b", "sum"), ("a", "side", "xor")} <= set(found.triples)
    assert not any("free" in triple for triple in found.triples)
    assert found.partners == {} and found.coarse > 0
    sketcher = Sketcher(schema, 16, **asdict(found))
    sketcher.learn_many(table)
    assert sketcher.release().layout.triples
    # nothing to add where pairs tell all
    pairs = pa.table({"a": table["a"], "sum": table["sum"], "side": table["side"]})
    assert advise(Schema.propose(pairs), pairs).triples == ()


def test_wide_tables_count_the_strongest_partners() -> None:
    table = wide(60)
    schema = Schema.propose(table)
    found = advise(schema, table, max_cells=60_000)
    pairs = pairs_of(found.partners)
    assert {(f"c{k}", f"c{k + 1}") for k in range(0, 60, 2)} <= {
        tuple(sorted(pair, key=lambda c: int(c[1:]))) for pair in pairs
    }
    sketcher = Sketcher(schema, 16, max_cells=60_000, **asdict(found))
    sketcher.learn_many(table)
    layout = sketcher.features.layout
    assert layout.size <= 60_000 and len(layout.pairs) == len(pairs) < 60 * 59 / 2
    assert layout.counted(1, 0) and not layout.counted(3, 3)
    # the same counts as those of all pairs
    whole = layout_of(schema, sketcher.spec.middle, 0)
    x = schema.encode(table).x
    counts = np.zeros(whole.size, np.int64)
    add_counts(whole, whole.codes(x), counts)
    own = sketcher.sketch.total[sketcher.features.fourier.width :]
    for j, k in layout.pairs:
        assert (layout.pair(own, j, k) == whole.pair(counts, j, k)).all()
    assert (layout.single(own, 5) == whole.single(counts, 5)).all()


def test_strength_is_mutual_information() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.choice(list("xy"), 4000), rng.choice(list("uvw"), 4000)
    table = pa.table({"a": a, "same": a, "b": b})
    columns = [
        Column(name, "categorical", "string", values=tuple(sorted(set(table[name].to_pylist()))))
        for name in table.column_names
    ]
    schema = Schema(columns)
    layout = layout_of(schema, 8, 0)
    found = strengths(layout, layout.codes(schema.encode(table).x))
    assert found[0, 1] == pytest.approx(np.log(2), abs=0.01)
    assert found[0, 2] == pytest.approx(0.0, abs=0.002)
    assert strongest(found, 1)[0] == (0, 1)


def test_what_does_not_fit_says_which_columns_cost_most(caplog) -> None:
    table = wide(60)
    schema = Schema.propose(table)
    with caplog.at_level(logging.WARNING, "streamsketch"):
        assert Sketcher(schema, 16, max_cells=20_000).release().layout is None
    assert "name the pairs that matter" in caplog.text
    with pytest.raises(ConfigError, match=r"max_cells.*the most costly are 'c\d+' \(\d+ cells\)"):
        Sketcher(schema, 16, cells=True, max_cells=20_000)
    with pytest.raises(ConfigError, match="each must name 2 of the variables"):
        Sketcher(schema, 16, partners={"c0": ["nobody"]})


def test_few_rows_and_constants_are_advised_too() -> None:
    for n in (1, 2, 20):
        table = pa.table({"a": ["x"] * n, "b": [1.5] * n, "c": list(range(n))})
        schema = Schema.propose(table)
        assert advise(schema, table).triples == ()


def test_a_generator_needs_no_more_than_partners() -> None:
    table = wide(12)
    schema = Schema.propose(table)
    near = np.arange(0, 12, 2)  # a column's partner may come after it: then it is drawn by itself
    partners = {f"c{k}": [f"c{k + 1}"] for k in near}
    sketcher = Sketcher(schema, 64, middle=16, partners=partners)
    sketcher.learn_many(table)
    made = fit(sketcher.release(), seed=0).sample(1500, seed=1)
    real, drawn = (
        np.corrcoef(np.array([t[f"c{k}"].to_numpy() for k in range(12)])) for t in (table, made)
    )
    assert np.abs(drawn[near, near + 1] - real[near, near + 1]).max() < 0.1
    assert np.abs(drawn - real).mean() < 0.05
