"""Which files were read, and what they were: a name alone says neither.

A mark is what a file was when it was read: its size, time of writing, device, inode, and a hash of
its beginning and its end. A file is the one that was read as long as its first bytes, up to that
size, are the same; if it is longer by now it has grown. A file under another name is the one that
was read if it has the same content and kept its time of writing (renamed, moved), or if another
content has taken its old name (a log that was copied and cut), or if it is the old one compressed
or unpacked. Files that are equal but for that are two files.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from streamsketch.ingest.streams import Position
from streamsketch_consumers.files.formats import COMPRESSED

__all__ = ["Ledger", "Mark", "Place"]

EDGE = 4096  # bytes of the beginning and of the end that are hashed

State = Literal["same", "grown", "replaced", "gone"]


@dataclass(frozen=True)
class Mark:
    """What a file was when it was read.

    Attributes:
        rows: Rows that were read of it; -1 if that is not known.
        size: Bytes.
        written: Its time of writing, nanoseconds.
        device: Where it lay.
        inode: Its number there.
        digest: Hash of its first and last bytes.
    """

    rows: int
    size: int
    written: int
    device: int
    inode: int
    digest: str

    @classmethod
    def of(cls, path: Path, rows: int) -> "Mark":
        """The mark of a file as it is now.

        Raises:
            OSError: It cannot be read.
        """
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            digest = _digest(path, stat.st_size)
        return cls(rows, stat.st_size, stat.st_mtime_ns, stat.st_dev, stat.st_ino, digest)

    def state(self, path: Path) -> State:
        """What has become of the file at a path since."""
        try:
            stat = path.stat()
            if (stat.st_size, stat.st_mtime_ns, stat.st_ino) == (
                self.size,
                self.written,
                self.inode,
            ):
                return "same"
            if stat.st_size < self.size or _digest(path, self.size) != self.digest:
                return "replaced"
        except OSError:
            return "gone"
        return "same" if stat.st_size == self.size else "grown"

    def list(self) -> list[Any]:
        """As it is saved."""
        return [self.rows, self.size, self.written, self.device, self.inode, self.digest]


@dataclass(frozen=True)
class Place:
    """Where to read a file.

    Attributes:
        state: `new`; or, of one that was read: `same`, `grown`, `replaced`; or that it is a `link`
            to a file that was read, or that one compressed or unpacked.
        row: The next row, of one that is new, unfinished or has grown.
        of: The name of the file that was read, if it is another.
    """

    state: Literal["new", "same", "grown", "replaced", "link"]
    row: int = 0
    of: str | None = None


class Ledger:
    """The files that were read, by root folder and name, and the one that is being read.

    Args:
        root: The folder that names are relative to.
        saved: The saved position.

    Attributes:
        current: Root and name of the file that is being read, and what it was when it was opened.
        old: The saved position is of a time when marks were not kept.
    """

    def __init__(self, root: Path, saved: Position | None) -> None:
        self.root = str(root.resolve())
        self.old = saved is not None and "read" not in saved
        saved = saved or {}
        self._read: dict[str, dict[str, list[Any]]] = {}  # as it is saved; never changed in place
        self._alike: dict[tuple[int, ...], dict[tuple[str, str], None]] = {}
        for folder, marks in saved.get("read", {}).items():
            self._add(folder, {name: Mark(*mark) for name, mark in marks.items()})
        self.current: tuple[str, str, Mark] | None = None
        if "mark" in saved:
            mark = replace(Mark(*saved["mark"]), rows=int(saved["row"]))
            self.current = (saved["root"], saved["file"], mark)

    def names(self) -> frozenset[str]:
        """The names, below this root, of files that were read."""
        return frozenset(self._read.get(self.root, {}))

    def assume(self, name: str) -> None:
        """A file is taken as read, as it is now."""
        path = Path(self.root, name)
        if path.exists():
            self._add(self.root, {name: Mark.of(path, -1)})

    def begin(self, name: str, row: int) -> None:
        """A file is read from now on.

        Raises:
            OSError: It cannot be read.
        """
        self.current = (self.root, name, Mark.of(Path(self.root, name), row))

    def end(self, name: str, rows: int) -> None:
        """A file was read to its end."""
        if self.current is not None:
            self._add(self.root, {name: replace(self.current[2], rows=rows)})
        self.current = None

    def position(self, name: str, row: int) -> Position:
        """What is saved with the sums."""
        found: Position = {"file": name, "row": row, "root": self.root, "read": self._read}
        if self.current is not None:
            found["mark"] = self.current[2].list()
        return found

    def place(self, name: str) -> Place:
        """What a file is: one that was read, or a new one; what moved is known by its new name."""
        path = Path(self.root, name)
        if name in self._read.get(self.root, {}):
            known = Mark(*self._read[self.root][name])
            state = known.state(path)
            return Place("new") if state == "gone" else Place(state, known.rows)
        try:
            here = Mark.of(path, 0)
        except OSError:
            return Place("new")
        for folder, other in self._candidates(here):
            mark, was = Mark(*self._read[folder][other]), Path(folder, other)
            now, before = mark.state(path), mark.state(was)
            if now not in ("same", "grown"):
                continue
            if before in ("same", "grown"):
                if path.samefile(was):
                    return Place("link", of=other)
            elif before == "replaced" or here.written == mark.written:
                self._remove(folder, other)
                self._add(self.root, {name: mark})
                return Place(now, mark.rows, of=other)
        return self._compressed(name, path) or Place("new")

    def _compressed(self, name: str, path: Path) -> Place | None:
        """A new file that holds what was read, compressed or unpacked: as `gzip -k` leaves it."""
        read = self._read.get(self.root, {})
        for packed in (name + ending for ending in COMPRESSED if name + ending in read):
            size = path.stat().st_size
            if _unpacked_digest(Path(self.root, packed), size) == _digest(path, size):
                return Place("link", of=packed)
        plain = Path(name).with_suffix("").as_posix()
        if path.suffix not in COMPRESSED or plain not in read:
            return None
        mark = Mark(*read[plain])
        if _unpacked_digest(path, mark.size) != mark.digest:
            return None
        if mark.state(Path(self.root, plain)) in ("same", "grown"):
            return Place("link", of=plain)
        self._remove(self.root, plain)
        self._add(self.root, {name: Mark.of(path, mark.rows)})
        return Place("same", mark.rows, of=plain)

    def _candidates(self, here: Mark) -> list[tuple[str, str]]:
        """Files that were read, of the same inode or the same size as a new one."""
        found = {**self._alike.get(_inode(here), {}), **self._alike.get((here.size,), {})}
        return list(found) if here.size else []

    def _add(self, folder: str, marks: dict[str, Mark]) -> None:
        listed = {name: mark.list() for name, mark in marks.items()}
        self._read = {**self._read, folder: {**self._read.get(folder, {}), **listed}}
        for name, mark in marks.items():
            for key in (_inode(mark), (mark.size,)):
                self._alike.setdefault(key, {})[folder, name] = None

    def _remove(self, folder: str, name: str) -> None:
        mark = Mark(*self._read[folder][name])
        rest = {k: v for k, v in self._read[folder].items() if k != name}
        self._read = {**self._read, folder: rest}
        for key in (_inode(mark), (mark.size,)):
            self._alike[key].pop((folder, name), None)


def _inode(mark: Mark) -> tuple[int, int]:
    return mark.device, mark.inode


def _digest(path: Path, size: int) -> str:
    """Hash of the first and last bytes of a file's first `size` bytes."""
    h = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        h.update(file.read(min(size, EDGE)))
        file.seek(max(0, size - EDGE))
        h.update(file.read(min(size, EDGE)))
    return h.hexdigest()


def _unpacked_digest(path: Path, size: int) -> str | None:
    """As `_digest`, of what a compressed file holds; None if that is not `size` bytes."""
    head = tail = b""
    length = 0
    try:
        with pa.input_stream(str(path), compression="detect") as file:
            while length <= size and (data := file.read(1 << 20)):
                length += len(data)
                head = (head + data)[:EDGE] if len(head) < EDGE else head
                tail = (tail + data)[-EDGE:]
    except (OSError, pa.ArrowException):
        return None
    if length != size:
        return None
    return hashlib.blake2b(head + tail, digest_size=8).hexdigest()
