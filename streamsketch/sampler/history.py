"""The memory of a sampler: what it issued, in a few kilobytes that never grow.

A history holds one residual per target (see `herding`), the few most recent outputs, counts,
and which generators wrote it. It lives in one file, replaced atomically; the file before it is
kept as ``NAME.prev``. Samplers that share the file take turns under a lock; samplers apart keep
forks, and `merge` adds them, counting what they have in common once.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F32, F64
from streamsketch.errors import DamagedFileError, SpecMismatchError, StoreError
from streamsketch.sampler.unique import RowFilter
from streamsketch.storage import locks
from streamsketch.storage.files import pack, parsing, read_file, unpack, write_atomic

_KIND = "history"
_RECENT_IDS = 256
_VERSIONS = 32


@dataclass
class Part:
    """What one writer issued: outputs and residual per target."""

    counts: dict[str, int] = field(default_factory=dict)
    residuals: dict[str, F64] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Outputs for all targets."""
        return sum(self.counts.values())

    def copy(self) -> "Part":
        """An independent part; the arrays are replaced, never changed, so they are shared."""
        return Part(dict(self.counts), dict(self.residuals))


@dataclass
class History:
    """The memory of one or several samplers.

    Attributes:
        fingerprint: Of the sketch operator whose data the generator learned; "" before first use.
        writer: Name under which this copy writes; a fork gets a new one.
        parts: What each writer issued.
        operators: Per target, the feature map its residual is kept in (JSON values).
        pools: Per target that is estimated from draws: which generator, and how many rows; the
            estimate is in ``pool_means``.
        recent: Per target, the most recent outputs in its space, oldest first.
        ids: Ids of the most recent outputs.
        versions: Generators that wrote here: ``[id, outputs]``, in order of first use.
        draws: Candidate batches drawn, so that no batch is drawn twice.
        salt: Keeps the candidates of forks apart; 0 for a history that is no fork.
        rows: Filter of all rows issued, where unique output was asked for.

    Examples:
        >>> history = History()
        >>> history.count
        0
    """

    fingerprint: str = ""
    writer: str = field(default_factory=lambda: secrets.token_hex(6))
    parts: dict[str, Part] = field(default_factory=dict)
    operators: dict[str, dict[str, Any]] = field(default_factory=dict)
    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    pool_means: dict[str, F64] = field(default_factory=dict)
    recent: dict[str, F32] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    versions: list[list[Any]] = field(default_factory=list)
    draws: int = 0
    salt: int = 0
    rows: RowFilter | None = None

    @property
    def count(self) -> int:
        """Outputs issued by all writers."""
        return sum(part.count for part in self.parts.values())

    def issued(self, key: str) -> int:
        """Outputs issued by all writers for one target."""
        return sum(part.counts.get(key, 0) for part in self.parts.values())

    def attach(self, fingerprint: str) -> None:
        """Tie an empty history to a sketch operator, or check that it is the same one.

        Raises:
            SpecMismatchError: It belongs to another operator.
        """
        if self.fingerprint and self.fingerprint != fingerprint:
            raise SpecMismatchError(
                f"the history belongs to operator {self.fingerprint}, the generator to operator "
                f"{fingerprint}; sample with a generator of the same spec, or start a new history"
            )
        self.fingerprint = fingerprint

    def operator(self, key: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """The feature map that the residual of a target is kept in; the wanted one at first use.

        Raises:
            SpecMismatchError: A map of another kind, dimension or size was used so far.
        """
        held = self.operators.setdefault(key, wanted)
        fixed = [name for name in wanted if name != "length"]
        if held.keys() != wanted.keys() or any(held[name] != wanted[name] for name in fixed):
            raise SpecMismatchError(
                f"the history keeps target {key!r} in {_short(held)}, the sampler in "
                f"{_short(wanted)}; use the same settings, or start a new history"
            )
        return held

    def residual(self, key: str, width: int) -> F64:
        """Residual to a target, over all writers: ``(width,)``."""
        total = np.zeros(width)
        for part in self.parts.values():
            if key in part.residuals:
                total += part.residuals[key]
        return total

    def record(self, key: str, residual: F64, points: F32, generator: str, keep: int) -> list[str]:
        """Enter outputs that were just issued.

        Args:
            key: The target.
            residual: Residual over all writers after them; ``(0,)`` where none is kept.
            points: The outputs in the target's space, ``(k, d)``.
            generator: Id of the generator that made them.
            keep: Outputs to remember exactly.

        Returns:
            Their ids.
        """
        part = self.parts.setdefault(self.writer, Part())
        if residual.size:
            others = self.residual(key, residual.size) - part.residuals.get(
                key, np.zeros(residual.size)
            )
            part.residuals[key] = residual - others
        ids = [f"{self.writer}-{part.count + i}" for i in range(len(points))]
        part.counts[key] = part.counts.get(key, 0) + len(points)
        self.ids = (self.ids + ids)[-_RECENT_IDS:]
        before = self.recent.get(key, points[:0])
        self.recent[key] = np.concatenate([before, points])[-keep:] if keep else points[:0]
        if not self.versions or self.versions[-1][0] != generator:
            self.versions = [*self.versions, [generator, 0]][-_VERSIONS:]
        self.versions[-1][1] += len(points)
        return ids

    def copy(self) -> "History":
        """An independent history of the same content and the same writer."""
        return History(
            self.fingerprint,
            self.writer,
            {name: part.copy() for name, part in self.parts.items()},
            {key: dict(value) for key, value in self.operators.items()},
            {key: dict(value) for key, value in self.pools.items()},
            dict(self.pool_means),
            dict(self.recent),
            list(self.ids),
            [list(version) for version in self.versions],
            self.draws,
            self.salt,
            None if self.rows is None else self.rows.copy(),
        )

    def fork(self) -> "History":
        """A copy that goes its own way: it writes under a new name and can be merged back."""
        forked = self.copy()
        forked.writer = secrets.token_hex(6)
        forked.salt = secrets.randbits(32)
        return forked

    def merge(self, other: "History") -> "History":
        """The history of both; outputs that they have in common count once.

        Raises:
            SpecMismatchError: The histories belong to different operators or settings.
        """
        merged = self.copy()
        merged.attach(other.fingerprint or self.fingerprint)
        merged._take_operators(other)
        for name, part in other.parts.items():
            if name not in merged.parts or merged.parts[name].count < part.count:
                merged.parts[name] = part.copy()
        for key, points in other.recent.items():
            held = merged.recent.get(key, points[:0])
            both = _interleave(held, points)
            merged.recent[key] = both[-max(len(held), len(points)) :]
        merged.ids = list(dict.fromkeys([*merged.ids, *other.ids]))[-_RECENT_IDS:]
        seen = {version[0] for version in merged.versions}
        merged.versions += [list(v) for v in other.versions if v[0] not in seen]
        merged.draws = max(self.draws, other.draws)
        merged._take_pools(other)
        if other.rows is not None:
            merged.rows = other.rows.copy() if self.rows is None else self.rows.merge(other.rows)
        return merged

    def _take_operators(self, other: "History") -> None:
        for key, operator in other.operators.items():
            if self.operator(key, operator) != operator:
                raise SpecMismatchError(
                    f"the histories keep target {key!r} in {_short(self.operators[key])} and "
                    f"{_short(operator)}; merge forks of one history"
                )

    def _take_pools(self, other: "History") -> None:
        for key, pool in other.pools.items():
            if key not in self.pools or self.pools[key]["rows"] < pool["rows"]:
                self.pools[key] = dict(pool)
                if key in other.pool_means:
                    self.pool_means[key] = other.pool_means[key]

    def inspect(self) -> dict[str, Any]:
        """What it holds, as plain values to show."""
        return {
            "outputs": self.count,
            "operator": self.fingerprint,
            "writers": {name: part.count for name, part in self.parts.items()},
            "targets": {key: dict(operator) for key, operator in self.operators.items()},
            "recent": {key: len(points) for key, points in self.recent.items()},
            "generators": [{"id": v[0], "outputs": v[1]} for v in self.versions],
            "last_id": self.ids[-1] if self.ids else None,
            "unique": self.rows is not None,
            "false_positive_rate": self.rows.false_positive_rate if self.rows else 0.0,
            "bytes": len(self.to_bytes()),
        }

    def to_bytes(self) -> bytes:
        """The history as a file's bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, part in self.parts.items():
            arrays |= {f"owed/{name}/{key}": residual for key, residual in part.residuals.items()}
        arrays |= {f"window/{key}": points for key, points in self.recent.items()}
        arrays |= {f"pool/{key}": mean for key, mean in self.pool_means.items()}
        if self.rows is not None:
            arrays["rows"] = self.rows.bits
        body = {
            "fingerprint": self.fingerprint,
            "writer": self.writer,
            "counts": {name: part.counts for name, part in self.parts.items()},
            "operators": self.operators,
            "pools": self.pools,
            "ids": self.ids,
            "versions": self.versions,
            "draws": self.draws,
            "salt": self.salt,
            "capacity": None if self.rows is None else self.rows.capacity,
        }
        return pack(_KIND, arrays, body)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the history") -> "History":
        """The history that `to_bytes` wrote.

        Raises:
            DamagedFileError: The bytes are not a history's.
        """
        arrays, body = unpack(data, _KIND, name)
        with parsing(name):
            history = cls(body["fingerprint"], body["writer"])
            history.parts = {writer: Part(counts) for writer, counts in body["counts"].items()}
            for label, array in arrays.items():
                if label.startswith("owed/"):
                    _, writer, key = label.split("/", 2)
                    history.parts[writer].residuals[key] = array
                elif label.startswith("window/"):
                    history.recent[label.removeprefix("window/")] = array
                elif label.startswith("pool/"):
                    history.pool_means[label.removeprefix("pool/")] = array
            history.operators, history.pools = body["operators"], body["pools"]
            history.ids, history.versions = body["ids"], body["versions"]
            history.draws, history.salt = body["draws"], body["salt"]
            if body["capacity"] is not None:
                history.rows = RowFilter(body["capacity"], arrays["rows"])
        return history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace the file atomically; the one before it is kept as ``NAME.prev``.

        Raises:
            StoreError: The disk refuses; the file is as it was.
        """
        path = Path(path)
        if path.exists():
            _keep(path)
        write_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read a history file.

        Raises:
            StoreError: The file cannot be read.
            DamagedFileError: It is damaged; the message offers the earlier one, if it is whole.
        """
        path = Path(path)
        try:
            return cls.from_bytes(read_file(path), f"the history file {path}")
        except DamagedFileError as e:
            raise DamagedFileError(f"{e}; {_offer(path)}") from None

    @classmethod
    def restore(cls, path: str | os.PathLike[str]) -> "History":
        """Put the earlier file ``NAME.prev`` in the place of ``NAME``, and read it.

        Raises:
            StoreError: There is no earlier file.
            DamagedFileError: It is damaged too.
        """
        path = Path(path)
        data = read_file(previous(path))
        history = cls.from_bytes(data, f"the history file {previous(path)}")
        write_atomic(path, data)
        return history

    @classmethod
    def reset(cls, path: str | os.PathLike[str]) -> None:
        """Forget: start the file anew; what it held stays in ``NAME.prev``."""
        with locked(path):
            cls().save(path)


def previous(path: str | os.PathLike[str]) -> Path:
    """Where the file before the current one is kept."""
    path = Path(path)
    return path.with_name(path.name + ".prev")


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a history file for one change; other samplers wait their turn."""
    path = Path(path)
    with locks.locked(path.with_name(path.name + ".lock"), mode=0o644):
        yield


def _keep(path: Path) -> None:
    """Let ``NAME.prev`` be the current content, without a moment in which ``NAME`` is missing."""
    spare = path.with_name(f".{path.name}.{os.getpid()}.prev")
    try:
        spare.unlink(missing_ok=True)
        try:
            spare.hardlink_to(path)
        except OSError:  # a file system without hard links
            spare.write_bytes(path.read_bytes())
        spare.replace(previous(path))
    except OSError as e:
        raise StoreError(f"cannot keep the earlier history of {path}: {e.strerror or e}") from None


def _offer(path: Path) -> str:
    try:
        earlier = History.from_bytes(read_file(previous(path)))
    except StoreError:
        return "there is no earlier one to use, so start anew with History.reset(path)"
    return (
        f"the earlier one, {previous(path)}, is whole and holds {earlier.count} outputs: "
        "take it back with History.restore(path)"
    )


def _interleave(a: F32, b: F32) -> F32:
    """Rows of both, once each, the newest of both last."""
    joined = list(a[::-1]), list(b[::-1])
    newest: dict[bytes, NDArray[np.float32]] = {}
    for i in range(max(len(a), len(b))):
        for side in joined:
            if i < len(side):
                newest.setdefault(side[i].tobytes(), side[i])
    rows = list(newest.values())[::-1]
    return np.asarray(rows, np.float32).reshape(-1, (a if len(a) else b).shape[1])


def _short(operator: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(operator.items()))
