"""Dead letters as rows again: what `streamsketch redrive` reads."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamsketch.errors import ConfigError
from streamsketch.storage.files import write_atomic

if TYPE_CHECKING:
    from streamsketch.run.config import Pipeline

__all__ = ["collect"]


def collect(pipeline: "Pipeline", files: Sequence[str] = ()) -> tuple[Path | None, int, int]:
    """Put the rows of dead letters into a folder of JSON lines, which is read like any source.

    Files of rows are written before the letters are put aside: a process that dies in between
    reads them at the next call, once, as the source's position is saved with the sums. Names go up.

    Args:
        pipeline: Whose store holds the letters.
        files: Files of dead letters; the store's own if empty.

    Returns:
        The folder of rows, None if it holds none; how many letters were added; and how many hold
        no JSON object, which stay where they are.

    Raises:
        ConfigError: A file is not there.
    """
    dead = pipeline.store().dead
    paths = [Path(f) for f in files] or sorted(dead.glob("member-*.jsonl*"))
    rows: list[str] = []
    other = 0
    done: list[tuple[Path, list[str]]] = []
    unwrap = str(getattr(pipeline.source.settings, "unwrap", ""))
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as e:
            raise ConfigError(
                f"there is no file of dead letters {str(path)!r} ({e.strerror})"
            ) from None
        kept = []
        for line in lines:
            found = _row(line, unwrap)
            if found is None:
                kept.append(line)
            else:
                rows.append(found)
        other += len(kept)
        done.append((path, kept))
    folder = dead / "redrive"
    if rows:
        write_atomic(
            folder / f"{time.time_ns():020d}.jsonl",
            "".join(f"{r}\n" for r in rows).encode(),
            0o600,
        )
        for path, kept in done:
            _put_aside(path, dead / "redriven", kept)
    there = folder.is_dir() and any(folder.glob("*.jsonl"))
    return (folder if there else None), len(rows), other


def _row(line: str, unwrap: str) -> str | None:
    """The row of a letter as JSON text, None where it is no object."""
    try:
        row: Any = json.loads(json.loads(line)["raw"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    inner = row
    for name in unwrap.split(".") if unwrap else ():
        inner = inner.get(name) if isinstance(inner, dict) else None
    row = inner if isinstance(inner, dict) else row  # a row that was refused is unwrapped already
    return json.dumps(row) if isinstance(row, dict) else None


def _put_aside(path: Path, folder: Path, kept: Sequence[str]) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    path.rename(folder / f"{path.name}.{time.time_ns()}")
    if kept:
        write_atomic(path, "".join(f"{line}\n" for line in kept).encode(), 0o600)
