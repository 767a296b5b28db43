"""The parts that this process holds: claimed, summed into, saved, given back."""

import logging
from collections.abc import Collection, Iterator, Mapping

from streamsketch.errors import FencedError, StoreError
from streamsketch.ingest.intake import Intake
from streamsketch.ingest.parts import PartState, State
from streamsketch.ingest.streams import DeadLetters, Position, Source
from streamsketch.ingest.watch import Unwatched, Watch
from streamsketch.storage.clock import Clock

__all__ = ["Held"]

log = logging.getLogger(__name__)

SAVE_RETRY_SECONDS = 60.0  # a full disk may be freed: sums are kept in memory for this long


class Held(Mapping[str, PartState]):
    """This process's parts, by name; what a source calls to own some (`streams.Ownership`).

    Args:
        source: The stream; it learns what is durable. Where nothing coordinates its readers (a
            broker does), a second reader is a mistake, and is refused.
        state: The folder with all parts of the stream.
        intake: Judges the parts' rows; its limits are saved with them.
        letters: Where unusable rows go.
        watch: Looks at the parts' rows for change.
        clock: Tells the time.
    """

    def __init__(
        self,
        source: Source,
        state: State,
        intake: Intake,
        letters: DeadLetters,
        watch: Watch | Unwatched,
        clock: Clock,
    ) -> None:
        self.source, self.state, self.intake = source, state, intake
        self.letters, self.watch, self.clock = letters, watch, clock
        self.exclusive = not getattr(source, "coordinated", False)
        self._parts: dict[str, PartState] = {}
        self._failing_since: float | None = None

    def __getitem__(self, name: str) -> PartState:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def claim(self, name: str) -> Position | None:
        """Take a part over; see `streams.Ownership`."""
        part = self._parts[name] = self.state.claim(name, self.exclusive)
        self.watch.take_up(name, part.extras.pop("drift", None))
        self.intake.admission.take(part)
        return part.position

    def revoke(self, name: str) -> None:
        """Save and forget a part; see `streams.Ownership`."""
        if name in self._parts:
            self.save([name])
            self.lose(name)

    def lose(self, name: str) -> None:
        """Forget a part unsaved; see `streams.Ownership`."""
        self._parts.pop(name, None)
        self.watch.drop(name)
        self.state.unlock(name)

    def read_before(self) -> Collection[str]:
        """Names of all parts with a saved position; see `streams.Ownership`."""
        return [p.part for p in self.state.parts() if p.position is not None]

    def save(self, names: Collection[str] | None = None, last: bool = False) -> bool:
        """Save the parts that changed: dead letters first, then sums with positions, then acks.

        A disk that refuses is tried again at the next save, for a minute; sums stay in memory.

        Args:
            names: Only those of these names.
            last: There is no next save.

        Returns:
            Whether all of them are saved.

        Raises:
            StoreError: The disk still refuses after a minute, or at the last save.
            FencedError: Another process took a part over although nothing gives parts away.
        """
        changed = [p for n, p in self._parts.items() if p.dirty and (names is None or n in names)]
        if not changed:
            return True
        done: dict[str, Position] = {}
        try:
            self.letters.flush()
            self.intake.limits.save()
            for part in changed:
                if self._save(part):
                    done[part.part] = part.position or {}
        except FencedError:
            raise
        except (StoreError, OSError) as e:
            now = self.clock.monotonic()
            self._failing_since = now if self._failing_since is None else self._failing_since
            if last or now - self._failing_since > SAVE_RETRY_SECONDS:
                raise
            log.warning("%s; trying again", e)
            return False
        self._failing_since = None
        if done:
            self.source.saved(done)
        return True

    def _save(self, part: PartState) -> bool:
        """Save one part; False where the broker gave it to another process."""
        part.extras |= self.watch.extras(part.part)
        try:
            self.state.save(part)
        except FencedError as e:
            self.lose(part.part)
            if self.exclusive:
                raise
            log.warning("%s", e)
            return False
        self.watch.publish(part.part)
        return True

    def unlock(self) -> None:
        """Let go of all parts, unsaved."""
        for name in self._parts:
            self.state.unlock(name)
