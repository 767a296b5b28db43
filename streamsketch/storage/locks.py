"""File locks of the operating system: the kernel frees them however a process ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamsketch.errors import LockedError, StoreError

__all__ = ["SHARED", "hold", "locked"]

SHARED = fcntl.LOCK_SH


@contextmanager
def locked(path: str | Path, how: int = fcntl.LOCK_EX, mode: int = 0o600) -> Iterator[None]:
    """Hold a lock for a moment; others wait their turn.

    Args:
        path: The lock's own file, which is made where there is none and stays; or a folder.
        how: Exclusive, or `SHARED` with others that hold it shared.
        mode: Permissions of the file where it is made.

    Raises:
        StoreError: The file cannot be opened.
    """
    handle = _open(Path(path), mode)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def hold(path: str | Path, what: str) -> int:
    """Take a lock for as long as the handle that is returned stays open; it names its holder.

    Args:
        path: The lock's own file.
        what: What it guards, for the message, such as `part 'files'`.

    Raises:
        LockedError: A live process holds it.
        StoreError: The file cannot be opened.
    """
    handle = _open(Path(path), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise LockedError(
            f"{what} is held by another process (pid {holder}); stop it, or use another store"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def _open(path: Path, mode: int) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, mode)
    except OSError as e:
        raise StoreError(f"cannot open the lock {path}: {e.strerror or e}") from None
