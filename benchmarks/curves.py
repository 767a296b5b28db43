"""Sketch size, rows, batch, scale: what each is worth, on points, images and a table.

    python -m benchmarks.curves [--sets spiral,digits,adult] [--only scale] [--seeds 2] [--steps 600]
                                [--picture docs/img/curves.png]

The spiral of Schellekens and Jacques (2020) and scikit-learn's digits. One thing is changed at a
time from m = 2048, all rows, batches of 500 and the law `multiscale`; the scale is that of the law
`gaussian`. Score: squared energy distance of 4,000 rows to held-out ones, over what real rows have on
average (1 is as good as real rows). Of the table (Adult) the size is the middle cells of an ordered column,
and the score the mean total variation of pairs of columns, over that of as many real rows.

What is measured again replaces what the results file has.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from benchmarks.quality import ROOT, adult
from benchmarks.show import show
from benchmarks.toys import spiral
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance, pair_tv
from streamsketch.evaluate.pictures import new_figure, png

RESULTS = Path(__file__).parent / "results" / "curves.json"
MADE = 4000
CURVES: dict[str, dict[str, tuple[float, ...]]] = {
    "spiral": {
        "frequencies": (16, 64, 256, 1024, 4096),
        "rows": (100, 1000, 10_000, 100_000),
        "batch": (50, 200, 500, 2000),
        "scale": (0.005, 0.02, 0.08, 0.3, 1.0),
    },
    "digits": {
        "frequencies": (64, 256, 1024, 4096, 16_384),
        "rows": (100, 400, 1300),
        "batch": (50, 200, 500, 2000),
        "scale": (0.2, 0.5, 1.0, 2.0, 5.0),
    },
    "adult": {"cells": (4, 8, 16, 48), "rows": (300, 1000, 5000, 32_561)},
}


def points(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in [-1, 1] to learn from, and others to compare with."""
    rng = np.random.default_rng(seed)
    if name == "spiral":
        x = (spiral(120_000, rng) / 1.6).clip(-1, 1)
        return x[:100_000], x[100_000:]
    x = load_digits().data[rng.permutation(1797)] / 8.0 - 1.0
    return x[:1300], x[1300:]


def measure(name: str, what: str, value: float, seed: int, steps: int) -> float:
    x, held = points(name, seed)
    given: dict[str, Any] = {"frequencies": 2048, "law": "multiscale", "scale": 1.0}
    rows, batch = len(x), 500
    if what == "scale":
        given |= {"law": "gaussian", "scale": value}
    elif what == "frequencies":
        given["frequencies"] = int(value)
    elif what == "rows":
        rows = int(value)
    else:
        batch = int(value)
    sketcher = Sketcher(Schema.vectors(x.shape[1], -1, 1), seed=seed, **given)
    sketcher.learn_many(x[:rows])
    # batches of any size see as many rows: a step of half the rows is half a step
    generator = fit(
        sketcher.release(), steps=max(50, steps * 500 // batch), seed=seed, config={"batch": batch}
    )
    made = generator.sample_encoded(MADE, seed=seed)
    return energy_distance(made, held[:MADE]) / unit(held)


def of_table(what: str, value: float, seed: int) -> float:
    """The same of Adult: pairs, from counts."""
    train, held, label = adult(ROOT / "data" / "adult.parquet")
    schema = Schema.propose(train, label=label)
    rng = np.random.default_rng(seed)
    order = pa.array(rng.permutation(train.num_rows))
    middle = int(value) if what == "cells" else 0
    sketcher = Sketcher(schema, seed=seed, middle=middle)
    sketcher.learn_many(train.take(order[: int(value)] if what == "rows" else order))
    made = fit(sketcher.release(), seed=seed).sample(train.num_rows, seed)
    return pair_tv(held, made) / pair_tv(held, train)


def unit(held: np.ndarray) -> float:
    """What the distance of 4,000 real rows to the held-out ones is on average: both are samples."""
    some = held[:1000]
    apart = float(cdist(some, some).sum() / (len(some) * (len(some) - 1)))
    return 0.5 * apart * (1 / MADE + 1 / min(len(held), MADE))


def picture(records: list[dict[str, Any]]) -> bytes:
    """Four curves, one line for each set."""
    figure = new_figure(12.0, 3.0)
    colors = {"spiral": "#3a6ea5", "digits": "#d95f02", "adult": "#4d9221"}
    for axis, what in zip(figure.subplots(1, 4), CURVES["spiral"], strict=True):
        for name, color in colors.items():
            found = [r for r in records if r["set"] == name and r["what"] == what]
            values = sorted({r["value"] for r in found})
            scores = [[r["D2 over real"] for r in found if r["value"] == v] for v in values]
            if not found:
                continue
            axis.loglog(values, [np.mean(s) for s in scores], "o-", color=color, label=name, ms=4)
            axis.fill_between(
                values, [min(s) for s in scores], [max(s) for s in scores], color=color, alpha=0.2
            )
        axis.set_xlabel(what if what != "scale" else "scale of the law gaussian")
        axis.axhline(1.0, color="#888888", lw=0.8, ls=":")
    figure.axes[0].set_ylabel("distance over real rows'")
    figure.axes[1].legend(frameon=False, fontsize=8)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(CURVES))
    parser.add_argument("--only", help="one curve: frequencies, cells, rows, batch or scale")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--picture", type=Path, default=Path("docs/img/curves.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    records: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name, curve, value in [
        (n, c, v)
        for n in options.sets.split(",")
        for c, values in CURVES[n].items()
        if options.only in (None, c)
        for v in values
    ]:
        point = {"set": name, "what": curve, "value": value}
        records = [r for r in records if point.items() - r.items()]
        for seed in range(options.seeds):
            score = (
                of_table(curve, value, seed)
                if name == "adult"
                else measure(name, curve, value, seed, options.steps)
            )
            records.append({**point, "seed": seed, "D2 over real": score})
        show("curves", records[-options.seeds :])
        RESULTS.write_text(json.dumps(records, indent=1) + "\n")
    options.picture.write_bytes(picture(records))


if __name__ == "__main__":
    main()
