"""The scikit-learn transformer under scikit-learn's own checks, and what it adds to them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from streamsketch import Schema, Sketcher
from streamsketch.errors import ConfigError, DataError
from streamsketch.integrations.sklearn import SketchTransformer


@parametrize_with_checks([SketchTransformer(n_frequencies=8)])
def test_sklearns_own_checks(estimator: SketchTransformer, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_partial_fits_are_one_fit() -> None:
    x = np.random.default_rng(0).uniform(size=(60, 3))
    whole = SketchTransformer(16, low=0, high=1).fit(x)
    parts = SketchTransformer(16, low=0, high=1)
    for part in np.array_split(x, 7):
        parts.partial_fit(part)
    assert np.array_equal(whole.sketcher_.sketch.total, parts.sketcher_.sketch.total)
    sketcher = Sketcher(Schema.vectors(3, 0, 1), 16)
    sketcher.learn_many(x)
    assert np.array_equal(whole.sketcher_.sketch.total, sketcher.sketch.total)
    assert whole.fit(x[:10]).release().count == 10  # fit starts anew


def test_mean_features_are_the_snapshot() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    model = SketchTransformer(32).fit(x)
    mean = model.transform(x).mean(axis=0) * np.sqrt(32)
    assert mean == pytest.approx(model.release().mean, abs=2**-15)


def test_column_names_become_the_schema() -> None:
    x = pd.DataFrame({"width": [1.0, 2.0, 3.0], "height": [5.0, 5.0, 5.0]})
    model = SketchTransformer(4).fit(x)
    assert model.schema_.names == ("width", "height")
    assert list(model.get_feature_names_out())[:2] == ["sketchtransformer0", "sketchtransformer1"]


def test_private_releases_need_declared_limits() -> None:
    with pytest.raises(ConfigError, match="needs declared limits"):
        SketchTransformer(4, mechanism="gaussian").fit(np.zeros((3, 2)))


def test_private_releases_carry_their_promise() -> None:
    budget = {"rho": 0.5, "releases": 1}
    model = SketchTransformer(4, low=0, high=1, mechanism="gaussian", privacy=budget)
    release = model.fit(np.random.default_rng(0).uniform(size=(50, 2))).release().release
    assert release.mechanism == "gaussian" and release.rho == 0.5


def test_it_feeds_a_linear_model() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(800, 2))
    y = (x**2).sum(axis=1) < 0.6
    model = make_pipeline(SketchTransformer(64), LogisticRegression(C=100.0, max_iter=1000))
    assert model.fit(x[:500], y[:500]).score(x[500:], y[500:]) > 0.9


def test_a_declared_schema_takes_texts_times_and_nulls() -> None:
    rng = np.random.default_rng(0)
    x = pd.DataFrame({
        "size": np.where(rng.random(300) < 0.1, np.nan, rng.normal(size=300)),
        "sort": rng.choice(["a", "b"], 300),
        "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 99, 300), "h"),
    })  # fmt: skip
    model = SketchTransformer(16, schema=Schema.propose(x)).fit(x[:200]).partial_fit(x[200:])
    assert model.transform(x).shape == (300, 32) and model.release().count == 300
    with pytest.raises(DataError, match="not declared"):
        model.transform(x.assign(sort="z"))
