import numpy as np
import pyarrow as pa
import pytest

from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.sampler import RowFilter
from streamsketch.sampler.unique import row_keys


def keys(start, stop):
    return [f"row {i}".encode() for i in range(start, stop)]


def test_no_row_is_ever_missed_and_the_rate_is_as_stated():
    rows = RowFilter(2000)
    new = rows.add_new(keys(0, 2000))
    assert rows.holds(keys(0, 2000)).all()
    assert new.sum() >= 1998
    assert 2e-5 < rows.false_positive_rate < 5e-4
    assert rows.holds(keys(10_000, 30_000)).mean() < 1e-3


def test_memory_is_fixed_and_overfull_filters_still_never_miss():
    rows = RowFilter(100)
    size = rows.bits.size
    rows.add_new(keys(0, 5000))
    assert rows.bits.size == size
    assert rows.holds(keys(0, 5000)).all()
    assert rows.false_positive_rate > 0.5


def test_merge_holds_both_and_refuses_another_capacity():
    a, b = RowFilter(100), RowFilter(100)
    a.add_new(keys(0, 10))
    b.add_new(keys(10, 20))
    assert a.merge(b).holds(keys(0, 20)).all()
    assert not a.holds(keys(10, 20)).any()
    with pytest.raises(SpecMismatchError):
        a.merge(RowFilter(200))


def test_keys_tell_values_columns_and_nulls_apart():
    table = pa.table({"a": ["1", "1", None, "1"], "b": [1.0, 2.0, 1.0, 1.0]})
    found = row_keys(table)
    assert len(set(found)) == 3
    assert found[0] == found[3]
    assert row_keys(table.slice(3)) == found[3:]


def test_bad_capacity_is_refused():
    with pytest.raises(ConfigError):
        RowFilter(0)
    with pytest.raises(ConfigError):
        RowFilter(100, np.zeros(3, np.uint8))
