"""Limits on rows and users, against a plain dictionary and on random streams."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import ConfigError, DataError, StoreError
from streamsketch.features import FeatureMap
from streamsketch.privacy.clipping import UserLimits, clip_norm, clip_weights, weighted_sum

FM = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(3, 20)))


def test_norm_clipping_keeps_directions_and_counts():
    x = np.random.default_rng(1).normal(size=(100, 3)) * 3
    rows, shortened = clip_norm(x, 1.5)
    norms = np.linalg.norm(x, axis=1)
    assert shortened == (norms > 1.5).sum()
    assert np.linalg.norm(rows, axis=1).max() <= 1.5 * (1 + 1e-6)
    cosine = (rows * x).sum(1) / np.linalg.norm(rows, axis=1) / norms
    np.testing.assert_allclose(cosine, 1, atol=1e-6)
    with pytest.raises(ConfigError, match="largest row norm"):
        clip_norm(x, 0.0)


def test_norm_clipping_does_nothing_for_the_sensitivity():
    x = np.array([[1e6, -3e7, 5.0]], np.float32)
    for rows in (x, clip_norm(x, 1.0)[0]):
        norm = np.linalg.norm(FM.sum(rows)) / 65536
        assert norm == pytest.approx(np.sqrt(20), rel=1e-3)
        assert norm <= FM.norm_bound


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e300), st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3))
def test_a_weighted_row_moves_the_sum_by_at_most_w_max(weight, row):
    clipped, _ = clip_weights(np.array([weight]), 2.5)
    total, count = weighted_sum(FM, np.array([row], np.float32), clipped)
    assert np.linalg.norm(total) / 65536 <= 2.5 * FM.norm_bound
    assert count <= 2.5
    assert count * 256 == int(count * 256)


def test_weights_that_are_no_weights():
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="weight is negative or not finite"):
            clip_weights(np.array([1.0, bad]), 1.0)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="w_max"):
            clip_weights(np.array([1.0]), bad)


def plain(stream, windows, separation, rows):
    """The same rule, one row at a time with a dictionary of window lists."""
    admitted, history = [], {}
    for window, user in stream:
        mine = history.setdefault(user, {})
        if window in mine:
            ok = mine[window] < rows
        else:
            ok = len(mine) < windows and (not mine or window - max(mine) >= separation)
        if ok:
            mine[window] = mine.get(window, 0) + 1
        admitted.append(ok)
    return admitted


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), max_size=25), max_size=12),
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 11),
)  # fmt: skip
def test_user_limits_equal_the_plain_rule(batches, windows, separation, rows, restart):
    limits = UserLimits(windows, separation, rows)
    found, stream = [], []
    for i, users in enumerate(batches):
        window = i // 2
        if i == restart:
            saved = limits.state()
            limits = UserLimits(windows, separation, rows)
            limits.restore(*saved)
        found += limits.admit(pa.array(users, pa.int64()), window).tolist()
        stream += [(window, user) for user in users]
    assert found == plain(stream, windows, separation, rows)
    assert limits.dropped == found.count(False)


def test_beyond_capacity_new_users_are_dropped_and_known_ones_stay():
    limits = UserLimits(windows=10, rows=1, capacity=3)
    first = limits.admit(pa.array(["c", "a", "b", "d", "a"]), 0)
    assert first.tolist() == [True, True, True, False, False]
    assert limits.admit(pa.array(["d", "a"]), 1).tolist() == [False, True]
    assert limits.dropped == 3


def test_user_limits_refuse_nonsense():
    with pytest.raises(ConfigError, match="separation"):
        UserLimits(separation=0)
    limits = UserLimits()
    limits.admit(pa.array(["a"]), 5)
    with pytest.raises(DataError, match="backwards"):
        limits.admit(pa.array(["b"]), 4)
    with pytest.raises(StoreError, match="cannot be changed"):
        UserLimits(windows=2).restore(*limits.state())
    assert "dropped" not in repr(limits)
