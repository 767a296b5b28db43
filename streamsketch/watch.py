"""Watching a stream for change while it is sketched, and what an alarm sets off."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    from streamsketch.schema import Schema

__all__ = ["ACTIONS", "Watch"]

log = logging.getLogger(__name__)

ACTIONS = ("snapshot", "reset")


class Watch:
    """A drift detector on the rows of one consumer process.

    An alarm is logged and written to `drift.jsonl` in the state folder. `snapshot` asks for a
    release at once, on which a watching trainer trains; `reset` asks for a release after which
    the memory starts anew, so that later snapshots hold the new law only.

    The detector itself is not saved: a process that starts again learns the law anew first.
    Each process watches the rows that it reads.

    Args:
        schema: The columns.
        folder: The state folder.
        mean_rows: Rows between two false alarms, on average, while nothing changes.
        window: Rows that the fast of the two sketches spans.
        every: Watch every k-th row only.
        actions: What an alarm sets off, of `ACTIONS`.
        frequencies: Frequencies of the detector's own small sketch.

    Raises:
        ConfigError: An unknown action, or numbers out of range.
    """

    def __init__(
        self,
        schema: "Schema",
        folder: Path,
        mean_rows: float = 1_000_000,
        window: int = 200,
        every: int = 1,
        actions: Sequence[str] = ("snapshot",),
        frequencies: int = 64,
    ) -> None:
        from streamsketch.drift import SketchDrift
        from streamsketch.features import FeatureMap
        from streamsketch.spec import Spec

        unknown = sorted(set(actions) - set(ACTIONS))
        if unknown:
            raise ConfigError(
                f"drift: actions {unknown} are unknown; choose of {', '.join(ACTIONS)}"
            )
        if every < 1:
            raise ConfigError(f"drift: every = {every} must be at least 1")
        spec = Spec("multiscale", schema.d, frequencies, schema_hash=schema.hash)
        features = FeatureMap.from_spec(spec, schema.blocks)
        self.detector = SketchDrift(features=features, mean_time=mean_rows / every, window=window)
        self.folder, self.every, self.actions = folder, every, tuple(actions)
        self.alarms = 0
        self._offset = 0

    def look(self, x: NDArray[np.float32], where: dict[str, Any]) -> None:
        """Watch encoded rows (n, d); `where` says where they came from, for the record."""
        rows = x[self._offset :: self.every]
        self._offset = (self._offset - len(x)) % self.every
        for _ in self.detector.update_many(rows):
            self.alarms += 1
            event = {"time": time.time(), "where": where, "actions": self.actions}
            log.warning(
                "the stream has changed (%s): %s", where, ", ".join(self.actions) or "no action"
            )
            with (self.folder / "drift.jsonl").open("a") as f:
                f.write(json.dumps(event) + "\n")
            if self.actions:
                text = "reset" if "reset" in self.actions else ""
                (self.folder / "release.request").write_text(text)
