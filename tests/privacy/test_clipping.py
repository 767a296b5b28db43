"""Limits on rows and users, against a plain dictionary and on random streams."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import ConfigError, DataError, StoreError
from streamsketch.privacy.clipping import UserLimits


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
