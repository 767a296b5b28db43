"""Change of a stream's distribution: of rows (`SketchDrift`), of snapshots (`SnapshotDrift`)."""

from typing import TYPE_CHECKING

from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch.drift.rows import SketchDrift as SketchDrift
    from streamsketch.drift.snapshots import SnapshotDrift as SnapshotDrift

__all__ = ["SketchDrift", "SnapshotDrift"]

__getattr__, __dir__ = exports(__name__, {"SketchDrift": "rows", "SnapshotDrift": "snapshots"})
