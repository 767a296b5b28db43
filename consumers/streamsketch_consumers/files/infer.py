"""Types of text columns, by all of their values: a type holds where consuming reads every value as it.

A value is tried by the very function that reads it later, so that what is proposed is admitted.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import Dialect, array_of

__all__ = ["NULL_TEXTS", "TextColumn", "best_dialect", "dialects"]

NULL_TEXTS = (
    "NA", "N/A", "n/a", "na", "NaN", "nan", "-nan", "NULL", "null", "None", "none", "nil", "#N/A", "<NA>",
    "\\N", "?", "-", "--", ".", "*", "missing",
)  # fmt: skip
ZEROS = r"^[+-]?0\d"  # a number does not begin so: codes do
PHONE = r"^\+\d{7,}$"
LONG = r"^[+-]?\d{19,}$"  # more digits than a number keeps: an identifier
WHOLE = r"^[+-]?\d+$"
DAY = r"^\d{4}-\d\d-\d\d$"
CLOCK = r"^\d\d?:\d\d(:\d\d(\.\d+)?)?$"
ZONED = r"\d\d:\d\d.*([Zz]|[+-]\d\d:?\d\d|[+-]\d\d| UTC| GMT)$"
PART = r"[.,]\d+"


def dialects(delimiter: str) -> list[Dialect]:
    """How numbers may be written, the likeliest first."""
    marks = [(".", ""), (",", ""), (",", "."), (".", ","), (",", " "), (".", "'"), (".", " ")]
    if delimiter == ",":
        marks = [(".", ""), (".", ","), (",", "."), (",", ""), (",", " "), (".", "'"), (".", " ")]
    return [Dialect(decimal, thousands, NULL_TEXTS) for decimal, thousands in marks]


class TextColumn:
    """What all values of one column of text can be.

    Args:
        dialects: How numbers may be written.
        numbers: Text may stand for numbers and booleans (CSV), not only for times (JSON).
    """

    def __init__(self, dialects: Sequence[Dialect], numbers: bool = True) -> None:
        self.whole = set(range(len(dialects))) if numbers else set()
        self.number = set(self.whole)
        self.flag, self.day, self.stamp, self.clock = numbers, True, True, True
        self.zoned = self.unzoned = self.parts = False
        self.seen = 0
        self.texts: set[str] = set()  # of those that mean null where no text is expected
        self._dialects = dialects

    def look(self, text: pa.Array) -> None:
        """Consider more values."""
        text = pc.utf8_trim_whitespace(text.drop_null().unique())
        null = pc.is_in(text, value_set=pa.array(NULL_TEXTS, pa.string()))
        self.texts |= set(text.filter(null).to_pylist())
        text = text.filter(pc.invert(null))
        if not len(text):
            return
        self.seen += len(text)
        self._numbers(text)
        if self.flag:
            self.flag = bool(
                pc.all(pc.is_in(pc.utf8_lower(text), pa.array(["true", "false"]))).as_py()
            )
        if self.clock:
            self.clock = self._all(text, CLOCK) and self._reads(text, pa.time64("us"))
        if self.day:
            self.day = self._all(text, DAY) and self._reads(text, pa.date32())
        if self.stamp:
            self.stamp = not self._any(text, WHOLE) and self._reads(text, pa.timestamp("us"))
            zoned = pc.match_substring_regex(text, ZONED)
            self.zoned |= bool(pc.any(zoned).as_py())
            self.unzoned |= not pc.all(zoned).as_py()
        self.parts |= self._any(text, PART)

    def _numbers(self, text: pa.Array) -> None:
        if self.number and any(self._any(text, pattern) for pattern in (ZEROS, PHONE, LONG)):
            self.number, self.whole = set(), set()
        for kind, left in ((pa.int64(), self.whole), (pa.float64(), self.number)):
            for i in list(left):
                values, bad = array_of(text, Reading(kind, kind), self._dialects[i])
                if bad or (kind == pa.float64() and not np.isfinite(values.to_numpy(False)).all()):
                    left.discard(i)

    def type(self, dialect: int) -> pa.DataType:
        """The narrowest type that held for every value, numbers being written in a dialect."""
        if not self.seen:
            return pa.string()
        if self.flag:
            return pa.bool_()
        if dialect in self.whole:
            return pa.int64()
        if dialect in self.number:
            return pa.float64()
        if self.clock:
            return pa.time64("us") if self.parts else pa.time32("s")
        if self.day:
            return pa.date32()
        if self.stamp:
            unit = "us" if self.parts else "s"
            return pa.timestamp(unit, tz="UTC" if self.zoned and not self.unzoned else None)
        return pa.string()

    def _reads(self, text: pa.Array, kind: pa.DataType) -> bool:
        return not array_of(text, Reading(kind, kind))[1]

    @staticmethod
    def _any(text: pa.Array, pattern: str) -> bool:
        return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())

    @staticmethod
    def _all(text: pa.Array, pattern: str) -> bool:
        return bool(pc.all(pc.match_substring_regex(text, pattern)).as_py())


def best_dialect(columns: Sequence[TextColumn], count: int) -> int:
    """The dialect in which most columns are numbers; the first of equals."""
    held = [sum(i in c.number and c.seen > 0 for c in columns) for i in range(count)]
    return held.index(max(held))
