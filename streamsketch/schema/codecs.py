"""One codec per column kind: Arrow array -> coordinates, and back.

A codec fills its rows of a `(d, n)` float32 array (column by column is the fastest order) and
reports which rows it refuses. Encoding is elementwise, so a row's coordinates do not depend on
the batch it came in.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.errors import SchemaError
from streamsketch.schema.columns import PERIODS, Block, Column, arrow_type, iso_seconds

__all__ = ["Codec", "codec_of"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Refusals = Iterator[tuple[Mask, str]]


class Codec(Protocol):
    """Encodes and decodes one column."""

    column: Column
    width: int

    def blocks(self, start: int) -> tuple[Block, ...]:
        """The layout of the column when its first coordinate is `start`."""
        ...

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        """Fill `out` (width, n) and yield masks of refused rows, each with its reason."""
        ...

    def decode(self, x: F32) -> pa.Array:
        """An Arrow array of the column's type from coordinates (n, width), always within limits."""
        ...


def codec_of(column: Column) -> Codec:
    """The codec for an encoded column."""
    if column.categorical:
        return CategoryCodec(column)
    if column.kind == "timestamp":
        return TimestampCodec(column)
    if column.kind == "vector":
        return VectorCodec(column)
    return NumericCodec(column)


class _States:
    """The one-hot state of a numeric or timestamp: regular, each atom, null."""

    def __init__(self, column: Column) -> None:
        self.atoms = np.array(column.atoms, np.float64)
        self.null = column.nulls != "refuse"
        extra = len(self.atoms) + self.null
        self.width = 1 + extra if extra else 0

    def fill(self, out: F32, value: F64, missing: Mask | None) -> Mask | None:
        """Write the states into `out` (width, n); returns the rows that are not regular."""
        if not self.width:
            return None
        out[:] = 0.0
        out[0] = 1.0
        special = np.zeros(value.shape, bool)
        for k, atom in enumerate(self.atoms):
            at = value == atom
            out[1 + k, at] = 1.0
            special |= at
        if self.null and missing is not None:
            out[1:, missing] = 0.0
            out[-1, missing] = 1.0
            special |= missing
        out[0, special] = 0.0
        return special

    def read(self, x: F32, value: F64) -> Mask | None:
        """Put atoms into `value` in place from states (n, width); returns the null rows."""
        if not self.width:
            return None
        state = np.argmax(x, axis=1)
        for k, atom in enumerate(self.atoms):
            value[state == 1 + k] = atom
        return np.asarray(state == self.width - 1) if self.null else None


class NumericCodec:
    """A number in declared bounds: one coordinate in [-1, 1], and a state if it can be special."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.states = _States(column)
        self.width = 1 + self.states.width
        self.type = arrow_type(column.type)
        self.low, self.high = float(column.low), float(column.high)
        self.knots = np.array(column.knots, np.float64)
        self.positions = (
            np.array(column.positions) if column.positions else np.linspace(-1, 1, len(self.knots))
        )

    def blocks(self, start: int) -> tuple[Block, ...]:
        name = self.column.name
        value = Block(name, "numeric", start, 1)
        if not self.states.width:
            return (value,)
        return (value, Block(name, "state", start + 1, self.states.width))

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        value, missing = _numbers(values, self.column)
        finite = np.isfinite(value)
        if not finite.all():
            bad = ~finite if missing is None else ~finite & ~missing
            value = np.where(finite, value, self.low)
            yield bad, "not a finite number"
        if missing is not None and not self.states.null:
            yield missing, "null, and the schema refuses nulls"
        if value.size and (value.min() < self.low or value.max() > self.high):
            if self.column.outside == "refuse":
                beyond = (value < self.low) | (value > self.high)
                if missing is not None:
                    beyond &= ~missing
                yield beyond, f"outside the declared limits [{self.low:g}, {self.high:g}]"
            value = np.clip(value, self.low, self.high)
        out[0] = self._position(value)
        special = self.states.fill(out[1:], value, missing)
        if special is not None:
            out[0, special] = 0.0

    def decode(self, x: F32) -> pa.Array:
        value = self._value(np.clip(x[:, 0].astype(np.float64), -1, 1))
        if self.column.resolution:
            value = np.round(value / self.column.resolution) * self.column.resolution
        missing = self.states.read(x[:, 1:], value)
        return _within(value, self.low, self.high, self.type, missing)

    def _position(self, value: F64) -> F64:
        if len(self.knots):
            return np.asarray(np.interp(value, self.knots, self.positions))
        if self.column.log:
            unit = np.log1p(value - self.low) / np.log1p(self.high - self.low)
        else:
            unit = (value - self.low) / (self.high - self.low)
        return np.asarray(2.0 * unit - 1.0)

    def _value(self, position: F64) -> F64:
        if len(self.knots):
            return np.asarray(np.interp(position, self.positions, self.knots))
        unit = (position + 1.0) / 2.0
        if self.column.log:
            return np.asarray(self.low + np.expm1(unit * np.log1p(self.high - self.low)))
        return np.asarray(self.low + unit * (self.high - self.low))


class VectorCodec:
    """A fixed-size list of numbers with common bounds: that many coordinates in [-1, 1]."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.type = arrow_type(column.type)
        self.width = self.type.list_size
        self.low, self.high = float(column.low), float(column.high)

    def blocks(self, start: int) -> tuple[Block, ...]:
        return (Block(self.column.name, "numeric", start, self.width),)

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        n = len(values)
        if not pa.types.is_fixed_size_list(values.type) or values.type.list_size != self.width:
            raise _wrong_type(self.column, values.type)
        if values.null_count:
            missing = values.is_null().to_numpy(zero_copy_only=False)
            yield missing, "null, and a vector has no null"
            fill = pa.scalar([0] * self.width, values.type)
            values = pa.array(
                [fill if m else v for m, v in zip(missing, values, strict=True)], values.type
            )
        flat = values.flatten()  # not .values: that ignores the slice
        if flat.null_count:
            holes = flat.is_null().to_numpy(zero_copy_only=False).reshape(n, -1).any(axis=1)
            yield holes, "a null inside the vector"
            flat = pc.fill_null(flat, 0)
        x = flat.to_numpy(zero_copy_only=False).reshape(n, self.width).astype(np.float64)
        finite = np.isfinite(x)
        if not finite.all():
            yield ~finite.all(axis=1), "not finite"
            x = np.where(finite, x, self.low)
        if self.column.outside == "refuse":
            beyond = ((x < self.low) | (x > self.high)).any(axis=1)
            if beyond.any():
                yield beyond, f"outside the declared limits [{self.low:g}, {self.high:g}]"
        unit = (np.clip(x, self.low, self.high) - self.low) / (self.high - self.low)
        out[:] = (2.0 * unit - 1.0).T

    def decode(self, x: F32) -> pa.Array:
        unit = (np.clip(x.astype(np.float64), -1, 1) + 1.0) / 2.0
        flat = (self.low + unit * (self.high - self.low)).ravel()
        inner = _within(flat, self.low, self.high, self.type.value_type, None)
        return pa.FixedSizeListArray.from_arrays(inner, type=self.type)


class CategoryCodec:
    """One of the declared categories: one-hot, with a slot for null when nulls have one."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.type = column.arrow
        values = [False, True] if column.kind == "boolean" else list(column.values)
        try:
            self.values = pa.array(values, self.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as e:
            raise SchemaError(
                f"column {column.name!r}: values are not of type {column.type} ({e})"
            ) from None
        self.null = column.nulls != "refuse"
        self.width = len(values) + self.null
        self.other = -1 if column.other is None else values.index(column.other)

    def blocks(self, start: int) -> tuple[Block, ...]:
        return (Block(self.column.name, "onehot", start, self.width),)

    def codes(self, values: pa.Array) -> tuple[NDArray[np.int64], Mask | None, Mask | None]:
        """Category numbers (n,) with the null rows and the rows of no declared category."""
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.type != self.type:
            try:
                values = values.cast(self.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise _wrong_type(self.column, values.type) from None
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
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
        return self.values.take(pa.array(code, mask=missing))


class TimestampCodec:
    """A time in declared bounds: a linear coordinate and a circle per declared period."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.states = _States(column)
        self.periods = sorted((PERIODS[p] for p in column.periods), reverse=True)
        self.width = 1 + 2 * len(self.periods) + self.states.width
        self.type = arrow_type(column.type)
        self.low, self.high = iso_seconds(column.low), iso_seconds(column.high)

    def blocks(self, start: int) -> tuple[Block, ...]:
        name, out = self.column.name, [Block(self.column.name, "numeric", start, 1)]
        out += [Block(name, "circle", start + 1 + 2 * k, 2) for k in range(len(self.periods))]
        if self.states.width:
            out.append(Block(name, "state", start + 1 + 2 * len(self.periods), self.states.width))
        return tuple(out)

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
            raise _wrong_type(self.column, values.type)
        missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
        micro = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        if missing is not None:
            micro = pc.fill_null(micro, int(self.low * 1e6))
            if not self.states.null:
                yield missing, "null, and the schema refuses nulls"
        t = micro.to_numpy(zero_copy_only=False) / 1e6
        beyond = (t < self.low) | (t > self.high)
        if beyond.any():
            if self.column.outside == "refuse":
                yield (
                    beyond,
                    f"outside the declared limits [{self.column.low}, {self.column.high}]",
                )
            t = np.clip(t, self.low, self.high)
        out[0] = 2.0 * (t - self.low) / (self.high - self.low) - 1.0
        for k, period in enumerate(self.periods):
            angle = 2 * np.pi * np.mod(t / period, 1.0)
            out[1 + 2 * k], out[2 + 2 * k] = np.cos(angle), np.sin(angle)
        special = self.states.fill(out[1 + 2 * len(self.periods) :], t, missing)
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
            t = np.round(t / self.column.resolution) * self.column.resolution
        # a phase that leads beyond the limits goes back by whole turns of the shortest period;
        # a hundredth of a turn beyond is rounding, and is clipped
        if self.periods:
            step = self.periods[-1]
            t += step * np.ceil(np.maximum(self.low - t, 0) / step - 0.01)
            t -= step * np.ceil(np.maximum(t - self.high, 0) / step - 0.01)
        t = np.clip(t, self.low, self.high)
        missing = self.states.read(x[:, 1 + 2 * len(self.periods) :], t)
        micro = pa.array(np.round(t * 1e6).astype(np.int64), mask=missing)
        stamp = micro.cast(pa.timestamp("us", tz=getattr(self.type, "tz", None)))
        return stamp.cast(self.type, safe=False)


def _wrong_type(column: Column, found: pa.DataType) -> SchemaError:
    return SchemaError(
        f"column {column.name!r} has Arrow type {found}, but the schema declares {column.kind} of type "
        f"{column.type}; correct the schema or the stream"
    )


def _numbers(values: pa.Array, column: Column) -> tuple[F64, Mask | None]:
    """The column as float64 with its null rows (whose value is the lower limit)."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
        kind = values.type
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    ):
        raise _wrong_type(column, kind)
    missing = None
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        values = values.cast(pa.float64(), safe=False) if pa.types.is_integer(kind) else values
        values = values.to_numpy(zero_copy_only=False)  # nulls become NaN
        value = np.where(missing, float(column.low), np.asarray(values, np.float64))
        return value, missing
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64), missing


def _within(
    value: F64, low: float, high: float, kind: pa.DataType, missing: Mask | None
) -> pa.Array:
    """Numbers in [low, high] as an Arrow array of `kind`, still within after rounding."""
    if pa.types.is_integer(kind):
        value = np.clip(np.round(value), np.ceil(low), np.floor(high))
        return pa.array(value.astype(np.int64), mask=missing).cast(kind)
    if pa.types.is_decimal(kind):
        step = 10.0**-kind.scale
        value = np.clip(np.round(value / step), np.ceil(low / step), np.floor(high / step))
        return _decimals(value, kind, missing)
    dtype = kind.to_pandas_dtype()
    narrow = value.astype(dtype)
    inner_low, inner_high = _inward(low, high, dtype)
    return pa.array(np.clip(narrow, inner_low, inner_high), kind, mask=missing)


def _decimals(units: F64, kind: pa.DataType, missing: Mask | None) -> pa.Array:
    from decimal import Decimal

    hidden = np.zeros(units.shape, bool) if missing is None else missing
    texts = [
        None if m else Decimal(int(u)).scaleb(-kind.scale)
        for u, m in zip(units, hidden, strict=True)
    ]
    return pa.array(texts, kind)


def _inward(low: float, high: float, dtype: Any) -> tuple[Any, Any]:
    """The limits in `dtype`, rounded towards the inside."""
    a, b = dtype(low), dtype(high)
    a = np.nextafter(a, dtype(np.inf)) if float(a) < low else a
    b = np.nextafter(b, dtype(-np.inf)) if float(b) > high else b
    return a, b
