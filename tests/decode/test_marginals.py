import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher
from streamsketch.decode import Marginals, Target
from streamsketch.errors import ConfigError
from streamsketch.schema import Column

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def noisy(target, std, rng):
    noise = std * (rng.normal(size=target.m) + 1j * rng.normal(size=target.m))
    return Target(target.omega, target.z + noise, target.count, target.low, target.high, std)


@pytest.mark.parametrize("std", [0.0, 0.02])
def test_bands_cover_true_quantiles_and_are_not_vacuous(std):
    covered, widths, errors = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = np.clip(rng.normal(4, 1, (3000, 1)), 0, 10)
        s = Sketcher(Schema.vectors(1, 0, 10), frequencies=40, law="axis")
        s.learn_many(rows)
        density = Marginals().fit(noisy(Target.from_snapshot(s.release()), std, rng))["x0"]
        truth = (4 + np.array([-1.6449, -0.6745, 0, 0.6745, 1.6449])) / 5 - 1
        for q, value in zip(LEVELS, truth, strict=True):
            estimate, low, high = density.quantile(q)
            covered.append(low <= value <= high)
            widths.append(high - low)
            errors.append(estimate - value)
    assert np.mean(covered) >= 0.85
    assert np.max(widths) < 0.25
    assert np.sqrt(np.mean(np.square(errors))) < 0.03


def test_categories_numbers_with_nulls_and_times():
    schema = Schema(
        [
            Column("age", "numeric", "double", low=0, high=100, nulls="indicator"),
            Column("sex", "categorical", "string", values=("f", "m", "x")),
            Column("income", "numeric", "double", low=0, high=1e6, log=True),
        ]
    )
    rng = np.random.default_rng(0)
    n = 8000
    age = np.where(rng.random(n) < 0.2, None, np.clip(rng.normal(40, 10, n), 0, 100))
    sex = rng.choice(["f", "m", "x"], n, p=[0.6, 0.3, 0.1])
    income = np.exp(rng.normal(10, 0.5, n))
    s = Sketcher(schema, frequencies=120, law="axis")
    s.learn_many(pa.table({"age": pa.array(age, pa.float64()), "sex": sex, "income": income}))
    found = Marginals().fit(s.release())
    assert found.columns_ == ("age", "sex", "income")
    shares = found["sex"]
    assert shares.values == ("f", "m", "x")
    np.testing.assert_allclose(shares.probability, [0.6, 0.3, 0.1], atol=5 * shares.error.max())
    assert shares.probability.sum() == pytest.approx(1)
    median, low, high = found["age"].quantile(0.5)
    assert low < 40 < high
    assert median == pytest.approx(40, abs=1.5)
    assert found["income"].quantile(0.5)[0] == pytest.approx(np.exp(10), rel=0.1)


def test_union_law_has_aligned_frequencies_for_every_column():
    s = Sketcher(Schema.vectors(3, -1, 1), frequencies=120, law="multiscale_axis")
    s.learn_many(np.random.default_rng(0).uniform(-1, 1, (4000, 3)))
    found = Marginals().fit(s.release())
    assert found.columns_ == ("x0", "x1", "x2")
    curve, low, high = found["x1"].cdf()
    uniform = np.linspace(0, 1, len(curve))
    np.testing.assert_allclose(curve, uniform, atol=0.03)
    assert ((low - 1e-9 <= curve) & (curve <= high + 1e-9)).mean() > 0.8


def test_sketches_without_aligned_frequencies_are_refused_with_the_remedy():
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=30)
    s.learn_many(np.zeros((5, 2)))
    with pytest.raises(ConfigError, match="multiscale_axis"):
        Marginals().fit(s.release())
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=30, law="axis")
    s.learn_many(np.zeros((5, 2)))
    found = Marginals().fit(s.release())
    with pytest.raises(ConfigError, match="no marginal of 'y'"):
        found["y"]
    with pytest.raises(ConfigError, match="q = 2"):
        found["x0"].quantile(2)
