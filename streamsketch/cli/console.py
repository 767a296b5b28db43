"""What commands share: consoles, progress on a terminal, tables from files, rows to files."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamsketch.plain import plain

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from streamsketch.schema import Schema


def out() -> "Console":
    """Standard output. Tables only; plain text where it is no terminal."""
    from rich.console import Console

    # A pipe has no width: what reads it should not get folded lines.
    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 200)


def err() -> "Console":
    """Standard error: progress, notes, warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line to standard error."""
    sys.stderr.write(plain(message, keep="\n") + "\n")


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
    from rich.markup import escape

    with console.status(escape(plain(message))):
        yield


def read_table(path: str, schema: "Schema | None" = None) -> "pa.Table":
    """All rows of a Parquet, CSV, JSON-lines or Arrow file, or of a folder of one kind.

    Args:
        path: Where they are.
        schema: Read columns as these types; else as their values are, in all rows.

    Raises:
        ConfigError: it does not exist, or its format is not known.
        DataError: it cannot be read as that format.
    """
    from streamsketch.ingest.streams import plugin

    tables = plugin("tables", "files")
    if schema is not None:
        table: pa.Table = tables.read(path, schema)
        return table
    found: pa.Table = tables.survey(path, sys.maxsize).table
    return found


def is_rows(path: str) -> bool:
    """Whether a path names a file of rows, by its suffix."""
    from streamsketch.ingest.streams import plugin

    return plugin("tables", "files").format_of(path) is not None
