"""Times of any unit, shape and year: read right, or told; nothing raises because of a value."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import SchemaError
from streamsketch.schema import Column, Schema
from streamsketch.schema.times import TICKS, from_text, in_unit, iso_micro, seconds_of

STAMPS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
KINDS = [pa.timestamp(u) for u in ("s", "ms", "us", "ns")] + [pa.timestamp("us", "Asia/Tokyo")]
KINDS += [pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.duration("ms")]


def seconds(array):
    return seconds_of(array)[0].tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@given(STAMPS, st.sampled_from(["", "Z", "+05:30", "-0800", "+01"]), st.sampled_from("T "))
@settings(max_examples=60, deadline=None)
def test_iso_text_is_pythons_time_in_the_columns_unit(unit, stamp, zone, between):
    hours = {"": 0, "Z": 0, "+05:30": 5.5, "-0800": -8, "+01": 1}[zone]
    times, bad = from_text(pa.array([stamp.isoformat(between) + zone, None]), pa.timestamp(unit))
    micro = iso_micro(stamp.isoformat()) - round(hours * 3600e6)
    assert times.cast(pa.int64()).to_pylist() == [micro // (10**6 // TICKS[unit]), None]
    assert bad.tolist() == [False, False]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=30), STAMPS.map(str), st.integers().map(str)),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_text_is_a_time_null_or_told(kind, texts):
    times, bad = from_text(pa.array(texts, pa.string()), kind)
    assert times.type == kind
    null = times.is_null().to_pylist()
    assert null == [t is None or b for t, b in zip(texts, bad.tolist(), strict=True)]
    alone = [from_text(pa.array([t], pa.string()), kind)[0][0] for t in texts]
    assert pa.array(alone, kind).equals(times)  # whatever stands beside a value


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(
    st.lists(
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**62, -(2**62), 0]),
        min_size=1,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_number_counts_the_unit_or_is_told(kind, numbers):
    times, bad = in_unit(pa.array(numbers, pa.int64()), kind)
    narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
    got = times.cast(narrow).to_pylist()
    assert got == [None if b else n for n, b in zip(numbers, bad.tolist(), strict=True)]


def test_whole_numbers_text_and_times_of_any_unit_encode_to_the_same_bits():
    schema = Schema(
        [
            Column(
                "t",
                "timestamp",
                "timestamp[ms]",
                low="2020-01-01",
                high="2024-01-01",
                periods=("day",),
            )
        ]
    )
    given = ["2023-11-14T22:13:20.123", "2020-02-29T00:00:00.000"]
    text = pa.array(given)
    ms = from_text(text, pa.timestamp("ms"))[0]
    one = schema.encode(pa.table({"t": ms})).x
    for other in (
        text,
        ms.cast(pa.int64()),
        ms.cast(pa.timestamp("us")),
        ms.cast(pa.timestamp("ns", "UTC")),
    ):
        assert np.array_equal(schema.encode(pa.table({"t": other})).x, one)
    assert schema.decode(one)["t"].type == pa.timestamp("ms")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62, None, 0], pa.timestamp("us")),
        pa.array([2**62, -(2**62), 0], pa.timestamp("s")),
        pa.array([2**31 - 1, -(2**31), None], pa.date32()),
        pa.array([2**63 - 1, -(2**63), 7], pa.int64()),
        pa.array(["9999-12-31T23:59:59-14:00", "0000-01-01", "no time"]),
        pa.array([float("nan"), float("inf"), -1e300]),
        pa.array([0, 1, 2], pa.timestamp("us"))
        .cast(pa.timestamp("us", "UTC"))
        .dictionary_encode(),
    ],
    ids=str,
)
def test_a_time_beyond_every_calendar_is_a_refusal(values):
    column = Column(
        "t", "timestamp", "timestamp[us]", low="2020-01-01", high="2021-01-01", outside="refuse"
    )
    encoded = Schema([column]).encode(pa.table({"t": values}))
    assert len(encoded.rejected) == 3 and not len(encoded.rows)


def test_sentinel_times_are_states_and_the_limits_are_those_of_the_others():
    days = [dt.datetime(2020, 1, 1) + dt.timedelta(i) for i in range(400)]
    end = dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
    given = pa.table({"until": pa.array([*days, *[end] * 50], pa.timestamp("us"))})
    schema = Schema.propose(given)
    column = schema.columns[0]
    assert column.atoms == ("9999-12-31T23:59:59.999999",)
    assert column.high < "2022"
    assert schema.decode(schema.encode(given).x).equals(given)


@pytest.mark.parametrize("kind", ["time32[s]", "time64[us]", "duration[ms]"])
def test_times_of_day_and_durations_are_numbers_of_seconds(kind):
    schema = Schema(
        [Column("t", "numeric", kind, low=0, high=86100, resolution=300.0, outside="refuse")]
    )
    given = pa.table({"t": pa.array(["09:15:00", "00:05:00", "23:55:00", "later", "09:15:00"])})
    encoded = schema.encode(given)
    assert [(r.row, r.reason) for r in encoded.rejected] == [(3, f"not of type {kind}")]
    back = schema.decode(encoded.x)["t"].combine_chunks()
    assert str(back.type) == kind and seconds(back) == [33300, 300, 86100, 33300]


def test_a_five_minute_grid_off_the_hour_stays_one():
    rng = np.random.default_rng(0)
    stamps = 1_600_000_000 + 300 * rng.integers(0, 100_000, 2000) + 100
    schema = Schema.propose(pa.table({"t": pa.array(stamps).cast(pa.timestamp("s"))}))
    made = schema.decode(rng.uniform(-1, 1, (500, schema.d)).astype(np.float32))["t"]
    assert {int(s) % 300 for s in seconds(made.combine_chunks())} == {1_600_000_100 % 300}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"type": "timestamp[ns]", "low": "1970-01-01", "high": "9999-12-31"}, "beyond what timestamp"),
        ({"type": "timestamp[us, tz=Mars/Base]", "low": "1970-01-01", "high": "1971-01-01"}, "Mars/Base"),
        ({"type": "int64", "low": "1970-01-01", "high": "1971-01-01"}, "needs a type such as"),
        ({"type": "timestamp[s]", "low": "1970-01-01", "high": "1971-01-01", "atoms": ["never"]}, "atoms"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_of_a_time_says_what_is_wrong(declared, says):
    with pytest.raises(SchemaError, match=says):
        Column("t", "timestamp", **declared)
