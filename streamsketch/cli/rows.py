"""Rows to a file or to standard output, in the format that the name asks for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamsketch.cli.console import SUFFIXES
from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def write_rows(table: pa.Table, output: str) -> None:
    """Write a table whole: a reader never finds half of a file.

    Args:
        table: the rows.
        output: a file name that ends in a known suffix, or "-" for JSON lines on standard output.

    Raises:
        ConfigError: the name does not tell a format, or its folder does not exist.
    """
    if output == "-":
        write_lines(table)
        return
    path = Path(output)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        msg = (
            f"Cannot tell the format of {output!r}; end it in one of {', '.join(SUFFIXES)}, or -."
        )
        raise ConfigError(msg)
    if not path.parent.is_dir():
        msg = f"There is no folder {str(path.parent)!r} to write {path.name} to; make it first."
        raise ConfigError(msg)
    part = path.with_name(f".{path.name}.part")
    try:
        _write(table, part, kind)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_lines(table: pa.Table) -> None:
    """One JSON object for each row to standard output; times as ISO text."""
    for batch in table.to_batches(max_chunksize=4096):
        lines = [json.dumps(row, default=str) for row in batch.to_pylist()]
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")


def _write(table: pa.Table, path: Path, kind: str) -> None:
    from pyarrow import csv, feather, parquet

    if kind == "parquet":
        parquet.write_table(table, path)
    elif kind == "ipc":
        feather.write_feather(table, str(path), compression="uncompressed")
    elif kind == "csv":
        csv.write_csv(table, path)
    else:
        with path.open("w", encoding="utf-8") as file:
            for row in table.to_pylist():
                file.write(json.dumps(row, default=str) + "\n")
