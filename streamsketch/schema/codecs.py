"""One codec per column kind: Arrow array -> coordinates, and back.

A codec fills its rows of a `(d, n)` float32 array (column by column is the fastest order) and
reports which rows it refuses. Encoding is elementwise, so a row's coordinates do not depend on
the batch it came in. A value that does not fit is a refusal, never an exception.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.arrays import F32, Mask
from streamsketch.errors import SchemaError
from streamsketch.schema.columns import PERIODS, Block, Column, arrow_type
from streamsketch.schema.encoding import Codec, Refusals, States, wrong_type
from streamsketch.schema.numbers import NumericCodec, VectorCodec, nearest
from streamsketch.schema.times import (
    casted,
    iso_micro,
    iso_seconds,
    read_as,
    seconds_of,
)

__all__ = [
    "CODECS",
    "CategoryCodec",
    "Codec",
    "NumericCodec",
    "TimestampCodec",
    "VectorCodec",
    "codec_of",
]


def codec_of(column: Column) -> Codec:
    """The codec for an encoded column."""
    return CODECS[column.kind](column)


class CategoryCodec:
    """One of the declared categories: one-hot, with a slot for null when nulls have one."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.type = column.arrow
        values = [False, True] if column.kind == "boolean" else list(column.values)
        self.values = typed_values(column, values)
        self.tail = typed_values(column, list(column.tail))
        self.null = column.nulls != "refuse"
        self.width = len(values) + self.null
        self.other = -1 if column.other is None else values.index(column.other)

    def blocks(self, start: int) -> tuple[Block, ...]:
        return (Block(self.column.name, "onehot", start, self.width),)

    def codes(self, values: pa.Array) -> tuple[NDArray[np.int64], Mask | None, Mask | None]:
        """Category numbers (n,) with the null rows and the rows of no declared category."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        if values.type != self.type:
            try:
                values, _ = casted(values, lambda part: part.cast(self.type))
            except pa.ArrowNotImplementedError:
                raise wrong_type(self.column, values.type) from None
        found = pc.index_in(values, value_set=self.values)
        unknown = None
        if found.null_count:
            unknown = found.is_null().to_numpy(zero_copy_only=False)
            if missing is not None:
                unknown &= ~missing
            found = pc.fill_null(found, max(self.other, 0))
        codes = found.to_numpy(zero_copy_only=False).astype(np.int64)
        if missing is not None and self.null:
            codes[missing] = self.width - 1
        if self.other >= 0 or (unknown is not None and not unknown.any()):
            unknown = None
        return codes, missing, unknown

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        codes, missing, unknown = self.codes(values)
        if missing is not None and not self.null:
            yield missing, "null, and the schema refuses nulls"
        if unknown is not None:
            yield unknown, "a category that is not declared"
        out[:] = 0.0
        out[codes, np.arange(len(codes))] = 1.0

    def decode(self, x: F32) -> pa.Array:
        code = np.argmax(x, axis=1)
        missing = code == len(self.values) if self.null else None
        if not len(self.tail):
            return self.values.take(pa.array(code, mask=missing))
        # what `other` stands for, one after the other: no row holds a category that is none
        rest = np.flatnonzero(code == self.other)
        code[rest] = len(self.values) + np.arange(len(rest)) % len(self.tail)
        return pa.concat_arrays([self.values, self.tail]).take(pa.array(code, mask=missing))


class TimestampCodec:
    """A time in declared bounds: a linear coordinate and a circle per declared period."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._atoms = [iso_micro(text) for text in column.atoms]
        self.states = States(np.array(self._atoms, np.int64) / 1e6, column.nulls != "refuse")
        self.levels = np.array([iso_micro(text) for text in column.levels], np.int64) / 1e6
        self.periods = sorted((PERIODS[p] for p in column.periods), reverse=True)
        self.width = 1 + 2 * len(self.periods) + self.states.width
        self.type = arrow_type(column.type)
        self.low, self.high = iso_seconds(column.low), iso_seconds(column.high)
        self._limits = iso_micro(column.low), iso_micro(column.high)

    def blocks(self, start: int) -> tuple[Block, ...]:
        name, out = self.column.name, [Block(self.column.name, "numeric", start, 1)]
        out += [Block(name, "circle", start + 1 + 2 * k, 2) for k in range(len(self.periods))]
        if self.states.width:
            out.append(Block(name, "state", start + 1 + 2 * len(self.periods), self.states.width))
        return tuple(out)

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        read = read_as(values, self.type)
        if read is None:
            raise wrong_type(self.column, values.type)
        values, unread = read
        if unread.any():
            yield unread, f"not a time of type {self.column.type}"
        t, missing = seconds_of(values)
        if missing is not None:
            t = np.where(missing, self.low, t)
            if not self.states.null:
                yield missing, "null, and the schema refuses nulls"
        beyond = (t < self.low) | (t > self.high)
        if beyond.any():
            beyond &= ~np.isin(t, self.states.atoms)
            if self.column.outside == "refuse":
                yield (
                    beyond,
                    f"outside the declared limits [{self.column.low}, {self.column.high}]",
                )
        exact, t = t, np.clip(t, self.low, self.high)
        out[0] = 2.0 * (t - self.low) / (self.high - self.low) - 1.0
        for k, period in enumerate(self.periods):
            angle = 2 * np.pi * np.mod(t / period, 1.0)
            out[1 + 2 * k], out[2 + 2 * k] = np.cos(angle), np.sin(angle)
        special = self.states.fill(out[1 + 2 * len(self.periods) :], exact, missing)
        if special is not None:
            out[: 1 + 2 * len(self.periods), special] = 0.0

    def decode(self, x: F32) -> pa.Array:
        unit = (np.clip(x[:, 0].astype(np.float64), -1, 1) + 1.0) / 2.0
        t = self.low + unit * (self.high - self.low)
        for k, period in enumerate(self.periods):
            # the nearest time to t with this phase: long periods first, short ones refine
            turn = np.arctan2(x[:, 2 + 2 * k], x[:, 1 + 2 * k]).astype(np.float64) / (2 * np.pi)
            t += period * (np.mod(turn - t / period + 0.5, 1.0) - 0.5)
        if self.column.resolution:
            start = self.column.offset
            t = np.round((t - start) / self.column.resolution) * self.column.resolution + start
        # a phase that leads beyond the limits goes back by whole turns of the shortest period;
        # a hundredth of a turn beyond is rounding, and is clipped
        if self.periods:
            step = self.periods[-1]
            t += step * np.ceil(np.maximum(self.low - t, 0) / step - 0.01)
            t -= step * np.ceil(np.maximum(t - self.high, 0) / step - 0.01)
        t = np.clip(t, self.low, self.high)
        if len(self.levels):
            t = nearest(t, self.levels)
        number = np.arange(1, len(self._atoms) + 1, dtype=np.float64)
        which = np.zeros(len(t))
        missing = States(number, self.states.null).read(x[:, 1 + 2 * len(self.periods) :], which)
        micro = np.clip(np.round(t * 1e6).astype(np.int64), *self._limits)
        for k, atom in enumerate(self._atoms):
            micro[which == k + 1] = atom
        stamp = pa.array(micro, mask=missing).cast(
            pa.timestamp("us", tz=getattr(self.type, "tz", None))
        )
        return stamp.cast(self.type, safe=False)


def typed_values(column: Column, values: list[object]) -> pa.Array:
    """Categories as an Arrow array of the column's type; times may be given as text.

    Raises:
        SchemaError: One is not of that type.
    """
    kind = column.arrow
    try:
        if pa.types.is_string(kind) and all(isinstance(v, str) for v in values):
            # `pa.array` of a list imports pandas: 0.1 s of start-up
            texts = pa.lib.StringBuilder()
            texts.append_values(values)
            return texts.finish()
        if any(isinstance(v, str) for v in values) and not pa.types.is_string(kind):
            return pa.array(values, pa.string()).cast(kind)
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError, ValueError) as e:
        raise SchemaError(
            f"column {column.name!r}: values are not of type {column.type} ({e})"
        ) from None


CODECS: dict[str, Callable[[Column], Codec]] = {
    "numeric": NumericCodec,
    "categorical": CategoryCodec,
    "boolean": CategoryCodec,
    "label": CategoryCodec,
    "timestamp": TimestampCodec,
    "vector": VectorCodec,
}
