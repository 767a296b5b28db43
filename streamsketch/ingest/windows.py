"""Tumbling windows of event time: which window a row belongs to, which rows are late, what may close.

Window k holds the rows with ``k * width <= time < (k + 1) * width``, counted from 1970-01-01 UTC.
Times are whole microseconds, so that no edge depends on rounding.

**Watermarks.** The watermark of a part is the latest event time of its rows so far. A row is late
when the watermark of *its own part* had passed its window's end by the lateness before it came: a
rule of the part's order alone, so that batches, crashes and other parts do not change who is late. A
window closes when the least watermark of all parts has passed its end by the lateness; then every
part refuses its rows already. Parts that are idle (no row for a declared time, or at their end) are
not waited for; their rows for windows that closed meanwhile are late.

**By the clock.** With a privacy mechanism, one row's time must not decide about other rows. With
`watermark = "clock"` windows close by the clock, whatever the rows say, and empty ones too.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError
from streamsketch.schema.times import is_time, read_as
from streamsketch.tables import key

__all__ = ["LATE", "OK", "TOO_FAR", "Part", "Windows", "microseconds"]

OK, LATE, TOO_FAR = 0, 1, 2
SECOND = 1_000_000
NEVER = -(2**62)
_YEARS = 253_402_300_800  # seconds to the year 10,000
_SPAN = 2**61  # microseconds from 1970 that are taken for a time: 73,000 years


class Part(Protocol):
    """What the closing of windows must know of a part, as saved."""

    watermark: int | None
    idle: str

    @property
    def held(self) -> Collection[int]:
        """Numbers of its windows that are not released."""
        ...


@dataclass(frozen=True)
class Windows:
    """[windows]: cut the stream by event time; without the table releases cut it.

    Attributes:
        time: Column of each row's time: a timestamp, a date, or seconds since 1970. In a pipeline
            file it may be left out where a column is of kind event_time.
        width: Length of a window, seconds.
        lateness: A window stays open until the watermark is so many seconds past its end.
        idle_seconds: A part without rows for so long is not waited for; None waits for ever.
        max_open: Most windows that a part keeps unreleased. Beyond, the oldest close although
            other parts are behind. So many a single chunk may open.
        max_jump: A row whose time is more seconds than that past its part's watermark is refused:
            a wrong time far ahead would make all others late. None takes every time.
        watermark: What closes windows: the times of the `rows`, or the `clock`.
        at_end: A stream that has ended releases its open windows, or `keep`s them for more rows.

    Raises:
        ConfigError: A number out of range.
    """

    time: str = key(pipeline="")
    width: Annotated[float, Gt(0)] = key()
    lateness: Annotated[float, Ge(0)] = 0.0
    idle_seconds: Annotated[float, Gt(0)] | None = 60.0
    max_open: Annotated[int, Ge(1)] = 100
    max_jump: Annotated[float, Gt(0)] | None = None
    watermark: Literal["rows", "clock"] = "rows"
    at_end: Literal["release", "keep"] = "release"

    def __post_init__(self) -> None:
        if not self.width * SECOND >= 1:
            raise ConfigError(f"windows: width = {self.width} must be at least a microsecond")
        if not self.lateness >= 0:
            raise ConfigError(f"windows: lateness = {self.lateness} must not be negative")
        least = int(self.lateness / self.width) + 2
        if self.max_open < least:
            raise ConfigError(
                f"windows: max_open = {self.max_open}, but {least} are open at once with lateness = "
                f"{self.lateness} and width = {self.width}; raise max_open"
            )

    @property
    def step(self) -> int:
        """Length of a window, microseconds."""
        return round(self.width * SECOND)

    @property
    def patience(self) -> int:
        """The lateness, microseconds."""
        return round(self.lateness * SECOND)

    def span(self, window: int) -> dict[str, str]:
        """Start and end of a window, as a snapshot states them.

        >>> Windows("t", 3600).span(1)
        {'start': '1970-01-01T01:00:00+00:00', 'end': '1970-01-01T02:00:00+00:00'}
        """
        return {"start": iso(window * self.step), "end": iso((window + 1) * self.step)}

    def place(
        self, times: NDArray[np.int64], watermark: int | None, closed: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int8], int | None]:
        """The window of each row of a part, in their order.

        Args:
            times: (n,) microseconds.
            watermark: The part's, before these rows; None before the first.
            closed: Every window below this number is closed; None before the first closes.

        Returns:
            (n,) window numbers; (n,) verdicts OK, LATE or TOO_FAR; the watermark after the rows.
        """
        index = np.floor_divide(times, self.step)
        verdict = np.zeros(len(times), np.int8)
        least = NEVER if closed is None else closed
        if self.watermark == "clock":
            verdict[index >= least + self.max_open] = TOO_FAR
            verdict[index < least] = LATE
            return index, verdict, None
        start = NEVER if watermark is None else watermark
        before, far = self._before(times, start)
        late = (index < least) | ((index + 1) * self.step + self.patience <= before)
        verdict[late] = LATE
        verdict[far] = TOO_FAR
        good = times[~far]
        last = max(start, int(good.max())) if len(good) else start
        return index, verdict, None if last == NEVER else last

    def _before(
        self, times: NDArray[np.int64], start: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The watermark before each row, and which rows jump too far to move it."""
        before = np.maximum.accumulate(np.concatenate([[start], times]))[:-1]
        far = np.zeros(len(times), bool)
        if self.max_jump is None:
            return before, far
        jump = round(self.max_jump * SECOND)
        if not ((times - before > jump) & (before > NEVER)).any():
            return before, far
        mark = start
        for i, t in enumerate(times.tolist()):
            before[i] = mark
            far[i] = mark > NEVER and t - mark > jump
            mark = mark if far[i] else max(mark, t)
        return before, far

    def due(self, parts: Sequence[Part], closed: int | None, now: float) -> int | None:
        """Up to which window (exclusive) may be closed, by what the parts have saved.

        Args:
            parts: All parts of the stream.
            closed: Every window below this number is closed already.
            now: Seconds since 1970; used with `watermark = "clock"` only.
        """
        if self.watermark == "clock":
            found = (int(now * SECOND) - self.patience) // self.step
            return found if closed is None else max(found, closed)
        held = [k for part in parts for k in part.held if closed is None or k >= closed]
        if not held:
            return closed
        limits = [closed] if closed is not None else []
        passed = self.passed(self._least(parts))
        if passed is not None:
            limits.append(passed)
        if all(part.idle == "ended" for part in parts):
            limits.append(max(held) + 1)
        for part in parts:
            mine = sorted(k for k in part.held if closed is None or k >= closed)
            if len(mine) > self.max_open:
                limits.append(mine[-self.max_open])
        return max(limits, default=None)

    def passed(self, watermark: int | None) -> int | None:
        """Every window below this number has been passed by a watermark."""
        return None if watermark is None else (watermark - self.patience) // self.step

    def _least(self, parts: Sequence[Part]) -> int | None:
        """The stream's watermark: the least of the parts that are not idle, else the largest."""
        active = [part.watermark for part in parts if not part.idle]
        if active:
            return None if None in active else min(m for m in active if m is not None)
        return max((p.watermark for p in parts if p.watermark is not None), default=None)

    def turns(
        self, parts: Sequence[Part], closed: int | None, due: int | None
    ) -> list[tuple[int, int]]:
        """The windows to release now, in order, each with what `closed` is after it.

        By the rows these are the windows that hold some. By the clock every window has its turn,
        or its absence would tell that it is empty; only those so far behind a clock that went on
        while nothing ran that no row can be in them are passed over.
        """
        if due is None or (closed is not None and due <= closed):
            return []
        if self.watermark == "rows":
            held = {
                k for p in parts for k in p.held if k < due and (closed is None or k >= closed)
            }
            return [(k, k + 1) for k in sorted(held)]
        if closed is None:
            return []
        last = min(due, closed + self.max_open)
        return [(k, k + 1 if k + 1 < last else due) for k in range(closed, last)]


def microseconds(
    values: pa.Array, name: str, declared: pa.DataType | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Event times in whole microseconds since 1970-01-01 UTC, rounded down, and which are none.

    Args:
        values: Timestamps, dates, or numbers that count seconds.
        name: The column's name, for errors.
        declared: The type that the schema declares: of a type of times, numbers count its unit, and
            text is read. Seconds beyond the year 9999 are no time: they count another unit.

    Raises:
        DataError: The column is of another type.

    >>> microseconds(pa.array([-0.5, None, 1e300]), "t")[0].tolist()
    [-500000, 0, 0]
    """
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if declared is not None and is_time(declared):
        read = read_as(values, declared)
        values = values if read is None else read[0]
    bad = values.is_null().to_numpy(zero_copy_only=False).copy()
    kind = values.type
    if pa.types.is_date(kind):
        values = values.cast(pa.timestamp("ms"))
        kind = values.type
    if pa.types.is_timestamp(kind):
        whole = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        if kind.unit == "ns":
            return np.floor_divide(whole, 1000), bad
        factor = {"s": SECOND, "ms": 1000, "us": 1}[kind.unit]
    elif pa.types.is_integer(kind):
        whole = values.cast(pa.int64(), safe=False).fill_null(0).to_numpy(zero_copy_only=False)
        factor = SECOND
        bad |= np.abs(whole) > _YEARS
    elif pa.types.is_floating(kind):
        seconds = values.cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
        bad |= ~(np.abs(seconds) <= _YEARS)  # not a number is not below either
        times = np.floor(np.where(bad, 0.0, seconds) * SECOND).astype(np.int64)
        return times, bad
    else:
        raise DataError(
            f"event-time column {name!r} has type {kind}; it must be a timestamp, a date, or "
            "seconds as a number"
        )
    bad |= np.abs(whole) > _SPAN // factor
    return np.where(bad, 0, whole) * factor, bad


def iso(micro: int) -> str:
    """ISO text of microseconds since 1970 in UTC; far beyond the calendar, seconds as text."""
    try:
        return (
            dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micro)
        ).isoformat()
    except OverflowError:
        return f"{micro / SECOND} s since 1970"
