"""The schema: which columns a stream has, and the map between its rows and encoded vectors."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import DataError, SchemaError
from streamsketch.html import card, table
from streamsketch.schema.codecs import CategoryCodec, Codec, NumericCodec, codec_of
from streamsketch.schema.columns import Block, Column
from streamsketch.schema.constraints import constraints_of
from streamsketch.schema.derived import Lookup
from streamsketch.schema.rows import (
    Encoded,
    Rejected,
    as_table,
    column_of,
    columns_of,
    floats_of,
    refusal,
)
from streamsketch.tables import read

__all__ = ["Schema"]

SHOWN = 8  # categories that a notebook lists


class Schema:
    """Typed columns with declared, public limits.

    Encodes Arrow rows to vectors in a bounded box (numerics in [-1, 1], categories one-hot) and
    decodes vectors to rows of the same names and types, always within the limits.

    Args:
        columns: The columns, in stream order.

    Raises:
        SchemaError: No encoded column, two of one name, or two labels.

    Example:
        >>> schema = Schema([Column("age", "numeric", "int64", low=0, high=100),
        ...                  Column("sex", "categorical", "string", values=("f", "m"))])
        >>> table = pa.table({"age": [25, 50], "sex": ["m", "f"]})
        >>> schema.encode(table).x.tolist()
        [[-0.5, 0.0, 1.0], [0.0, 1.0, 0.0]]
        >>> schema.decode(schema.encode(table).x).equals(table)
        True
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        names = [c.name for c in self.columns]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise SchemaError(f"columns {twice} are declared twice; names must be unique")
        labels = [c.name for c in self.columns if c.kind == "label"]
        if len(labels) > 1:
            raise SchemaError(
                f"columns {labels} are all labels; declare one and make the others categorical"
            )
        for role in ("record_id", "user_id", "event_time"):
            same = [c.name for c in self.columns if c.kind == role]
            if len(same) > 1:
                raise SchemaError(
                    f"columns {same} are all of kind {role}; declare one and ignore the others"
                )
        self.codecs: dict[str, Codec] = {c.name: codec_of(c) for c in self.columns if c.encoded}
        if not self.codecs:
            raise SchemaError(
                "the schema has no column to sketch; declare at least one numeric, categorical, "
                "boolean, label, timestamp or vector column"
            )
        self.constraints = constraints_of(self.columns)
        self.lookups = tuple(self._lookup(c) for c in self.columns if c.kind == "derived")
        blocks: list[Block] = []
        for codec in self.codecs.values():
            blocks += codec.blocks(blocks[-1].start + blocks[-1].width if blocks else 0)
        self.blocks = tuple(blocks)
        self.d = sum(codec.width for codec in self.codecs.values())

    def _lookup(self, column: Column) -> Lookup:
        keys = {c.name: c for c in self.columns if c.encoded}
        unknown = [name for name in column.keys if name not in keys]
        if unknown:
            raise SchemaError(
                f"column {column.name!r}: keys {unknown} are not columns that are sketched; keys "
                "must be"
            )
        return Lookup(column, [keys[name] for name in column.keys])

    # --- where schemas come from

    @classmethod
    def propose(cls, table: Any, label: str | None = None) -> "Schema":
        """A schema read off a table: bounds, knots and categories come from the data.

        This is not private: limits are published. Review them before private use.
        """
        from streamsketch.schema.propose import propose

        return cls(propose(as_table(table), label))

    @classmethod
    def vectors(cls, d: int, low: float, high: float) -> "Schema":
        """The schema of plain points: columns x0 .. x{d-1} of doubles in [low, high].

        >>> Schema.vectors(2, 0, 1).encode_array(np.array([[0.0, 1.0]])).tolist()
        [[-1.0, 1.0]]
        """
        if d < 1:
            raise SchemaError(f"d = {d} must be at least 1")
        return cls([Column(f"x{j}", "numeric", "double", low=low, high=high) for j in range(d)])

    @classmethod
    def from_dict(cls, columns: Mapping[str, Mapping[str, Any]]) -> "Schema":
        """The schema of a mapping from column name to its declaration; all problems at once."""
        if not isinstance(columns, Mapping):
            raise SchemaError("the schema must be a table of columns, [schema.<column>]")
        problems: list[str] = []
        built = [
            read(Column, declared, f"column {name!r}: ", problems, name=name)
            for name, declared in columns.items()
        ]
        if problems:
            raise SchemaError("; ".join(problems))
        return cls([column for column in built if column is not None])

    @classmethod
    def from_toml(cls, path: str | Path) -> "Schema":
        """The schema in the `[schema.<column>]` tables of a TOML file."""
        import tomllib

        try:
            tables = tomllib.loads(Path(path).read_text())
        except OSError as e:
            raise SchemaError(f"cannot read the schema file {path}: {e.strerror}") from None
        except UnicodeDecodeError:
            raise SchemaError(
                f"{path} is not a text file in TOML; give a pipeline file, or propose a schema of rows with "
                "`streamsketch init`"
            ) from None
        except tomllib.TOMLDecodeError as e:
            raise SchemaError(f"{path} is not valid TOML: {e}") from None
        if "schema" not in tables:
            raise SchemaError(
                f"{path} has no [schema.<column>] tables; propose some with `streamsketch init`"
            )
        return cls.from_dict(tables["schema"])

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Column name to declaration, as JSON types; `Schema.from_dict` reads it back."""
        return {c.name: c.to_dict() for c in self.columns}

    def to_toml(self) -> str:
        """The `[schema.<column>]` tables of a pipeline file."""
        import tomli_w

        return tomli_w.dumps({"schema": self.to_dict()})

    # --- what it is

    @cached_property
    def hash(self) -> str:
        """16 hex digits that identify the encoding."""
        text = json.dumps([[c.name, c.encoding] for c in self.columns], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> Column | None:
        """The label column, if one is declared."""
        return next((c for c in self.columns if c.kind == "label"), None)

    @property
    def label_classes(self) -> tuple[Any, ...]:
        """The label's categories in code order (None last, where nulls have a slot)."""
        if self.label is None:
            return ()
        return (*self.label.values, *((None,) if self.label.nulls != "refuse" else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of a generated table: those encoded and those derived."""
        return tuple(c.name for c in self.columns if c.encoded or c.kind == "derived")

    @property
    def user_column(self) -> str | None:
        """The declared user-id column."""
        return next((c.name for c in self.columns if c.kind == "user_id"), None)

    @property
    def record_column(self) -> str | None:
        """The declared record-id column."""
        return next((c.name for c in self.columns if c.kind == "record_id"), None)

    @property
    def time_column(self) -> str | None:
        """The declared event-time column."""
        return next((c.name for c in self.columns if c.kind == "event_time"), None)

    @property
    def arrow(self) -> pa.Schema:
        """Arrow schema of a generated table."""
        return pa.schema(
            [(c.name, c.arrow) for c in self.columns if c.encoded or c.kind == "derived"]
        )

    @property
    def plain(self) -> bool:
        """Whether every column is one linear number, so that arrays of points can be used."""
        return all(
            isinstance(c, NumericCodec) and c.width == 1 and not len(c.knots) and not c.column.log
            for c in self.codecs.values()
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.hash == other.hash

    def __hash__(self) -> int:
        return int(self.hash, 16)

    def __repr__(self) -> str:
        return f"Schema({len(self.columns)} columns, d={self.d}, hash={self.hash})"

    def _repr_html_(self) -> str:
        rows = [(c.name, c.kind, c.type if c.encoded else "", _limits(c)) for c in self.columns]
        facts = {"columns": len(self.columns), "coordinates": self.d, "hash": self.hash}
        return card("Schema", facts, table(["column", "kind", "type", "limits"], rows))

    # --- rows to vectors

    def encode(self, batch: pa.RecordBatch | pa.Table) -> Encoded:
        """Encode a batch; bad rows are set apart with their reason, never encoded.

        Raises:
            SchemaError: A column is missing or of a type that cannot be read as declared.
        """
        n = batch.num_rows
        out = np.empty((self.d, n), np.float32)
        bad = np.zeros(n, bool)
        rejected: list[Rejected] = []
        start = 0
        columns = columns_of(batch)
        for name, codec in self.codecs.items():
            for mask, reason in codec.encode(
                column_of(columns, name), out[start : start + codec.width]
            ):
                rejected += [Rejected(int(i), name, reason) for i in np.flatnonzero(mask & ~bad)]
                bad |= mask
            start += codec.width
        labels = self._labels(columns)
        users = column_of(columns, self.user_column) if self.user_column else None
        if users is not None and users.null_count:
            missing = users.is_null().to_numpy(zero_copy_only=False)
            rejected += [
                Rejected(int(i), str(self.user_column), "no user id")
                for i in np.flatnonzero(missing & ~bad)
            ]
            bad |= missing
        if not bad.any():
            return Encoded(out.T, np.arange(n), (), labels, users)
        rows = np.flatnonzero(~bad)
        return Encoded(
            out[:, rows].T,
            rows,
            tuple(sorted(rejected, key=lambda r: r.row)),
            None if labels is None else labels[rows],
            None if users is None else users.take(pa.array(rows)),
        )

    def encode_array(self, points: Any) -> NDArray[np.float32]:
        """Encode points (n, d) of a schema of plain numbers; bits are those of `encode`.

        Raises:
            SchemaError: The schema is not of plain numbers, or the shape does not fit.
            DataError: A value is not finite, or refused by the limits.
        """
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != len(self.codecs):
            raise SchemaError(
                f"points have shape {points.shape}, but the schema takes (n, {len(self.codecs)})"
            )
        columns = [pa.array(np.ascontiguousarray(points[:, j])) for j in range(points.shape[1])]
        encoded = self.encode(pa.RecordBatch.from_arrays(columns, names=list(self.codecs)))
        if encoded.rejected:
            raise DataError(refusal(encoded.rejected, len(points)))
        return encoded.x

    def encode_row(self, row: Mapping[str, Any]) -> NDArray[np.float32]:
        """Encode one row given as a mapping; (d,) float32.

        Raises:
            DataError: A column is missing or its value refused.
        """
        return np.asarray(self.encode_rows([row])[0])

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Encode rows given as mappings; (n, d) float32. Raises DataError as `encode_row`."""
        encoded = self.encode(self.batch_of(rows))
        if encoded.rejected:
            raise DataError(refusal(encoded.rejected, len(rows)))
        return encoded.x

    def batch_of(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        """An Arrow batch of rows given as mappings; keys beyond the schema are ignored."""
        arrays, names = [], []
        for c in self.columns:
            if not c.encoded and c.kind != "user_id":
                continue
            kind = c.arrow
            try:
                arrays.append(pa.array([row[c.name] for row in rows], kind))
            except KeyError:
                raise DataError(
                    f"a row has no {c.name!r}, which the schema declares; rows have all columns"
                ) from None
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as e:
                if c.kind == "numeric" and pa.types.is_integer(kind):
                    arrays.append(floats_of(c.name, [row[c.name] for row in rows]))
                else:
                    raise DataError(
                        f"column {c.name!r}: a value is not of type {c.type} ({e})"
                    ) from None
            names.append(c.name)
        return pa.RecordBatch.from_arrays(arrays, names=names)

    # --- vectors to rows

    def decode(self, x: NDArray[np.floating[Any]]) -> pa.Table:
        """Rows of the stream's names and types from vectors (n, d), always within the limits.

        Every row meets the declared constraints.

        Raises:
            SchemaError: The shape is not (n, d).
            DataError: A coordinate is not finite.
        """
        x = np.asarray(x, np.float32)
        if x.ndim != 2 or x.shape[1] != self.d:
            raise SchemaError(
                f"encoded rows have shape {x.shape}, but the schema decodes (n, {self.d})"
            )
        if not np.isfinite(x).all():
            raise DataError("encoded rows hold values that are not finite; nothing was decoded")
        columns: dict[str, pa.Array] = {}
        start = 0
        for name, codec in self.codecs.items():
            columns[name] = codec.decode(x[:, start : start + codec.width])
            start += codec.width
        for constraint in self.constraints if len(x) else ():
            columns = constraint(columns)
        for lookup in self.lookups:
            columns[lookup.column.name] = lookup(columns)
        return pa.Table.from_arrays([columns[name] for name in self.names], schema=self.arrow)

    def _labels(self, columns: Mapping[str, pa.Array]) -> NDArray[np.int64] | None:
        if self.label is None:
            return None
        codec = self.codecs[self.label.name]
        assert isinstance(codec, CategoryCodec)
        return codec.codes(column_of(columns, self.label.name))[0]


def _limits(column: Column) -> str:
    """What a column may hold, shortly."""
    if column.values:
        more = f", and {len(column.values) - SHOWN} more" if len(column.values) > SHOWN else ""
        return ", ".join(map(str, column.values[:SHOWN])) + more
    low, high = (f"{v:.6g}" if isinstance(v, float) else v for v in (column.low, column.high))
    return "" if low is None else f"{low} to {high}"
