"""Figures over time: rates, lag in seconds, and a bounded file of what each process said.

The file lies beside the process's status and outlives it, so that the live page has a past after
a restart. It holds what the status holds: nothing exact where a mechanism is on.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["History", "LagSeconds", "Rate", "read_history"]

EVERY_SECONDS = 2.0
MOST_BYTES = 512 << 10
FIRST_BYTE = b"\n"


class Rate:
    """A rate over the last seconds, of a count that grows.

    Args:
        seconds: How far back it looks.
        now: Tells the time, in seconds.

    >>> at = iter([0.0, 5.0, 20.0])
    >>> rate = Rate(seconds=10, now=lambda: next(at))
    >>> rate(0), rate(100), rate(100)
    (0.0, 20.0, 0.0)
    """

    def __init__(self, seconds: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.now = seconds, now
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, count: int) -> float:
        """Per second, with the count as it stands."""
        now = self.now()
        self._seen.append((now, count))
        # one look that is older than the window stays: the rate covers all of the window
        while len(self._seen) > 2 and self._seen[1][0] <= now - self.seconds:
            self._seen.popleft()
        (then, before) = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0


class LagSeconds:
    """How long ago the stream's end was where its reader is now.

    A count of rows says little of a slow stream; this is the age of the oldest row that waits,
    as far as this process has watched.

    Args:
        now: Tells the time, in seconds.

    >>> at = iter([0.0, 1.0, 2.0])
    >>> lag = LagSeconds(now=lambda: next(at))
    >>> lag(read=0, behind=10), lag(read=5, behind=15), lag(read=10, behind=20)
    (0.0, 1.0, 1.0)
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._ends: deque[tuple[float, int]] = deque(maxlen=2000)

    def __call__(self, read: int, behind: int) -> float:
        """Seconds, after `read` rows and with `behind` more to read."""
        now = self.now()
        if not self._ends or read + behind > self._ends[-1][1]:
            self._ends.append((now, read + behind))
        while self._ends and self._ends[0][1] <= read:
            self._ends.popleft()
        return round(now - self._ends[0][0], 1) if self._ends and behind > 0 else 0.0


class History:
    """The file of one process's figures: a JSON line every two seconds, half a MiB at most.

    When it is full, every second line of its older half goes: the past gets coarser, not shorter.

    Args:
        path: The file.
        every: Seconds between two lines.
        most: Bytes.
    """

    def __init__(self, path: Path, every: float = EVERY_SECONDS, most: int = MOST_BYTES) -> None:
        self.path, self.every, self.most = path, every, most
        self._last = -every

    def add(self, figures: Mapping[str, Any]) -> None:
        """Append figures, if it is time; a full disk loses them and nothing else."""
        if time.monotonic() - self._last < self.every:
            return
        self._last = time.monotonic()
        try:
            with open(self.path, "ab", opener=_secret) as f:
                # a line of its own also after one that a crash has torn
                f.write(FIRST_BYTE + json.dumps(dict(figures)).encode())
                full = f.tell() > self.most
            if full:
                self._thin()
        except OSError:
            return

    def _thin(self) -> None:
        lines = [line for line in self.path.read_bytes().split(b"\n") if line]
        half = len(lines) // 2
        kept = lines[:half:2] + lines[half:]
        made = self.path.with_suffix(".tmp")
        with open(made, "wb", opener=_secret) as f:
            f.write(b"".join(FIRST_BYTE + line for line in kept))
        made.replace(self.path)


def _secret(path: str, flags: int) -> int:
    """Only the owner may read it, as the statuses."""
    return os.open(path, flags, 0o600)


def read_history(path: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """The figures of a file, oldest first, later than a time; what is torn is left out."""
    try:
        data = path.read_bytes()
    except OSError:
        return
    for line in data.split(b"\n"):
        try:
            figures = json.loads(line)
        except ValueError:
            continue
        if isinstance(figures, dict):
            at = figures.get("time")
            if isinstance(at, int | float) and at > since:
                yield figures
