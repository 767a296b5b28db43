"""Which encoded rows of a part count, and in which window: lateness and duplicates."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError, SchemaError
from streamsketch.ingest.dedup import RecentIds, keys
from streamsketch.ingest.refusal import Refusal
from streamsketch.ingest.windows import LATE, OK, Windows, microseconds

if TYPE_CHECKING:
    from streamsketch.ingest.part import PartState
    from streamsketch.schema import Schema

__all__ = ["Admission", "Admitted", "Facts"]

DUPLICATE, CROWDED = 3, 4
_NO_TIME = "no event time"
_OTHER_UNIT = (
    "no event time: numbers are seconds unless the schema names their unit, such as type = "
    '"timestamp[ms]"'
)


@dataclass(frozen=True)
class Facts:
    """What rows say of themselves; `use` (n,) bool is False where they do not.

    Attributes:
        rows: (n,) numbers of the rows in their batch.
        bad: The rows that are not used.
        times: (n,) event times in microseconds, with windows.
        keys: Hash of each row's record id, with deduplication.
    """

    use: NDArray[np.bool_]
    rows: NDArray[np.int64]
    bad: list[Refusal]
    times: NDArray[np.int64] | None = None
    keys: list[bytes] | None = None


@dataclass(frozen=True)
class Admitted:
    """Which rows count.

    Attributes:
        keep: (n,) bool.
        windows: Window numbers of the rows kept; None without windows.
        refused: The rows that are late, too far ahead, or came before.
    """

    keep: NDArray[np.bool_]
    windows: NDArray[np.int64] | None
    refused: list[Refusal]


class Admission:
    """The rules of one stream.

    Args:
        schema: Declares the record-id column.
        windows: Cuts the stream by event time.
        record_ids: How many ids of a part are kept to know rows that come twice.
        strict: Rows in more windows than may be open raise, instead of being refused.

    Raises:
        ConfigError: Deduplication without a record-id column.
    """

    def __init__(
        self,
        schema: "Schema",
        windows: Windows | None,
        record_ids: int | None,
        strict: bool = False,
    ) -> None:
        self.windows = windows
        self.strict = strict
        self.record_ids = record_ids
        self._id = schema.record_column
        named = (c for c in schema.columns if windows is not None and c.name == windows.time)
        self._time = next((c.arrow for c in named), None)
        if record_ids is not None and self._id is None:
            raise ConfigError(
                "deduplication needs the column that identifies a record; declare it in the schema "
                'with kind = "record_id"'
            )

    def take(self, part: "PartState") -> None:
        """Begin with a part that was claimed."""
        if self.record_ids is None:
            part.ids = None
        else:
            before = None if part.ids is None else part.ids.hashes()
            part.ids = RecentIds(self.record_ids, before)

    def read(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> Facts:
        """Times and ids of the given rows of a batch.

        Raises:
            SchemaError: A column is missing.
            DataError: The time's column is of a type that is no time.
        """
        use = np.ones(len(rows), bool)
        bad: list[Refusal] = []
        times = found = None
        if self.windows is not None:
            name = self.windows.time
            column = _column(batch, name, rows)
            times, without = microseconds(column, name, self._time)
            null = column.is_null().to_numpy(zero_copy_only=False)
            bad += [
                Refusal(int(rows[i]), f"column {name!r}: {_NO_TIME if null[i] else _OTHER_UNIT}")
                for i in np.flatnonzero(without)
            ]
            use &= ~without
        if self.record_ids is not None:
            ids = _column(batch, str(self._id), rows)
            without = ids.is_null().to_numpy(zero_copy_only=False)
            bad += [
                Refusal(int(row), f"column {self._id!r}: no record id")
                for row in rows[without & use]
            ]
            use &= ~without
            found = keys(ids)
        return Facts(use, rows, bad, times, found)

    def admit(self, part: "PartState", facts: Facts, closed: int | None) -> Admitted:
        """Judge rows in their order; the part's watermark and ids move on.

        A row that was counted before is a duplicate, even if it is late by now. Only rows that
        count are kept in mind: one that was refused may come again, corrected. Of rows that lie in
        more windows than may be open, those of the windows that come first count.

        Raises:
            DataError: There are such rows, where this is strict; nothing was changed.
        """
        use = np.flatnonzero(facts.use)
        index = None
        verdict = np.zeros(len(use), np.int8)
        watermark = part.watermark
        if self.windows is not None and facts.times is not None:
            index, verdict, watermark = self._place(facts.times[use], watermark, closed)
        if part.ids is not None and facts.keys is not None:
            for i, row in enumerate(use.tolist()):
                key = facts.keys[row]
                if part.ids.known(key):
                    verdict[i] = DUPLICATE
                elif verdict[i] == OK:
                    part.ids.add(key)
        part.watermark = watermark
        keep = np.zeros(len(facts.use), bool)
        keep[use[verdict == OK]] = True
        kept = None if index is None else index[verdict == OK]
        return Admitted(keep, kept, self._refused(facts, use, index, verdict))

    def _place(
        self, times: NDArray[np.int64], watermark: int | None, closed: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int8], int | None]:
        """As `Windows.place`, within as many windows as may be open; others move no watermark."""
        assert self.windows is not None
        index, verdict, after = self.windows.place(times, watermark, closed)
        found, first = np.unique(index[verdict == OK], return_index=True)
        if len(found) <= self.windows.max_open:
            return index, verdict, after
        if self.strict:
            raise DataError(f"{self._crowded()}, or set on_error")
        room = found[np.argsort(first)[: self.windows.max_open]]
        within = (verdict != OK) | np.isin(index, room)
        verdict[~within] = CROWDED
        _, verdict[within], after = self.windows.place(times[within], watermark, closed)
        return index, verdict, after

    def _refused(
        self,
        facts: Facts,
        use: NDArray[np.int64],
        index: NDArray[np.int64] | None,
        verdict: NDArray[np.int8],
    ) -> list[Refusal]:
        out = []
        for i in np.flatnonzero(verdict != OK).tolist():
            row = int(facts.rows[use[i]])
            if verdict[i] == DUPLICATE:
                out.append(Refusal(row, "its record id came before", "duplicate"))
            elif index is not None:
                out.append(self._untimely(row, int(index[i]), int(verdict[i])))
        return out

    def _untimely(self, row: int, window: int, verdict: int) -> Refusal:
        assert self.windows is not None
        start = self.windows.span(window)["start"]
        if verdict == CROWDED:
            return Refusal(row, f"{self._crowded()}, then send the rows refused through again")
        if verdict == LATE:
            return Refusal(row, f"late: the window from {start} had closed", "late")
        if self.windows.watermark == "clock":
            return Refusal(row, f"the window from {start} is too far ahead of the clock")
        return Refusal(
            row,
            f"the event time lies more than max_jump = {self.windows.max_jump:g} s past all "
            "before; raise max_jump if the stream has such gaps",
        )

    def _crowded(self) -> str:
        assert self.windows is not None
        return (
            f"rows that came together lie in more than max_open = {self.windows.max_open} windows "
            f"of {self.windows.width:g} s; widen the windows, read fewer rows at once (batch_rows, "
            "max_records), or raise max_open"
        )


def _column(batch: pa.RecordBatch, name: str, rows: NDArray[np.int64]) -> pa.Array:
    """The given rows of a column."""
    if batch.schema.names.count(name) != 1:
        raise SchemaError(
            f"the stream has no single column {name!r}, which the pipeline needs (found: "
            f"{', '.join(batch.schema.names[:20]) or 'none'}); correct the stream or the pipeline"
        )
    column = batch.column(name)
    return column if len(rows) == batch.num_rows else column.take(pa.array(rows))
