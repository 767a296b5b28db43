"""Secret state: the sums and position of each part, and the release state.

They are records (`storage.records`): files of a folder on one machine, or objects of a store that several
reach. One record per part holds its position and its sums, written in one atomic step. A part has one
owner: claiming raises the part's epoch, and saving is refused to whoever holds an older epoch.
The Kafka group's own generation is not used: a broker's restart can reset it.
"""

import hashlib
import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
    secret_folder,
    unpack,
    vector,
    whole,
    write_atomic,
)
from streamsketch.storage.records import FolderRecords, Records, Version

if TYPE_CHECKING:
    from streamsketch.privacy.clipping import UserLimits

__all__ = ["PartState", "State"]


RELEASE = "release.safetensors"


class State:
    """The secret state of one stream.

    Args:
        folder: Local folder; what belongs to this machine alone stays there.
        features: The operator; state of another one is refused.
        records: Where parts and releases are kept, shared by the members of one consumer group;
            the folder by default.
    """

    def __init__(self, folder: Path, features: Map, records: Records | None = None) -> None:
        self.folder = folder
        self.features = features
        self.records: Records = FolderRecords(folder) if records is None else records
        secret_folder(folder if records is not None else folder / "parts")
        self._locks: dict[str, int] = {}
        self._closed: tuple[Version | None, int | None] = (None, None)
        self._release: Version | None = None  # the one that was loaded

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
            self._locks[part] = self.records.hold(_name(part, ".owner"), f"part {part!r}")
        taken: list[PartState] = []

        def take(data: bytes | None) -> bytes:
            state = self._part(part, data)
            state.epoch += 1
            state.idle = ""
            self._fold(state, state)
            taken.append(state)
            return _packed(state)

        with self._settled():
            self.records.change(_name(part), take)
        return taken[-1]

    def save(self, state: PartState) -> None:
        """Write sums and position in one atomic step.

        Raises:
            FencedError: The part was claimed by another process since.
            StoreError: The disk refuses; the file still holds what was saved before.
        """

        def saved(data: bytes | None) -> bytes:
            stored = self._part(state.part, data)
            if stored.epoch != state.epoch:
                raise FencedError(
                    f"part {state.part!r} was taken over (epoch {stored.epoch}, mine is {state.epoch}); "
                    "what was summed since the last save is dropped, the new owner reads it again; if "
                    "nobody else reads the stream, its state folder was changed: start again"
                )
            self._fold(state, stored)
            return _packed(state)

        with self._settled():
            self.records.change(_name(state.part), saved)
        state.dirty = False

    def put_back(self, state: PartState) -> None:
        """Write a part as it once was, whoever owns it."""
        self.records.change(_name(state.part), lambda data: _packed(state))

    def forget(self, part: str) -> None:
        """Remove a part's sums and position from this machine's folder."""
        (self.folder / _name(part)).unlink(missing_ok=True)

    def unlock(self, part: str) -> None:
        """Let go of an exclusive claim."""
        handle = self._locks.pop(part, None)
        if handle is not None:
            os.close(handle)

    def parts(self) -> list[PartState]:
        """All parts as last saved: a consistent cut, as parts are independent."""
        found = ((name, self.records.read(name)) for name in self.records.names("parts"))
        return [self._restored(one[0], name) for name, one in found if one is not None]

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
        seen = self.records.version(RELEASE)
        if seen is None:
            first = self.records.read("windows.json")
            return None if first is None else int(json.loads(first[0])["first"])
        if self._closed[0] != seen:
            saved = self.load_release()
            self._closed = (seen, None if saved is None else saved[1].get("closed"))
        return self._closed[1]

    def begin(self, first: int) -> None:
        """Declare the first window of a stream, unless it has one."""
        self.records.alone("[windows]")
        if self.closed() is None:
            self.records.put("windows.json", json.dumps({"first": first}).encode(), None)

    def closing(self) -> AbstractContextManager[None]:
        """While a window is closed no part is saved: what the release reads is all there is of it."""
        return self.records.settled("windows.lock", alone=True)

    def _settled(self) -> AbstractContextManager[None]:
        """While a part is saved no window is closed."""
        return self.records.settled("windows.lock", alone=False)

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

    def releasing(self, wait: bool = False) -> AbstractContextManager[bool]:
        """Hold the stream's only releaser; yields False where another process holds it.

        Between machines nobody holds it: who is slower is refused by `save_release`.

        Args:
            wait: Wait for the other process instead.
        """
        return self.records.releasing(wait)

    def load_release(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The saved release state, None before the first release.

        Raises:
            DamagedFileError: It cannot be trusted: nothing may be released on top of it.
        """
        found = self.records.read(RELEASE)
        self._release = None if found is None else found[1]
        if found is None:
            return None
        where = self.records.where(RELEASE)
        arrays, body = unpack(found[0], "release", where)
        with parsing(where):
            whole(body, "number")
            whole(body, "rows")
            vector(arrays, "pending", np.uint8)
            if not isinstance(body["releaser"], dict) or not isinstance(body["positions"], dict):
                raise TypeError("releaser or positions is no table")
            if not isinstance(body.get("closed"), int | None):
                raise TypeError("closed is no whole number")
        return arrays, body

    def superseded(self) -> bool:
        """Whether another process has released since the release state was loaded."""
        found = self.records.read(RELEASE)
        return (None if found is None else found[1]) != self._release

    def identity(self, fresh: bool = False) -> str:
        """Tells this state from a copy of it, or from a backup put back: neither keeps it.

        Args:
            fresh: Nothing was released so far: the state may still be copied.
        """
        return self.records.identity(fresh)

    def save_release(self, arrays: dict[str, NDArray[Any]], body: dict[str, Any]) -> None:
        """Write the release state: before the release is shown to anyone.

        Raises:
            FencedError: Another process has released since it was loaded.
        """
        self.records.put(RELEASE, pack("release", arrays, body), self._release)

    def last_release(self) -> Version | None:
        """What tells the last release from others; None before the first. It is no time."""
        return self.records.version(RELEASE)

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
        self.records.alone('unit = "user"')
        path = self.folder / "users.safetensors"
        if path.exists():
            arrays, body = unpack(read_file(path), "users", str(path))
            with parsing(str(path)):
                limits.restore(arrays, body)

    def save_limits(self, limits: "UserLimits") -> None:
        """Write what users have added so far."""
        write_atomic(self.folder / "users.safetensors", pack("users", *limits.state()), mode=0o600)

    # --- records

    def _part(self, part: str, data: bytes | None) -> PartState:
        if data is None:
            return PartState(part, 0, None, Sketch.zero(self.features))
        return self._restored(data, _name(part))

    def _restored(self, data: bytes, name: str) -> PartState:
        where, mine = self.records.where(name), self.features.spec
        arrays, body = unpack(data, "resume", where)
        with parsing(where):
            theirs = str(body["fingerprint"])
            if theirs == mine.fingerprint:
                return PartState.restored(mine, arrays, body)
        file = name.rpartition("/")[2]
        raise SpecMismatchError.of(f"resume from {file}", mine.fingerprint, theirs)


def _packed(state: PartState) -> bytes:
    return pack("resume", *state.state())


def _name(part: str, suffix: str = ".safetensors") -> str:
    """The name of a part's record."""
    # readable, and still distinct for names that differ in what a file name cannot hold
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", part)[:80]
    return f"parts/{readable}-{hashlib.sha256(part.encode()).hexdigest()[:8]}{suffix}"
