"""The compiled kernels of tables: which cell a number lies in, and counts of singles, pairs and triples.

This module imports numba and compiles on first use: import it inside functions.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from streamsketch.arrays import F32, I32, I64
from streamsketch.features.kernels.fused import jit

__all__ = ["add_counts", "cells_of_rows", "find"]

ROWS = 1024  # of a block: their cells stay in the second-level cache, one table at a time in the first


@jit
def find(x: F32, edges: F32, first: I32, scale: np.float32, code: I32) -> None:
    """How many edges are at most x, for each x (n,): `numpy.searchsorted` with side "right".

    first[g] is the number of edges whose bucket int((edge + 1) scale), cut to those there are, is below
    g: the bucket never falls as x grows, so those edges are below an x of bucket g.
    """
    last = first.shape[0] - 1
    for i in range(x.shape[0]):
        v = x[i]
        c = first[min(max(np.int64((v + np.float32(1)) * scale), 0), last)]
        while c < edges.shape[0] and edges[c] <= v:
            c += 1
        code[i] = c


@jit
def enter(at: I32, table: int, begin: int, counts: I64, cells: I32) -> None:
    """Add one to the counts at `at` (rows,), or write them as the rows' cells of a table."""
    if len(counts):
        for i in range(at.shape[0]):
            counts[at[i]] += 1
    else:
        for i in range(at.shape[0]):
            cells[begin + i, table] = at[i]


@jit
def visit(
    codes: I32,
    starts: I32,
    middle: I32,
    coarse: I32,
    lookup: I32,
    pairs: I32,
    triples: I32,
    counts: I64,
    cells: I32,
) -> None:
    """Go through the tables of rows whose finest cells are codes (variables, n), a table at a time.

    Args:
        codes: (variables, n) finest cells.
        starts: Of the layout's tables: singles, pairs, triples.
        middle: Middle cells of each variable.
        coarse: Coarse cells of each variable.
        lookup: For each finest cell at starts[k] + code, its middle and its coarse cell.
        pairs: (pairs, 2) variables.
        triples: (triples, 3) variables.
        counts: (size,) added to; empty to write cells instead.
        cells: (n, tables) written where counts are empty: which count a row adds to.
    """
    many, n = codes.shape
    m = np.empty((many, min(n, ROWS)), np.int32)
    c = np.empty((many, min(n, ROWS)), np.int32)
    scratch = np.empty(min(n, ROWS), np.int32)
    for begin in range(0, n, ROWS):
        rows = min(n - begin, ROWS)
        at = scratch[:rows]
        for k in range(many):
            code = codes[k, begin : begin + rows]
            for i in range(rows):
                at[i] = starts[k] + code[i]
                m[k, i] = lookup[0, at[i]]
                c[k, i] = lookup[1, at[i]]
            enter(at, k, begin, counts, cells)
        table = many
        for q in range(len(pairs)):
            one, two, width = m[pairs[q, 0]], m[pairs[q, 1]], middle[pairs[q, 1]]
            for i in range(rows):
                at[i] = starts[table] + one[i] * width + two[i]
            enter(at, table, begin, counts, cells)
            table += 1
        for q in range(len(triples)):
            one, two, three = c[triples[q, 0]], c[triples[q, 1]], c[triples[q, 2]]
            across, width = coarse[triples[q, 1]], coarse[triples[q, 2]]
            for i in range(rows):
                at[i] = starts[table] + (one[i] * across + two[i]) * width + three[i]
            enter(at, table, begin, counts, cells)
            table += 1


class Counter:
    """Adds rows to the counts of one layout."""

    def __init__(self, layout: Any) -> None:
        v = layout.variables
        self.tables = layout.tables
        coarse = [one.coarse_of[one.middle_of] for one in v]
        cells = [np.concatenate([one.middle_of for one in v]), np.concatenate(coarse)]
        self.fixed = (
            layout.starts.astype(np.int32),
            np.array([one.middle for one in v], np.int32),
            np.array([one.coarse for one in v], np.int32),
            np.stack(cells).astype(np.int32),
            np.array(layout.pairs, np.int32).reshape(-1, 2),
            np.array(layout.triples, np.int32).reshape(-1, 3),
        )

    def add(self, codes: I32, counts: I64) -> None:
        """Add rows of finest cells (variables, n), in place."""
        none = np.empty((0, 0), np.int32)
        visit(np.ascontiguousarray(codes), *self.fixed, counts, none)

    def cells(self, codes: I32) -> I32:
        """Which counts (n, tables) rows of finest cells (variables, n) add to, one of each table."""
        out = np.empty((codes.shape[1], self.tables), np.int32)
        visit(np.ascontiguousarray(codes), *self.fixed, np.empty(0, np.int64), out)
        return out


@lru_cache(maxsize=16)
def _counter(layout: Any) -> Counter:
    return Counter(layout)


def cells_of_rows(layout: Any, codes: I32) -> I32:
    """Which counts (n, tables) rows of finest cells (variables, n) add to."""
    return _counter(layout).cells(codes)


def add_counts(layout: Any, codes: I32, counts: I64) -> None:
    """Add rows of finest cells (variables, n) to the counts (size,) of a layout, in place."""
    _counter(layout).add(codes, counts)
