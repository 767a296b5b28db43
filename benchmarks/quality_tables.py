"""How good the generators of tables are: real tables, floor and ceiling, private and not.

    python -m benchmarks.quality_tables [--seeds 3] [--sets adult,flights,diamonds,shuttle,segment] [--seconds 0]

| column | what |
|---|---|
| C2ST | AUC of boosting that tells rows from real ones: of all columns, numbers only, categories only |
| TSTR | AUC on real rows of boosting that learned from these rows |
| pairs, triples | mean total variation of pairs of columns, of triples of categories |
| impossible | share of rows with a relationship, marital status and sex that the training rows never have together |
| copies | share of rows equal to a training row in all columns of at most 1,000 values (held-out rows: `real rows`) |
| KB, cpu, warm, peak MB | the snapshot's file; CPU seconds of `fit`, of a warm one; memory of a process that fits |

Adult and flights are files of the repository. Diamonds come with `plotnine`, shuttle and segment with `river`,
and are left out where these are not installed. With `--seconds` a network of so many seconds is measured too.
"""

import argparse
import itertools
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zipfile import ZipFile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import torch

from benchmarks.quality import ROOT, Record, adult, flights, judged, shuffled
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate import two_sample_auc
from streamsketch.features.pilot import advise
from streamsketch.snapshot import Snapshot

ROWS = 32561  # made, and real for floor and ceiling
RELEASES = 100
Loaded = tuple[pa.Table, pa.Table, str]


def held_out(table: pa.Table, label: str) -> Loaded:
    """Every third row, in a fixed random order, is held out."""
    table = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    held = np.arange(table.num_rows) % 3 == 0
    return table.filter(pa.array(~held)), table.filter(pa.array(held)), label


def package(name: str, path: str) -> Path | None:
    found = find_spec(name)
    if found is None or found.origin is None:
        return None
    whole = Path(found.origin).parent / path
    return whole if whole.exists() else None


def as_text(table: pa.Table, label: str) -> pa.Table:
    at = table.column_names.index(label)
    return table.set_column(at, label, table[label].cast(pa.string()))


def diamonds() -> Loaded | None:
    """Prices of 53,940 diamonds: depth is a ratio of three lengths, weight nearly their product."""
    path = package("plotnine", "data/diamonds.csv")
    return None if path is None else held_out(csv.read_csv(path), "cut")


def shuttle() -> Loaded | None:
    """49,097 states of a radiator, 9 numbers that are sums of each other; anomaly or not."""
    path = package("river", "datasets/shuttle.csv.gz")
    if path is None:
        return None
    table = csv.read_csv(path)
    return held_out(as_text(table, table.column_names[-1]), table.column_names[-1])


def segment() -> Loaded | None:
    """2,310 patches of pictures, 18 numbers; 7 kinds."""
    path = package("river", "datasets/segment.csv.zip")
    if path is None:
        return None
    with ZipFile(path) as archive:
        table = csv.read_csv(BytesIO(archive.read(archive.namelist()[0])))
    return held_out(as_text(table, "category"), "category")


SETS: dict[str, Callable[[], Loaded | None]] = {
    "adult": lambda: adult(ROOT / "data" / "adult.parquet"),
    "flights": lambda: flights(ROOT / "data" / "nycflights13.parquet"),
    "diamonds": diamonds,
    "shuttle": shuttle,
    "segment": segment,
}


# --- scores


def scores(made: pa.Table, real: pa.Table, train: pa.Table, label: str, seed: int) -> Record:
    made = made.select(real.column_names)
    categories = [
        f.name
        for f in real.schema
        if any(
            is_one(f.type)
            for is_one in (pa.types.is_string, pa.types.is_boolean, pa.types.is_dictionary)
        )
    ]
    numbers = [n for n in real.column_names if n not in categories]
    out = judged(made, real, label, seed)
    out["copies"] = copies(made, train)
    for name, columns in (("numbers", numbers), ("categories", categories)):
        if len(columns) > 1:
            out[name] = two_sample_auc(real.select(columns), made.select(columns), seed)
    if len(categories) > 2:
        out["triples"] = triples(real, made, categories)
    if "relationship" in real.column_names:
        three = ["relationship", "marital_status", "sex"]
        seen = set(joined(train, three))
        out["impossible"] = float(np.mean([v not in seen for v in joined(made, three)]))
    return out


def joined(table: pa.Table, columns: list[str]) -> list[str]:
    parts = [pc.fill_null(table[c].cast(pa.string()), "null") for c in columns]
    return list(pc.binary_join_element_wise(*parts, "|").to_pylist())


def copies(made: pa.Table, train: pa.Table) -> float:
    few = [c for c in train.column_names if len(train[c].unique()) <= 1000]
    seen = set(joined(train, few))
    return float(np.mean([v in seen for v in joined(made, few)]))


def triples(real: pa.Table, made: pa.Table, names: list[str]) -> float:
    found = []
    for three in itertools.combinations(names, 3):
        values = joined(real, list(three)) + joined(made, list(three))
        _, code = np.unique(values, return_inverse=True)
        p, q = (
            np.bincount(part, minlength=code.max() + 1) / len(part)
            for part in np.split(code, [len(real)])
        )
        found.append(0.5 * np.abs(p - q).sum())
    return float(np.mean(found))


# --- runs


def fitted(data: bytes, seconds: float, seed: int) -> tuple[bytes, Record]:
    """A generator's file, and what the fit took; run in a process that does nothing else."""
    torch.set_num_threads(1)
    snapshot = Snapshot.from_bytes(data, "the snapshot")
    options: dict[str, Any] = {"network": "residual"} if seconds else {}
    fit(snapshot, 1, seed, **options)  # kernels are loaded outside of the time
    begun = time.process_time()
    made = fit(snapshot, seconds or 30, seed, **options)
    took: Record = {"cpu": time.process_time() - begun}
    took["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not seconds:
        begun = time.process_time()
        fit(snapshot, seed=seed, start=made)
        took["warm"] = time.process_time() - begun
    took["verdict"] = made.metrics.get("verdict", "")
    return made.to_bytes(), took


def apart(snapshot: Snapshot, seconds: float, seed: int) -> tuple[Generator, Record]:
    """`fitted` in a process of its own, so that its peak memory is the fit's alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        data, took = pool.submit(fitted, snapshot.to_bytes(), seconds, seed).result()
    return Generator.from_bytes(data), {"KB": len(snapshot.to_bytes()) / 1000, **took}


def snapshots(
    schema: Schema, train: pa.Table, seed: int, private: bool
) -> Iterator[tuple[str, Snapshot]]:
    plain = Sketcher(schema, seed=seed)
    plain.learn_many(train)
    yield "autoregressive", plain.release()
    advice = advise(schema, train)  # what `init` proposes
    if advice.triples:
        more = Sketcher(
            schema, seed=seed, middle=advice.middle, coarse=advice.coarse, triples=advice.triples
        )
        more.learn_many(train)
        yield "with the triples that init proposes", more.release()
    if not private:
        return
    budget = {"epsilon": 1.0, "delta": 1e-5, "releases": 1}
    once = Sketcher(schema, seed=seed, mechanism="gaussian", privacy=budget)
    once.learn_many(train)
    yield "epsilon = 1, one release", once.release()
    budget["releases"] = RELEASES
    often = Sketcher(schema, seed=seed, mechanism="toeplitz", privacy=budget)
    for part in np.array_split(np.arange(train.num_rows), RELEASES):
        often.learn_many(train.slice(int(part[0]), len(part)))
        last = often.release()
    yield f"epsilon = 1, last of {RELEASES} releases", last


def measure(given: argparse.Namespace) -> Iterator[Record]:
    for name in given.sets.split(","):
        loaded = SETS[name]()
        if loaded is None:
            yield {"data": name, "trainer": "left out: its package is not installed"}
            continue
        train, test, label = loaded
        some = train.take(pa.array(np.random.default_rng(0).permutation(train.num_rows)[:ROWS]))
        real = scores(some, test, train, label, 0)
        yield {"data": name, "trainer": "real rows", **real, "copies": copies(test, train)}
        mixed = shuffled(some, 0)
        yield {"data": name, "trainer": "shuffled columns", **scores(mixed, test, train, label, 0)}
        schema = Schema.propose(train, label=label)
        for seed in range(given.seeds):
            for trainer, snapshot in snapshots(schema, train, seed, name == "adult"):
                generator, took = apart(snapshot, 0, seed)
                made = generator.sample(min(ROWS, train.num_rows), seed)
                found = scores(made, test, train, label, seed)
                yield {"data": name, "trainer": trainer, "seed": seed, **took, **found}
            if given.seconds:
                wide = Sketcher(schema, 8192, seed=seed, cells=False)
                wide.learn_many(train)
                generator, took = apart(wide.release(), given.seconds, seed)
                made = generator.sample(min(ROWS, train.num_rows), seed)
                found = scores(made, test, train, label, seed)
                yield {"data": name, "trainer": "network", "seed": seed, **took, **found}


COLUMNS = {
    "C2ST": "{:.3f}", "numbers": "{:.3f}", "categories": "{:.3f}", "TSTR": "{:.3f}", "pairs": "{:.4f}",
    "triples": "{:.3f}", "impossible": "{:.2%}", "copies": "{:.1%}", "KB": "{:.0f}", "cpu": "{:.1f}", "warm": "{:.1f}",
    "peak MB": "{:.0f}",
}  # fmt: skip


def markdown(records: list[Record]) -> str:
    """One line a data set and trainer: the median over seeds, with the range where there is one."""
    lines = [" | ".join(["", "data", "rows of", *COLUMNS, ""]).strip(), "|---" * 14 + "|"]
    for data, trainer in dict.fromkeys((r["data"], r["trainer"]) for r in records):
        runs = [r for r in records if (r["data"], r["trainer"]) == (data, trainer)]
        cells = []
        for name, form in COLUMNS.items():
            found = [r[name] for r in runs if name in r]
            text = form.format(float(np.median(found))) if found else ""
            if len(found) > 1 and name in ("C2ST", "TSTR", "pairs"):
                text += f" ({form.format(min(found))} to {form.format(max(found))})"
            cells.append(text)
        lines.append("| " + " | ".join([data, trainer, *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    records: list[Record] = []
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for record in measure(given):
        records.append(record)
        print(json.dumps(record), flush=True)
        (results / f"quality_tables_{given.sets.replace(',', '_')}.json").write_text(
            json.dumps(records, indent=1)
        )
    print(markdown(records))


if __name__ == "__main__":
    main()
