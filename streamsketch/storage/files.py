"""One file format for all state: arrays and a JSON body, checksummed, written atomically.

A file is a safetensors file whose header carries the format number, the kind, the body as JSON
and a SHA-256 over all of it. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DamagedFileError, StoreError
from streamsketch.plain import first_line

__all__ = [
    "FORMAT",
    "digest",
    "pack",
    "parsing",
    "read_file",
    "private",
    "remove_leftovers",
    "secret_folder",
    "sync_folder",
    "unpack",
    "vector",
    "whole",
    "write_atomic",
]

FORMAT = 1
MAX_BYTES = 1 << 31

Arrays = dict[str, NDArray[Any]]


def pack(kind: str, arrays: Arrays, body: dict[str, Any]) -> bytes:
    """A file's bytes.

    Args:
        kind: What it is: snapshot, checkpoint, resume ...
        arrays: Named arrays of a plain number type.
        body: JSON values.

    Example:
        >>> data = pack("note", {"a": np.arange(3)}, {"text": "hi"})
        >>> arrays, body = unpack(data, "note")
        >>> arrays["a"].tolist(), body
        ([0, 1, 2], {'text': 'hi'})
    """
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = _json(body)
    meta = {
        "format": str(FORMAT),
        "kind": kind,
        "body": text,
        "sha256": _digest(kind, text, tensors),
    }
    return save(tensors, metadata=meta)


def digest(kind: str, arrays: Arrays, body: dict[str, Any]) -> str:
    """SHA-256 (hex) of a file's content; the bytes of equal files may order the header differently."""
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return _digest(kind, _json(body), tensors)


def unpack(data: bytes, kind: str, name: str = "the data") -> tuple[Arrays, dict[str, Any]]:
    """Arrays and body of a file's bytes; `name` is shown in errors.

    Raises:
        DamagedFileError: Truncated, altered, of another kind or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(data) > MAX_BYTES:
        raise DamagedFileError(
            f"{name} has {len(data)} bytes, more than the {MAX_BYTES} that are read"
        )
    try:
        meta = _metadata(data)
        tensors = load(data)
        found, text, checksum = meta["kind"], meta["body"], meta["sha256"]
        number = int(meta["format"])
    except (SafetensorError, *_UNFIT) as e:
        raise DamagedFileError(
            f"{name} is damaged or not a streamsketch file ({e or type(e).__name__})"
        ) from None
    if number > FORMAT:
        raise DamagedFileError(
            f"{name} has format {number}, newer than the {FORMAT} that this version reads; upgrade"
        )
    if found != kind:
        raise DamagedFileError(f"{name} holds a {found}, not a {kind}")
    if checksum != _digest(kind, text, tensors):
        raise DamagedFileError(f"{name} is damaged: its checksum does not match its content")
    with parsing(name):
        body: dict[str, Any] = json.loads(text)
        if not isinstance(body, dict):
            raise TypeError("its body is no table")
    return tensors, body


#: What code raises that is handed values of a wrong type, shape or size.
_UNFIT = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    ConfigError,
)


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """A checksum is no validation: what does not fit together in here is a damaged file.

    Args:
        name: The file, for the message.

    Raises:
        DamagedFileError: The block met a missing key, or a value of a wrong type, shape or range.

    >>> with parsing("a.safetensors"):
    ...     whole({"count": -5}, "count")
    Traceback (most recent call last):
    streamsketch.errors.DamagedFileError: a.safetensors is damaged: count is -5, not a whole number of 0 or more
    """
    try:
        yield
    except _UNFIT as e:
        missing = " is missing" if isinstance(e, KeyError) else ""
        raise DamagedFileError(f"{name} is damaged: {first_line(e)}{missing}") from None


def whole(body: dict[str, Any], key: str, least: int = 0, most: int = (1 << 63) - 1) -> int:
    """A whole number of a body, within bounds. Raises KeyError or ValueError."""
    value = body[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(
            f"{key} is {str(value)[:40]}, not a whole number of {least} or more"
            + ("" if most == (1 << 63) - 1 else f" and at most {most}")
        )
    return value


def vector(arrays: Arrays, key: str, kind: Any, length: int | None = None) -> NDArray[Any]:
    """A vector of a file: of this type, finite, and of this length where one is given.

    Raises KeyError or ValueError.
    """
    found = arrays[key]
    if found.ndim != 1 or found.dtype != kind or (length is not None and len(found) != length):
        wanted = "" if length is None else f"{length} "
        raise ValueError(
            f"{key} has shape {found.shape} and type {found.dtype}, not {wanted}numbers of {np.dtype(kind)}"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{key} holds values that are not finite")
    return found


def write_atomic(path: str | Path, data: bytes, mode: int = 0o644, fsync: bool = True) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a mixture.

    Raises:
        StoreError: The disk refuses (full, read-only); what was there before is still there.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fchmod(f.fileno(), mode)
            if fsync:
                os.fsync(f.fileno())
        Path(temporary).replace(path)
        temporary = None
        if fsync:
            sync_folder(path.parent)
    except OSError as e:
        raise StoreError(
            f"cannot write {path}: {e.strerror or e}; what it held before is unchanged, free space or correct "
            "permissions and try again"
        ) from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes left behind that died while they wrote this file; nobody may be writing it."""
    path = Path(path)
    if path.parent.is_dir():
        for found in path.parent.iterdir():
            if found.name.startswith(f".{path.name}.") and found.suffix == ".tmp":
                found.unlink(missing_ok=True)


def private(path: str, flags: int) -> int:
    """An opener for `open`: a file that it makes can be read by its owner only."""
    return os.open(path, flags, 0o600)


def secret_folder(folder: Path) -> Path:
    """Make a folder that only its owner may enter, also where it was there before.

    Raises:
        StoreError: It cannot be made, or is another user's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as e:
        raise StoreError(
            f"cannot make the state folder {folder} private (mode 0700): {e.strerror or e}"
        ) from None
    return folder


def read_file(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise StoreError(f"cannot read {path}: {e.strerror or e}") from None


def sync_folder(folder: Path) -> None:
    """Make sure that a rename in the folder outlasts a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        raise ValueError("truncated")
    meta: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return meta


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, allow_nan=False)


def _digest(kind: str, body: str, arrays: Arrays) -> str:
    h = hashlib.sha256(f"{FORMAT}\0{kind}\0{body}".encode())
    for name in sorted(arrays):
        array = arrays[name]
        h.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        h.update(array.tobytes())
    return h.hexdigest()
