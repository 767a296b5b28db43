"""What is known of one part of a stream: its sums, its position, and what follows its rows."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsketch.features import Map
from streamsketch.features.spec import Spec
from streamsketch.ingest.dedup import RecentIds
from streamsketch.ingest.streams import Position
from streamsketch.sketch import Sketch
from streamsketch.storage.files import Arrays, whole

if TYPE_CHECKING:
    from streamsketch.ingest.refusal import Accepted

__all__ = ["PartState"]


@dataclass
class PartState:
    """What is known of a part: where it stands and what was summed up to there.

    Attributes:
        part: Name of the part.
        epoch: Number of claims so far; the owner's fence.
        position: Position after the rows summed; None before the first.
        sketch: Their sum; with windows, of those whose windows have closed.
        dead: Rows set apart so far, the late ones among them.
        windows: Sums of the rows in windows that are not closed, by number of the window.
        watermark: Latest event time so far, microseconds; None without.
        idle: Why nobody waits for its watermark: `idle` or `ended`; empty while rows come.
        late: Rows that came after their window had closed.
        duplicates: Rows left out because a row of the same id was counted before.
        ids: The ids of rows counted lately; None without deduplication.
        extras: What else follows the part's rows and must be saved with them, such as a drift
            detector: name -> (arrays, JSON values).
        dirty: Whether it differs from the file.
    """

    part: str
    epoch: int
    position: Position | None
    sketch: Sketch
    dead: int = 0
    windows: dict[int, Sketch] = field(default_factory=dict)
    watermark: int | None = None
    idle: str = ""
    late: int = 0
    duplicates: int = 0
    ids: RecentIds | None = None
    extras: dict[str, tuple[Arrays, dict[str, Any]]] = field(default_factory=dict, compare=False)
    dirty: bool = field(default=False, compare=False)

    @property
    def held(self) -> Collection[int]:
        """Numbers of the windows that are not closed."""
        return self.windows.keys()

    @property
    def learned(self) -> Sketch:
        """The sum of all rows that were learned, in whatever window."""
        total = self.sketch
        for sketch in self.windows.values():
            total = total.merge(sketch)
        return total

    def add(self, features: Map, rows: "Accepted", position: Position) -> None:
        """Add a chunk's accepted rows, count the others, and move to the position after it."""
        if rows.windows is None and len(rows.x):
            self.sketch.update(features, rows.x, rows.labels)
        elif rows.windows is not None:
            for k in np.unique(rows.windows).tolist():
                mine = rows.windows == k
                labels = None if rows.labels is None else rows.labels[mine]
                pane = self.windows.setdefault(k, Sketch.zero(features))
                pane.update(features, rows.x[mine], labels)
        self.duplicates += rows.refused["duplicate"]
        self.late += rows.refused["late"]
        self.dead += rows.refused.total() - rows.refused["duplicate"]
        self.position = position
        self.dirty = True

    @property
    def rows(self) -> int:
        """Rows read, learned or not."""
        inside = sum(sketch.count for sketch in self.windows.values())
        return self.sketch.count + inside + self.dead + self.duplicates

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values of its file."""
        body = {
            "part": self.part,
            "epoch": self.epoch,
            "position": self.position,
            "fingerprint": self.sketch.spec.fingerprint,
            "count": self.sketch.count,
            "dead": self.dead,
            "windows": [[k, sketch.count] for k, sketch in self.windows.items()],
            "watermark": self.watermark,
            "resting": self.idle,
            "late": self.late,
            "duplicates": self.duplicates,
        }
        arrays: Arrays = {"total": self.sketch.total}
        if self.windows:
            arrays["windows"] = np.stack([s.total for s in self.windows.values()])
        if self.ids is not None:
            arrays["ids"] = self.ids.hashes()
        if self.extras:
            body["extras"] = {name: values for name, (_, values) in self.extras.items()}
            for name, (named, _) in self.extras.items():
                arrays |= {f"{name}.{k}": v for k, v in named.items()}
        return arrays, body

    @classmethod
    def restored(cls, spec: Spec, arrays: Arrays, body: dict[str, Any]) -> "PartState":
        """The part of a file, whose operator is `spec`."""
        sketch = Sketch.checked(spec, arrays["total"], body["count"])
        for key in ("epoch", "dead", "late", "duplicates"):
            whole({"late": 0, "duplicates": 0, **body}, key)
        held = zip(body.get("windows", ()), arrays.get("windows", ()), strict=True)
        windows = {k: Sketch.checked(spec, np.array(total), n) for (k, n), total in held}
        hashes = arrays.get("ids")
        extras = {
            name: (_named(arrays, f"{name}."), values)
            for name, values in body.get("extras", {}).items()
        }
        return cls(
            body["part"], body["epoch"], body["position"], sketch, body["dead"], windows,
            body.get("watermark"), body.get("resting", ""), body.get("late", 0),
            body.get("duplicates", 0), None if hashes is None else RecentIds(len(hashes), hashes),
            extras,
        )  # fmt: skip


def _named(arrays: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
