import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.base import DriftDetector
from scipy.signal import lfilter
from scipy.stats import chi2

from streamsketch import Schema, Sketcher
from streamsketch.drift import SketchDrift
from streamsketch.drift.snapshots import SnapshotDrift
from streamsketch.errors import ConfigError, DataError, SpecMismatchError, StoreError
from streamsketch.features import FeatureMap, quadratic
from streamsketch.features.quadratic import (
    beyond_gaussian,
    level,
    null_filter,
    shape_terms,
    tail,
    whitening,
)
from streamsketch.storage.files import pack, unpack

BOX = 6.0


def detector(d, **more):
    return SketchDrift(Schema.vectors(d, -BOX, BOX), **more)


# --- the null law


@pytest.mark.parametrize("h", [0.5, 5.0, 11.07, 20.0, 60.0])
def test_tail_of_equal_weights_is_chi_square(h):
    assert tail(np.full(5, 2.0), 2 * h) == pytest.approx(chi2.sf(h, 5), rel=0.02)


def test_tail_of_unequal_weights_matches_draws():
    weights = np.array([1.0, 0.5, 0.2, 0.05])
    drawn = (np.random.default_rng(0).standard_normal((400_000, 4)) ** 2) @ weights
    for q in (0.3, 0.5, 0.9, 0.999):
        assert tail(weights, float(np.quantile(drawn, q))) == pytest.approx(1 - q, rel=0.08)


def test_filter_constants_are_sums_over_the_weights():
    fast, slow = 0.04, 0.004
    k = np.arange(20_000)
    c = fast * (1 - fast) ** k - slow * (1 - slow) ** k
    variance, step, share, cubes = null_filter(fast, slow)
    assert cubes == pytest.approx((c**3).sum() ** 2 / (c**2).sum() ** 3, rel=1e-9)
    assert share == pytest.approx((c**4).sum() / (c**2).sum() ** 2, rel=1e-9)
    assert variance == pytest.approx((c**2).sum(), rel=1e-9)
    assert step == pytest.approx(2 - 2 * (c[1:] * c[:-1]).sum() / (c**2).sum(), rel=1e-6)


def test_the_level_is_crossed_as_often_in_simulated_processes():
    rng = np.random.default_rng(0)
    keep, ratios = 0.95, []
    for weights in (np.array([1.0]), np.r_[1, 0.5, 0.3, np.full(10, 0.1)]):
        total = np.zeros(400_000)
        for w in weights:
            noise = rng.standard_normal(len(total) + 300) * np.sqrt(1 - keep**2)
            total += w * lfilter([1], [1, -keep], noise)[300:] ** 2
        step, gap = 2 - 2 * keep, 100
        h = level(weights, step, 2000)
        mean = quadratic._passage_time(weights, step, quadratic.saddlepoint(weights, h))
        assert mean == pytest.approx(2000, rel=1e-3)
        clumps = 1 + (np.diff(np.flatnonzero(total > h)) > gap).sum()
        ratios.append((len(total) / clumps - gap) / 2000)
    # without the factor for discrete time it is 0.6, at leading order in the level 1.2
    assert np.mean(ratios) == pytest.approx(1, abs=0.15)


def test_whitening_from_few_rows_knows_the_spread_of_new_ones():
    rng = np.random.default_rng(0)
    truth = 5 / np.arange(1, 101)
    found, seen = [], []
    for _ in range(20):
        rows = rng.standard_normal((150, 100)) * np.sqrt(truth)
        mapping, eigenvalues = whitening(150, rows.sum(0), rows.T @ rows, 3.0)
        new = (rng.standard_normal((500, 100)) * np.sqrt(truth)) @ mapping
        found.append(eigenvalues.sum())
        seen.append((new**2).sum(axis=1).mean())
        assert (eigenvalues >= 0).all() and (eigenvalues <= 1).all()
    assert np.mean(seen) == pytest.approx(np.mean(found), rel=0.05)  # plain eigenvalues: 12%
    exact, eigenvalues = whitening(1e9, np.zeros(2), np.diag([2e9, 0.0]), 0.5)
    np.testing.assert_allclose(np.sort(eigenvalues), [0, 2 / 2.5], atol=1e-6)
    np.testing.assert_allclose(np.abs(exact).max(axis=1), [2.5**-0.5, 0.5**-0.5], rtol=1e-6)


def test_spread_and_skewness_of_distances_of_averages():
    rng = np.random.default_rng(0)
    fast, slow = 0.1, 0.01
    scales = np.array([1.0, 0.7, 0.4, 0.4, 0.4])
    rows = rng.choice([-1 / 3, 3.0], p=[0.9, 0.1], size=(400_000, 5)) * scales
    eigenvalues = scales**2
    variance, _, share, cubes = null_filter(fast, slow)
    averages = lfilter([fast], [1, fast - 1], rows, axis=0)
    averages -= lfilter([slow], [1, slow - 1], rows, axis=0)
    distance = (averages[1000:] ** 2).sum(axis=1)
    shape = shape_terms(rows[::2], rows[1::2], eigenvalues).sum(axis=0)
    spread, skew = beyond_gaussian(eigenvalues, 1e9, shape, share, cubes)
    gaussian = 8 * (eigenvalues**3).sum() / (2 * (eigenvalues**2).sum()) ** 1.5
    assert distance.mean() == pytest.approx(variance * eigenvalues.sum(), rel=0.03)
    seen = distance.std() / (variance * np.sqrt(2 * (eigenvalues**2).sum()))
    third = ((distance - distance.mean()) ** 3).mean() / distance.std() ** 3
    assert spread == pytest.approx(seen, rel=0.03)
    assert skew + gaussian == pytest.approx(third, rel=0.08)
    assert abs(skew) > 0.2 * gaussian  # a Gaussian's alone would not do


# --- the detector


def test_rows_between_false_alarms_is_the_one_asked_for():
    asked, rows, alarms = 3000, 0, 0
    for d in (1, 5):
        rng = np.random.default_rng(7 + d)
        found = detector(d, run_length=asked, detector_frequencies=64)
        for _ in range(8):
            alarms += len(found.update_many(rng.normal(size=(20_000, d))))
            rows += 20_000
    assert rows / alarms == pytest.approx(asked, rel=0.25)  # 107 alarms: two errors are 20%


def equal_means(rng, n, changed):
    """Correlation flips; means and variances stay."""
    sign = -0.8 if changed else 0.8
    return rng.multivariate_normal(np.zeros(2), [[1, sign], [sign, 1]], n)


@pytest.mark.parametrize("kind", ["mean", "variance", "correlation", "shape"])
def test_changes_are_found_also_where_every_mean_stays(kind):
    rng = np.random.default_rng(4)
    before, after = {
        "mean": (rng.normal(size=(3000, 2)), rng.normal(size=(600, 2)) + 1),
        "variance": (rng.normal(size=(3000, 2)), rng.normal(size=(600, 2)) * 2),
        "correlation": (equal_means(rng, 3000, False), equal_means(rng, 600, True)),
        "shape": (
            rng.normal(size=(3000, 2)),
            rng.choice([-1.0, 1.0], (600, 2)) + 0.1 * rng.normal(size=(600, 2)),
        ),
    }[kind]
    found = detector(2, run_length=1_000_000)
    assert found.update_many(before) == []
    alarms = found.update_many(after)
    assert alarms
    assert alarms[0] < 150


def test_one_row_at_a_time_is_the_same_as_many():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(900, 2)), rng.normal(size=(600, 2)) + 2])
    many, single = (
        detector(2, window=20, run_length=5000, detector_frequencies=32) for _ in range(2)
    )
    alarms = []
    for i, row in enumerate(rows):
        single.update({"x0": row[0], "x1": row[1]} if i % 2 else row)
        if single.drift_detected:
            alarms.append(i)
    assert alarms == many.update_many(rows)
    assert alarms
    assert single.n_detections == many.n_detections == len(alarms)
    assert single.statistic == pytest.approx(many.statistic, rel=1e-9)
    assert single.threshold == pytest.approx(many.threshold, rel=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=12), st.integers(0, 11))
def test_alarms_and_state_do_not_depend_on_batches_or_restarts(cuts, stopped):
    rng = np.random.default_rng(3)
    laws = (0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)  # the second and third start afresh from a prior
    rows = np.concatenate([rng.normal(m, s, size=(700, 2)) for m, s in laws])
    shape = {"window": 10, "run_length": 5000, "detector_frequencies": 8}
    whole, cut = detector(2, **shape), detector(2, **shape)
    expected, alarms, at = whole.update_many(rows), [], 0
    for k, size in enumerate([*cuts, len(rows)]):
        if k == stopped:
            saved, cut = unpack(pack("drift", *cut.state()), "drift"), detector(2, **shape)
            cut.restore(*saved)
        alarms += [at + a for a in cut.update_many(rows[at : at + size])]
        at += size
    assert alarms == expected
    assert len(expected) >= 2
    (arrays, body), (again, body_again) = whole.state(), cut.state()
    assert body == body_again
    assert all((arrays[k] == again[k]).all() for k in arrays | again if k != "numbers")
    np.testing.assert_allclose(arrays["numbers"], again["numbers"], rtol=1e-12)


def test_state_of_a_detector_with_other_settings_is_refused():
    with pytest.raises(StoreError, match="settings"):
        detector(2, window=20).restore(*detector(2, window=30).state())


def test_it_is_a_river_detector_that_can_be_cloned_and_takes_tables_and_features():
    found = detector(2)
    assert isinstance(found, DriftDetector)
    assert found.clone().run_length == found.run_length
    rows = np.random.default_rng(0).normal(size=(700, 2))
    found.update_many(pa.table({"x0": rows[:, 0], "x1": rows[:, 1]}))
    assert found.rows == 700
    fm = FeatureMap.from_frequencies(np.random.default_rng(1).normal(size=(2, 16)))
    plain = SketchDrift(features=fm, window=10, run_length=2000)
    plain.update_many(rows)
    assert plain.rows > 0
    with pytest.raises(ConfigError, match="needs schema="):
        plain.update({"x0": 0.0, "x1": 0.0})


def test_a_constant_stream_raises_no_alarm_until_it_changes():
    found = detector(2, window=20, run_length=5000)
    assert found.update_many(np.full((1000, 2), 0.5)) == []
    assert found.update_many(np.full((50, 2), 1.5))


def test_bad_rows_are_refused_and_not_learned():
    found = detector(2)
    for rows in (np.array([[np.nan, 0.0]]), pa.table({"x0": [1.0], "x1": [float("inf")]})):
        with pytest.raises(DataError):
            found.update_many(rows)
    with pytest.raises(DataError):
        found.update({"x0": 1.0})
    fm = FeatureMap.from_frequencies(np.ones((2, 4)))
    with pytest.raises(DataError, match="not finite"):
        SketchDrift(features=fm).update([np.inf, 0.0])
    assert found.rows == 0


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"run_length": 100}, "run_length = 100"),
        ({"window": 1}, "window = 1"),
        ({"window": 50, "memory": 40}, "memory = 40"),
        ({"warmup": 3}, "warmup = 3"),
        ({"features": FeatureMap.from_frequencies(np.ones((2, 3)))}, "not both"),
    ],
)
def test_bad_settings_are_refused(chosen, message):
    with pytest.raises(ConfigError, match=message):
        detector(2, **chosen)


# --- released snapshots


@pytest.mark.parametrize("more", [{}, {"memory": "tumbling"}])
def test_snapshots_of_one_law_raise_few_alarms_and_of_another_one_always(more):
    schema = Schema.vectors(2, -BOX, BOX)
    false_alarms = comparisons = 0
    p_values = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        s = Sketcher(schema, frequencies=64, seed=seed, **more)
        found = SnapshotDrift(run_length=50)
        for _ in range(10):
            s.learn_many(rng.normal(size=(1000, 2)))
            result = found.update(s.release())
            if result is not None:
                p_values.append(result.p_value)
                false_alarms += result.drift
                comparisons += 1
        s.learn_many(equal_means(rng, 1000, True))
        assert found.update(s.release()).drift
        assert found.drift_detected
    assert false_alarms <= 4  # 36 comparisons at 1 in 50
    assert 0.3 < np.mean(p_values) < 0.7


def test_noise_of_private_releases_is_part_of_the_null():
    rng = np.random.default_rng(0)
    s = Sketcher(
        Schema.vectors(1, -BOX, BOX),
        frequencies=32,
        mechanism="toeplitz",
        privacy={"rho": 0.5, "releases": 20},
    )
    found = SnapshotDrift(run_length=100)
    alarms = []
    for _ in range(10):
        s.learn_many(rng.normal(size=(4000, 1)))
        result = found.update(s.release())
        alarms.append(result is not None and result.drift)
    assert sum(alarms) <= 1
    s.learn_many(rng.normal(size=(4000, 1)) * 2.5)
    assert found.update(s.release()).drift


@pytest.mark.parametrize("memory", ["landmark", "tumbling"])
def test_p_values_are_even_where_the_noise_of_both_releases_is_most_of_the_distance(memory):
    """Of a landmark's two sums the earlier noise is in the rows between them and in those before."""
    rng, found, p_values = np.random.default_rng(3), SnapshotDrift(), []
    s = Sketcher(Schema.vectors(1, -BOX, BOX), frequencies=24, memory=memory)
    released = []
    for _ in range(2):
        s.learn_many(rng.normal(size=(20_000, 1)))
        released.append(s.release())
    for _ in range(40):
        noisy = [
            dataclasses.replace(
                snapshot,
                mean=snapshot.mean + sigma / snapshot.count * rng.normal(size=snapshot.mean.size),
                release=dataclasses.replace(snapshot.release, noise_std=sigma),
            )
            for snapshot, sigma in zip(released, (1500.0, 800.0), strict=True)
        ]
        p_values.append(found.compare(*noisy).p_value)
    assert 0.35 < np.mean(p_values) < 0.65
    assert np.mean(np.array(p_values) < 0.1) < 0.25


def test_snapshots_are_compared_through_a_restart():
    rng = np.random.default_rng(0)
    s = Sketcher(Schema.vectors(1, -5, 5), frequencies=16)
    snapshots = []
    for scale in (1, 1, 2):
        s.learn_many(rng.normal(size=(1000, 1)) * scale)
        snapshots.append(s.release())
    whole, found = SnapshotDrift(), SnapshotDrift()
    expected = [whole.update(snapshot) for snapshot in snapshots]
    results = []
    for snapshot in snapshots:
        saved, found = unpack(pack("drift", *found.state()), "drift"), SnapshotDrift()
        found.restore(*saved)
        results.append(found.update(snapshot))
    assert results == expected
    assert [r and r.drift for r in results] == [None, False, True]


def test_snapshots_of_two_operators_are_not_compared():
    a, b = (Sketcher(Schema.vectors(1, -1, 1), frequencies=8, seed=k) for k in range(2))
    for s in (a, b):
        s.learn_many(np.zeros((5, 1)))
    found = SnapshotDrift()
    assert found.update(a.release()) is None
    with pytest.raises(SpecMismatchError):
        found.update(b.release())
    with pytest.raises(ConfigError, match="same rows"):
        found.update(a.release())
    with pytest.raises(ConfigError, match="run_length"):
        SnapshotDrift(0.5)
