"""Codecs of numbers: one coordinate in [-1, 1], a state where a value can be special; vectors."""

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.arrays import F32, F64, Mask
from streamsketch.schema.columns import Block, Column, arrow_type
from streamsketch.schema.encoding import Refusals, States, wrong_type
from streamsketch.schema.times import TICKS, casted, is_clock, read_as, seconds_of

__all__ = ["NumericCodec", "VectorCodec"]


class NumericCodec:
    """A number in declared bounds: one coordinate in [-1, 1], and a state if it can be special.

    Attributes:
        levels: The only values there are, increasing; empty for all.
        lattice: What generated values are multiples of, if anything.
    """

    def __init__(self, column: Column) -> None:
        self.column = column
        self.states = States(np.array(column.atoms, np.float64), column.nulls != "refuse")
        self.width = 1 + self.states.width
        self.type = arrow_type(column.type)
        self.low, self.high = float(column.low), float(column.high)
        self.knots = np.array(column.knots, np.float64)
        self.positions = (
            np.array(column.positions) if column.positions else np.linspace(-1, 1, len(self.knots))
        )
        self.levels = np.array(column.levels, np.float64)
        self.lattice = Lattice(column.resolution, column.offset) if column.resolution else None

    def blocks(self, start: int) -> tuple[Block, ...]:
        name = self.column.name
        value = Block(name, "numeric", start, 1)
        if not self.states.width:
            return (value,)
        return (value, Block(name, "state", start + 1, self.states.width))

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        value, missing, unread = numbers(values, self.column)
        if unread is not None:
            yield unread, f"not of type {self.column.type}"
        finite = np.isfinite(value)
        if not finite.all():
            bad = ~finite if missing is None else ~finite & ~missing
            if self.states.null:  # not a number is what many tools write for a missing one
                nan = np.isnan(value)
                missing = nan if missing is None else missing | nan
                bad &= ~nan
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
        if self.lattice is not None:
            value = self.lattice.nearest(value, self.low, self.high)
        if len(self.levels):
            value = nearest(value, self.levels)
        missing = self.states.read(x[:, 1:], value)
        return within(value, self.low, self.high, self.type, missing)

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
    """A list of numbers of fixed length with common bounds: that many coordinates in [-1, 1]."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.type = arrow_type(column.type)
        self.width = self.type.list_size
        self.low, self.high = float(column.low), float(column.high)

    def blocks(self, start: int) -> tuple[Block, ...]:
        return (Block(self.column.name, "numeric", start, self.width),)

    def encode(self, values: pa.Array, out: F32) -> Refusals:
        n = len(values)
        values, ragged = self._whole(values)
        if ragged is not None:
            yield ragged, f"not {self.width} numbers"
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
        inner = within(flat, self.low, self.high, self.type.value_type, None)
        return pa.FixedSizeListArray.from_arrays(inner, type=self.type)

    def _whole(self, values: pa.Array) -> tuple[pa.Array, Mask | None]:
        """Lists of the declared length, whatever kind of list they came as; null where they are not."""
        kind = values.type
        if pa.types.is_fixed_size_list(kind) and kind.list_size == self.width:
            return values, None
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if not lists or pa.types.is_nested(kind.value_type):
            raise wrong_type(self.column, kind)
        inner = pa.list_(kind.value_type, self.width)
        length = pc.fill_null(pc.list_value_length(values), self.width)
        ragged = np.asarray(length.to_numpy(zero_copy_only=False)) != self.width
        found, bad = casted(
            pc.if_else(pa.array(ragged), None, values), lambda part: part.cast(inner)
        )
        return found, ragged | bad


class Lattice:
    """Multiples of a step from an offset, each the nearest number to its decimal text.

    >>> Lattice(0.1, 0.0).nearest(np.array([514.79, -0.04]), -1.0, 600.0).tolist()
    [514.8, 0.0]
    >>> Lattice(30, 15).nearest(np.array([0.0, 44.0]), 15.0, 100.0).tolist()
    [15.0, 45.0]
    """

    def __init__(self, step: float, offset: float) -> None:
        self.step, self.offset = float(step), float(offset)
        exact, start = Fraction(repr(self.step)), Fraction(repr(self.offset))
        self._denominator = exact.denominator * start.denominator
        self._numerator = exact.numerator * start.denominator
        self._start = start.numerator * exact.denominator

    def place(self, value: F64) -> F64:
        """How many steps each value lies from the offset; whole for those on the lattice."""
        return np.asarray((value - self.offset) / self.step)

    def at(self, steps: F64) -> F64:
        """The values that lie whole numbers of steps from the offset."""
        top = steps * float(self._numerator) + float(self._start)
        return np.asarray(top / float(self._denominator)) + 0.0  # no negative zero

    def nearest(self, value: F64, low: float, high: float) -> F64:
        """The nearest values of the lattice within [low, high], where it has any there."""
        first = np.ceil(self.place(np.asarray(low)) - 1e-6)
        last = np.floor(self.place(np.asarray(high)) + 1e-6)
        return self.at(np.clip(np.round(self.place(value)), first, max(first, last)))


def nearest(value: F64, levels: F64) -> F64:
    """The nearest of increasing levels to each value."""
    edges = (levels[:-1] + levels[1:]) / 2
    return np.asarray(levels[np.searchsorted(edges, value)])


def numbers(values: pa.Array, column: Column) -> tuple[F64, Mask | None, Mask | None]:
    """The column as float64, its null rows (whose value is the lower limit), and what is no number.

    Raises:
        SchemaError: The array's type cannot hold such numbers.
    """
    kind, declared = values.type, arrow_type(column.type)
    unread = None
    if pa.types.is_dictionary(kind):
        values = values.dictionary_decode()
        kind = values.type
    if is_clock(declared):
        read = read_as(values, declared)
        if read is None:
            raise wrong_type(column, kind)
        values, unread = read
        seconds, missing = seconds_of(values)
        return _filled(seconds, missing, column), missing, unread
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    ):
        raise wrong_type(column, kind)
    if not values.null_count:
        return np.asarray(values.to_numpy(zero_copy_only=False), np.float64), None, unread
    missing = values.is_null().to_numpy(zero_copy_only=False)
    values = values.cast(pa.float64(), safe=False) if pa.types.is_integer(kind) else values
    value = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)  # nulls become NaN
    return _filled(value, missing, column), missing, unread


def _filled(value: F64, missing: Mask | None, column: Column) -> F64:
    return value if missing is None else np.where(missing, float(column.low), value)


def within(
    value: F64, low: float, high: float, kind: pa.DataType, missing: Mask | None
) -> pa.Array:
    """Numbers in [low, high] as an Arrow array of `kind`, still within after rounding."""
    if is_clock(kind):
        unit = TICKS[kind.unit]
        value = np.clip(np.round(value * unit), np.ceil(low * unit), np.floor(high * unit))
        narrow = np.int32 if kind.bit_width == 32 else np.int64
        return pa.array(value.astype(narrow), mask=missing).cast(kind)
    if pa.types.is_integer(kind):
        least, most = _range(kind)
        whole = np.clip(np.round(value), max(np.ceil(low), least), min(np.floor(high), most))
        return pa.array(whole.astype(kind.to_pandas_dtype()), kind, mask=missing)
    if pa.types.is_decimal(kind):
        step = 10.0**-kind.scale
        most = 10.0**kind.precision - 1
        least, highest = max(np.ceil(low / step), -most), min(np.floor(high / step), most)
        return _decimals(np.clip(np.round(value / step), least, highest), kind, missing)
    dtype = kind.to_pandas_dtype()
    narrow_value = value.astype(dtype)
    inner_low, inner_high = _inward(low, high, dtype)
    return pa.array(np.clip(narrow_value, inner_low, inner_high), kind, mask=missing)


def _range(kind: pa.DataType) -> tuple[float, float]:
    """The least and the largest float64 that an integer type holds."""
    info = np.iinfo(kind.to_pandas_dtype())
    most = float(info.max)
    return float(info.min), most if int(most) <= info.max else float(np.nextafter(most, 0))


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
