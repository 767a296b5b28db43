"""One reading of times, for all sources and formats: numbers, ISO text, any unit, any year.

Whole numbers in a column of times count the unit of the column's type. Text is ISO 8601: a date, a
date and time with or without a zone (UTC where none is named), a time of day, a duration; or a
whole number. Nothing here raises because of a value: what is no time is told by a mask.
"""

import datetime as dt
import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.arrays import F64, Mask

__all__ = [
    "CLOCKS", "casted", "from_text", "in_unit", "is_clock", "is_time", "iso_micro", "iso_seconds",
    "iso_text", "known_zone", "read_as", "seconds_of",
]  # fmt: skip


TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # in a second
CLOCKS = ("time32", "time64", "duration")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICRO = dt.timedelta(microseconds=1)

_WHOLE = r"^[+-]?\d+$"
_ZONED = r"\d\d:?\d\d.*(Z|z|[+-]\d\d(:?\d\d)?)$"
_CLOCK = r"^(?P<sign>-)?(?:(?P<d>\d+) days?,? ?)?(?:\+?(?P<h>\d+):(?P<m>\d\d)(?::(?P<s>\d\d(?:\.\d+)?))?)?$"
_ISO_SPAN = (
    r"^(?P<sign>-)?P(?:(?P<d>\d+(?:\.\d+)?)D)?(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?"
    r"(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?$"
)
_PARTS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


def iso_micro(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of an ISO time; a time without zone is taken as UTC.

    Raises:
        ValueError: It is no ISO time.
    """
    stamp = dt.datetime.fromisoformat(text)
    return ((stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)) - EPOCH) // MICRO


def iso_seconds(text: str) -> float:
    """Seconds since 1970-01-01 UTC of an ISO time; a time without zone is taken as UTC.

    >>> iso_seconds("1970-01-02T00:00:00"), iso_seconds("9999-12-31")
    (86400.0, 253402214400.0)
    """
    return iso_micro(text) / 1_000_000


def iso_text(micro: int) -> str:
    """ISO text, without a zone, of microseconds since 1970 UTC; the nearest of years 1 to 9999.

    >>> iso_text(253402300800_000000), iso_text(-(2**62))
    ('9999-12-31T23:59:59.999999', '0001-01-01T00:00:00')
    """
    least, most = ((edge - EPOCH.replace(tzinfo=None)) // MICRO for edge in _CALENDAR)
    micro = min(max(int(micro), least), most)
    return (EPOCH.replace(tzinfo=None) + dt.timedelta(microseconds=micro)).isoformat()


_CALENDAR = (dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999))


@cache
def known_zone(name: str) -> bool:
    """Whether a time zone, such as Europe/Berlin or +02:00, is known here."""
    try:
        pa.scalar(0, pa.timestamp("us")).cast(pa.timestamp("us", tz=name)).as_py()
    except Exception:  # of the zone database: whatever it raises, the zone is not known
        return False
    return True


def is_time(kind: pa.DataType) -> bool:
    """Whether a type holds points in time."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_clock(kind: pa.DataType) -> bool:
    """Whether a type holds times of day or durations."""
    return bool(pa.types.is_time(kind) or pa.types.is_duration(kind))


def seconds_of(values: pa.Array) -> tuple[F64, Mask | None]:
    """Seconds since 1970, since midnight or of a duration; (n,) with the null rows, which hold 0.

    Nanoseconds since 1970 are cut to whole microseconds.

    >>> seconds_of(pa.array([2**62, None], pa.timestamp("s")))[0].tolist()
    [4.611686018427388e+18, 0.0]
    >>> seconds_of(pa.array([-1], pa.date32()))[0].tolist()
    [-86400.0]
    """
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        values = (
            values.cast(pa.int64()).cast(pa.timestamp("ns")).cast(pa.timestamp("us"), safe=False)
        )
        kind = values.type
    ticks = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    whole = pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False)
    if pa.types.is_date32(kind):
        return whole * 86400.0, missing
    per_second = TICKS["ms" if pa.types.is_date64(kind) else kind.unit]
    return whole / float(per_second), missing


def in_unit(numbers: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """Numbers that count the unit of a type of times, as that type, and which are none.

    Parts of a second or millisecond are kept: such times are in microseconds. Days since 1970 that
    would lie beyond the year 9999 are dates written as 20231114.

    >>> in_unit(pa.array([1500, None]), pa.timestamp("ms"))[0][0].as_py().isoformat()
    '1970-01-01T00:00:01.500000'
    """
    if not pa.types.is_integer(numbers.type):
        as_floats = numbers.cast(pa.float64(), safe=False)
        value = np.asarray(pc.fill_null(as_floats, 0.0).to_numpy(zero_copy_only=False))
        if pa.types.is_timestamp(kind) and kind.unit in ("s", "ms"):  # parts of a unit count
            value = value * (TICKS["us"] // TICKS[kind.unit])
            kind = pa.timestamp("us", tz=kind.tz)
        bad = ~(np.abs(value) < 2.0**62)
        whole = np.where(bad, 0.0, np.floor(np.where(bad, 0.0, value))).astype(np.int64)
        null = numbers.is_null().to_numpy(zero_copy_only=False)
        numbers = pa.array(whole, mask=null | bad)
    else:
        bad = np.zeros(len(numbers), bool)
    narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
    ticks, wide = casted(numbers, lambda part: part.cast(narrow))
    if pa.types.is_date32(kind):
        ticks = _days(ticks)
    made, wrong = casted(ticks, lambda part: part.cast(kind), kind)
    if pa.types.is_time(kind):
        day = 86400 * TICKS[kind.unit]
        value = pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False)
        wrong |= (value < 0) | (value >= day)
        made = pc.if_else(pa.array(wrong), None, made)
    return made, bad | wide | wrong


def _days(days: pa.Array) -> pa.Array:
    """Days since 1970, also of numbers such as 20231114: as days these would be beyond every calendar."""
    written = pc.fill_null(pc.greater_equal(days, 10_000_101), False)
    if not pc.any(written).as_py():
        return days
    text = pc.if_else(written, days, None).cast(pa.string())
    dashed = pc.replace_substring_regex(text, r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3")
    dates, bad = casted(dashed, lambda part: part.cast(pa.date32()).cast(pa.int32()), pa.int32())
    return pc.if_else(pa.array(np.asarray(written) & ~bad), dates, days)


def casted(
    values: pa.Array, cast: Callable[[pa.Array], pa.Array], kind: pa.DataType | None = None
) -> tuple[pa.Array, Mask]:
    """Cast what can be cast: the array, null where it cannot, and a mask of these places.

    Halves what fails, so that a few bad values among many cost a few more calls.

    >>> casted(pa.array(["1", "x", "3"]), lambda part: part.cast(pa.int64()))[1].tolist()
    [False, True, False]
    """
    bad = np.zeros(len(values), bool)
    kind = cast(values.slice(0, 0)).type if kind is None else kind

    def halved(low: int, high: int) -> list[pa.Array]:
        try:
            return [cast(values.slice(low, high - low))]
        except (pa.ArrowException, UnicodeError, OverflowError, ValueError, TypeError):
            if high - low < 2:
                bad[low] = True
                return [pa.nulls(high - low, kind)]
        middle = (low + high) // 2
        return halved(low, middle) + halved(middle, high)

    parts = halved(0, len(values))
    return (parts[0] if len(parts) == 1 else pa.concat_arrays(parts)), bad


def read_as(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask] | None:
    """Values of any type as times of `kind`'s family, and which are none.

    Times stay as they are, numbers count the unit of `kind`, text is read.

    Returns:
        Times of any unit, null where there is none, and the mask of those; None for a type that
        cannot hold such times.
    """
    found = values.type
    if pa.types.is_dictionary(found):
        values = values.dictionary_decode()
        found = values.type
    if (is_time(kind) and is_time(found)) or (is_clock(kind) and is_clock(found)):
        return values, np.zeros(len(values), bool)
    if pa.types.is_null(found):
        return pa.nulls(len(values), kind), np.zeros(len(values), bool)
    if pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found):
        return in_unit(values, kind)
    if (
        pa.types.is_string(found)
        or pa.types.is_large_string(found)
        or pa.types.is_string_view(found)
    ):
        fine = pa.types.is_timestamp(kind) and kind.unit in ("s", "ms")
        return from_text(values, pa.timestamp("us") if fine else kind, kind)
    return None


def from_text(
    text: pa.Array, kind: pa.DataType, unit: pa.DataType | None = None
) -> tuple[pa.Array, Mask]:
    """Times of text, as `kind`, and a mask of what is none (null stays null, and is not in it).

    Whole numbers count the unit of the type `unit`, that of `kind` if it is None.

    >>> times, bad = from_text(pa.array(["2023-11-14", "2023-11-14T01:00+01:00", "x"]), pa.timestamp("s"))
    >>> times.cast(pa.int64()).to_pylist(), bad.tolist()
    ([1699920000, 1699920000, None], [False, False, True])
    >>> from_text(pa.array(["09:15", "P1DT2H"]), pa.duration("s"))[0].cast(pa.int64()).to_pylist()
    [33300, 93600]
    """
    text, spoiled = casted(text, lambda part: part.cast(pa.string()))
    text = pc.utf8_trim_whitespace(text)
    whole = pc.fill_null(pc.match_substring_regex(text, _WHOLE), False)
    if pc.any(whole).as_py():
        numbers, wide = casted(
            pc.if_else(whole, pc.replace_substring_regex(text, r"^\+", ""), None),
            lambda part: part.cast(pa.int64()),
        )
        ticks, wrong = in_unit(numbers, unit or kind)
        ticks, far = casted(ticks, lambda part: part.cast(kind), kind)
        rest, bad = _written(pc.if_else(whole, None, text), kind)
        return pc.coalesce(ticks, rest), spoiled | wide | wrong | far | bad
    made, bad = _written(text, kind)
    return made, spoiled | bad


def _written(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """Times of text that is no whole number."""
    return _spans(text, kind) if is_clock(kind) else _stamps(text, kind)


def _stamps(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    fine = pa.types.is_timestamp(kind) and kind.unit == "ns"
    unit = "ns" if fine else "us"
    digits = 9 if fine else 6
    cut = pc.replace_substring_regex(text, rf"([.,]\d{{{digits}}})\d+", r"\1")
    zoned = pc.match_substring_regex(cut, _ZONED)
    aware, bad_aware = casted(
        pc.if_else(zoned, cut, None),
        lambda part: part.cast(pa.timestamp(unit, tz="UTC")).cast(pa.int64()),
    )
    naive, bad_naive = casted(
        pc.if_else(zoned, None, cut), lambda part: part.cast(pa.timestamp(unit)).cast(pa.int64())
    )
    found = pc.coalesce(aware, naive)
    bad = bad_aware | bad_naive
    if bad.any():  # spellings of ISO 8601 that Arrow does not read
        ticks = found.to_pylist()
        for i in np.flatnonzero(bad).tolist():
            try:
                spelled = re.sub(r" *(UTC|GMT)$", "Z", text[i].as_py())
                spelled = re.sub(r" +([+-]\d\d:?\d\d)$", r"\1", spelled)
                ticks[i] = iso_micro(spelled) * (1000 if fine else 1)
                bad[i] = not -(2**63) <= ticks[i] < 2**63
            except (ValueError, OverflowError):
                bad[i] = True
            ticks[i] = None if bad[i] else ticks[i]
        found = pa.array(ticks, pa.int64())
    return _floored(found.cast(pa.timestamp(unit)), kind), bad


def _spans(text: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """Durations and times of day: `[D days] HH:MM[:SS]`, or ISO's `P1DT2H3M4S`."""
    per_second = TICKS[kind.unit]
    total = np.zeros(len(text))
    known = np.zeros(len(text), bool)
    for pattern in (_CLOCK, _ISO_SPAN):
        found = pc.extract_regex(text, pattern)
        here = found.is_valid().to_numpy(zero_copy_only=False)
        said = np.zeros(len(text), bool)
        days = rest = np.zeros(len(text))
        for name, weight in _PARTS:
            part = pc.struct_field(found, name)
            part = pc.if_else(pc.equal(part, ""), None, part)
            said |= part.is_valid().to_numpy(zero_copy_only=False)
            number = pc.fill_null(part.cast(pa.float64()), 0.0)
            seconds = weight * number.to_numpy(zero_copy_only=False)
            days, rest = (seconds, rest) if name == "d" else (days, rest + seconds)
        sign = pc.fill_null(pc.equal(pc.struct_field(found, "sign"), "-"), False)
        minus = sign.to_numpy(zero_copy_only=False)
        # "-1 day, 22:00:00" is two hours before nothing: there the sign is that of the days alone
        rest = np.where(minus & ((pattern == _ISO_SPAN) | (days == 0)), -rest, rest)
        new = here & said & ~known
        total[new] = (np.where(minus, -days, days) + rest)[new]
        known |= new
    ticks = np.round(total * per_second)
    known &= np.abs(ticks) < 2.0**62
    if pa.types.is_time(kind):
        known &= (ticks >= 0) & (ticks < 86400 * per_second)
    null = text.is_null().to_numpy(zero_copy_only=False)
    whole = np.where(known, ticks, 0.0).astype(np.int64)
    narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.array(whole, mask=~known).cast(narrow).cast(kind), ~known & ~null


def _floored(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times in a coarser unit, rounded down."""
    if values.type == kind:
        return values
    if pa.types.is_date32(kind):
        return _ticks(values, 86400 * TICKS[values.type.unit]).cast(pa.int32()).cast(kind)
    if pa.types.is_date64(kind):
        days = _ticks(values, 86400 * TICKS[values.type.unit])
        return pc.multiply(days, 86_400_000).cast(kind)
    step = TICKS[values.type.unit] // TICKS[kind.unit]
    narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
    return _ticks(values, max(step, 1)).cast(narrow).cast(kind)


def _ticks(values: pa.Array, step: int) -> pa.Array:
    null = values.is_null().to_numpy(zero_copy_only=False)
    whole = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.floor_divide(whole, step), mask=null)
