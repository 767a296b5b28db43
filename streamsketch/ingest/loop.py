"""The one place where the order of stages is written.

source -> decode -> clip -> features -> accumulate -> save -> RELEASE -> snapshot in the store

For each chunk of a part: rows the schema refuses go to the dead letters, the others into the
part's sums. From time to time, in this order: dead letters are flushed; each part's sums and
position are saved in one atomic write; the source learns what is durable; and if a release is
due, the sums of all parts as saved are released, the finished snapshot is written ahead with the
release state, and only then put into the store.

Delivery: exactly once for sources that can be read again from a position (files, Kafka, Flight
with sequence numbers), at most once for pipes and sockets. Dead letters: at least once.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamsketch.errors import BudgetError, DataError, FencedError, SchemaError, StoreError
from streamsketch.ingest.admission import Admission
from streamsketch.ingest.parts import PartState, State
from streamsketch.ingest.publish import Schedule, release_now, release_windows
from streamsketch.ingest.streams import Chunk, Dead, DeadLetters, Position, Source
from streamsketch.ingest.windows import Windows
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.clock import Clock

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.features import Map
    from streamsketch.ingest.watch import Watch
    from streamsketch.privacy.clipping import UserLimits
    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

__all__ = ["Ingest", "Progress"]

log = logging.getLogger(__name__)

SAVE_RETRY_SECONDS = 60.0  # a full disk may be freed: sums are kept in memory for this long


@dataclass
class Progress:
    """What this process has done since it started (secret where a mechanism is on)."""

    rows: int = 0
    dead: int = 0
    saves: int = 0
    releases: int = 0
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
        on_error: str = "dlq",
        limits: "UserLimits | None" = None,
        watch: "Watch | None" = None,
        windows: Windows | None = None,
        record_ids: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.source = source
        self.schema = schema
        self.features = features
        self.state = state
        self.store = store
        self.new_releaser = new_releaser
        self.dead_letters = dead_letters
        self.schedule = schedule
        self.on_error = on_error
        self.limits = limits
        self.watch = watch
        self.windows = windows
        self.admission = Admission(schema, windows, record_ids)
        self.clock = clock or Clock()
        self.window = 0
        self.parts: dict[str, PartState] = {}
        self.progress = Progress()
        self._failing_since: float | None = None
        self._budget_spent = False
        self._rows_saved = 0
        self._enough_rows_saved = False
        self._reset = False
        self._taken = state.folder / "release.taken"
        self._last_release = (state.last_release(), self.clock.monotonic())
        self._quiet: dict[str, float] = {}
        self._heard: set[str] = set()
        self._marks: dict[str, tuple[int | None, str]] = {}
        # where the broker decides who owns a part, a former owner is fenced; elsewhere a second
        # reader is a mistake, and is refused
        self._exclusive = not getattr(source, "coordinated", False)

    # --- Ownership, called by the source

    def claim(self, part: str) -> Position | None:
        """Take a part over; see `streams.Ownership`."""
        state = self.parts[part] = self.state.claim(part, self._exclusive)
        saved = state.extras.pop("drift", None)
        if self.watch is not None:
            self.watch.take_up(part, saved)
        self.admission.take(state)
        self._quiet[part] = 0.0
        return state.position

    def revoke(self, part: str) -> None:
        """Save and forget a part; see `streams.Ownership`."""
        if part in self.parts:
            self.save([part])
            self.lose(part)

    def lose(self, part: str) -> None:
        """Forget a part unsaved; see `streams.Ownership`."""
        self.parts.pop(part, None)
        if self.watch is not None:
            self.watch.drop(part)
        self.state.unlock(part)

    # --- the loop

    def run(self, stop: threading.Event, on_tick: Callable[[], None] | None = None) -> Progress:
        """Read until the source is finished or `stop` is set; then save, and release once more.

        Args:
            stop: Ends the run at the next chunk.
            on_tick: Called about twice a second, for status.
        """
        saved = ticked = looked = self.clock.monotonic()
        if self.limits is not None:
            self.state.load_limits(self.limits)
            self.window = self.state.released()
        if self.windows is not None and self.windows.watermark == "clock":
            self._begin_by_clock(self.windows)
        try:
            self.source.open(self)
            while not stop.is_set() and not self.source.finished:
                for chunk in self.source.poll(0.25):
                    # never broken off: what a source has handed out it will not read again
                    self.learn(chunk)
                now = self.clock.monotonic()
                self._find_idle(now - looked)
                looked = now
                alarm = self.watch is not None and self.watch.waiting
                if now - saved >= self.schedule.save_seconds or self._enough_rows() or alarm:
                    self.save()
                    saved = now
                    if self._windows_moved():
                        self.release()
                if self._release_due():
                    self.save()
                    self.release(wait=self._taken.exists())
                if on_tick is not None and now - ticked >= 0.5:
                    on_tick()
                    ticked = now
            if self.source.finished and self.windows and self.windows.at_end == "release":
                for ended in self.parts.values():
                    ended.resting, ended.dirty = "ended", True
            self.save(last=True)
            if self.source.finished or not stop.is_set():
                self.release(wait=True)
        finally:
            self.source.close()
            for part in list(self.parts):
                self.state.unlock(part)
            if self.dead_letters is not None:
                self.dead_letters.close()
        if on_tick is not None:
            on_tick()
        return self.progress

    def learn(self, chunk: Chunk) -> None:
        """Add one chunk to its part's sums; a chunk of a part that was taken away is dropped."""
        part = self.parts.get(chunk.part)
        if part is None:
            return
        if self.windows is not None and len(part.windows) >= self.windows.max_open:
            self.save()
            self.release(wait=True)
        dead = list(chunk.dead)
        self._refuse(dead)
        if chunk.batch is not None and chunk.batch.num_rows:
            dead += self._learn_batch(part, chunk)
        if dead:
            if self.dead_letters is not None and self.on_error == "dlq":
                self.dead_letters.put(dead)
            part.dead += len(dead)
            self.progress.dead += len(dead)
        part.position = chunk.position
        part.dirty = True

    def _learn_batch(self, part: PartState, chunk: Chunk) -> list[Dead]:
        batch = chunk.batch
        assert batch is not None
        try:
            encoded = self.schema.encode(batch)
            facts = self.admission.read(batch, encoded.rows)
        except (SchemaError, DataError) as e:
            if self.on_error == "fail":
                raise
            return [_dead(batch, row, str(e), chunk) for row in range(batch.num_rows)]
        dead = [
            _dead(batch, r.row, f"column {r.column!r}: {r.reason}", chunk)
            for r in encoded.rejected
        ]
        dead += [_dead(batch, row, reason, chunk) for row, reason in facts.bad]
        self._refuse(dead)
        admitted = self.admission.admit(part, facts, self._closed())
        dead += [_dead(batch, row, reason, chunk) for row, reason in admitted.refused]
        keep, windows = admitted.keep, admitted.windows
        if self.limits is not None:
            keep = self.limits.admit(encoded.users, self.window)
            part.dead += int(len(keep) - keep.sum())
        x, labels = encoded.x, encoded.labels
        if not keep.all():
            x, labels = x[keep], None if labels is None else labels[keep]
        part.add(self.features, x, labels, windows)
        part.resting = ""
        self._heard.add(part.part)
        self.progress.rows += len(x)
        if self.watch is not None:
            self.watch.look(part.part, x, dict(chunk.position))
        return dead

    def _refuse(self, dead: list[Dead]) -> None:
        """Raise for the first bad row where it must stop the run, before anything is summed."""
        if dead and self.on_error == "fail":
            raise DataError(
                f'{dead[0].reason} at {dict(dead[0].where)}; correct it, or set on_error = "dlq"'
            )

    # --- saving

    def save(self, names: list[str] | None = None, last: bool = False) -> None:
        """Save the parts that changed: dead letters first, then sums with positions, then acks.

        A disk that refuses is tried again at the next save, for a minute; sums stay in memory.

        Raises:
            StoreError: The disk still refuses after a minute, or at the last save.
        """
        dirty = [p for n, p in self.parts.items() if p.dirty and (names is None or n in names)]
        if not dirty:
            return
        try:
            if self.dead_letters is not None:
                self.dead_letters.flush()
            done = {}
            if self.limits is not None:
                # before the sums: a crash in between drops rows of users, never adds too many
                self.state.save_limits(self.limits)
            for part in dirty:
                if self.watch is not None:
                    part.extras["drift"] = self.watch.state(part.part)
                try:
                    self.state.save(part)
                    done[part.part] = part.position or {}
                    if self.watch is not None:
                        self.watch.publish(part.part)
                except FencedError as e:
                    log.warning("%s", e)
                    self.lose(part.part)
        except (StoreError, OSError) as e:
            self._failing_since = self._failing_since or self.clock.monotonic()
            if last or self.clock.monotonic() - self._failing_since > SAVE_RETRY_SECONDS:
                raise
            log.warning("%s; trying again", e)
            return
        self._failing_since = None
        self._enough_rows_saved = self.schedule.release_rows is not None
        self._rows_saved = self.progress.rows
        self.progress.saves += 1
        if done:
            self.source.saved(done)

    # --- releasing

    def _enough_rows(self) -> bool:
        """Whether this process alone has read enough for a release by rows."""
        rows = self.schedule.release_rows
        return rows is not None and self.progress.rows - self._rows_saved >= rows

    def _release_due(self) -> bool:
        if self._budget_spent or self.windows is not None:
            return False
        if self._requested():
            return True
        # the stream's own last release counts, whichever member made it
        last, now = self.state.last_release(), self.clock.monotonic()
        if last != self._last_release[0]:
            self._last_release = (last, now)
        seconds = self.schedule.release_seconds
        if seconds is not None and now - self._last_release[1] >= seconds:
            return True
        if not self._enough_rows_saved:
            return False
        self._enough_rows_saved = False
        assert self.schedule.release_rows is not None
        return self.state.rows_since_release() >= self.schedule.release_rows

    def _requested(self) -> bool:
        """Whether an alarm asks for a release, or for a memory that starts anew after it."""
        with suppress(FileNotFoundError):
            # kept until the release is made, so that a crash in between forgets nothing
            (self.state.folder / "release.request").replace(self._taken)
        with suppress(FileNotFoundError):
            self._reset = self._taken.read_text() == "reset"
            return True
        return False

    def release(self, wait: bool = False) -> Snapshot | None:
        """Release the sums of all parts as saved; with windows, each one that is due.

        Args:
            wait: Wait for another member's release to end; otherwise return None meanwhile.

        Returns:
            The last snapshot that was made.
        """
        try:
            made = self._release(wait)
        except BudgetError as e:
            if not self._budget_spent:
                log.error("%s; consuming goes on, releasing has stopped", e)
            self._budget_spent = True
            return None
        self.progress.releases += len(made)
        if self.limits is not None:
            self.window = self.state.released()
        return made[-1] if made else None

    def _release(self, wait: bool) -> list[Snapshot]:
        schedule = self.schedule
        if self.windows is None:
            one = release_now(
                self.state, self.store, self.new_releaser, schedule, wait, self._reset
            )
            made = [] if one is None else [one]
            done = bool(made) or wait
        else:
            self._requested()
            found = release_windows(
                self.state, self.store, self.new_releaser, self.windows, self.clock.now(),
                schedule, wait, self._reset,
            )  # fmt: skip
            if found is None:
                self._marks = {}  # another process releases: look again
            made = found or []
            done = bool(made)  # what an alarm asks for waits for a window to close
        if done:
            self._reset = False
            self._taken.unlink(missing_ok=True)
        return made

    # --- windows

    def _closed(self) -> int | None:
        return None if self.windows is None else self.state.closed()

    def _windows_moved(self) -> bool:
        """Whether a window may have closed: parts came to another window, or began to rest."""
        windows, now = self.windows, self.clock.now()
        if windows is None:
            return False
        if windows.watermark == "clock":
            closed = self.state.closed()
            return windows.due((), closed, now) != closed
        marks = {n: (windows.passed(p.watermark), p.resting) for n, p in self.parts.items()}
        moved, self._marks = marks != self._marks, marks
        return moved

    def _begin_by_clock(self, windows: Windows) -> None:
        """The first window of a stream that is cut by the clock is the one that is open now."""
        first = windows.due((), None, self.clock.now())
        assert first is not None
        self.state.begin(first)
        closed = self.state.closed()
        if closed is not None and closed > first + windows.max_open:
            log.error(
                "windows up to %s are closed, but the clock is before that; rows are late until "
                "then: correct the clock",
                windows.span(closed)["start"],
            )

    def _find_idle(self, passed: float) -> None:
        """Let parts rest that had no rows for long; a long stop of this process is not the parts'."""
        if self.windows is None or self.windows.idle_seconds is None:
            return
        lag = self.source.lag()
        for name, part in self.parts.items():
            busy = name in self._heard or lag.get(name)
            self._quiet[name] = 0.0 if busy else self._quiet[name] + min(passed, 1.0)
            if self._quiet[name] >= self.windows.idle_seconds and not part.resting:
                part.resting, part.dirty = "idle", True
        self._heard.clear()


def _dead(batch: "pa.RecordBatch", row: int, reason: str, chunk: Chunk) -> Dead:
    where = dict(chunk.where)
    rows = where.pop("rows", None)
    if rows is not None:
        where.update(rows[row])
    else:
        where["row"] = where.get("row", 0) + row
    values = {
        name: column[row].as_py()
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return Dead(json.dumps(values, default=str), reason, where)
