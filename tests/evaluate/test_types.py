"""Equal values compare as equal, whatever type a file gives them."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from streamsketch.evaluate.frame import frames

DAYS = [dt.date(2020, 1, 1), dt.date(1969, 12, 31)]
STAMPS = [dt.datetime(d.year, d.month, d.day) for d in DAYS]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array(DAYS), pa.array(STAMPS, pa.timestamp("ns"))),
        (pa.array(DAYS), pa.array([str(s) for s in STAMPS])),
        (
            pa.array(STAMPS, pa.timestamp("s", "UTC")),
            pa.array([s.isoformat() + "Z" for s in STAMPS]),
        ),
        (pa.array([1.5, 2.0]), pa.array([Decimal("1.50"), Decimal("2.00")])),
        (pa.array([1.5, 2.0]), pa.array(["1.5", "2"])),
        (pa.array(["00501", "x"]), pa.array(["00501", "x"]).dictionary_encode()),
        (pa.array([True, False]), pa.array(["True", "false"])),
        (
            pa.array([3600, 0], pa.int32()).cast(pa.time32("s")),
            pa.array([3_600_000_000, 0]).cast(pa.time64("us")),
        ),
        (pa.array([3600, None]).cast(pa.duration("s")), pa.array(["01:00:00", None])),
    ],
    ids=str,
)
def test_equal_values_of_two_types(one, other):
    a, b = frames(pa.table({"v": one}), pa.table({"v": other}))
    assert np.array_equal(a.values, b.values, equal_nan=True)


def test_categories_that_are_numbers_of_two_types():
    a, b = frames(pa.table({"v": [1, 2]}), pa.table({"v": [1.0, 2.0]}), categorical=["v"])
    assert np.array_equal(a.values, b.values)


def test_text_that_is_no_number_beside_numbers_is_a_category():
    a, b = frames(pa.table({"v": [1, 2]}), pa.table({"v": ["1", "x"]}))
    assert a.categories[0] is not None and a.values[0, 0] == b.values[0, 0]
