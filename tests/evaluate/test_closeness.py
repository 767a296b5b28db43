"""Copies are found, and rows of the same law that were never learned are no copies."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamsketch import Sampler, Schema, Sketcher, fit
from streamsketch.evaluate import evaluate
from streamsketch.evaluate.card import model_card
from streamsketch.evaluate.closeness import closeness


def rows(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pa.table({
        "x": pa.array(x, mask=rng.random(n) < 0.1), "y": x + rng.normal(size=n),
        "c": rng.choice(["a", "b"], n), "name": [f"name {i}" for i in rng.integers(0, 10**6, n)],
    })  # fmt: skip


TRAIN, HELD = rows(1000, 0), rows(800, 1)


def figures(made, train=TRAIN, held=HELD):
    return {one.title: one for one in closeness(made, train, held)}


def test_fresh_rows_are_as_near_as_held_out_rows():
    found = figures(
        rows(900, 2).drop_columns("name"), TRAIN.drop_columns("name"), HELD.drop_columns("name")
    )
    assert found["copies"].synthetic == found["copies"].held == 0
    assert "rare values" not in found
    for title in ("distance to the closest", "nearest-neighbour ratio"):
        assert found[title].synthetic == pytest.approx(found[title].held, rel=0.25)


def test_copies_are_counted_exactly_whatever_is_null():
    made = pa.concat_tables([TRAIN.slice(0, 300), rows(700, 3)])
    found = figures(made)
    assert found["copies"].synthetic == 0.3 and found["copies"].held == 0
    assert found["nearest-neighbour ratio"].synthetic < found["nearest-neighbour ratio"].held


def test_near_copies_show_in_the_distances():
    near = TRAIN.set_column(1, "y", pa.array(TRAIN["y"].to_numpy() + 1e-3))
    found = figures(near)
    assert found["copies"].synthetic == 0
    assert found["distance to the closest"].synthetic < found["distance to the closest"].held / 10


def test_rare_texts_that_come_back_are_told():
    train = pa.table({"who": [f"p{i}" for i in range(30)] + ["many"] * 300, "x": np.arange(330.0)})
    held = pa.table({"who": ["many"] * 100, "x": np.arange(100.0)})
    made = pa.table({"who": ["p3", "p4"] * 10 + ["many"] * 80, "x": np.arange(100.0)})
    found = figures(made, train, held)["rare values"]
    assert (found.synthetic, found.held) == (0.2, 0.0)


def test_the_report_and_the_scores_hold_them():
    made, train, held = (t.drop_columns("name").slice(0, 200) for t in (rows(200, 2), TRAIN, HELD))
    found = evaluate(made, held, train=train)
    assert json.loads(json.dumps(found.to_dict()))["closeness"][0]["title"] == "copies"
    assert {"c2st_numbers", "c2st_categories"} <= set(found.scores["synthetic"])
    assert evaluate(made, held).closeness == ()


@pytest.fixture(scope="module")
def generator():
    table = TRAIN.drop_columns("name")
    s = Sketcher(
        Schema.propose(table), frequencies=32, mechanism="gaussian",
        privacy={"epsilon": 5.0, "delta": 1e-5, "releases": 1}, stream="people",
    )  # fmt: skip
    s.learn_many(table)
    return fit(s.release())


def test_a_model_card_says_what_is_public(generator):
    # a noisy count may be the exact one by chance; this one is not
    released = replace(generator.snapshot, count=987.6)
    card = model_card(released, generator.metrics, "good")
    assert list(card) == ["data", "sketch", "privacy", "training", "limits"]
    assert card["data"]["stream"] == "people" and card["data"]["rows"] == "988 (with noise)"
    assert "gaussian" in card["privacy"]["promise"] and card["training"]["verdict"] == "good"
    assert "1,000" not in json.dumps(card)  # how many rows came is not public
    assert list(model_card(None, {}, "not trained")) == ["training", "limits"]


@pytest.mark.parametrize("draw", ["generator", "where", "sampler"])
def test_drawn_rows_carry_their_origin_into_files(generator, tmp_path, draw):
    made = {
        "generator": lambda: generator.sample(5),
        "where": lambda: generator.sample(5, where={"c": "a"}),
        "sampler": lambda: Sampler(generator).sample(5),
    }[draw]()
    pq.write_table(made, tmp_path / "a.parquet")
    origin = json.loads(pq.read_table(tmp_path / "a.parquet").schema.metadata[b"streamsketch"])
    assert origin["synthetic"] and origin["snapshot"] == generator.snapshot.id
    assert origin["generator"] == generator.id and origin["epsilon"] == 5.0
    assert set(origin) <= {
        "synthetic", "version", "generator", "useful", "snapshot", "released", "stream", "operator",
        "mechanism", "epsilon", "delta", "unit",
    }  # fmt: skip
