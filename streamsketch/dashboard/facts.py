"""What the page shows, read from released files and statuses; each file is read once.

Nothing here looks into sums, positions or the ledger. Where a mechanism is on, the statuses hold
nothing exact, and what an older run without one has left is passed over.
"""

import datetime as dt
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamsketch.dashboard.health import verdict
from streamsketch.errors import DamagedFileError
from streamsketch.run.figures import read_history
from streamsketch.run.status import alive, read_all
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import unpack
from streamsketch.storage.store import Family, Store

__all__ = ["Facts", "finite"]

NEWEST = 200
FRESH_SECONDS = 1.0
PUBLIC = {"time", "phase", "pid", "releases", "saves", "parts"}  # of a consumer, with a mechanism


class Facts:
    """The facts of one store, at most a second old; the same for all that ask.

    Args:
        store: The store.
        now: Tells the time, in seconds since 1970.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self.store, self.now = store, now
        self.state = store.state_path
        self.name = store.root.rsplit("/", 1)[-1] or store.url
        self._seen: dict[str, dict[str, Any]] = {}
        self._before: Snapshot | None = None
        self._at, self._facts = 0.0, dict[str, Any]()
        self._sizes: tuple[float, dict[str, int]] = (0.0, {})

    def __call__(self) -> dict[str, Any]:
        """All facts, as JSON types, newest first."""
        now = self.now()
        if self._facts and 0 <= now - self._at < FRESH_SECONDS:
            return self._facts
        snapshots = self._family(self.store.snapshots, self._snapshot)
        checkpoints = self._family(self.store.checkpoints, _checkpoint)
        private = bool(next((s["private"] for s in snapshots if "private" in s), False))
        facts: dict[str, Any] = {
            "store": self.name,
            "time": now,
            "private": private,
            "local": self.state is not None,
            "snapshots": snapshots,
            "snapshots_in_all": len(self.store.snapshots.names()),
            "checkpoints": checkpoints,
            "checkpoints_in_all": len(self.store.checkpoints.names()),
            "processes": self._processes(private),
            "alarms": [] if private else self._alarms(),
            "privacy": _budget(snapshots),
            "bytes": self._bytes(),
        }
        facts["verdict"] = verdict(facts)
        self._at, self._facts = now, facts
        return facts

    def history(self, since: float = 0.0) -> dict[str, list[dict[str, Any]]]:
        """What each process said over time, oldest first."""
        if self.state is None:
            return {}
        private = self()["private"]
        return {
            path.stem: [
                finite(_public(path.stem, figures, private))
                for figures in read_history(path, since)
            ]
            for path in sorted((self.state / "status").glob("*.history"))
        }

    def _family(self, family: Family, parse: Callable[[str, bytes], dict[str, Any]]) -> Any:
        found = []
        for name in family.names()[-NEWEST:]:
            if name not in self._seen:
                try:
                    self._seen[name] = parse(name, family.read(name))
                except DamagedFileError:
                    # the whole error names a path
                    self._seen[name] = {"name": name, "damaged": f"{name} is damaged"}
            found.append(self._seen[name])
        return found[::-1]

    def _snapshot(self, name: str, data: bytes) -> dict[str, Any]:
        snapshot = Snapshot.from_bytes(data, name)
        before, self._before = self._before, snapshot
        release = snapshot.release
        facts: dict[str, Any] = {
            "name": name,
            "time": seconds_of(snapshot.created),
            "rows": round(snapshot.count),
            "private": release.private,
            "memory": release.memory,
            "mechanism": release.mechanism,
            "fingerprint": snapshot.spec.fingerprint,
        }
        window = snapshot.span.get("window")
        if isinstance(window, dict):
            facts["window"] = f"{window.get('start')} to {window.get('end')}"
        if release.private:
            facts |= {
                "epsilon": release.epsilon, "delta": release.delta, "rho": release.rho,
                "index": release.index, "releases": release.releases, "epoch": release.epoch,
                "unit": release.unit,
            }  # fmt: skip
        if before is not None:
            facts |= moved(before, snapshot)
        return facts

    def _processes(self, private: bool) -> list[dict[str, Any]]:
        if self.state is None:
            return []
        found = []
        for name, figures in read_all(self.state).items():
            said = _public(name, figures, private)
            ago = max(0.0, self.now() - said["time"])
            runs = said.get("phase") != "ended" and alive(said.pop("pid", None))
            found.append(
                finite({"name": name, "seconds_ago": round(ago, 1), "alive": runs, **said})
            )
        return found

    def _alarms(self) -> list[dict[str, Any]]:
        try:
            text = (self.state / "drift.jsonl").read_text() if self.state is not None else ""
        except OSError:
            return []
        found = []
        for line in text.splitlines()[-NEWEST:]:
            try:
                event = json.loads(line)
                found.append({k: event[k] for k in ("part", "row", "time")})
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash
        return found

    def _bytes(self) -> dict[str, int]:
        """Bytes of each folder of a local store, counted once in ten seconds."""
        if not self.store.local:
            return {}
        at, sizes = self._sizes
        if not sizes or self.now() - at > 10:
            sizes = {k: _size(Path(self.store.root) / k) for k in _FOLDERS}
            self._sizes = (self.now(), sizes)
        return sizes


_FOLDERS = ("snapshots", "checkpoints", "samples", "history", "state")


def moved(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """How far a snapshot is from the one before, and which columns moved most.

    `moved` is the squared distance between the mean features over m; `times` the same for the rows
    that are new, divided by what chance and the releases' noise alone would give; `columns` that of
    the three columns whose own features moved most.
    """
    if before.spec.fingerprint != after.spec.fingerprint or before.mean.shape != after.mean.shape:
        return {}
    gap = after.mean - before.mean
    found: dict[str, Any] = {"moved": float(np.square(gap).sum() / after.spec.m)}
    old, new = before.z, after.z
    n_old, n_new = max(before.count, 1.0), max(after.count, 1.0)
    noise = (before.release.noise_std / n_old) ** 2 + (after.release.noise_std / n_new) ** 2
    if after.release.memory == "landmark":
        rows = n_new - n_old
        if rows < 2:
            return found
        new = (new * n_new - old * n_old) / rows
        noise = (before.release.noise_std**2 + after.release.noise_std**2) / rows**2
        n_new = rows
    square = np.abs(new - old) ** 2
    chance = np.maximum(1 - np.abs(old) ** 2, 1e-9) * (1 / n_old + 1 / n_new) + 2 * noise
    found["times"] = float(square.sum() / chance.sum())
    columns = {}
    for column, js in _aligned(after).items():
        columns[column] = float(square[js].sum() / chance[js].sum())
    top = sorted(columns.items(), key=lambda one: -one[1])[:3]
    return found | ({"columns": top} if top else {})


def _aligned(snapshot: Snapshot) -> dict[str, list[int]]:
    """Numbers of the frequencies along each column alone."""
    features = snapshot.features
    omega = getattr(features, "omega", None)
    if omega is None or snapshot.spec.classes > 1:
        return {}
    found: dict[str, list[int]] = {}
    blocks = snapshot.schema.blocks
    column_of = np.concatenate([np.full(b.width, i) for i, b in enumerate(blocks)])
    for j in range(omega.shape[1]):
        along = {blocks[int(i)].column for i in column_of[omega[:, j] != 0]}
        if len(along) == 1:
            found.setdefault(along.pop(), []).append(j)
    return found


def _checkpoint(name: str, data: bytes) -> dict[str, Any]:
    """Figures of a checkpoint, read without torch."""
    body = unpack(data, "checkpoint", name)[1]
    metrics = body.get("metrics") or {}
    said = {k: v for k, v in metrics.items() if isinstance(v, int | float | str)}
    found: dict[str, Any] = finite({"name": name, "bytes": len(data), **said})
    return found


def _budget(snapshots: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What releases have spent, what is left, and when it ends at the pace so far."""
    private = [s for s in snapshots if s.get("private")]
    if not private:
        return None
    newest, oldest = private[0], private[-1]
    made = newest["index"] + 1
    left = max(0, newest["releases"] - made)
    budget = {k: newest[k] for k in ("mechanism", "epsilon", "delta", "unit", "releases", "epoch")}
    budget |= {"made": made, "left": left, "share": made / max(newest["releases"], 1)}
    steps = len(private) - 1
    if steps and newest["time"] and oldest["time"]:
        budget["ends"] = newest["time"] + left * (newest["time"] - oldest["time"]) / steps
    return budget


def _public(name: str, figures: dict[str, Any], private: bool) -> dict[str, Any]:
    if private and name.startswith("consumer"):
        return {k: v for k, v in figures.items() if k in PUBLIC}
    return dict(figures)


def finite(value: Any) -> Any:
    """A value as JSON knows it: a number that is none becomes null."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value


def seconds_of(created: str) -> float | None:
    """Seconds since 1970 of an ISO time."""
    try:
        return dt.datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue  # removed meanwhile
    return total
