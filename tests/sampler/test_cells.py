"""Herding on counts of cells: the choice, the residual, noise, and what it gains."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from streamsketch import Sampler, Schema, Sketcher, fit
from streamsketch.sampler import cells as module
from streamsketch.sampler.cells import CellHerding, CellMatching, without_cell_noise
from streamsketch.sampler.matching import Matching, matching

SCHEMA = Schema.from_dict(
    {
        "x": {"kind": "numeric", "type": "int64", "low": 0, "high": 99},
        "colour": {"kind": "categorical", "type": "string", "values": ["red", "green", "blue"]},
        "kind": {"kind": "label", "type": "string", "values": ["a", "b"]},
    }
)


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.random(n) < 0.25
    return pa.table(
        {
            "x": np.clip(rng.normal(np.where(kind, 70, 30), 10), 0, 99).astype(np.int64),
            "colour": rng.choice(["red", "green", "blue"], size=n, p=[0.6, 0.3, 0.1]),
            "kind": np.where(kind, "b", "a"),
        }
    )


@pytest.fixture(scope="module")
def generator():
    sketcher = Sketcher(SCHEMA, frequencies=64)
    sketcher.learn_many(table(20_000))
    return fit(sketcher.release(), seconds=5)


def herding(generator):
    snapshot = generator.snapshot
    return CellHerding(snapshot.layout, snapshot.cells), snapshot.cells


@pytest.mark.parametrize(
    "options", [{}, {"coarse": 3}, {"partners": {"kind": ["x", "colour"]}}, {"middle": 7}]
)
def test_cells_are_those_that_the_sketch_counts(options):
    sketcher = Sketcher(SCHEMA, frequencies=64, **options)
    sketcher.learn_many(table(3000))
    snapshot = sketcher.release()
    select = CellHerding(snapshot.layout, snapshot.cells)
    cells = select.cells(SCHEMA.encode(table(3000)).x)
    assert cells.shape == (3000, snapshot.layout.tables)
    counts = np.bincount(cells.ravel(), minlength=snapshot.layout.size)
    assert np.array_equal(counts, np.rint(snapshot.cells * 3000))


def test_each_choice_is_the_best_of_its_window(generator):
    """By brute force: the candidate after which the weighted squared residual is smallest."""
    select, p = herding(generator)
    rng = np.random.default_rng(1)
    cells = select.cells(generator.sample_encoded(module.RATIO * 20 + module.WIDTH, seed=2))
    start = rng.normal(size=p.size)
    rows, after = select.choose(start, p, cells, 20)
    residual, left = start.copy(), set(range(len(cells)))
    ratio = (len(cells) - 1) // 19
    ratio = min(module.RATIO, ratio)
    for step, row in enumerate(rows):
        first = max(0, min(ratio * step, len(cells) - module.WIDTH))
        window = [
            i for i in range(first, min(len(cells), ratio * step + module.WIDTH)) if i in left
        ]
        costs = []
        for i in window:
            moved = residual + p
            moved[cells[i]] -= 1
            costs.append(select.weights @ moved**2)
        mine = costs[window.index(row)]
        assert mine <= min(costs) + 1e-6 * abs(min(costs))
        left.remove(row)
        residual += p
        residual[cells[row]] -= 1
    assert np.allclose(after, residual)


def test_rows_drawn_together_are_nearer_to_the_data_than_independent_ones(generator):
    select, p = herding(generator)
    sampler = Sampler(generator, seed=3)
    x = np.concatenate([sampler.sample_encoded(500) for _ in range(4)])

    def apart(rows):
        counts = np.bincount(select.cells(rows).ravel(), minlength=p.size) / len(rows)
        return float(select.weights @ (counts - p) ** 2)

    alone = np.mean([apart(generator.sample_encoded(2000, seed=k)) for k in range(3)])
    assert apart(x) < alone / 5
    expected = float(select.weights @ (p * (1 - p))) / 2000  # of independent rows
    assert sampler.gain() == pytest.approx(expected / apart(x), rel=1e-6)
    residual = sampler.history.residual("data", p.size)
    drawn = np.bincount(select.cells(x).ravel(), minlength=p.size)
    assert np.allclose(residual, 2000 * p - drawn, atol=1e-6)
    assert sampler.history.issued("data") == 2000


def test_it_serves_where_it_can_and_the_features_elsewhere(generator):
    for options in ({"label": "b"}, {"solver": "optimize"}, {"forget": 0.9}):
        sampler = Sampler(generator, **options)
        goal = matching(sampler._request(sampler.history.copy()))
        assert isinstance(goal, Matching)
    sampler = Sampler(generator)
    assert isinstance(matching(sampler._request(sampler.history.copy())), CellMatching)
    unique = Sampler(generator, unique=True, unique_capacity=1000)
    rows = [tuple(r.values()) for r in unique.sample(60).to_pylist()]
    assert len(set(rows)) == 60


def test_noise_of_a_release_is_not_taken_for_data(generator):
    """Released counts with noise: outputs are nearer to the truth than by the noise as it is."""
    select, p = herding(generator)
    snapshot, noise = generator.snapshot, 0.004
    noisy = p + noise * np.random.default_rng(5).normal(size=p.size)
    own = np.bincount(
        select.cells(generator.sample_encoded(50_000, seed=1)).ravel(), minlength=p.size
    )
    shrunk = without_cell_noise(noisy, own / 50_000, noise, snapshot.layout)
    assert ((shrunk - p) ** 2).sum() < 0.3 * ((noisy - p) ** 2).sum()
    assert np.allclose(without_cell_noise(noisy, p, 0.0, snapshot.layout), noisy)


def test_a_private_snapshot_is_sampled_from(generator):
    sketcher = Sketcher(
        SCHEMA, frequencies=64, mechanism="gaussian", privacy={"epsilon": 2.0, "delta": 1e-6}
    )
    sketcher.learn_many(table(20_000))
    private = fit(sketcher.release(), seconds=5)
    sampler = Sampler(private)
    rows = sampler.sample(400).to_pandas()
    assert "data/own" in sampler.history.pools
    assert abs(float((rows.colour == "red").mean()) - 0.6) < 0.05
    assert abs(float((rows.kind == "b").mean()) - 0.25) < 0.05


def test_a_generator_with_wrong_shares_is_repaired(generator):
    """The sketch says how many reds there are, whatever the generator draws."""
    released = generator.snapshot
    sketcher = Sketcher(SCHEMA, frequencies=64)
    red = table(20_000).filter(pa.compute.equal(table(20_000)["colour"], "red"))
    sketcher.learn_many(red)
    sketcher.learn_many(table(3000))
    other = sketcher.release()
    wrong = fit(other, seconds=5)
    wrong.snapshot = dataclasses.replace(released)
    share = float((Sampler(wrong).sample(400).to_pandas().colour == "red").mean())
    alone = float((wrong.sample(400).to_pandas().colour == "red").mean())
    assert alone > 0.8 and share < 0.7
