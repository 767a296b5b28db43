"""Watching a stream for change while it is sketched, and what an alarm sets off."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, StoreError
from streamsketch.storage.files import Arrays, private

if TYPE_CHECKING:
    from streamsketch.drift import SketchDrift
    from streamsketch.schema import Schema

__all__ = ["ACTIONS", "Drift", "Unwatched", "Watch"]

log = logging.getLogger(__name__)

State = tuple[Arrays, dict[str, Any]]

ACTIONS = ("snapshot", "reset")


@dataclass(frozen=True)
class Drift:
    """[drift]: watch the rows for change; without the table nothing is watched.

    Attributes:
        run_length: Rows of the stream between two false alarms, on average, while nothing changes.
        window: Rows of a part that the fast of the two sketches spans.
        every: Watch every so many-th row only.
        actions: What an alarm sets off: snapshot, reset.
    """

    run_length: Annotated[float, Gt(0)] = 1_000_000
    window: Annotated[int, Ge(1)] = 200
    every: Annotated[int, Ge(1)] = 1
    actions: tuple[Literal["snapshot", "reset"], ...] = ("snapshot",)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.actions) - set(ACTIONS))
        if unknown:
            raise ConfigError(
                f"drift: actions {unknown} are unknown; choose of {', '.join(ACTIONS)}"
            )
        if self.every < 1:
            raise ConfigError(f"drift: every = {self.every} must be at least 1")


@dataclass
class _Watched:
    """The detector of one part, and the alarms that no file tells of yet."""

    detector: "SketchDrift"
    rows: int = 0
    pending: list[dict[str, Any]] = field(default_factory=list)


class Watch:
    """Drift detectors on the rows of a consumer process, one for each part of its source.

    An alarm is logged and written to `drift.jsonl` in the state folder. `snapshot` asks for a
    release at once, on which a watching trainer trains; `reset` asks for a release after which
    the memory starts anew, so that later snapshots hold the new law only.

    A part's detector is saved with the part's sums and position, in the same write, and moves with
    it to another process: alarms are those of a process that was never stopped. They come out once,
    after that write. While nothing changes, the alarms of all parts together are `run_length` rows
    of the stream apart, since each part has only its share of the rows.

    Args:
        schema: The columns.
        folder: The state folder.
        drift: What to watch for.
        detector_frequencies: Frequencies of the detector's own small sketch.

    Attributes:
        alarms: Alarms that this process raised.

    Raises:
        ConfigError: Numbers out of range.
    """

    def __init__(
        self,
        schema: "Schema",
        folder: Path,
        drift: Drift = Drift(),
        detector_frequencies: int = 64,
    ) -> None:
        from streamsketch.drift import SketchDrift
        from streamsketch.features import FeatureMap
        from streamsketch.features.spec import Spec

        spec = Spec("multiscale+axis", schema.d, detector_frequencies, schema_hash=schema.hash)
        features = FeatureMap.from_spec(spec, schema.blocks)
        self._new = partial(
            SketchDrift,
            features=features,
            run_length=drift.run_length / drift.every,
            window=drift.window,
        )
        self._new()  # numbers out of range are refused now
        self.folder, self.every, self.actions = folder, drift.every, drift.actions
        self.alarms = 0
        self._parts: dict[str, _Watched] = {}

    def take_up(self, part: str, saved: State | None) -> None:
        """Watch a part from now on, going on from its saved state if there is one."""
        watched = self._parts[part] = _Watched(self._new())
        if saved is None:
            return
        arrays, body = saved
        watched.rows, watched.pending = int(body["rows"]), list(body["pending"])
        try:
            watched.detector.restore(arrays, body["detector"])
        except StoreError as e:
            log.warning("part %r: %s; the stream's law is learned anew", part, e)
        self.publish(part)

    def drop(self, part: str) -> None:
        """Stop watching a part, which goes to another process."""
        self._parts.pop(part, None)

    def look(self, part: str, x: NDArray[np.float32], where: dict[str, Any]) -> None:
        """Watch encoded rows (n, d) of a part; `where` is the position after them."""
        watched = self._parts[part]
        first = -watched.rows % self.every
        for k in watched.detector.update_many(x[first :: self.every]):
            self.alarms += 1
            row = watched.rows + first + k * self.every
            watched.pending.append({"part": part, "row": row, "time": time.time(), "where": where})
            log.warning(
                "the stream has changed (row %d of part %r): %s",
                row, part, ", ".join(self.actions) or "no action",
            )  # fmt: skip
        watched.rows += len(x)

    @property
    def nearest(self) -> tuple[float | None, float | None]:
        """Statistic and threshold of the part that is nearest to an alarm; None while all warm up."""
        found = [
            (float(d.statistic), float(d.threshold))
            for d in (watched.detector for watched in self._parts.values())
            if np.isfinite(d.threshold) and d.threshold > 0
        ]
        return max(found, key=lambda one: one[0] / one[1], default=(None, None))

    @property
    def waiting(self) -> bool:
        """Whether an alarm waits for its part to be saved."""
        return any(watched.pending for watched in self._parts.values())

    def extras(self, part: str) -> dict[str, State]:
        """What is saved with the part."""
        watched = self._parts[part]
        arrays, body = watched.detector.state()
        body = {"detector": body, "rows": watched.rows, "pending": watched.pending}
        return {"drift": (arrays, body)}

    def publish(self, part: str) -> None:
        """Write down a saved part's alarms, and set off the actions; each alarm once."""
        watched = self._parts.get(part)
        if watched is None or not watched.pending:
            return
        path = self.folder / "drift.jsonl"
        text = path.read_text() if path.exists() else ""
        known = {(event["part"], event["row"]) for event in _events(text)}
        new = [event for event in watched.pending if (part, event["row"]) not in known]
        if new and self.actions:
            # before the line that says so: a crash in between asks twice, which does no harm
            request = "reset" if "reset" in self.actions else ""
            with open(self.folder / "release.request", "w", opener=private) as f:
                f.write(request)
        with open(path, "a", opener=private) as f:
            f.write("\n" if text and not text.endswith("\n") else "")
            f.writelines(json.dumps({**e, "actions": self.actions}) + "\n" for e in new)
        watched.pending = []


class Unwatched:
    """Watches nothing."""

    waiting = False

    def take_up(self, part: str, saved: State | None) -> None:
        """A part is there; what a watch saved of it is forgotten."""

    def drop(self, part: str) -> None:
        """A part is gone."""

    def look(self, part: str, x: NDArray[np.float32], where: dict[str, Any]) -> None:
        """Rows came."""

    def extras(self, part: str) -> dict[str, State]:
        """Nothing is saved with the part."""
        return {}

    def publish(self, part: str) -> None:
        """A part was saved."""


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # torn by a crash; the alarm is still pending in its part's state
        if "part" in event:
            yield event
