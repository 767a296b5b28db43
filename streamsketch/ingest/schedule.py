"""When a stream is saved and released: by the clock, by rows, on request, or window by window."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from streamsketch.errors import BudgetError
from streamsketch.ingest.parts import PartState, State
from streamsketch.ingest.publish import Schedule, release_now, release_windows
from streamsketch.ingest.windows import Windows
from streamsketch.snapshot import Snapshot
from streamsketch.storage.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

__all__ = ["Every", "Idleness", "Releases", "Requests", "WindowReleases"]

log = logging.getLogger(__name__)


class Every:
    """Comes round every so many seconds.

    Args:
        seconds: The least time between two turns.
        clock: Tells the time.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock
        self._last = clock.monotonic()

    def due(self, at_once: bool = False) -> bool:
        """Whether it is time, or `at_once`; if so, the seconds count from now."""
        now = self.clock.monotonic()
        if not at_once and now - self._last < self.seconds:
            return False
        self._last = now
        return True


class Requests:
    """What an alarm asks for: a release at once, or one after which the memory starts anew.

    Args:
        folder: The state folder, where the requests lie.
    """

    def __init__(self, folder: "Path") -> None:
        self._asked, self._taken = folder / "release.request", folder / "release.taken"

    def pending(self) -> str | None:
        """What is asked for: `reset`, an empty text for a release alone, or None for nothing.

        It is kept until `done`, so that a crash in between forgets nothing.
        """
        with suppress(FileNotFoundError):
            self._asked.replace(self._taken)
        try:
            return self._taken.read_text()
        except FileNotFoundError:
            return None

    def done(self) -> None:
        """What was asked for was made."""
        self._taken.unlink(missing_ok=True)


class Releases:
    """Releases of all that was saved: by seconds, by rows, and on request.

    Args:
        state: The stream's parts and release state.
        store: Where snapshots go.
        new_releaser: Makes a releaser that has released nothing.
        schedule: When to release.
        clock: Tells the time.

    Attributes:
        spent: The privacy budget is spent: consuming goes on, releasing has stopped.
    """

    def __init__(
        self,
        state: State,
        store: "Store",
        new_releaser: "Callable[[], Releaser]",
        schedule: Schedule,
        clock: Clock,
    ) -> None:
        self.state, self.store, self.new_releaser = state, store, new_releaser
        self.schedule, self.clock = schedule, clock
        self.requests = Requests(state.folder)
        self.spent = False
        self._saved = False
        self._rows_saved = 0
        self._last = (state.last_release(), clock.monotonic())

    def begin(self) -> None:
        """A run begins."""

    @cached_property
    def private(self) -> bool:
        """Whether a mechanism is on: then rows must not decide when a release happens."""
        return self.new_releaser().private

    @property
    def closed(self) -> int | None:
        """Every window below this number is closed; None where none is."""
        return None

    def crowded(self, part: PartState) -> bool:
        """Whether a part must be released before it takes more rows."""
        return False

    def ended(self, parts: Iterable[PartState]) -> None:
        """The stream has ended: nobody waits for these parts any more."""

    def wants_save(self, rows: int) -> bool:
        """Whether this process alone, with so many rows, has read enough for a release."""
        enough = self.schedule.rows
        return enough is not None and rows - self._rows_saved >= enough

    def saved(self, rows: int) -> None:
        """Parts were saved, with this process's first so many rows."""
        self._saved, self._rows_saved = True, rows

    def due(self, parts: Mapping[str, PartState]) -> bool:
        """Whether it is time for a release, as these parts of this process stand."""
        if self.spent:
            return False
        if self.requests.pending() is not None:
            if not self.private:
                return True
            log.error(
                "an alarm on raw rows asked for a release, which no budget pays for: it is not made; "
                "remove [drift], and compare released snapshots instead"
            )
            self.requests.done()
        # the stream's own last release counts, whichever member made it
        last, now = self.state.last_release(), self.clock.monotonic()
        if last != self._last[0]:
            self._last = (last, now)
        seconds = self.schedule.seconds
        if seconds is not None and now - self._last[1] >= seconds:
            return True
        saved, self._saved = self._saved, False
        rows = self.schedule.rows
        return saved and rows is not None and self.state.rows_since_release() >= rows

    def release(self, wait: bool = False, last: bool = False) -> list[Snapshot]:
        """Release what is due.

        Args:
            wait: Wait for another process's release to end; otherwise return nothing meanwhile.
            last: The stream has ended.
        """
        try:
            return self._release(wait, last)
        except BudgetError as e:
            if not self.spent:
                log.error("%s; consuming goes on, releasing has stopped", e)
            self.spent = True
            return []

    def _release(self, wait: bool, last: bool) -> list[Snapshot]:
        asked = self.requests.pending()
        wait = wait or asked is not None
        reset = asked == "reset"
        made = release_now(
            self.state, self.store, self.new_releaser, self.schedule, wait, reset, last
        )
        if made is not None or wait:
            self.requests.done()
        return [] if made is None else [made]


class WindowReleases(Releases):
    """Releases of windows of event time, each when it closes.

    Args:
        state: The stream's parts and release state.
        store: Where snapshots go.
        new_releaser: Makes a releaser that has released nothing.
        schedule: What is kept; its times and rows of release do not count.
        clock: Tells the time.
        windows: Cuts the stream.
    """

    def __init__(
        self,
        state: State,
        store: "Store",
        new_releaser: "Callable[[], Releaser]",
        schedule: Schedule,
        clock: Clock,
        windows: Windows,
    ) -> None:
        super().__init__(state, store, new_releaser, schedule, clock)
        self.windows = windows
        self._marks: dict[str, tuple[int | None, str]] = {}

    def begin(self) -> None:
        """The first window of a stream that is cut by the clock is the one that is open now."""
        if self.windows.watermark != "clock":
            return
        first = self.windows.due((), None, self.clock.now())
        assert first is not None
        self.state.begin(first)
        closed = self.state.closed()
        if closed is not None and closed > first + self.windows.max_open:
            log.error(
                "windows up to %s are closed, but the clock is before that; rows are late until "
                "then: correct the clock",
                self.windows.span(closed)["start"],
            )

    @property
    def closed(self) -> int | None:
        """Every window below this number is closed."""
        return self.state.closed()

    def crowded(self, part: PartState) -> bool:
        """Whether a part holds as many open windows as it may."""
        return len(part.windows) >= self.windows.max_open

    def ended(self, parts: Iterable[PartState]) -> None:
        """The stream has ended: its open windows close, unless they are kept for more rows."""
        if self.windows.at_end == "release":
            for part in parts:
                part.idle, part.dirty = "ended", True

    def wants_save(self, rows: int) -> bool:
        """Windows close by time, not by rows."""
        return False

    def due(self, parts: Mapping[str, PartState]) -> bool:
        """Whether a window may have closed: parts came to another window, or fell idle."""
        if self.windows.watermark == "clock":
            closed = self.state.closed()
            return self.windows.due((), closed, self.clock.now()) != closed
        saved, self._saved = self._saved, False
        if not saved:
            return False
        marks = {n: (self.windows.passed(p.watermark), p.idle) for n, p in parts.items()}
        moved, self._marks = marks != self._marks, marks
        return moved

    def _release(self, wait: bool, last: bool) -> list[Snapshot]:
        reset = self.requests.pending() == "reset"
        made = release_windows(
            self.state, self.store, self.new_releaser, self.windows, self.clock.now(),
            self.schedule, wait, reset,
        )  # fmt: skip
        if made is None:
            self._marks = {}  # another process releases: look again
        if made:  # what an alarm asks for waits for a window to close
            self.requests.done()
        return made or []


class Idleness:
    """Finds parts that had no rows for long, so that windows do not wait for them.

    Args:
        seconds: How long; None never finds one.
        clock: Tells the time.
    """

    def __init__(self, seconds: float | None, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock
        self._looked = clock.monotonic()
        self._quiet: dict[str, float] = {}
        self._heard: set[str] = set()

    def heard(self, part: PartState) -> None:
        """Rows of a part came."""
        part.idle = ""
        self._heard.add(part.part)

    def look(
        self, parts: Mapping[str, PartState], lag: Callable[[], Mapping[str, int | None]]
    ) -> None:
        """Mark the parts that are idle by now; `lag` tells what still waits to be read of each."""
        now = self.clock.monotonic()
        # a long stop of this process is not the parts'
        passed, self._looked = min(now - self._looked, 1.0), now
        if self.seconds is None:
            return
        behind = lag()
        self._quiet = {
            name: 0.0
            if name in self._heard or behind.get(name)
            else self._quiet.get(name, 0.0) + passed
            for name in parts
        }
        for name, part in parts.items():
            if self._quiet[name] >= self.seconds and not part.idle:
                part.idle, part.dirty = "idle", True
        self._heard.clear()
