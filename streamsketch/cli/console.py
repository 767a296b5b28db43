"""What commands share: consoles, progress on a terminal, tables from files, rows to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamsketch.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from streamsketch.storage.store import Store

SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip


def out() -> Console:
    """Standard output. Tables only; plain text where it is no terminal."""
    from rich.console import Console

    # A pipe has no width: what reads it should not get folded lines.
    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 200)


def err() -> Console:
    """Standard error: progress, notes, warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line to standard error."""
    sys.stderr.write(message + "\n")


def print_json(value: Any) -> None:
    """One JSON document to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@contextmanager
def working(message: str) -> Iterator[None]:
    """A spinner on a terminal, one plain line elsewhere."""
    console = err()
    if not console.is_terminal:
        say(message)
        yield
        return
    with console.status(message):
        yield


def read_table(path: str) -> pa.Table:
    """All rows of a Parquet, CSV, JSON-lines or Arrow file, or of a folder of one kind.

    Raises:
        ConfigError: it does not exist, or its format is not known.
        DataError: it cannot be read as that format.
    """
    with _reading(path) as found:
        return found.to_table()


@contextmanager
def _reading(path: str) -> Iterator[Any]:
    """The data set of a path; what goes wrong in the block is told in one sentence."""
    import pyarrow as pa
    from pyarrow import dataset

    suffix = _suffix(path)
    kind = SUFFIXES[suffix]
    folder = Path(path)
    files = sorted(str(p) for p in folder.glob(f"*{suffix}")) if folder.is_dir() else path
    try:
        yield dataset.dataset(files, format=kind)
    except (FileNotFoundError, IsADirectoryError) as error:
        msg = f"There is no file {path!r}; give a Parquet, CSV, JSON-lines or Arrow file."
        raise ConfigError(msg) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        msg = f"Cannot read {path!r} as {kind}: {reason}"
        raise DataError(msg) from error


def _suffix(path: str) -> str:
    """What tells the format: of a folder, the suffix that most of its files have."""
    name = Path(path)
    if name.is_dir():
        inside = [p.suffix.lower() for p in name.iterdir() if p.suffix.lower() in SUFFIXES]
        if not inside:
            msg = f"The folder {path!r} holds no file that ends in {', '.join(SUFFIXES)}."
            raise ConfigError(msg)
        return max(sorted(set(inside)), key=inside.count)
    suffix = name.suffix.lower()
    if suffix not in SUFFIXES:
        msg = (
            f"Cannot tell the format of {path!r} by its name; it should end in one of "
            f"{', '.join(SUFFIXES)}."
        )
        raise ConfigError(msg)
    return suffix


def open_store(path: str) -> Store:
    """The store of a folder, a URL, or a pipeline file.

    Raises:
        ConfigError: there is none.
    """
    from streamsketch.storage.store import Store

    if path.endswith(".toml"):
        from streamsketch.run.config import load

        return load(path).store()
    store = Store(path)
    if not store.fs.exists(store.root):
        msg = (
            f"There is no store at {path!r}; give the folder that [store] path names, its "
            "pipeline file, or run the pipeline first."
        )
        raise ConfigError(msg)
    return store
