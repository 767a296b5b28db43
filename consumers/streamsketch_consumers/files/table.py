"""Files as one table, read as the file source reads them: what `init` and `evaluate` look at."""

from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import Any

import pyarrow as pa

from streamsketch.schema import Schema
from streamsketch.schema.columns import arrow_type
from streamsketch_consumers.columns import Reading, text_type
from streamsketch_consumers.files.every import EveryFile
from streamsketch_consumers.files.formats import (
    format_of,
)
from streamsketch_consumers.files.sniff import sniffed
from streamsketch_consumers.files.source import make
from streamsketch_consumers.files.survey import Survey, survey

__all__ = ["Survey", "admitted", "format_of", "read", "survey"]


def read(path: str, schema: Schema, asked: Mapping[str, Any] | None = None) -> pa.Table:
    """All good rows of files, each column read as the schema's type of it.

    Columns that are derived are read too; those that the files lack are left out.

    Raises:
        ConfigError, DataError: As `survey`.
    """
    files = EveryFile(path, dict(asked or {}))
    settings = {**sniffed(files.paths, files.kind, files.asked), **files.asked}
    readings = {
        c.name: Reading(text_type(c), arrow_type(c.type))
        for c in schema.columns
        if c.encoded or c.kind == "derived"
    }
    there: set[str] = set()
    batches = []
    for piece, names in files.pieces(readings, settings):
        there |= set(names)
        batches.append(piece.batch)
    table = pa.Table.from_batches(batches)
    return table.select([n for n in readings if n in there])


def admitted(
    settings: Mapping[str, Any], schema: Schema, seconds: float
) -> tuple[int, Counter[str], bool]:
    """What consuming the files would refuse: rows looked at, reasons with their rows, and whether all were.

    Args:
        settings: Of the file source.
        schema: What is declared.
        seconds: Look no longer than that.
    """
    source = make(settings, schema)
    source.open(_Alone())
    until, rows, reasons = monotonic() + seconds, 0, Counter[str]()
    while not source.finished and monotonic() < until:
        for chunk in source.poll(0.0):
            rows += len(chunk.dead)
            reasons.update(dead.reason for dead in chunk.dead)
            if chunk.batch is not None:
                rows += chunk.batch.num_rows
                refused = {
                    r.row: f"column {r.column!r}: {r.reason}"
                    for r in schema.encode(chunk.batch).rejected
                }
                reasons.update(refused.values())
    source.close()
    return rows, reasons, source.finished


class _Alone:
    """Nobody else reads these files."""

    def claim(self, part: str) -> None:
        """From the beginning."""

    def revoke(self, part: str) -> None:
        """Nothing to do."""

    def lose(self, part: str) -> None:
        """Nothing to do."""

    def read_before(self) -> list[str]:
        """Nothing."""
        return []
