"""What a column of times holds: limits, sentinels, the grid it lies on, its periods."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.schema.columns import Column
from streamsketch.schema.propose_numbers import few_levels
from streamsketch.schema.times import casted, iso_micro, iso_text

__all__ = ["timestamp"]

Micro = NDArray[np.int64]

SECOND = 1_000_000
DAY = 86_400 * SECOND
YEAR = 31_556_952 * SECOND
GRIDS = (
    86400.0,
    3600.0,
    1800.0,
    900.0,
    600.0,
    300.0,
    60.0,
    30.0,
    15.0,
    10.0,
    5.0,
    1.0,
    0.1,
    0.01,
    0.001,
)
NEVER = tuple(
    iso_micro(day)
    for day in ("0001-01-01", "1753-01-01", "1800-01-01", "1899-12-30", "1900-01-01", "1970-01-01",
                "2099-12-31", "2100-01-01", "2199-12-31", "2999-12-31", "3000-01-01")
)  # fmt: skip
LEAST, MOST = iso_micro("0001-01-01"), iso_micro("9999-12-31T23:59:59.999999")
FAR_FUTURE = iso_micro("9000-01-01")


def timestamp(name: str, values: pa.Array, notes: list[str]) -> Column | str:
    """The declaration of a column of times, or why it has none."""
    kind = values.type
    present = values.drop_null()
    if pa.types.is_timestamp(kind):
        present = present.cast(pa.int64()).cast(
            pa.timestamp(kind.unit)
        )  # zones only matter to readers
    micro, beyond = casted(
        present,
        lambda part: part.cast(
            pa.timestamp("us"), safe=pa.types.is_date(kind) or kind.unit != "ns"
        ),
    )
    times = np.sort(micro.drop_null().cast(pa.int64()).to_numpy())
    inside = (times >= LEAST) & (times <= MOST)
    outside = int(beyond.sum() + (~inside).sum())
    times = times[inside]
    if not len(times):
        return "its times lie beyond the years 1 to 9999"
    if outside:
        notes.append(
            f"{outside} times of {name!r} lie beyond the years 1 to 9999; their rows will be refused."
        )
    distinct, counts = np.unique(times, return_counts=True)
    atoms = _sentinels(distinct, counts)
    rest = distinct[~np.isin(distinct, atoms)]
    rows = int(counts[~np.isin(distinct, atoms)].sum())
    step, offset = _grid(rest)
    low, high = int(rest[0]), int(rest[-1])
    span = max(high - low, SECOND)
    needs = (("year", 2 * YEAR), ("week", 14 * DAY), ("day", 2 * DAY))
    periods = [p for p, need in needs if span >= need and not (p == "day" and step >= 86400)]
    levels = few_levels(rest / SECOND, rows, step)
    first = low - low % SECOND
    last = min(low + span + (-(low + span)) % SECOND, MOST)
    return Column(
        name, "timestamp", str(kind), low=iso_text(first), high=iso_text(max(last, first + 1)),
        periods=tuple(periods), resolution=0.0 if len(levels) else step,
        offset=0.0 if len(levels) else offset,
        nulls="indicator" if values.null_count else "refuse",
        outside="refuse" if outside else "clip",
        atoms=tuple(iso_text(int(a)) for a in atoms),
        levels=tuple(iso_text(int(t)) for t in rest) if len(levels) else (),
    )  # fmt: skip


def _sentinels(distinct: Micro, counts: NDArray[np.int64]) -> Micro:
    """Times at the ends that stand for a state: the far future, or a known day far from the others."""
    low, high = 0, len(distinct)
    while high - low > 1:
        inner = distinct[low:high]
        span = int(inner[-2] - inner[0]) if len(inner) > 2 else 0
        gap = int(inner[-1] - inner[-2])
        if inner[-1] >= FAR_FUTURE > inner[0] or _far(inner[-1], gap, span, counts[high - 1]):
            high -= 1
            continue
        span = int(inner[-1] - inner[1]) if len(inner) > 2 else 0
        if _far(inner[0], int(inner[1] - inner[0]), span, counts[low]):
            low += 1
            continue
        break
    return np.concatenate([distinct[:low], distinct[high:]])


def _far(time: int, gap: int, span: int, count: int) -> bool:
    if count < 2 or gap <= YEAR:
        return False
    return time - time % DAY in NEVER or (span >= DAY and gap > 5 * span)


def _grid(times: Micro) -> tuple[float, float]:
    """Step and offset, in seconds, of the coarsest usual grid that all times lie on."""
    for step in GRIDS:
        ticks = round(step * SECOND)
        offset = int(times[0] % ticks)
        if len(times) < 10 and offset:
            continue
        if (times % ticks == offset).all():
            return step, offset / SECOND
    return 1e-6, 0.0
