"""Paid queries: they answer, they cost what they say, and they are asked once."""

import math

import numpy as np
import pytest

from streamsketch.errors import BudgetError, ConfigError
from streamsketch.privacy import Releaser, Settings, epsilon_from_rho
from streamsketch.privacy.queries import Budget, private_bounds, private_histogram, private_scale

RNG = np.random.default_rng(0)
ENTROPY = np.random.default_rng(1).bytes


def test_the_budget_is_divided_and_shown():
    budget = Budget.split(Settings(epsilon=1.0, delta=1e-5), {"bounds": 0.1, "scale": 0.2})
    assert budget.releases.budget == pytest.approx(0.7 * budget.whole)
    assert budget.pay("scale") == pytest.approx(0.2 * budget.whole)
    with pytest.raises(BudgetError, match="asked already"):
        budget.pay("scale")
    with pytest.raises(BudgetError, match="no share"):
        budget.pay("mean")
    assert [e["name"] for e in budget.entries()] == ["scale"]
    # Discrete and continuous noise together: converted by the zCDP bound.
    assert epsilon_from_rho(budget.whole, 1e-5, strict=True) == pytest.approx(1.0, rel=1e-6)
    text = budget.describe()
    assert "bounds" in text and "(70 %)" in text and "epsilon = 1" in text
    for shares in ({"a": 0.0}, {"a": math.nan}, {"a": 0.6, "b": 0.4}):
        with pytest.raises(ConfigError):
            Budget.split(Settings(rho=1.0), shares)
    with pytest.raises(ConfigError, match="protect rows"):
        Budget.split(Settings(rho=1.0, unit="user"), {"a": 0.5})


def test_paid_queries_stand_in_the_ledger():
    from streamsketch.features import FeatureMap
    from streamsketch.privacy import explain
    from streamsketch.schema import Schema

    budget = Budget.split(Settings(rho=0.5), {"scale": 0.1})
    budget.pay("scale")
    fm = FeatureMap.from_frequencies(np.ones((1, 4)))
    r = Releaser(fm, Schema.vectors(1, 0, 1), mechanism="toeplitz", settings=budget.releases)
    r.charge(budget)
    r.release(np.zeros(8, np.int64), 0)
    assert r.ledger.spent == pytest.approx(0.5)
    assert "Paid query: scale, rho = 0.05" in explain(r)
    assert "Queries and releases together are (5.222, 1e-06)" in explain(r)


@pytest.mark.parametrize(("adjacency", "squared"), [("add_remove", 1), ("replace_one", 2)])
@pytest.mark.parametrize("rho", [1e-4, 0.05, 50.0])
def test_histogram_noise_is_what_the_price_buys(rho, adjacency, squared):
    edges = np.arange(4001)
    counts = private_histogram(np.empty(0), edges, rho, adjacency=adjacency, entropy=ENTROPY)
    # Rounding to whole counts adds a uniform error.
    expected = math.sqrt(squared / (2 * rho) + 1 / 12) if rho < 1 else None
    if expected is not None:
        assert counts.std() == pytest.approx(expected, rel=0.06)
    else:
        assert np.abs(counts).max() <= 1
    with pytest.raises(ConfigError, match="increasing"):
        private_histogram(np.empty(0), [1.0, 1.0], rho)


def test_bounds_hold_the_bulk_of_the_rows():
    x = np.concatenate([RNG.gamma(2.0, 400.0, 20_000), [1e8, np.nan]])
    low, high = private_bounds(x, 0.05, entropy=ENTROPY)
    assert 0.0 <= low <= 64.0
    assert 2048.0 <= high <= 16_384.0  # the outlier moved nothing
    low, high = private_bounds(RNG.normal(size=5000), 0.05, entropy=ENTROPY)
    assert -8.0 <= low <= -2.0 and 2.0 <= high <= 8.0
    with pytest.raises(ConfigError, match="stands out"):
        private_bounds(np.ones(3), 0.01, entropy=ENTROPY)


def test_scale_follows_the_data():
    x = RNG.normal(size=(4000, 3))
    small, large = (private_scale(x * s, 0.1, entropy=ENTROPY) for s in (0.3, 3.0))
    assert large / small == pytest.approx(10.0, rel=0.2)
    # For normal rows of deviation s: E |phi|^2 = (1 + 4 s^2 / scale^2 ...) has its half near s * 1.95.
    assert private_scale(x, 0.1, entropy=ENTROPY) == pytest.approx(
        private_scale(x, 1e3, entropy=ENTROPY), rel=0.15
    )
    assert private_scale(x * 1e-9, 0.1, entropy=ENTROPY) == pytest.approx(0.05)
