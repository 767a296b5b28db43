"""What codecs share: the protocol, the one-hot state of a value, the error of a wrong type."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from streamsketch.arrays import F32, F64, Mask
from streamsketch.errors import SchemaError
from streamsketch.schema.columns import Block, Column

__all__ = ["Codec", "Refusals", "States", "wrong_type"]

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


class States:
    """The one-hot state of a numeric or timestamp: regular, each atom, null.

    Args:
        atoms: (k,) values with a state of their own.
        null: Null has one too.
    """

    def __init__(self, atoms: F64, null: bool) -> None:
        self.atoms = atoms
        self.null = null
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


def wrong_type(column: Column, found: pa.DataType) -> SchemaError:
    """The error of an array whose type cannot be read as declared."""
    return SchemaError(
        f"column {column.name!r} has Arrow type {found}, but the schema declares {column.kind} of type "
        f"{column.type}; correct the schema or the stream"
    )
