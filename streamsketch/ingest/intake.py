"""From a source's chunk to the rows that count and those that do not."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamsketch.errors import DataError, SchemaError
from streamsketch.ingest.admission import Admission
from streamsketch.ingest.limits import Limits, NoLimits
from streamsketch.ingest.parts import PartState
from streamsketch.ingest.reading import read
from streamsketch.ingest.refusal import Accepted, Kind, Refusal, as_dead
from streamsketch.ingest.streams import Chunk, Dead
from streamsketch.ingest.windows import Windows
from streamsketch.schema import Schema

__all__ = ["Intake"]

FREE = NoLimits()
OVER = "its user has added as many rows as a user may"


class Intake:
    """Judges rows: the schema's rules, windows and duplicates, users' limits, in this order.

    Args:
        schema: The columns.
        windows: Cuts the stream by event time.
        record_ids: How many record ids are kept of each part to leave out rows that come twice.
        limits: What each user may add.
        strict: The first bad row raises, before anything of its chunk counts.
    """

    def __init__(
        self,
        schema: Schema,
        windows: Windows | None = None,
        record_ids: int | None = None,
        limits: Limits = FREE,
        strict: bool = False,
    ) -> None:
        self.schema = schema
        self.admission = Admission(schema, windows, record_ids, strict)
        self.limits = limits
        self.strict = strict

    def accept(self, part: PartState, chunk: Chunk, closed: int | None) -> Accepted:
        """Judge a chunk; the part's watermark and record ids move on.

        Args:
            part: The part it belongs to.
            chunk: What the source handed out.
            closed: Every window below this number is closed.

        Raises:
            DataError: A bad row, where this is strict, or rows in more windows than may be open.
        """
        self._stop_at(chunk.dead, dict(chunk.where))
        if chunk.batch is None or not chunk.batch.num_rows:
            return self._nothing(chunk, [])
        try:
            rows = read(self.schema, self.admission, chunk.batch)
        except (SchemaError, DataError) as e:
            if self.strict:
                raise
            every = [Refusal(row, str(e)) for row in range(chunk.batch.num_rows)]
            return self._nothing(chunk, every)
        encoded, facts, refused = rows.encoded, rows.facts, rows.refused
        if self.strict:
            self._stop_at(as_dead(chunk, refused[:1]), {})
        admitted = self.admission.admit(part, facts, closed)
        kept = np.flatnonzero(admitted.keep)
        within = self.limits.admit(encoded.users, kept)
        refused = [*refused, *admitted.refused]
        refused += [Refusal(int(row), OVER, "limit") for row in encoded.rows[kept[~within]]]
        keep, windows = kept[within], admitted.windows
        x, labels = encoded.x, encoded.labels
        if len(keep) < len(x):
            x, labels = x[keep], None if labels is None else labels[keep]
        windows = None if windows is None else windows[within]
        return Accepted(x, labels, windows, *_set_apart(chunk, refused))

    def _nothing(self, chunk: Chunk, refused: Sequence[Refusal]) -> Accepted:
        """No row of a chunk counts."""
        none = np.empty((0, self.schema.d), np.float32)
        return Accepted(none, None, None, *_set_apart(chunk, refused), readable=False)

    def _stop_at(self, dead: Sequence[Dead], where: dict[str, Any]) -> None:
        if dead and self.strict:
            place = dict(dead[0].where) or where
            raise DataError(f'{dead[0].reason} at {place}; correct it, or set on_error = "dlq"')


def _set_apart(chunk: Chunk, refused: Sequence[Refusal]) -> tuple[list[Dead], Counter[Kind]]:
    """What is written down of a chunk's rows that do not count, and how many they are."""
    counts: Counter[Kind] = Counter(r.kind for r in refused)
    counts["bad"] += len(chunk.dead)
    return [*chunk.dead, *as_dead(chunk, refused)], counts
