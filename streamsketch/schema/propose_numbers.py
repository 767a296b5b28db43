"""What a column of numbers holds: bounds, the values or the lattice it lies on, states, knots."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.schema.columns import Column
from streamsketch.schema.times import is_clock, seconds_of

__all__ = ["NEW_LEVEL", "few_levels", "lattice", "numeric", "sentinels"]

Counts = NDArray[np.int64]

ATOM_SHARE = 0.05  # a value this frequent in a numeric column is a point mass
MANY = 32  # distinct values from which frequent ones are set apart as atoms
KNOTS = 64
LEVELS = 256  # up to so many distinct values each has a cell of its own
MAX_LEVELS = 4096  # values that are listed; more of them lie on a lattice or anywhere
NEW_LEVEL = 10  # rows per distinct value from which no others are expected
FULL = 0.9  # of a lattice's places that are taken: then the lattice says it all
DIGITS = 9  # decimal places that are looked for
FAR = 5.0  # a frequent end that lies so many spans of the others away is a state, not a size


def numeric(name: str, values: pa.Array, notes: list[str]) -> Column | str:
    """The declaration of a column of numbers, times of day or durations; or why it has none."""
    kind = values.type
    if is_clock(kind):
        x = seconds_of(values.drop_null())[0]
    else:
        x = values.drop_null().cast(pa.float64()).to_numpy()
    infinite = int(np.isinf(x).sum())
    missing = values.null_count + int(np.isnan(x).sum())
    x = np.sort(x[np.isfinite(x)])
    if infinite:
        notes.append(f"{infinite} values of {name!r} are infinite; their rows will be refused.")
    if not len(x):
        return "it holds no number"
    low, high = _bounds(x)
    if not np.isfinite(high - low):
        return f"its numbers from {low:g} to {high:g} span more than a float64 holds"
    atoms = _atoms(x)
    rest = x[~np.isin(x, atoms)]
    whole = pa.types.is_integer(kind)
    fit = lattice(np.unique(rest), _precision(kind)) if len(rest) else None
    step, offset = fit or (0.0, 0.0)
    levels = few_levels(np.unique(rest), len(rest), step)
    number: Any = int if whole else float
    knots, positions = _knots(rest, low, high, atoms, step)
    if len(levels) or (whole and step == 1.0):
        step = 0.0  # whole numbers are whole anyway
    return Column(
        name, "numeric", str(kind), low=number(low), high=number(high), knots=knots,
        positions=positions, atoms=tuple(number(a) for a in atoms),
        nulls="indicator" if missing else "refuse", resolution=number(step) if step else 0.0,
        offset=number(offset) if step and offset else 0.0,
        levels=tuple(number(v) for v in levels),
    )  # fmt: skip


def _atoms(x: F64) -> F64:
    """Values with a point mass, among many others."""
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) <= MANY:
        return distinct[:0]
    return distinct[(counts > ATOM_SHARE * len(x)) | sentinels(distinct, counts)]


def _bounds(x: F64) -> tuple[float, float]:
    low, high = float(x[0]), float(x[-1])
    if high > low:
        return low, high
    wider = max(1.0, abs(low) * 2**-20)  # or a constant of 2e16 would have no upper limit
    return (low, low + wider) if np.isfinite(low + wider) else (low - wider, low)


def _precision(kind: pa.DataType) -> float:
    """How exactly a type writes a number, relative to it; computed numbers are a little off."""
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return float(np.finfo(kind.to_pandas_dtype()).eps)
    return 1e-13


def lattice(distinct: F64, precision: float) -> tuple[float, float] | None:
    """Step and offset of the coarsest lattice that distinct numbers lie on; None for none.

    >>> lattice(np.array([15.0, 45, 75, 105, 135, 165, 195, 225, 255, 345]), 1e-13)
    (30.0, 15.0)
    >>> lattice(np.array([0.1, 514.8, 2.35]), 1e-13)
    (0.01, 0.0)
    """
    for digits in range(DIGITS + 1):
        power = 10.0**digits
        scaled = distinct * power
        room = np.abs(scaled) * precision * 2 + 1e-9
        if room.max() > 0.05 or np.abs(scaled).max() > 2**50:
            return None
        places = np.round(scaled)
        if (np.abs(scaled - places) <= room).all():
            whole = places.astype(np.int64)
            step = int(np.gcd.reduce(whole - whole[0])) if len(distinct) >= 10 else 1
            step = max(step, 1)
            return step / power, int(whole[0] % step) / power
    return None


def few_levels(distinct: F64, rows: int, step: float) -> F64:
    """The values to list: few, each seen often, and not simply all places of the lattice."""
    n = len(distinct)
    if n == 0 or n > MAX_LEVELS or (n > 1 and n * NEW_LEVEL > rows):
        return distinct[:0]
    if n > 1 and step and n >= FULL * ((distinct[-1] - distinct[0]) / step + 1):
        return distinct[:0]
    return distinct


def sentinels(distinct: F64, counts: Counts) -> NDArray[np.bool_]:
    """Values at the ends that stand for a state, such as -999: frequent, and far from all others."""
    found = np.zeros(len(distinct), bool)
    rows = counts.sum()
    for end in (0, -1):
        others = ~found
        others[end] = False
        rest = distinct[others]
        gap = abs(distinct[end] - (rest[0] if end == 0 else rest[-1]))
        if counts[end] >= max(5, 0.005 * rows) and gap > FAR * (rest[-1] - rest[0]):
            found[end] = True
    return found


def _knots(
    x: F64, low: float, high: float, atoms: F64, step: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots that spread the values evenly over [-1, 1]; none for few distinct values.

    Knots lie halfway between neighbouring values, at the share of values below: each value has
    a cell as wide as it is frequent, so that evenly spread coordinates decode to its frequency.
    Numbers on a grid decode to values that were there: the cells of two values with a gap between
    them end half a step beside them, and the gap (an atom in it or nothing) has no width.

    Args:
        x: Values without the atoms.
        low: Lower limit.
        high: Upper limit.
        atoms: The point masses.
        step: What values are rounded to when decoded; 0 for none.
    """
    values, counts = np.unique(x, return_counts=True)
    if len(values) < 4:
        return (), ()
    edges, share = (values[:-1] + values[1:]) / 2, np.cumsum(counts)[:-1] / len(x)
    between = np.searchsorted(atoms, values[1:]) > np.searchsorted(atoms, values[:-1])
    gap = (np.diff(values) > 1.5 * step) if step else np.zeros(len(edges), bool)
    pick = np.arange(len(edges))
    if len(values) > LEVELS:
        after = np.searchsorted(share, np.arange(1, KNOTS) / KNOTS)
        after = np.minimum(after, len(edges) - 1)
        frequent = after[np.diff(share, prepend=0.0)[after] > 0.5 / KNOTS]  # a cell of its own
        gap &= between | (gap.sum() <= LEVELS)
        pick = np.unique(np.concatenate([after, frequent - 1, np.flatnonzero(gap | between)]))
        pick = pick[pick >= 0]
    knots, positions = [low], [-1.0]
    for i in pick:
        ends = (values[i] + step / 2, values[i + 1] - step / 2) if gap[i] else (edges[i],)
        for k, edge in enumerate(ends):
            position = round(float(2 * share[i] - 1), 6) + k * 1e-6
            if knots[-1] < edge < high and positions[-1] < position < 1:
                knots.append(float(edge))
                positions.append(position)
    return (*knots, high), (*positions, 1.0)
