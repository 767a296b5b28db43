"""What came of a chunk: rows that count, and of the others why not and what is written down.

Nothing here can fail at a row.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.ingest.streams import Chunk, Dead
from streamsketch.schema.plain import plain

__all__ = ["Accepted", "Kind", "Refusal", "as_dead"]

TEXT_KEPT = 1 << 14  # characters of a value that are written down
#: `bad` and `late` rows are written down; of the others it is enough to know how many came.
Kind = Literal["bad", "late", "limit", "duplicate"]


@dataclass(frozen=True)
class Accepted:
    """What came of a chunk.

    Attributes:
        x: (n, d) encoded rows that count.
        labels: (n,) their label codes, where the schema has a label.
        windows: (n,) into which window each goes; None without windows.
        dead: What is written down of rows that do not count.
        refused: How many rows do not count, of each kind.
        readable: Whether the schema could read the rows at all.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    windows: NDArray[np.int64] | None
    dead: Sequence[Dead]
    refused: Counter[Kind]
    readable: bool = True


@dataclass(frozen=True)
class Refusal:
    """A row of a batch that does not count.

    Attributes:
        row: Its number in the batch.
        reason: Why, in a few words.
        kind: `bad`; `late`; over its user's `limit`; or a `duplicate`.
    """

    row: int
    reason: str
    kind: Kind = "bad"


def as_dead(chunk: Chunk, refused: Sequence[Refusal]) -> list[Dead]:
    """What is written down of refused rows of a chunk, each with its place in the stream."""
    written = [r for r in refused if r.kind in ("bad", "late")]
    if not written or chunk.batch is None:
        return []
    return [Dead(_text(chunk.batch, r.row), r.reason, _place(chunk, r.row)) for r in written]


def _place(chunk: Chunk, row: int) -> dict[str, Any]:
    """Where a row of a chunk stands in the stream."""
    where = dict(chunk.where)
    rows = where.pop("rows", None)
    if rows is not None:
        return {**where, **rows[row]}
    return where | {"row": where.get("row", 0) + row}


def _text(batch: pa.RecordBatch, row: int) -> str:
    """A row as JSON text."""
    columns = zip(batch.schema.names, batch.columns, strict=True)
    values = {name: _kept(plain(column[row])) for name, column in columns}
    try:
        return json.dumps(values, default=str)
    except Exception:  # nested beyond what Python takes, or keys that are no text
        return json.dumps({name: _shown(value) for name, value in values.items()})


def _kept(value: Any) -> Any:
    """A long text cut: rows may share one in a small file, and each would be written in full."""
    if isinstance(value, str) and len(value) > TEXT_KEPT:
        return f"{value[:TEXT_KEPT]}... ({len(value)} characters)"
    return value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping | list):
        return f"<{type(value).__name__} of {len(value)}>"
    try:
        return str(value)
    except Exception:  # such as an int of too many digits
        return f"<{type(value).__name__}>"
