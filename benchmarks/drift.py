"""Drift: false alarms against the time asked for, and delays against river and NEWMA's rule.

    python -m benchmarks.drift [--rows 1000000] [--repeats 20] [--picture FILE]

River's detectors take one number: they get each coordinate's own detector, and the alarm of any
counts (their rates are not per stream then, which the table of false alarms shows). NEWMA's
published rule is an adaptive quantile of the same statistic.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from river import drift

from benchmarks.show import show
from streamsketch import Schema
from streamsketch.drift import SketchDrift

HERE = Path(__file__).parent
D, BOX, AFTER = 4, 8.0, 2000
Draw = Callable[[np.random.Generator, int], np.ndarray]


def correlated(sign: float) -> Draw:
    matrix = np.eye(D)
    matrix[0, 1] = matrix[1, 0] = matrix[2, 3] = matrix[3, 2] = 0.8 * sign
    return lambda rng, n: rng.multivariate_normal(np.zeros(D), matrix, n)


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(size=(n, D))


def two_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean zero, variance one, but two modes per axis."""
    return np.sqrt(1 - 0.4**2) * rng.choice([-1.0, 1.0], (n, D)) + 0.4 * rng.normal(size=(n, D))


CHANGES: dict[str, tuple[Draw, Draw]] = {
    "mean +0.7 on every axis": (normal, lambda rng, n: normal(rng, n) + 0.7),
    "variance x2.25, means stay": (normal, lambda rng, n: normal(rng, n) * 1.5),
    "correlation flips, margins stay": (correlated(1), correlated(-1)),
    "shape, means and variances stay": (normal, two_points),
}


class Columns:
    """One of river's detectors per coordinate; any alarm counts."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.each = [make() for _ in range(D)]

    def run(self, rows: np.ndarray) -> list[int]:
        alarms = []
        for i, row in enumerate(rows):
            for one, value in zip(self.each, row, strict=True):
                one.update(float(value))
            if any(one.drift_detected for one in self.each):
                alarms.append(i)
        return alarms


class Sketched:
    def __init__(self, run_length: float, window: int = 50) -> None:
        schema = Schema.vectors(D, -BOX, BOX)
        self.one = SketchDrift(schema, run_length=run_length, window=window)

    def run(self, rows: np.ndarray) -> list[int]:
        return self.one.update_many(rows)


class Newma:
    """NEWMA with its published rule: EWMAs of S^2 and S^4, a 95% quantile per sample."""

    def __init__(self, window: int = 50) -> None:
        self.fast, self.slow = 0.0337, 0.01005  # the paper's values for a window of 50
        self.features = SketchDrift(Schema.vectors(D, -BOX, BOX), window=window)._map
        self.schema = Schema.vectors(D, -BOX, BOX)

    def run(self, rows: np.ndarray) -> list[int]:
        values = self.features.features(self.schema.encode_array(rows))
        a = b = values[0]
        mean = spread = 0.0
        alarms, above, rate = [], True, 0.01
        for i, value in enumerate(values):
            a, b = a + self.fast * (value - a), b + self.slow * (value - b)
            s2 = float(((a - b) ** 2).sum())
            deviation = np.sqrt(max(spread - mean**2, 0.0))
            now = s2 > mean + 1.645 * deviation and i > 500
            if now and not above:
                alarms.append(i)
            above = now
            mean, spread = mean + rate * (s2 - mean), spread + rate * (s2**2 - spread)
        return alarms


METHODS: dict[str, Callable[[], Any]] = {
    "SketchDrift (10 000 rows)": lambda: Sketched(10_000),
    "the same, window 200": lambda: Sketched(10_000, 200),
    "river ADWIN per column": lambda: Columns(drift.ADWIN),
    "river PageHinkley per column": lambda: Columns(drift.PageHinkley),
    "river KSWIN per column": lambda: Columns(lambda: drift.KSWIN(seed=0)),
    "NEWMA's published rule": Newma,
}


def false_alarms(rows: int, times: tuple[int, ...] = (5000, 10_000)) -> list[dict[str, Any]]:
    records = []
    rng = np.random.default_rng(11)
    centers = rng.uniform(-3, 3, (4, D))
    laws: dict[str, Draw] = {
        "normal": normal,
        "correlated": correlated(1),
        "four clusters": lambda rng, n: (
            centers[rng.integers(4, size=n)] + 0.5 * rng.normal(size=(n, D))
        ),
        "heavy tails, t2": lambda rng, n: rng.standard_t(2, (n, D)),
    }
    for name, draw in laws.items():
        for asked in times:
            rng = np.random.default_rng(asked)
            one = SketchDrift(Schema.vectors(D, -BOX, BOX), run_length=asked)
            start = time.process_time()
            alarms = sum(len(one.update_many(draw(rng, 20_000))) for _ in range(rows // 20_000))
            seconds = time.process_time() - start
            records.append(
                {
                    "law": name,
                    "asked": asked,
                    "alarms": alarms,
                    "measured": rows / max(alarms, 1),
                    "ratio": rows / max(alarms, 1) / asked,
                    "error": 1 / np.sqrt(max(alarms, 1)),
                    "us_per_row": seconds / rows * 1e6,
                }
            )
    return records


def delays(repeats: int) -> list[dict[str, Any]]:
    records = []
    for change, (before, after) in CHANGES.items():
        for name, make in METHODS.items():
            found, false, rows_before = [], 0, 3000
            for seed in range(repeats):
                rng = np.random.default_rng(seed)
                rows = np.concatenate([before(rng, rows_before), after(rng, AFTER)])
                alarms = make().run(rows)
                false += sum(a < rows_before for a in alarms)
                later = [a - rows_before for a in alarms if a >= rows_before]
                found.append(later[0] if later else None)
            hits = [f for f in found if f is not None]
            records.append(
                {
                    "change": change,
                    "method": name,
                    "rows between false alarms": repeats * rows_before / false
                    if false
                    else "none",
                    "missed": f"{found.count(None)}/{repeats}",
                    "median delay": float(np.median(hits)) if hits else "-",
                }
            )
    return records


def picture(path: Path) -> None:
    """The statistic and its threshold through a change that leaves all margins in place."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(0)
    before, after = CHANGES["correlation flips, margins stay"]
    rows = np.concatenate([before(rng, 3000), after(rng, 1500)])
    one = SketchDrift(Schema.vectors(D, -BOX, BOX), run_length=100_000)
    trace = []
    alarms = []
    for i, row in enumerate(rows):
        one.update(row)
        trace.append((one.statistic, one.threshold))
        if one.drift_detected:
            alarms.append(i)
    statistic, threshold = np.array(trace).T
    threshold[~np.isfinite(threshold)] = np.nan
    figure, axes = plt.subplots(figsize=(5.6, 2.6))
    axes.plot(statistic, lw=0.7, label="whitened squared distance of the two sketches")
    axes.plot(threshold, "k--", lw=1, label="threshold for 100 000 rows")
    axes.axvline(3000, color="gray", lw=0.8)
    for i, a in enumerate(alarms):
        axes.axvline(a, color="r", lw=1, label=None if i else "alarm")
    axes.set_xlabel("row (correlation flips at 3000)")
    axes.legend(fontsize=7, loc="upper left")
    axes.set_ylim(0, 1.6)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    out = HERE / "results" / "drift.json"
    results: dict[str, list[dict[str, Any]]] = {}
    studies = {
        "false_alarms": lambda: false_alarms(options.rows),
        "delays": lambda: delays(options.repeats),
    }
    for name, study in studies.items():
        results[name] = study()
        show(name, results[name])
        out.write_text(json.dumps(results, indent=1))
    if options.picture:
        picture(options.picture)


if __name__ == "__main__":
    main()
