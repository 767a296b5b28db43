"""What counting the cells of tables costs, against what a user would write instead.

    OMP_NUM_THREADS=1 python -m benchmarks.cells [--rows 200000] [--rounds 3] [FILE ...]

Every contender counts the same cells of the same rows in one process, by CPU seconds of one thread; the
best of the rounds counts, as the machine may be shared. numpy: `bincount` of each pair. polars: a
`group_by` with `len` of each pair, over integer codes (where it is installed). Each must find the same
counts, else this fails. Writes benchmarks/results/cells.json and prints the tables.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from streamsketch import Schema, Sketcher
from streamsketch.features.cells import CellLayout, fitting_middle, layout_of
from streamsketch.features.kernels.counts import add_counts
from streamsketch.features.pilot import advise

HERE = Path(__file__).parent
Rows = list[dict[str, Any]]


def best(work: Callable[[], Any], rounds: int) -> float:
    """Least CPU seconds of the rounds, after one to warm up."""
    work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def by_numpy(layout: CellLayout, middle: list[np.ndarray]) -> list[np.ndarray]:
    v = layout.variables
    return [
        np.bincount(middle[j] * v[k].middle + middle[k], minlength=v[j].middle * v[k].middle)
        for j, k in layout.pairs
    ]


def by_polars(layout: CellLayout, frame: Any) -> list[Any]:
    names = frame.columns
    return [frame.group_by(names[j], names[k]).len() for j, k in layout.pairs]


def same(layout: CellLayout, counts: np.ndarray, found: list[np.ndarray]) -> bool:
    return all(
        (layout.pair(counts, *pair).ravel() == one).all()
        for pair, one in zip(layout.pairs, found, strict=True)
    )


def counting(name: str, layout: CellLayout, x: np.ndarray, rounds: int) -> dict[str, Any]:
    """Rows a second of cells and counts, and of the peers over the pairs alone."""
    n = len(x)
    codes = layout.codes(x)
    counts = np.zeros(layout.size, np.int64)
    add_counts(layout, codes, counts)
    middle = [v.middle_of[c] for v, c in zip(layout.variables, codes, strict=True)]
    assert same(layout, counts, by_numpy(layout, middle))
    record: dict[str, Any] = {
        "table": name,
        "variables": len(layout.variables),
        "tables": layout.tables,
        "cells": layout.size,
        "codes": n / best(lambda: layout.codes(x), rounds),
        "counts": n / best(lambda: add_counts(layout, codes, counts), rounds),
    }
    record["both"] = 1 / (1 / record["codes"] + 1 / record["counts"])
    record["numpy"] = n / best(lambda: by_numpy(layout, middle), rounds)
    if find_spec("polars") is not None and layout.tables < 2000:
        import polars as pl

        frame = pl.DataFrame({f"v{k}": m.astype(np.int32) for k, m in enumerate(middle)})
        assert by_polars(layout, frame)[0]["len"].sum() == n
        record["polars"] = n / best(lambda: by_polars(layout, frame), rounds)
    return record


def parts(name: str, table: pa.Table, schema: Schema, rounds: int) -> dict[str, Any]:
    """Nanoseconds a row of each part of learning a table."""
    sketcher = Sketcher(schema)
    encoded = schema.encode(table).x
    features: Any = sketcher.features
    n = len(encoded) / 1e9
    counts = np.zeros(features.layout.size, np.int64)
    codes = features.layout.codes(encoded)
    return {
        "table": name,
        "encode": best(lambda: schema.encode(table), rounds) / n,
        "fourier": best(lambda: features.fourier.sum(encoded), rounds) / n,
        "codes": best(lambda: features.layout.codes(encoded), rounds) / n,
        "counts": best(lambda: add_counts(features.layout, codes, counts), rounds) / n,
        "learn_many": best(lambda: sketcher.learn_many(table), rounds) / n,
    }


def wide(columns: int, n: int) -> tuple[pa.Table, Schema]:
    """Numbers of eight hidden ones."""
    rng = np.random.default_rng(columns)
    hidden = rng.normal(size=(n, 8)) @ rng.normal(size=(8, columns))
    x = np.round(np.tanh(hidden) + 0.3 * rng.normal(size=(n, columns)), 2)
    table = pa.table({f"c{k}": x[:, k] for k in range(columns)})
    return table, Schema.propose(table)


def show(title: str, records: Rows) -> None:
    columns = list(dict.fromkeys(key for record in records for key in record))
    table = Table(*columns, title=title)
    for record in records:
        cells = [record.get(key, "") for key in columns]
        table.add_row(*(f"{c:,.0f}" if isinstance(c, float) else str(c) for c in cells))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="Parquet tables")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    files = given.files or sorted((HERE.parent / "data").glob("*.parquet"))
    counted, priced = [], []
    for path in files:
        table = pq.read_table(path).slice(0, given.rows)
        schema = Schema.propose(table)
        layout = layout_of(schema, fitting_middle(schema, 48), 0)
        counted.append(counting(path.stem, layout, schema.encode(table).x, given.rounds))
        priced.append(parts(path.stem, table, schema, given.rounds))
    for columns in (10, 50, 200):
        table, schema = wide(columns, min(given.rows, 20_000))
        chosen = advise(schema, table)
        spec = Sketcher(schema, 16, middle=chosen.middle, partners=chosen.partners)
        features: Any = spec.features
        x = schema.encode(table).x
        counted.append(counting(f"{columns} numbers", features.layout, x, given.rounds))
    show("rows a second", counted)
    show("ns a row", priced)
    result = HERE / "results" / "cells.json"
    result.write_text(json.dumps({"rows_per_second": counted, "ns_per_row": priced}, indent=1))


if __name__ == "__main__":
    main()
