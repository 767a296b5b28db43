"""Which columns of a table determine others, so that the others need not be sketched."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamsketch.schema.columns import Column, arrow_type
from streamsketch.schema.derived import ORDERED
from streamsketch.schema.times import casted, is_time, iso_text

__all__ = ["with_derived"]

MAX_KEYS = 8192  # combinations of keys
MAX_ENTRIES = 1024  # in the table, which is a part of every snapshot
ROWS_PER_ENTRY = 20  # fewer, and a column may seem to be determined by chance
SLACK = 0.001  # share of rows that may differ: less than any generator's error
ERASED = 0.1  # share of a value's rows that may take another: more, and a rare value would vanish
NEAR = 0.01  # of a number's range: another so near is as good
SAMPLE = 5000  # rows that rule most candidates out

Codes = NDArray[np.int64]


def with_derived(columns: Sequence[Column], table: Mapping[str, pa.Array]) -> list[Column]:
    """The columns, those that one or two others determine in `table` being derived.

    A column is derived from one column if it can be, else from two categories. Of columns that
    determine each other the first stays. Labels stay, and so does what holds nulls of its own.

    Args:
        columns: Proposed declarations, in the order of the table.
        table: The values they were read off, (n,) each, by name; no dictionaries.
    """
    values = {c.name: _exact(table[c.name]) for c in columns if c.kind in ORDERED or c.categorical}
    by_name = {c.name: c for c in columns}
    codes = {name: _codes(array) for name, array in values.items()}
    keys = {name for name in codes if _may_be_key(by_name[name], codes[name])}
    rows = np.random.default_rng(0).permutation(len(next(iter(table.values()))))[:SAMPLE]
    sample = {name: code[rows] for name, code in codes.items()}
    for column in reversed(columns):
        name = column.name
        if name not in codes or column.kind in ("label", "timestamp") or codes[name].max() < 1:
            continue
        for chosen in _candidates(keys - {name}, by_name, list(codes)):
            if _kept(sample, chosen, name) is None:
                continue
            kept = _kept(codes, chosen, name)
            if kept is None or _erases(kept, codes[name], _sizes(values[name])):
                continue
            # categories that are numbers have no order worth keeping to
            ordered = by_name[chosen[0]].kind in ORDERED
            entries = _entries(values, codes, chosen, name, ordered)
            if entries is not None:
                by_name[name] = Column(
                    name, "derived", column.type, keys=chosen, table=tuple(entries)
                )
                keys.discard(name)
                break
    return [by_name[c.name] for c in columns]


def _candidates(
    keys: set[str], columns: Mapping[str, Column], order: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    names = [name for name in order if name in keys]
    yield from ((name,) for name in names)
    yield from combinations([name for name in names if columns[name].categorical], 2)


def _may_be_key(column: Column, codes: Codes) -> bool:
    whole = column.kind != "numeric" or pa.types.is_integer(arrow_type(column.type))
    return bool(whole and 1 <= codes.max() < MAX_KEYS)


def _exact(values: pa.Array) -> pa.Array:
    """Times in microseconds, which Python's can hold; other values as they are."""
    if is_time(values.type):
        return casted(values, lambda part: part.cast(pa.timestamp("us"), safe=False))[0]
    return values


def _codes(values: pa.Array) -> Codes:
    """Numbers from 0 of the distinct values, -1 for null; (n,) int64."""
    indices = values.dictionary_encode().indices
    return np.asarray(pc.fill_null(indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False))


def _combined(codes: Mapping[str, Codes], names: Sequence[str]) -> Codes:
    """One number a row for the values of several columns; -1 where one of them is null."""
    out = np.zeros(len(codes[names[0]]), np.int64)
    missing = np.zeros(len(out), bool)
    for name in names:
        out = out * (int(codes[name].max()) + 1) + codes[name]
        missing |= codes[name] < 0
    out[missing] = -1
    return out


def _kept(
    codes: Mapping[str, Codes], keys: Sequence[str], name: str
) -> tuple[Codes, Codes, Codes] | None:
    """What the column would become: each value's code, the most frequent of its keys, and the rows.

    None unless nearly all rows of a combination of keys have one value, and null keys null.
    """
    key, value = _combined(codes, keys), codes[name]
    present = key >= 0
    if not np.array_equal(value >= 0, present) or not present.any():
        return None
    first, counts, starts = _pairs(key[present], value[present])
    if int(counts.sum() - np.maximum.reduceat(counts, starts).sum()) > SLACK * len(key):
        return None
    held = value[present][first]
    ends = (*starts[1:], len(counts))
    often = [a + int(np.argmax(counts[a:b])) for a, b in zip(starts, ends, strict=True)]
    return held, np.repeat(held[often], np.diff(starts, append=len(counts))), counts


def _erases(
    kept: tuple[Codes, Codes, Codes], codes: Codes, sizes: NDArray[np.float64] | None
) -> bool:
    """Whether a value would lose more than a few of its rows to others that are not near it."""
    was, becomes, counts = kept
    lost = was != becomes
    if sizes is not None:
        lost &= np.abs(sizes[was] - sizes[becomes]) > NEAR * np.ptp(sizes)
    many = int(codes.max()) + 1
    rows = np.bincount(was, counts, many)
    return bool((np.bincount(was, np.where(lost, counts, 0), many) > ERASED * rows).any())


def _sizes(values: pa.Array) -> NDArray[np.float64] | None:
    """The numbers that codes stand for; None for what is no number."""
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    found = values.dictionary_encode().dictionary.cast(pa.float64(), safe=False)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def _pairs(key: Codes, value: Codes) -> tuple[Codes, Codes, Codes]:
    """A row of each pair of key and value, its count, and where each key's pairs start."""
    several = int(value.max()) + 1
    pairs, first, counts = np.unique(key * several + value, return_index=True, return_counts=True)
    return first, counts, np.unique(pairs // several, return_index=True)[1]


def _entries(
    values: Mapping[str, pa.Array],
    codes: Mapping[str, Codes],
    keys: Sequence[str],
    name: str,
    ordered: bool,
) -> list[tuple[object, ...]] | None:
    """The table of a derived column, None where it is too long for what supports it."""
    key, value = _combined(codes, keys), codes[name]
    present = np.flatnonzero(key >= 0)
    first, counts, starts = _pairs(key[present], value[present])
    if len(starts) > MAX_KEYS or len(starts) * ROWS_PER_ENTRY > len(key):
        return None
    ends = (*starts[1:], len(counts))
    often = [a + int(np.argmax(counts[a:b])) for a, b in zip(starts, ends, strict=True)]
    rows = pa.array(present[first[often]])
    found = [_listed(values[column].take(rows)) for column in (*keys, name)]
    entries = sorted(zip(*found, strict=True), key=lambda entry: tuple(map(_order, entry)))
    if ordered:
        entries = _ends_of_runs(entries)
    return entries if len(entries) <= MAX_ENTRIES else None


def _listed(values: pa.Array) -> list[object]:
    if pa.types.is_timestamp(values.type):
        return [iso_text(micro) for micro in values.cast(pa.int64()).to_pylist()]
    return list(values.to_pylist())


def _order(value: object) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


def _ends_of_runs(entries: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Without the entries between two of the same value: the nearest key finds it all the same."""
    inner = [
        0 < i < len(entries) - 1 and entries[i - 1][-1] == e[-1] == entries[i + 1][-1]
        for i, e in enumerate(entries)
    ]
    return [e for e, drop in zip(entries, inner, strict=True) if not drop]
