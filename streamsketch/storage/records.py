"""Records that several processes change: small named files, each changed whole or not at all.

A stream's secret state is such records: one a part, one of the releases. On one machine they lie in
a folder, and locks of the operating system order the changes (`FolderRecords`). Between machines they
lie in an object store, and its conditional writes do (`streamsketch.storage.objects`).
"""

import fcntl
import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from streamsketch.storage.files import read_file, remove_leftovers, secret_folder, write_atomic
from streamsketch.storage.locks import SHARED, hold, locked

__all__ = ["FolderRecords", "Records", "Version"]

Version = Hashable
Update = Callable[[bytes | None], bytes]


class Records(Protocol):
    """Where the secret state of a stream lies; names are relative paths."""

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, in order."""
        ...

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """A record and its version; None where there is none."""
        ...

    def version(self, name: str) -> Version | None:
        """What tells a record from what it was before and will be; None where there is none."""
        ...

    def change(self, name: str, update: Update) -> None:
        """Replace a record by what `update` makes of it, as one step.

        `update` may be called again where another process was faster.
        """
        ...

    def put(self, name: str, data: bytes, version: Version | None) -> None:
        """Write a record of which `version` was read (None: there was none).

        Raises:
            FencedError: Another process has written it since.
        """
        ...

    def where(self, name: str) -> str:
        """The place of a record, for messages."""
        ...

    def hold(self, name: str, what: str) -> int:
        """Keep every other reader out; see `storage.locks.hold`."""
        ...

    def alone(self, what: str) -> None:
        """Refuse what needs that one machine orders all changes."""
        ...

    def settled(self, name: str, alone: bool) -> AbstractContextManager[None]:
        """A moment in which many change their records, or `alone` in which nobody does."""
        ...

    def releasing(self, wait: bool) -> AbstractContextManager[bool]:
        """The right to release; False where another process of this machine has it."""
        ...

    def identity(self, fresh: bool) -> str:
        """Tells these records from a copy of them, or from a backup put back."""
        ...


class FolderRecords:
    """Records in a folder that one machine's processes share (mode 0700).

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._torn: dict[Path, list[Path]] = {}

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, in order."""
        return [f"{folder}/{p.name}" for p in sorted((self.folder / folder).glob("*.safetensors"))]

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """A record and its version; None where there is none."""
        path = self.folder / name
        return (read_file(path), self.version(name)) if path.exists() else None

    def version(self, name: str) -> Version | None:
        """Number, time and size of the file: it is made anew by every write."""
        try:
            stat = (self.folder / name).stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def change(self, name: str, update: Update) -> None:
        """Replace a record, under its lock."""
        path = self.folder / name
        with locked(path.with_suffix(".lock")):
            self._sweep(path)
            write_atomic(path, update(read_file(path) if path.exists() else None), 0o600)

    def put(self, name: str, data: bytes, version: Version | None) -> None:
        """Write a record; whoever does holds the lock that `releasing` takes."""
        write_atomic(self.folder / name, data, mode=0o600)

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.folder / name)

    def hold(self, name: str, what: str) -> int:
        """Keep every other reader out; see `storage.locks.hold`."""
        return hold(self.folder / name, what)

    def alone(self, what: str) -> None:
        """Nothing is refused."""

    @contextmanager
    def settled(self, name: str, alone: bool) -> Iterator[None]:
        """A moment in which many change their records, or `alone` in which nobody does."""
        with locked(self.folder / name, fcntl.LOCK_EX if alone else SHARED):
            yield

    @contextmanager
    def releasing(self, wait: bool) -> Iterator[bool]:
        """Hold the stream's only releaser; yields False where another process holds it."""
        handle = os.open(self.folder / "releaser.lock", os.O_RDWR | os.O_CREAT, 0o600)
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

    def identity(self, fresh: bool) -> str:
        """The number and the time of creation of a file that nobody ever touches again."""
        path = self.folder / "identity"
        if fresh:
            path.unlink(missing_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        stat = path.stat()
        return f"{stat.st_ino}-{stat.st_ctime_ns}"

    def _sweep(self, path: Path) -> None:
        """Remove what a process left that died writing this file; a folder is listed once."""
        if path.parent not in self._torn:
            secret_folder(path.parent)
            self._torn[path.parent] = [p for p in path.parent.iterdir() if p.suffix == ".tmp"]
        for found in self._torn[path.parent]:
            if found.name.startswith(f".{path.name}."):
                found.unlink(missing_ok=True)
