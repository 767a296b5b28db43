"""What a column is declared to be: kind, type and public limits."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import pyarrow as pa

from streamsketch.errors import SchemaError
from streamsketch.schema.times import iso_micro, iso_seconds, known_zone

__all__ = ["PERIODS", "Block", "Column", "arrow_type"]

NULLS = ("refuse", "indicator", "category")
OUTSIDE = ("clip", "refuse")
NS_LOW, NS_HIGH = -9.2e9, 9.2e9  # seconds from 1970 that nanoseconds hold
PERIODS = {"hour": 3600.0, "day": 86400.0, "week": 604800.0, "year": 31556952.0}  # seconds

_LIST = re.compile(r"^fixed_size_list<(?:\w+: )?(\w+)(?: not null)?>\[(\d+)\]$")
_STAMP = re.compile(r"^timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]$")
_DICTIONARY = re.compile(r"^dictionary<values=(\w+),.*>$")
_CLOCK = re.compile(r"^(time32|time64|duration)\[(s|ms|us|ns)\]$")
_DECIMAL = re.compile(r"^decimal(32|64|128|256)\((\d+), ?(-?\d+)\)$")
_VIEWS = {"string_view": "string", "binary_view": "binary"}  # types that compute functions lack


_LISTS = ("knots", "positions", "atoms", "values", "periods", "keys", "tail", "levels")


@dataclass(frozen=True)
class Block:
    """A run of coordinates of the encoded vector that belong to one column.

    Attributes:
        column: Name of the column.
        kind: `numeric` (in [-1, 1]), `onehot` (a category), `state` (one-hot: regular value,
            then each atom, then null) or `circle` (cosine and sine of a periodic part).
        start: First coordinate.
        width: Number of coordinates.
    """

    column: str
    kind: str
    start: int
    width: int

    @property
    def slice(self) -> slice:
        """The coordinates as a slice."""
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True)
class Column:
    """One declared column. Limits are public: they are part of what is published.

    Attributes:
        name: Column name in the stream.
        kind: numeric, categorical, boolean, label (a category to condition on), timestamp,
            vector (a fixed-size list of numbers), derived (other columns determine it: neither
            read nor sketched), ignore; or a part that a column plays without being sketched:
            record_id, user_id, event_time.
        type: Arrow type as text, such as `double`, `int16`, `string`, `timestamp[s]`; a numeric
            may be a time of day or a duration (`time64[us]`, `duration[ms]`), counted in seconds.
            Whole numbers in a column of times are in the type's unit.
        low: Smallest value (numeric, vector: in the column's units; timestamp: ISO text).
        high: Largest value.
        log: Numeric: encode log(1 + value - low).
        knots: Numeric: increasing values that map to `positions`, linear in between.
        positions: Numeric: increasing coordinates in [-1, 1], one per knot; evenly spaced if empty.
        atoms: Numeric: values with a point mass, each with a slot of its own. Timestamp: ISO
            texts of times that mean a state, such as 9999-12-31, each with a slot of its own; they
            may lie outside the limits.
        values: Categories, in order.
        nulls: `refuse` (the row is rejected), or `indicator`/`category` (a slot of its own).
        outside: Numeric beyond the limits: `clip` or `refuse`.
        other: Category that stands for undeclared ones; None rejects the row.
        tail: Categories that `other` stands for: generated rows hold one of these in its place.
        periods: Timestamp: periodic parts, of hour, day, week, year.
        resolution: Numeric and timestamp: generated values are rounded to multiples of it (in the
            column's units; seconds for times); 0 for none.
        offset: Numeric: generated values are `offset` plus multiples of `resolution`.
        levels: Numeric and timestamp: the only values there are; generated values are the nearest
            of them. Increasing; ISO text for times.
        at_least: Numeric and timestamp: a column of the same type that this one is never below.
        group: Boolean: of the columns of one group exactly one is true.
        keys: Derived: names of the columns that determine it. Categories: of the columns that it
            only occurs together with as `table` says.
        table: Entries of the keys' values and then the column's own.
    """

    name: str
    kind: str
    type: str = "double"
    low: Any = None
    high: Any = None
    log: bool = False
    knots: tuple[float, ...] = ()
    positions: tuple[float, ...] = ()
    atoms: tuple[Any, ...] = ()
    values: tuple[Any, ...] = ()
    nulls: str = "refuse"
    outside: str = "clip"
    other: Any = None
    periods: tuple[str, ...] = ()
    resolution: float = 0.0
    keys: tuple[str, ...] = ()
    table: tuple[tuple[Any, ...], ...] = ()
    tail: tuple[Any, ...] = ()
    offset: float = 0.0
    levels: tuple[Any, ...] = ()
    at_least: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        for name in _LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "table", tuple(tuple(entry) for entry in self.table))
        problem = self._problem()
        if problem:
            raise SchemaError(f"column {self.name!r}: {problem}")

    @property
    def encoding(self) -> dict[str, Any]:
        """What `to_dict` says of the encoding: without what generated rows must meet besides."""
        out = self.to_dict()
        for name in ("at_least", "group", *(("keys", "table") if self.encoded else ())):
            out.pop(name, None)
        return out

    @property
    def encoded(self) -> bool:
        """Whether the column enters the sketch."""
        return self.kind in ENCODED

    @property
    def read(self) -> bool:
        """Whether the column is read from the stream."""
        return self.kind not in ("derived", "ignore")

    @property
    def categorical(self) -> bool:
        """Whether the column is encoded as one category among `values`."""
        return self.kind in ("categorical", "label", "boolean")

    @property
    def arrow(self) -> pa.DataType:
        """Arrow type of the column's values."""
        return pa.bool_() if self.kind == "boolean" else arrow_type(self.type)

    def to_dict(self) -> dict[str, Any]:
        """Everything that differs from the defaults, ready for JSON or TOML (no name).

        >>> Column("x", "numeric", low=0, high=1).to_dict()
        {'kind': 'numeric', 'low': 0, 'high': 1}
        """
        out: dict[str, Any] = {"kind": self.kind}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "kind") and value != field.default:
                out[field.name] = list(value) if isinstance(value, tuple) else value
        if self.table:
            out["table"] = [list(entry) for entry in self.table]
        return out

    def _problem(self) -> str | None:
        if self.kind not in KINDS:
            return f"kind {self.kind!r} is not one of {', '.join(KINDS)}"
        if self.nulls not in NULLS:
            return f"nulls = {self.nulls!r} is not one of {', '.join(NULLS)}"
        if self.outside not in OUTSIDE:
            return f"outside = {self.outside!r} is not one of {', '.join(OUTSIDE)}"
        if not (isinstance(self.resolution, int | float) and 0 <= self.resolution < math.inf):
            return f"resolution = {self.resolution} must be a number, 0 or larger"
        if not (isinstance(self.offset, int | float) and math.isfinite(self.offset)):
            return f"offset = {self.offset} must be a number"
        try:
            arrow_type(self.type)
        except ValueError as e:
            return str(e)
        return {**ENCODED, **OTHERS}[self.kind](self)

    def _derived_problem(self) -> str | None:
        if not self.keys or len(set(self.keys)) != len(self.keys):
            return f"keys = {list(self.keys)} must name the columns that determine it, each once"
        if not self.table:
            return "table is empty; list the keys' values with the column's own"
        wrong = [list(e) for e in self.table if len(e) != len(self.keys) + 1]
        if wrong:
            return (
                f"table has the entry {wrong[0]}; an entry holds the values of {list(self.keys)} "
                "and the column's own"
            )
        if len({entry[:-1] for entry in self.table}) != len(self.table):
            return "table has two entries for the same keys; keep one"
        return None

    def _limits_problem(self) -> str | None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                return (
                    f"{name} = {value!r} must be a number; declare the public limits low and high"
                )
            if not math.isfinite(value):
                return f"{name} = {value} must be finite"
        if not self.low < self.high:
            return f"bounds are reversed or equal (low = {self.low}, high = {self.high}); low must be below high"
        return None

    def _numeric_problem(self) -> str | None:
        problem = self._limits_problem()
        if problem:
            return problem
        if self.kind == "vector" and _LIST.match(self.type) is None:
            return f"a vector needs a type like fixed_size_list<float>[784], not {self.type!r}"
        if self.knots and not _increasing(self.knots):
            return f"knots must increase strictly and be at least two, got {list(self.knots)[:6]}"
        fit = len(self.positions) == len(self.knots) and _increasing(self.positions)
        if self.positions and not (fit and _within(self.positions, -1, 1)):
            return "positions must be as many as knots, increasing, within [-1, 1]"
        if not _within((*self.knots, *self.atoms), self.low, self.high):
            return f"knots and atoms must lie within [{self.low}, {self.high}]"
        if len(set(self.atoms)) != len(self.atoms):
            return f"atoms must be distinct, got {list(self.atoms)}"
        if not (_rises(self.levels) and _within(self.levels, self.low, self.high)):
            return f"levels must increase strictly, within [{self.low}, {self.high}]"
        return None

    def _category_problem(self) -> str | None:
        if not self.values:
            return "values is empty; list the public categories"
        if len(set(self.values)) != len(self.values):
            return "values has duplicates; list each category once"
        if self.other is not None and self.other not in self.values:
            return f"other = {self.other!r} is not one of values"
        if self.tail and self.other is None:
            return "tail lists what other stands for; name the category that is other"
        both = set(self.tail) & set(self.values)
        if both or len(set(self.tail)) != len(self.tail):
            return f"tail must list each category once, and none of values ({sorted(map(str, both))[:3]})"
        return None

    def _timestamp_problem(self) -> str | None:
        if not (isinstance(self.low, str) and isinstance(self.high, str)):
            return "low and high must be ISO times such as 2013-01-01T00:00:00"
        try:
            low, high = iso_seconds(self.low), iso_seconds(self.high)
        except (ValueError, OverflowError) as e:
            return f"low and high must be ISO times such as 2013-01-01T00:00:00 ({e})"
        if not low < high:
            return f"bounds are reversed or equal (low = {self.low}, high = {self.high}); low must be below high"
        kind = arrow_type(self.type)
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return (
                f"a timestamp needs a type such as timestamp[s] or date32[day], not {self.type!r}"
            )
        if getattr(kind, "unit", "") == "ns" and not _within((low, high), NS_LOW, NS_HIGH):
            return (
                f"limits {self.low} and {self.high} lie beyond what {self.type} holds (1678 to 2261); "
                "use timestamp[us]"
            )
        unknown = [p for p in self.periods if p not in PERIODS]
        if unknown:
            return f"periods {unknown} are not among {', '.join(PERIODS)}"
        return self._moments_problem()

    def _moments_problem(self) -> str | None:
        try:
            atoms, levels = [iso_micro(a) for a in self.atoms], [iso_micro(v) for v in self.levels]
        except (TypeError, ValueError, OverflowError) as e:
            return f"atoms and levels must be ISO times such as 9999-12-31 ({e})"
        if len(set(atoms)) != len(atoms):
            return f"atoms must be distinct, got {list(self.atoms)}"
        return None if _rises(levels) else "levels must increase strictly"


def _no_problem(_: Column) -> str | None:
    return None


Rule: TypeAlias = Callable[[Column], str | None]
# what is sketched, and what is wrong with a declaration of each kind; `codecs.CODECS` encodes it
ENCODED: dict[str, Rule] = {
    "numeric": Column._numeric_problem,
    "categorical": Column._category_problem,
    "boolean": _no_problem,
    "label": Column._category_problem,
    "timestamp": Column._timestamp_problem,
    "vector": Column._numeric_problem,
}
# columns that play another part
OTHERS: dict[str, Rule] = {
    "derived": Column._derived_problem,
    "ignore": _no_problem,
    "record_id": _no_problem,
    "user_id": _no_problem,
    "event_time": _no_problem,
}
KINDS = (*ENCODED, *OTHERS)


@cache
def arrow_type(text: str) -> pa.DataType:
    """The Arrow type that `text` names; dictionaries become their value type.

    Raises:
        ValueError: The text names no supported type.

    >>> arrow_type("timestamp[ms]"), arrow_type("fixed_size_list<float>[3]").list_size
    (TimestampType(timestamp[ms]), 3)
    """
    if match := _LIST.match(text):
        return pa.list_(arrow_type(match[1]), int(match[2]))
    if match := _STAMP.match(text):
        if match[2] and not known_zone(match[2]):
            raise ValueError(f"type {text!r} names the time zone {match[2]!r}, which is not known")
        return pa.timestamp(match[1], tz=match[2])
    if match := _DICTIONARY.match(text):
        return arrow_type(match[1])
    if match := _CLOCK.match(text):
        return getattr(pa, match[1])(match[2])
    if match := _DECIMAL.match(text):
        return getattr(pa, f"decimal{match[1]}")(int(match[2]), int(match[3]))
    text = _VIEWS.get(text, text)
    if text in ("date32[day]", "date64[ms]"):
        return pa.date32() if text.startswith("date32") else pa.date64()
    try:
        return pa.type_for_alias(text)
    except ValueError:
        raise ValueError(
            f"type {text!r} is not an Arrow type this library knows; use one such as double, int64 or string"
        ) from None


def _rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _increasing(values: Sequence[float]) -> bool:
    return len(values) > 1 and _rises(values)


def _within(values: Sequence[float], low: float, high: float) -> bool:
    return all(low <= v <= high for v in values)
