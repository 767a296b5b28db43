"""Between encoded coordinates, where sketches live, and the units of the data."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.schema import Schema


@dataclass(frozen=True)
class Space:
    """An affine map from encoded coordinates to those that results are given in.

    For a schema of linear numbers (and vectors) these are the data's units. Otherwise (categories,
    log scales, knots, times) results stay in encoded coordinates, and `table` decodes points.

    Attributes:
        center: ``(d,)``.
        scale: ``(d,)``, positive; ``data = center + scale * encoded``.
        schema: The columns, or None for plain arrays.
        linear: Whether results are in data units.
    """

    center: F64
    scale: F64
    schema: "Schema | None"
    linear: bool

    @classmethod
    def of(cls, schema: "Schema | None", d: int) -> "Space":
        """The space of a schema's rows, or of ``d`` plain coordinates without one."""
        center, scale = np.zeros(d), np.ones(d)
        linear = schema is None or all(
            c.kind in ("numeric", "vector")
            and not (c.log or c.knots or c.atoms or c.nulls != "refuse")
            for c in schema.columns
            if c.encoded
        )
        if schema is not None and linear:
            columns = {c.name: c for c in schema.columns}
            for block in schema.blocks:
                column = columns[block.column]
                low, high = float(column.low), float(column.high)
                center[block.slice] = (low + high) / 2
                scale[block.slice] = (high - low) / 2
        return cls(center, scale, schema, linear)

    def out(self, points: F64) -> F64:
        """Points ``(n, d)`` in the units of results."""
        return self.center + self.scale * points

    def rows(self, data: Any) -> F64:
        """Points ``(n, d)`` in the units of results, from an array or an Arrow table.

        Raises:
            ConfigError: The number of columns is not ``d``, or a value is not finite.
        """
        if self.schema is not None and not isinstance(data, np.ndarray | list):
            from streamsketch.schema.rows import as_table

            encoded = self.schema.encode(as_table(data)).x
            return self.out(np.asarray(encoded, dtype=np.float64))
        points = np.asarray(data, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != len(self.center):
            raise ConfigError(
                f"the points have shape {points.shape}; this model takes (n, {len(self.center)})"
            )
        if not np.isfinite(points).all():
            raise ConfigError("the points hold a value that is not finite; remove those rows")
        return points

    def table(self, points: F64) -> "pa.Table":
        """Rows of the stream's names and types, from points in the units of results.

        Raises:
            ConfigError: The model was fitted to plain arrays.
        """
        if self.schema is None:
            raise ConfigError(
                "this model was fitted to plain arrays; there is no schema to decode"
            )
        return self.schema.decode((points - self.center) / self.scale)


class Estimator:
    """The part of scikit-learn's contract that needs no scikit-learn."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor.

        Raises:
            ConfigError: An argument is unknown.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ConfigError(
                    f"{type(self).__name__} has no parameter {name!r}; known: {', '.join(known)}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({shown})"


def positive_count(name: str, value: Any) -> int:
    """``value`` as a count of at least one.

    Raises:
        ConfigError: It is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} = {value!r} must be a whole number of at least 1")
    return int(value)
