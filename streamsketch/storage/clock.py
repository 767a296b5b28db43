"""Time that does not jump: the wall clock as it was when this process began, moved on evenly."""

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Seconds for intervals, and a wall time that a jump of the system's clock does not move.

    What lies in files was written by other processes, so that intervals across processes need a
    wall time. It is read once; from then on the monotonic clock moves it.

    Args:
        wall: Seconds since 1970-01-01 UTC, read once.
        monotonic: Seconds that never go back.

    >>> wall, ticks = iter([1000.0]), iter([5.0, 7.5])
    >>> Clock(lambda: next(wall), lambda: next(ticks)).now()
    1002.5
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self._offset + self._monotonic()

    def monotonic(self) -> float:
        """Seconds since some moment; only differences mean something."""
        return self._monotonic()
