"""The river estimator under river's own checks, and in a river pipeline."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from river import checks, compose, datasets, linear_model, metrics, preprocessing

from streamsketch import Schema, Sketcher
from streamsketch.errors import SpecMismatchError
from streamsketch.integrations.river import RiverSketcher


def fresh() -> RiverSketcher:
    return RiverSketcher(**next(RiverSketcher._unit_test_params()))


@pytest.mark.parametrize("check", list(checks.yield_checks(fresh())), ids=lambda c: c.__name__)
def test_rivers_own_checks(check: Callable[[Any], None]) -> None:
    check(fresh())


def test_it_is_the_sketcher_bit_for_bit() -> None:
    schema = Schema.vectors(2, -1, 1)
    x = np.random.default_rng(0).uniform(-1, 1, size=(50, 2))
    model, sketcher = RiverSketcher(schema, 32, seed=3), Sketcher(schema, 32, seed=3)
    for a, b in x:
        model.learn_one({"x0": float(a), "x1": float(b)})
    sketcher.learn_many(x)
    assert np.array_equal(model.sketcher.sketch.total, sketcher.sketch.total)
    assert model.release().count == 50


def test_private_releases_carry_their_promise() -> None:
    budget = {"rho": 0.5, "releases": 1}
    model = RiverSketcher(Schema.vectors(2, -1, 1), 8, mechanism="gaussian", privacy=budget)
    model.learn_one({"x0": 0.25, "x1": -0.5})
    release = model.release().release
    assert release.mechanism == "gaussian" and release.rho == 0.5


def test_features_are_those_of_the_sketch() -> None:
    schema = Schema.vectors(2, -1, 1)
    model = RiverSketcher(schema, 32)
    row = {"x0": 0.25, "x1": -0.5}
    model.learn_one(row)
    found = np.array(list(model.transform_one(row).values()))
    assert np.linalg.norm(found) == pytest.approx(1.0)
    assert found * np.sqrt(32) == pytest.approx(model.release().mean, abs=2**-15)


def test_parts_of_a_stream_merge() -> None:
    rows = [x for x, _ in datasets.TrumpApproval().take(40)]
    whole, left, right = fresh(), fresh(), fresh()
    for i, row in enumerate(rows):
        whole.learn_one(row)
        (left if i % 3 else right).learn_one(row)
    right.learn_one({"gallup": 40.0})
    merged = left.merge(right)
    assert np.array_equal(merged.sketcher.sketch.total, whole.sketcher.sketch.total)
    assert (merged.refused, left.refused, whole.refused) == (1, 0, 0)
    with pytest.raises(SpecMismatchError):
        left.merge(left.clone({"seed": 1}))


def test_it_feeds_a_river_model() -> None:
    # A ring inside a square: no line separates it, a line in the features does.
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, size=(1500, 2))
    labels = (points**2).sum(axis=1) < 0.6
    scores = []
    for head in (preprocessing.StandardScaler(), RiverSketcher(Schema.vectors(2, -1, 1), 64)):
        model = compose.Pipeline(head, linear_model.LogisticRegression())
        accuracy = metrics.Accuracy()
        for (a, b), y in zip(points.tolist(), labels.tolist(), strict=True):
            x = {"x0": a, "x1": b}
            accuracy.update(y, bool(model.predict_one(x)))
            model.learn_one(x, y)
        scores.append(accuracy.get())
    assert scores[1] > scores[0] + 0.1
    assert model["RiverSketcher"].release().count == 1500


def test_a_table_is_transformed_by_its_fourier_part() -> None:
    schema = Schema.from_dict({
        "x": {"kind": "numeric", "low": 0, "high": 1},
        "c": {"kind": "categorical", "type": "string", "values": ["a", "b"]},
    })  # fmt: skip
    model = RiverSketcher(schema, frequencies=4)
    row = {"x": 0.5, "c": "a"}
    model.learn_one(row)
    assert len(model.transform_one(row)) == 8 and model.release().count == 1
