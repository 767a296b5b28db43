"""The compiled kernel of tables: one pass over the rows' cells adds to all counts.

This module imports numba and compiles on first use: import it inside functions.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.features.kernels.fused import jit

__all__ = ["add_counts", "cells_of_rows"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@jit
def _add(
    codes: I32,
    starts: I64,
    middle: I64,
    coarse: I64,
    lookup: I32,
    first: I32,
    partners: I32,
    triples: I32,
    counts: I64,
) -> None:
    """Add the rows whose finest cells are codes (variables, n) to counts.

    lookup holds, for each finest cell at starts[k] + code, its middle cell (row 0) and its coarse cell
    (row 1); starts are those of the layout's tables; partners[first[j] : first[j + 1]] are the k of
    pairs (j, k).
    """
    many, n = codes.shape
    m = np.empty(many, np.int64)
    c = np.empty(many, np.int64)
    for i in range(n):
        for k in range(many):
            at = starts[k] + codes[k, i]
            counts[at] += 1
            m[k] = lookup[0, at]
            c[k] = lookup[1, at]
        table = many
        for j in range(many):
            mine = m[j]
            for q in range(first[j], first[j + 1]):
                k = partners[q]
                counts[starts[table] + mine * middle[k] + m[k]] += 1
                table += 1
        for q in range(triples.shape[0]):
            a, b, d = triples[q, 0], triples[q, 1], triples[q, 2]
            counts[starts[table] + (c[a] * coarse[b] + c[b]) * coarse[d] + c[d]] += 1
            table += 1


@jit
def _cells(
    codes: I32,
    starts: I64,
    middle: I64,
    coarse: I64,
    lookup: I32,
    first: I32,
    partners: I32,
    triples: I32,
    out: I32,
) -> None:
    """Write which counts (n, tables) the rows add to; the arguments are those of `_add`."""
    many, n = codes.shape
    m = np.empty(many, np.int64)
    c = np.empty(many, np.int64)
    for i in range(n):
        for k in range(many):
            at = starts[k] + codes[k, i]
            out[i, k] = at
            m[k] = lookup[0, at]
            c[k] = lookup[1, at]
        table = many
        for j in range(many):
            mine = m[j]
            for q in range(first[j], first[j + 1]):
                k = partners[q]
                out[i, table] = starts[table] + mine * middle[k] + m[k]
                table += 1
        for q in range(triples.shape[0]):
            a, b, d = triples[q, 0], triples[q, 1], triples[q, 2]
            out[i, table] = starts[table] + (c[a] * coarse[b] + c[b]) * coarse[d] + c[d]
            table += 1


class Counter:
    """Adds rows to the counts of one layout."""

    def __init__(self, layout: Any) -> None:
        v = layout.variables
        self.starts = layout.starts
        self.middle = np.array([one.middle for one in v], np.int64)
        self.coarse = np.array([one.coarse for one in v], np.int64)
        self.lookup = np.stack(
            [
                np.concatenate([one.middle_of for one in v]),
                np.concatenate([one.coarse_of[one.middle_of] for one in v]),
            ]
        ).astype(np.int32)
        pairs = np.array(layout.pairs, np.int32).reshape(-1, 2)
        self.first = np.searchsorted(pairs[:, 0], np.arange(len(v) + 1)).astype(np.int32)
        self.partners = np.ascontiguousarray(pairs[:, 1])
        self.triples = np.array(layout.triples, np.int32).reshape(-1, 3)

    def add(self, codes: I32, counts: I64) -> None:
        """Add rows of finest cells (variables, n), in place."""
        fixed = (self.starts, self.middle, self.coarse, self.lookup)
        _add(codes, *fixed, self.first, self.partners, self.triples, counts)

    def cells(self, codes: I32) -> I32:
        """Which counts (n, tables) rows of finest cells (variables, n) add to, one of each table."""
        out = np.empty((codes.shape[1], len(self.starts) - 1), np.int32)
        fixed = (self.starts, self.middle, self.coarse, self.lookup)
        _cells(codes, *fixed, self.first, self.partners, self.triples, out)
        return out


@cache
def _counter(layout: Any) -> Counter:
    return Counter(layout)


def cells_of_rows(layout: Any, codes: I32) -> I32:
    """Which counts (n, tables) rows of finest cells (variables, n) add to."""
    return _counter(layout).cells(codes)


def add_counts(layout: Any, codes: I32, counts: I64) -> None:
    """Add rows of finest cells (variables, n) to the counts (size,) of a layout, in place."""
    _counter(layout).add(codes, counts)
