"""How fast rows may leave a replayed file: at a rate, or by the clock of their event times."""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import DataError

__all__ = ["ByEventTime", "ByRate", "Pace", "event_seconds"]

QUANTUM = 0.02  # seconds: rows that fall due sooner than this leave together


class Pace(Protocol):
    """Says how many rows of a batch may leave."""

    def due(self, batch: pa.RecordBatch, timeout: float) -> int:
        """How many first rows may leave; waits up to `timeout` seconds for one to be due."""
        ...


class ByRate:
    """A number of rows per second on average since the first call.

    >>> times = iter([0.0, 0.0, 0.1])
    >>> pace = ByRate(100, clock=lambda: next(times), sleep=lambda s: None)
    >>> pace.due(pa.record_batch({"x": range(50)}), timeout=1.0)
    10
    """

    def __init__(
        self,
        rows_per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate = rows_per_second
        self._clock, self._sleep = clock, sleep
        self._start: float | None = None
        self._sent = 0

    def due(self, batch: pa.RecordBatch, timeout: float) -> int:
        """See `Pace.due`."""
        if self._start is None:
            self._start = self._clock()
        quantum = min(batch.num_rows, max(1.0, self.rate * QUANTUM))
        wait = self._start + (self._sent + quantum) / self.rate - self._clock()
        if wait > 0:
            self._sleep(min(wait, timeout))
        allowed = int((self._clock() - self._start) * self.rate + 1e-6) - self._sent
        k: int = max(0, min(allowed, batch.num_rows))
        self._sent += k
        return k


class ByEventTime:
    """Rows leave when their event time comes, `speed` times as fast as it happened.

    The first row leaves at once and sets the clock. A row that is earlier than one before it, or
    has no time, leaves with that one.

    >>> times = iter([0.0, 0.0, 2.0])
    >>> pace = ByEventTime("t", speed=10, clock=lambda: next(times), sleep=lambda s: None)
    >>> pace.due(pa.record_batch({"t": [100.0, 115.0, 90.0, 120.1]}), timeout=1.0)
    3
    """

    def __init__(
        self,
        column: str,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.column, self.speed = column, speed
        self._clock, self._sleep = clock, sleep
        self._start: tuple[float, float] | None = None
        self._latest = -np.inf

    def due(self, batch: pa.RecordBatch, timeout: float) -> int:
        """See `Pace.due`."""
        if not batch.num_rows:
            return 0
        times = event_seconds(batch, self.column)
        times = np.maximum.accumulate(
            np.maximum(np.where(np.isnan(times), -np.inf, times), self._latest)
        )
        if self._start is None:
            known = times[np.isfinite(times)]
            if not len(known):
                return int(batch.num_rows)
            self._start = (self._clock(), float(known[0]))
        wall, event = self._start
        wait = wall + (times[0] - event) / self.speed - self._clock()
        if wait > 0:
            self._sleep(min(wait, timeout))
        now = event + (self._clock() - wall) * self.speed
        k = int(np.searchsorted(times, now, side="right"))
        if k:
            self._latest = float(times[k - 1])
        return k


def event_seconds(batch: pa.RecordBatch, column: str) -> NDArray[np.float64]:
    """Event times of a batch in seconds since 1970-01-01 UTC, NaN where null, shape (n,).

    Args:
        batch: Rows.
        column: A timestamp or date, or a number that counts seconds.

    Raises:
        DataError: The column is of another type.
    """
    values = batch.column(column)
    if pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("us"))
    if pa.types.is_timestamp(values.type):
        micro = values.cast(pa.timestamp("us", tz=values.type.tz), safe=False).cast(pa.int64())
        return np.asarray(_floats(micro) / 1e6)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return _floats(values)
    raise DataError(
        f"event_time column {column!r} has type {values.type}; it must be a timestamp, a date, "
        "or seconds as a number"
    )


def _floats(values: pa.Array) -> NDArray[np.float64]:
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
