"""Secret state on local disk: the sums and position of each part, and the release state.

One file per part holds its position and its sums, written in one atomic step. A part has one
owner: claiming raises the part's epoch, and saving is refused to whoever holds an older epoch.
The Kafka group's own generation is not used: a broker's restart can reset it.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from streamsketch.errors import FencedError, SpecMismatchError
from streamsketch.features import Map
from streamsketch.ingest.part import PartState
from streamsketch.ingest.streams import Position
from streamsketch.sketch import Sketch
from streamsketch.storage.files import (
    pack,
    parsing,
    read_file,
    remove_leftovers,
    secret_folder,
    unpack,
    write_atomic,
)
from streamsketch.storage.locks import SHARED, hold, locked

if TYPE_CHECKING:
    from streamsketch.privacy.clipping import UserLimits

__all__ = ["PartState", "State"]


class State:
    """The state folder of one stream.

    Args:
        folder: Local folder, shared by the members of one consumer group.
        features: The operator; state of another one is refused.
    """

    def __init__(self, folder: Path, features: Map) -> None:
        self.folder = folder
        self.features = features
        self.parts_dir = folder / "parts"
        secret_folder(self.parts_dir)
        self._locks: dict[str, int] = {}
        self._torn: list[Path] | None = None
        self._closed: tuple[tuple[int, ...], int | None] = ((), None)

    # --- parts

    def claim(self, part: str, exclusive: bool = False) -> PartState:
        """Take a part over: a former owner can no longer save it.

        Args:
            part: Name of the part.
            exclusive: Also hold a lock until `release_lock` or the end of this process; for
                sources whose parts nothing else coordinates.

        Raises:
            LockedError: Another live process holds the part.
            SpecMismatchError: The saved sums are of another operator.
        """
        if exclusive and part not in self._locks:
            self._locks[part] = hold(self._file(part, ".owner"), f"part {part!r}")
        with self._settled(), locked(self._file(part, ".lock")):
            self._sweep(self._file(part, ".safetensors"))
            state = self._load(part)
            state.epoch += 1
            state.idle = ""
            self._fold(state, state)
            self._write(state)
        return state

    def save(self, state: PartState) -> None:
        """Write sums and position in one atomic step.

        Raises:
            FencedError: The part was claimed by another process since.
            StoreError: The disk refuses; the file still holds what was saved before.
        """
        with self._settled(), locked(self._file(state.part, ".lock")):
            stored = self._load(state.part)
            if stored.epoch != state.epoch:
                raise FencedError(
                    f"part {state.part!r} was taken over (epoch {stored.epoch}, mine is {state.epoch}); "
                    "what was summed since the last save is dropped, the new owner reads it again; if "
                    "nobody else reads the stream, its state folder was changed: start again"
                )
            self._fold(state, stored)
            self._write(state)
        state.dirty = False

    def unlock(self, part: str) -> None:
        """Let go of an exclusive claim."""
        handle = self._locks.pop(part, None)
        if handle is not None:
            os.close(handle)

    def parts(self) -> list[PartState]:
        """All parts as last saved: a consistent cut, as parts are independent."""
        return [self._read(path) for path in sorted(self.parts_dir.glob("*.safetensors"))]

    def cut(self) -> tuple[Sketch, dict[str, Position | None], int]:
        """The sum over all parts as last saved, their positions, and the rows read for it."""
        total = Sketch.zero(self.features)
        positions, rows = {}, 0
        for state in self.parts():
            total = total.merge(state.learned)
            positions[state.part] = state.position
            rows += state.rows
        return total, positions, rows

    # --- windows

    def closed(self) -> int | None:
        """Every window below this number is closed; None before the first closes.

        It is part of the release state, or, before the first release, of what `begin` wrote.
        """
        path = self.folder / "release.safetensors"
        try:
            stat = path.stat()
        except FileNotFoundError:
            first = self.folder / "windows.json"
            return int(json.loads(read_file(first))["first"]) if first.exists() else None
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._closed[0] != seen:
            saved = self.load_release()
            self._closed = (seen, None if saved is None else saved[1].get("closed"))
        return self._closed[1]

    def begin(self, first: int) -> None:
        """Declare the first window of a stream, unless it has one."""
        if self.closed() is None:
            text = json.dumps({"first": first}).encode()
            write_atomic(self.folder / "windows.json", text, mode=0o600)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """While a window is closed no part is saved: what the release reads is all there is of it."""
        with locked(self.folder / "windows.lock"):
            yield

    def _settled(self) -> AbstractContextManager[None]:
        """While a part is saved no window is closed."""
        return locked(self.folder / "windows.lock", SHARED)

    def _fold(self, state: PartState, stored: PartState) -> None:
        """Move closed windows to the sum, as they were released; rows that came since are late."""
        if not state.windows:
            return
        closed = self.closed()
        gone = [k for k in state.windows if closed is not None and k < closed]
        for k in gone:
            released = stored.windows.get(k, Sketch.zero(self.features))
            missed = state.windows.pop(k).count - released.count
            state.late += missed
            state.dead += missed
            state.sketch = state.sketch.merge(released)

    # --- release state

    @contextmanager
    def releasing(self, wait: bool = False) -> Iterator[bool]:
        """Hold the stream's only releaser; yields False where another process holds it.

        Args:
            wait: Wait for the other process instead.
        """
        path = self.folder / "releaser.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            remove_leftovers(self.folder / "release.safetensors")
            yield True
        finally:
            os.close(handle)

    def load_release(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The saved release state, None before the first release.

        Raises:
            DamagedFileError: It cannot be trusted: nothing may be released on top of it.
        """
        path = self.folder / "release.safetensors"
        return unpack(read_file(path), "release", str(path)) if path.exists() else None

    def identity(self, fresh: bool = False) -> str:
        """Tells this folder from a copy of it, or from a backup put back: neither keeps it.

        It is the number and the time of creation of a file that nobody ever touches again.

        Args:
            fresh: Nothing was released so far: the folder may still be copied.
        """
        path = self.folder / "identity"
        if fresh:
            path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        stat = path.stat()
        return f"{stat.st_ino}-{stat.st_ctime_ns}"

    def save_release(self, arrays: dict[str, NDArray[Any]], body: dict[str, Any]) -> None:
        """Write the release state: before the release is shown to anyone."""
        write_atomic(
            self.folder / "release.safetensors", pack("release", arrays, body), mode=0o600
        )

    def last_release(self) -> tuple[int, int] | None:
        """What tells the last release from others; None before the first. It is no time."""
        try:
            stat = (self.folder / "release.safetensors").stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def rows_since_release(self) -> int:
        """Rows read by all members since the last release.

        Rows set apart count as well: whether a row is learned must not move the next release.
        """
        saved = self.load_release()
        released = 0 if saved is None else int(saved[1]["rows"])
        return sum(p.rows for p in self.parts()) - released

    def released(self) -> int:
        """How many releases were made."""
        saved = self.load_release()
        return 0 if saved is None else int(saved[1]["number"]) + 1

    # --- user limits

    def load_limits(self, limits: "UserLimits") -> None:
        """Take up what users have added so far, if anything was saved."""
        path = self.folder / "users.safetensors"
        if path.exists():
            arrays, body = unpack(read_file(path), "users", str(path))
            with parsing(str(path)):
                limits.restore(arrays, body)

    def save_limits(self, limits: "UserLimits") -> None:
        """Write what users have added so far."""
        write_atomic(self.folder / "users.safetensors", pack("users", *limits.state()), mode=0o600)

    # --- files

    def _file(self, part: str, suffix: str) -> Path:
        # readable, and still distinct for names that differ in what a file name cannot hold
        readable = re.sub(r"[^A-Za-z0-9._-]", "_", part)[:80]
        return (
            self.parts_dir / f"{readable}-{hashlib.sha256(part.encode()).hexdigest()[:8]}{suffix}"
        )

    def _load(self, part: str) -> PartState:
        path = self._file(part, ".safetensors")
        if path.exists():
            return self._read(path)
        return PartState(part, 0, None, Sketch.zero(self.features))

    def _read(self, path: Path) -> PartState:
        arrays, body = unpack(read_file(path), "resume", str(path))
        mine = self.features.spec
        with parsing(str(path)):
            theirs = str(body["fingerprint"])
            if theirs == mine.fingerprint:
                return PartState.restored(mine, arrays, body)
        raise SpecMismatchError.of(f"resume from {path.name}", mine.fingerprint, theirs)

    def _write(self, state: PartState) -> None:
        data = pack("resume", *state.state())
        write_atomic(self._file(state.part, ".safetensors"), data, 0o600)

    def _sweep(self, path: Path) -> None:
        """Remove what a process left that died writing this file; the folder is listed once."""
        if self._torn is None:
            self._torn = [p for p in self.parts_dir.iterdir() if p.suffix == ".tmp"]
        for found in self._torn:
            if found.name.startswith(f".{path.name}."):
                found.unlink(missing_ok=True)
