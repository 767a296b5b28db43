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

    from streamsketch.store import Store

SUFFIXES = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc",
    ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip


def out() -> Console:
    """Standard output. Tables only; plain text where it is no terminal."""
    from rich.console import Console

    # A pipe has no width: what reads it should not get folded lines.
    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)


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


def read_table(path: str, rows: int | None = None) -> pa.Table:
    """Rows of a Parquet, CSV, JSON-lines or Arrow file, or of a folder of one kind.

    Args:
        path: file, folder or URL.
        rows: the first rows only.

    Raises:
        ConfigError: it does not exist, or its format is not known.
        DataError: it cannot be read as that format.
    """
    import pyarrow as pa
    from pyarrow import dataset

    kind = _format(path)
    try:
        found = dataset.dataset(path, format=kind)
        return found.head(rows) if rows is not None else found.to_table()
    except (FileNotFoundError, IsADirectoryError) as error:
        msg = f"There is no file {path!r}; give a Parquet, CSV, JSON-lines or Arrow file."
        raise ConfigError(msg) from error
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        msg = f"Cannot read {path!r} as {kind}: {reason}"
        raise DataError(msg) from error


def _format(path: str) -> str:
    name = Path(path)
    if name.is_dir():
        inside = sorted(p.suffix.lower() for p in name.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            msg = f"The folder {path!r} holds no file that ends in {', '.join(SUFFIXES)}."
            raise ConfigError(msg)
        return SUFFIXES[inside[0]]
    suffix = name.suffix.lower()
    if suffix not in SUFFIXES:
        msg = (
            f"Cannot tell the format of {path!r} by its name; it should end in one of "
            f"{', '.join(SUFFIXES)}."
        )
        raise ConfigError(msg)
    return SUFFIXES[suffix]


def open_store(path: str) -> Store:
    """The store of a folder, a URL, or a pipeline file.

    Raises:
        ConfigError: there is none.
    """
    from streamsketch.store import Store

    if path.endswith(".toml"):
        from streamsketch.config import load

        return load(path).store()
    store = Store(path)
    if not store.fs.exists(store.root):
        msg = (
            f"There is no store at {path!r}; give the folder that [store] path names, its "
            "pipeline file, or run the pipeline first."
        )
        raise ConfigError(msg)
    return store
