"""The store: numbered snapshots and checkpoints in a folder or behind any fsspec URL.

```
STORE/
  snapshots/snapshot-00000000.safetensors      publishable
  checkpoints/checkpoint-00000000.safetensors  publishable
  samples/, reports/                           publishable
  state/                                       secret: sums, positions, ledger (local disk, 0700)
```

Where consumers run on several machines, sums, positions and ledger lie in an object store instead (`shared`).
"""

import logging
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar, cast

from streamsketch.errors import ConfigError, DamagedFileError, StoreError
from streamsketch.storage.clock import Clock
from streamsketch.storage.files import remove_leftovers, secret_folder, write_atomic
from streamsketch.storage.locks import locked
from streamsketch.storage.objects import SCHEMES, ObjectRecords
from streamsketch.storage.records import FolderRecords, Records

__all__ = ["Family", "Store"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Family:
    """Numbered files of one kind in one folder of the store.

    Args:
        fs: An fsspec filesystem.
        folder: Path of the folder on it.
        kind: First part of the file names, such as `snapshot`.
        clock: Tells how old files are: a clock that jumps must not remove them.
    """

    def __init__(self, fs: Any, folder: str, kind: str, clock: Clock | None = None) -> None:
        self.fs = fs
        self.clock = clock or Clock()
        self._put: dict[str, float] = {}  # when this process wrote what it wrote
        self.folder = folder
        self.kind = kind
        self._pattern = re.compile(rf"^{kind}-(\d{{8}})\.safetensors$")

    def names(self) -> list[str]:
        """File names, oldest first."""
        try:
            found = self.fs.ls(self.folder, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        except OSError as e:
            raise StoreError(f"cannot list {self.folder}: {e}") from None
        return sorted(n for n in (p.rsplit("/", 1)[-1] for p in found) if self._pattern.match(n))

    def path(self, name: str) -> str:
        """Full path of a file of the family.

        Raises:
            StoreError: The name is not one of the family's (paths cannot leave the folder).
        """
        if not self._pattern.match(name):
            raise StoreError(
                f"{name!r} is not the name of a {self.kind} (like {self.kind}-00000000.safetensors)"
            )
        return f"{self.folder}/{name}"

    def number(self, name: str) -> int:
        """The number in a name."""
        match = self._pattern.match(name)
        if match is None:
            raise StoreError(f"{name!r} is not the name of a {self.kind}")
        return int(match[1])

    def put(self, data: bytes, number: int | None = None) -> str:
        """Write a file atomically; returns its name.

        Args:
            data: Its bytes.
            number: Its number; the next free one by default. What a number holds is never
                replaced; writing the same bytes again changes nothing.

        Raises:
            StoreError: The disk or the remote end refuses, or the number holds something else.
        """
        if _is_local(self.fs):
            with locked(_made(self.folder)):
                name = self._name(number)
                path = Path(self.path(name))
                remove_leftovers(path)
                if not path.exists():
                    write_atomic(path, data)
                elif path.read_bytes() != data:
                    raise self._taken(name)
        else:
            name = self._name(number)
            while not self._created(name, data):
                if number is not None:
                    raise self._taken(name)
                name = self._name(number)  # another process was faster
        self._put[name] = self.clock.now()
        return name

    def _created(self, name: str, data: bytes) -> bool:
        """Write a file behind a URL that is not there; whether it holds these bytes now."""
        try:
            self.fs.makedirs(self.folder, exist_ok=True)
            self.fs.pipe_file(self.path(name), data, mode="create")
        except FileExistsError:
            return self.read(name) == data
        except OSError as e:
            raise StoreError(f"cannot write {self.path(name)}: {e}") from None
        return True

    def _taken(self, name: str) -> StoreError:
        return StoreError(
            f"{self.path(name)} already holds another {self.kind}, which is never replaced; move it "
            "away, or use another store"
        )

    def _name(self, number: int | None) -> str:
        """The name of a number, or of the next one that is free."""
        if number is None:
            names = self.names()
            number = self.number(names[-1]) + 1 if names else 0
        return f"{self.kind}-{number:08d}.safetensors"

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            data: bytes = self.fs.cat_file(self.path(name))
        except OSError as e:
            raise StoreError(f"cannot read {self.path(name)}: {e}") from None
        return data

    def newest(self, parse: Callable[[bytes, str], T]) -> tuple[str, T] | None:
        """Name and value of the newest sound file; others are named in the log and passed over.

        Args:
            parse: From bytes and the path (for messages) to the value.

        Raises:
            StoreError: None is sound, and the oldest could not even be read.
        """
        unread: StoreError | None = None
        for name in reversed(self.names()):
            try:
                return name, parse(self.read(name), self.path(name))
            except StoreError as e:
                unread = None if isinstance(e, DamagedFileError) else e
                log.warning("%s; the previous %s is used", e, self.kind)
        if unread is not None:
            raise unread
        return None

    def retain(self, keep: int | None = None, max_age: float | None = None) -> list[str]:
        """Remove old files, never the newest; returns what was removed.

        Args:
            keep: How many to keep at most; None for no limit.
            max_age: Seconds since writing beyond which a file goes; None for no limit.
        """
        names = self.names()[:-1]
        old = names[: max(0, len(names) + 1 - max(keep, 1))] if keep is not None else []
        if max_age is not None:
            limit = self.clock.now() - max_age
            old += [n for n in names if n not in old and self._written(n) < limit]
        for name in old:
            self.fs.rm_file(self.path(name))
            self._put.pop(name, None)
        return old

    def _written(self, name: str) -> float:
        """When a file was written: by this process's own clock if it wrote it."""
        if name in self._put:
            return self._put[name]
        info = self.fs.info(self.path(name))
        names = ("mtime", "created", "last_modified", "LastModified")
        stamp = next((info[name] for name in names if info.get(name)), self.clock.now())
        return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp)


class Store:
    """A folder or fsspec URL for what is published, and a local folder for what is secret.

    Args:
        url: Folder or URL, such as `runs/flights` or `s3://bucket/flights`.
        state: Local folder for the secret state; `URL/state` by default where URL is local.
        shared: URL of an object store for that part of the secret state that consumers on several
            machines share; the local folder by default.

    Example:
        >>> store = Store("memory://doc", state="unused")
        >>> store.snapshots.put(b"first"), store.snapshots.put(b"second")
        ('snapshot-00000000.safetensors', 'snapshot-00000001.safetensors')
        >>> store.snapshots.retain(keep=1), store.snapshots.names()
        (['snapshot-00000000.safetensors'], ['snapshot-00000001.safetensors'])
    """

    def __init__(
        self, url: str | Path, state: str | Path | None = None, shared: str | None = None
    ) -> None:
        self.url = str(url)
        try:
            self.fs, root = _opened(self.url)
        except (ValueError, ImportError) as e:
            raise ConfigError(f"store path {self.url!r} cannot be opened: {e}") from None
        self.root = root.rstrip("/")
        self.local = _is_local(self.fs)
        self.snapshots = Family(self.fs, f"{self.root}/snapshots", "snapshot")
        self.checkpoints = Family(self.fs, f"{self.root}/checkpoints", "checkpoint")
        self._state = Path(state) if state is not None else None
        self.shared = shared

    @property
    def state_path(self) -> Path | None:
        """Where the secret state is or would be, not made; None where no folder was declared."""
        if self._state is not None:
            return self._state
        return Path(self.root) / "state" if self.local else None

    @property
    def state_dir(self) -> Path:
        """The local folder of secret state, made (mode 0700) when first asked for.

        Raises:
            ConfigError: The store is remote and no folder was declared.
        """
        folder = self.state_path
        if folder is None:
            raise ConfigError(
                f'the store {self.url} is remote; declare a local folder for sums and positions, [store] state = "..."'
            )
        return secret_folder(folder)

    @property
    def records(self) -> Records:
        """Where parts and releases are kept.

        Raises:
            ConfigError: As `state_dir`, or the object store has no conditional writes.
        """
        if self.shared is None:
            return FolderRecords(self.state_dir)
        return ObjectRecords(self.shared)

    @property
    def history(self) -> Path:
        """The local file with what was drawn: no row is drawn twice by who shares it."""
        if self.local:
            return Path(self.path("history/history.safetensors"))
        return self.state_dir / "history.safetensors"

    @property
    def dead(self) -> Path:
        """The local folder with unusable rows, a file `member-N.jsonl` for each member."""
        return secret_folder(self.state_dir / "dead")

    def path(self, name: str) -> str:
        """Path of a file in the store; for a local store, its folder is made."""
        path = f"{self.root}/{name}"
        if self.local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return path

    def __repr__(self) -> str:
        return f"Store({self.url!r})"


def _made(folder: str) -> Path:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise StoreError(f"cannot make the folder {folder}: {e.strerror or e}") from None
    return path


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError:
        if scheme not in SCHEMES or find_spec("obstore") is None:
            raise
        from streamsketch.storage.published import Published

        return cast(Any, Published)(scheme), url.partition("://")[2]
    return fs, root


def _is_local(fs: Any) -> bool:
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")
