"""Rows under conditions, of a generator that knows none: drawn, and those that meet them kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch.errors import ConfigError
from streamsketch.schema import Schema
from streamsketch.schema.conditions import Where, check, matches

__all__ = ["label_of", "rows_where"]

CHUNK = 8192
MAX_ROWS = 1 << 21  # drawn before a condition is given up


def rows_where(
    draw: Callable[[int, int], pa.Table], n: int, seed: int, where: Where, schema: Schema
) -> pa.Table:
    """The first n rows drawn that meet all conditions.

    Args:
        draw: Gives so many rows by a seed.
        n: Rows.
        seed: The same seed gives the same rows.
        where: See `schema.conditions`.
        schema: Of the rows.

    Raises:
        ConfigError: A condition fits no column, or too few rows meet it.
    """
    check(where, schema)
    kept, have, drawn = [schema.arrow.empty_table()], 0, 0
    seeds = np.random.default_rng(seed)
    while have < n:
        rows = draw(CHUNK, int(seeds.integers(2**31)))
        rows = rows.filter(pa.array(matches(rows, where, schema)))
        kept.append(rows.slice(0, n - have))
        have, drawn = have + kept[-1].num_rows, drawn + CHUNK
        if have < n and drawn >= MAX_ROWS:
            raise ConfigError(
                f"only {have} of {drawn} rows drawn meet {dict(where)}, fewer than the {n} asked for; "
                "widen the conditions, or ask for fewer rows"
            )
    return pa.concat_tables(kept)


def label_of(where: Where, schema: Schema) -> tuple[bool, Any]:
    """Whether one value of the label is asked for (None is one where nulls are), and which."""
    if schema.label is None or schema.label.name not in where:
        return False, None
    value = where[schema.label.name]
    one = not isinstance(value, list | tuple | set) and value in schema.label_classes
    return one, value
