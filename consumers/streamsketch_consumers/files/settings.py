"""Settings of the file source."""

import codecs
import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Len

from streamsketch.errors import ConfigError
from streamsketch.tables import Positive, key
from streamsketch_consumers.columns import Extra, Missing
from streamsketch_consumers.files.formats import FORMATS

__all__ = ["FileSettings"]


def moment(text: str | None) -> float | None:
    """Seconds since 1970 of an ISO time, UTC if it has no zone; None if it is none."""
    try:
        when = dt.datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()


@dataclass(frozen=True)
class FileSettings:
    """Settings of the file source.

    Attributes:
        path: A file, a folder, a glob, or a list of files.
        part: Name of the stream's one part in the store.
        format: parquet, csv, jsonl or arrow; by the suffix of each file if not set.
        batch_rows: Largest number of rows of a batch.
        rate: Rows per second; as fast as it goes if not set.
        event_time: Column with the time of each row: a timestamp, a date, or seconds.
        speed: Pace rows by `event_time`, this many times as fast as they happened.
        start: Leave out rows whose `event_time` is before this time (ISO; UTC if it has no zone).
        until: Leave out rows whose `event_time` is this time or later, so that a live source can
            start there. Rows without a time are handed on.
        follow: Wait for further files when all have been read.
        settle_seconds: With follow: a file counts as complete when it has not changed for so long.
        on_error: What to do with a file whose columns do not fit or that is damaged: `fail` stops,
            `skip` passes over the rest of it, `dlq` also writes one dead letter about it. Single
            bad rows are always handed on as dead rows.
        missing: A column that a file does not have is `refuse`d, or taken as `null` in each of its
            rows. In JSON lines a key that is not there is null in any case.
        extra: A column that is not declared is `ignore`d, or `refuse`d (JSON lines: row by row).
        delimiter: CSV: between values (a tab in `.tsv` files).
        header: CSV: the first line holds the column names; otherwise the schema's order holds.
        null_values: CSV: texts that mean null. Only the empty text by default.
        newlines_in_values: CSV: a quoted value may hold line breaks. Off by default, so that an
            open quote spoils one line only.
        max_row_bytes: CSV, JSON: a longer row is dead, and is not held in memory.
        encoding: CSV, JSON: how characters are written, such as utf-8, cp1252 or utf-16.
        decimal: CSV: between whole and part of a number.
        thousands: CSV: between groups of three digits; empty for nothing.
        null_numbers: CSV: further texts that mean null in columns of numbers, times and booleans,
            such as NA; where text is expected they are text.
        unwrap: JSON: the field that holds the row, such as `after` or `payload.after`.
        changed: What to do with a file that is another since it was read: `read` what was added to
            it, or all of it if it was replaced; `warn` and leave it; or `refuse` to go on. If not
            set: with follow, warn; otherwise read what was added, and refuse what was replaced.
    """

    path: str | tuple[str, ...] = key(location=True)
    part: str = "files"
    format: str | None = None
    batch_rows: Positive = 8192
    rate: Annotated[float, Gt(0)] | None = None
    event_time: str | None = None
    speed: Annotated[float, Gt(0)] | None = None
    start: str | None = None
    until: str | None = None
    follow: bool = False
    settle_seconds: Annotated[float, Ge(0)] = 2.0
    on_error: Literal["fail", "skip", "dlq"] = "fail"
    missing: Missing = "refuse"
    extra: Extra = "ignore"
    delimiter: Annotated[str, Len(1, 1)] = ","
    header: bool = True
    null_values: tuple[str, ...] = ("",)
    newlines_in_values: bool = False
    max_row_bytes: Positive = 1 << 24
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Annotated[str, Len(0, 1)] = ""
    null_numbers: tuple[str, ...] = ()
    unwrap: str = ""
    changed: Literal["read", "warn", "refuse"] | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(problem)

    def _problem(self) -> str | None:
        if self.format is not None and self.format not in FORMATS:
            return f"format = {self.format!r} is not one of {', '.join(FORMATS)}"
        for name in ("start", "until"):
            text = getattr(self, name)
            if text is not None and moment(text) is None:
                return f"{name} = {text!r} is no time; write it as 2026-11-01T00:00Z"
            if text is not None and self.event_time is None:
                return f"{name} goes by the rows' times; name their column with event_time"
        if self.speed is not None and self.event_time is None:
            return "speed paces rows by their event time; name the column with event_time"
        if self.speed is not None and self.rate is not None:
            return "rate and speed contradict each other; set one of them"
        if self.decimal == self.thousands:
            return f"decimal and thousands are both {self.decimal!r}; they must differ"
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            return f"encoding = {self.encoding!r} is not known; use one such as utf-8 or cp1252"
        return None
