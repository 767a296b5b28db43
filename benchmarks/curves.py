"""Sketch size, rows, batch, scale: what each is worth, on points and on images.

    python -m benchmarks.curves [--seeds 2] [--steps 600] [--picture docs/img/curves.png]

The spiral of Schellekens and Jacques (2020) and scikit-learn's digits. One thing is changed at a
time from m = 2048, all rows, batches of 500 and the law `multiscale`; the scale is that of the law
`gaussian`. Score: squared energy distance of 4,000 rows to held-out ones, over what real rows have on
average (1 is as good as real rows).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from benchmarks.show import show
from benchmarks.toys import spiral
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.features.frequencies import advised

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


def unit(held: np.ndarray) -> float:
    """What the distance of 4,000 real rows to the held-out ones is on average: both are samples."""
    some = held[:1000]
    apart = float(cdist(some, some).sum() / (len(some) * (len(some) - 1)))
    return 0.5 * apart * (1 / MADE + 1 / min(len(held), MADE))


def picture(records: list[dict[str, Any]]) -> bytes:
    """Four curves, one line for each set."""
    figure = new_figure(12.0, 3.0)
    for axis, what in zip(figure.subplots(1, 4), CURVES["spiral"], strict=True):
        for name, color in (("spiral", "#3a6ea5"), ("digits", "#d95f02")):
            found = [r for r in records if r["set"] == name and r["what"] == what]
            values = sorted({r["value"] for r in found})
            scores = [[r["D2 over real"] for r in found if r["value"] == v] for v in values]
            axis.loglog(values, [np.mean(s) for s in scores], "o-", color=color, label=name, ms=4)
            axis.fill_between(
                values, [min(s) for s in scores], [max(s) for s in scores], color=color, alpha=0.2
            )
        axis.set_xlabel(what if what != "scale" else "scale of the law gaussian")
        axis.axhline(1.0, color="#888888", lw=0.8, ls=":")
    figure.axes[0].set_ylabel("D2 over real rows'")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--picture", type=Path, default=Path("docs/img/curves.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    records: list[dict[str, Any]] = []
    for name, curves in CURVES.items():
        d = points(name, 0)[0].shape[1]
        print(f"{name}: init would advise {advised(Schema.vectors(d, -1, 1).blocks)} frequencies")
        for what, values in curves.items():
            for value in values:
                for seed in range(options.seeds):
                    score = measure(name, what, value, seed, options.steps)
                    records.append(
                        {
                            "set": name,
                            "what": what,
                            "value": value,
                            "seed": seed,
                            "D2 over real": score,
                        }
                    )
                show("curves", records[-options.seeds :])
                RESULTS.write_text(json.dumps(records, indent=1) + "\n")
    options.picture.write_bytes(picture(records))


if __name__ == "__main__":
    main()
