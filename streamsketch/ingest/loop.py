"""The one place where the order of stages is written.

source -> decode -> clip -> features -> accumulate -> save -> RELEASE -> snapshot in the store

For each chunk of a part: rows that are refused go to the dead letters, the others into the
part's sums. From time to time, in this order: dead letters are flushed; each part's sums and
position are saved in one atomic write; the source learns what is durable; and if a release is
due, the sums of all parts as saved are released, the finished snapshot is written ahead with the
release state, and only then put into the store.

Delivery: exactly once for sources that can be read again from a position (files, Kafka, Flight
with sequence numbers), at most once for pipes and sockets. Dead letters: at least once.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamsketch.ingest.discretion import discreet
from streamsketch.ingest.held import Held
from streamsketch.ingest.intake import Intake
from streamsketch.ingest.limits import NoLimits, SavedLimits
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.schedule import Every, Idleness, Releases, WindowReleases
from streamsketch.ingest.streams import Chunk, DeadLetters, Dropped, Source
from streamsketch.ingest.watch import Unwatched, Watch
from streamsketch.ingest.windows import Windows
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.clock import Clock

if TYPE_CHECKING:
    from streamsketch.features import Map
    from streamsketch.privacy.clipping import UserLimits
    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

__all__ = ["Ingest", "Progress"]


@dataclass
class Progress:
    """What this process has done since it started (secret where a mechanism is on).

    Attributes:
        rows: Rows learned.
        read: Rows read, learned or not: what may decide when to release.
        dead: Rows set apart.
        saves: Times that it saved, whether there was something new or not.
        releases: Snapshots made.
        reasons: Rows set apart, by reason, the numbers in it left out.
        save_seconds: How long the last save took.
        release_seconds: How long the last release took.
        started: When it started, by the monotonic clock.
    """

    rows: int = 0
    read: int = 0
    dead: int = 0
    saves: int = 0
    releases: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    save_seconds: float = 0.0
    release_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)


class Ingest:
    """Reads a source into sketches, saves them with their positions, and releases.

    Args:
        source: The stream.
        schema: The columns.
        features: The operator.
        state: The secret state folder.
        store: Where snapshots go.
        new_releaser: Makes a releaser that has released nothing.
        dead_letters: Where unusable rows go; None drops them after counting.
        schedule: When to save and release.
        on_error: `dlq` or `skip` (rows are set apart), `fail` (the first one stops the run).
        limits: What each user may add, where the protected unit is a user.
        watch: Looks at the rows for change.
        windows: Cuts the stream by event time; each window is released when it closes, and the
            schedule's times and rows of release do not count.
        record_ids: How many record ids are kept of each part to leave out rows that come twice.
        clock: Tells the time.

    Attributes:
        intake: Judges the rows.
        parts: The parts that this process holds.
        releases: When to release, and how.
        progress: What was done so far.
    """

    def __init__(
        self,
        source: Source,
        schema: Schema,
        features: "Map",
        state: State,
        store: "Store",
        new_releaser: "Callable[[], Releaser]",
        dead_letters: DeadLetters | None = None,
        schedule: Schedule = Schedule(),
        *,
        on_error: str = "dlq",
        limits: "UserLimits | None" = None,
        watch: Watch | None = None,
        windows: Windows | None = None,
        record_ids: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or Clock()
        self.source, self.features, self.state = source, features, state
        self.letters = Dropped() if dead_letters is None or on_error != "dlq" else dead_letters
        self.limits = SavedLimits(limits, state) if limits else NoLimits()
        self.intake = Intake(schema, windows, record_ids, self.limits, on_error == "fail")
        self.parts = Held(source, state, self.intake, self.letters, watch or Unwatched(), clock)
        self.idleness = Idleness(windows.idle_seconds if windows else None, clock)
        self.releases: Releases = (
            WindowReleases(state, store, new_releaser, schedule, clock, windows)
            if windows
            else Releases(state, store, new_releaser, schedule, clock)
        )
        self.progress = Progress()
        self.clock, self.save_seconds = clock, schedule.save_seconds

    def run(self, stop: threading.Event, on_tick: Callable[[], None] = lambda: None) -> Progress:
        """Read until the source is finished or `stop` is set; then save, and release once more.

        Args:
            stop: Ends the run at the next chunk.
            on_tick: Called about twice a second, for status.
        """
        save_time, tick = Every(self.save_seconds, self.clock), Every(0.5, self.clock)
        with self._opened():
            while not stop.is_set() and not self.source.finished:
                for chunk in self.source.poll(0.25):
                    # never broken off: what a source has handed out it will not read again
                    self.learn(chunk)
                self.idleness.look(self.parts, self.source.lag)
                if save_time.due(at_once=self._must_save):
                    self.save()
                if self.releases.due(self.parts) and self.save():
                    self.release()
                if tick.due():
                    on_tick()
            if self.source.finished:
                self.releases.ended(self.parts.values())
            self.save(last=True)
            if self.source.finished or not stop.is_set():
                self.release(wait=True, last=self.source.finished)
        on_tick()
        return self.progress

    @contextmanager
    def _opened(self) -> Iterator[None]:
        self.limits.begin()
        self.releases.begin()
        quietly = discreet(self.state.folder) if self.releases.private else nullcontext()
        try:
            with quietly:
                self.letters.flush()  # what cannot take them says so before a row is read
                try:
                    self.source.open(self.parts)
                    yield
                finally:
                    self.source.close()
        finally:
            self.parts.unlock()
            self.letters.close()

    def learn(self, chunk: Chunk) -> None:
        """Add one chunk to its part's sums; a chunk of a part that was taken away is dropped."""
        part = self.parts.get(chunk.part)
        if part is None:
            return
        if self.releases.crowded(part) and self.save():
            self.release(wait=True)
        rows = self.intake.accept(part, chunk, self.releases.closed)
        if rows.dead:
            self.letters.put(rows.dead)
        part.add(self.features, rows, chunk.position)
        self.progress.rows += len(rows.x)
        self.progress.read += len(chunk.dead)
        self.progress.read += 0 if chunk.batch is None else chunk.batch.num_rows
        self.progress.dead += len(rows.dead)
        self.progress.reasons.update(_kind(dead.reason) for dead in rows.dead)
        if rows.readable:
            self.idleness.heard(part)
            self.parts.watch.look(part.part, rows.x, dict(chunk.position))

    @property
    def _must_save(self) -> bool:
        """Whether saving cannot wait: for an alarm that came, or rows that suffice for a release."""
        return self.parts.watch.waiting or self.releases.wants_save(self.progress.read)

    def save(self, last: bool = False) -> bool:
        """Save all parts that changed; False where the disk refuses for now (see `Held.save`)."""
        self.progress.saves += 1
        begun = time.monotonic()
        saved = self.parts.save(last=last)
        self.progress.save_seconds = time.monotonic() - begun
        if saved:
            self.releases.saved(self.progress.read)
        return saved

    def release(self, wait: bool = False, last: bool = False) -> Snapshot | None:
        """Release the sums of all parts as saved; with windows, each one that is due.

        Args:
            wait: Wait for another member's release to end; otherwise return None meanwhile.
            last: The stream has ended, and this is the release of its end.

        Returns:
            The last snapshot that was made.
        """
        begun = time.monotonic()
        made = self.releases.release(wait, last)
        if made:
            self.progress.release_seconds = time.monotonic() - begun
        self.progress.releases += len(made)
        self.limits.released()
        return made[-1] if made else None


def _kind(reason: str) -> str:
    """A reason without its numbers, so that few different ones are counted."""
    return re.sub(r"[-+]?\d[\w.:+-]*", "#", reason)[:80]
