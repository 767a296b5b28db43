"""The argument for sketches as one figure: training by the exact MMD and from a sketch, over n.

    python -m benchmarks.argument [--most 1e7] [--picture docs/img/argument.png]

Schellekens and Jacques (2020): a step of a generator that is trained by the exact MMD visits all n
rows; a sketch visits each once, and its steps know nothing of n. Measured on the spiral of the
paper, one thread, processor seconds: a step of each (500 generated rows), the sketching pass
(m = 1024), and the bytes that training needs of the data. Steps of the exact MMD are measured to
1e6 rows and are a straight line from there. The energy distance to 20,000 fresh points is that of
equally many steps, so that what a smaller n costs is seen too.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.show import show
from benchmarks.toys import spiral
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.generator import stein

RESULTS = Path(__file__).parent / "results" / "argument.json"
BOUND, BATCH, STEPS, EXACT = 1.6, 500, 1000, 1_000_000
CHUNK = 250_000  # rows drawn or compared at once


def exact_step(x: torch.Tensor, y: torch.Tensor) -> float:
    """Processor seconds of the full-data MMD's gradient in the generated rows y (n', d)."""
    s = stein.scales(x[:5000], y)
    begun = time.process_time()
    y = y.clone().requires_grad_()
    stein.kernel(y, y, s).mean().backward()
    for part in x.split(20_000):
        (-2 * stein.kernel(part, y, s).sum() / (len(x) * len(y))).backward()
    return time.process_time() - begun


def measure(n: int, fresh: np.ndarray) -> dict[str, Any]:
    sketcher = Sketcher(Schema.vectors(2, -BOUND, BOUND), frequencies=1024)
    rng, passed, rows = np.random.default_rng(0), 0.0, []
    for start in range(0, n, CHUNK):
        x = spiral(min(CHUNK, n - start), rng).clip(-BOUND, BOUND)
        begun = time.process_time()
        sketcher.learn_many(x)
        passed += time.process_time() - begun
        if n <= EXACT:
            rows.append(torch.as_tensor(x, dtype=torch.float32))
    snapshot = sketcher.release()
    begun = time.process_time()
    generator = fit(snapshot, steps=STEPS, seed=0)
    trained = time.process_time() - begun
    made = generator.sample(20_000).to_pandas().to_numpy()
    y = torch.as_tensor(made[:BATCH], dtype=torch.float32)
    return {
        "rows": n,
        "exact MMD, s a step": exact_step(torch.cat(rows), y) if rows else None,
        "exact MMD, bytes": 4 * 2 * n,
        "sketching, s": passed,
        "sketch, s a step": trained / STEPS,
        "sketch, bytes": len(snapshot.to_bytes()),
        "D2 x 1e4": 1e4 * energy_distance(made, fresh),
    }


def picture(rows: list[dict[str, Any]]) -> bytes:
    """Time and memory of training with each, over the number of rows."""
    n = np.array([r["rows"] for r in rows], float)
    far = np.geomspace(n[0], 1e8, 30)
    known = [r for r in rows if r["exact MMD, s a step"] is not None]
    rate = known[-1]["exact MMD, s a step"] / known[-1]["rows"]
    figure = new_figure(9.0, 3.4)
    left, right = figure.subplots(1, 2)
    left.loglog(
        [r["rows"] for r in known], [STEPS * r["exact MMD, s a step"] for r in known], "s",
        color="#d95f02", label="exact MMD",
    )  # fmt: skip
    left.loglog(far, STEPS * rate * far, "--", color="#d95f02", lw=1)
    whole = [r["sketching, s"] + STEPS * r["sketch, s a step"] for r in rows]
    left.loglog(n, whole, "o-", color="#3a6ea5", label="sketching and training")
    left.loglog(
        n, [r["sketching, s"] for r in rows], ":", color="#3a6ea5", label="of it, sketching"
    )
    left.set(xlabel="rows", ylabel=f"processor seconds of {STEPS} steps")
    right.loglog(far, 8 * far, "--", color="#d95f02", label="exact MMD: the rows")
    right.loglog(n, [r["sketch, bytes"] for r in rows], "o-", color="#3a6ea5", label="a snapshot")
    right.set(xlabel="rows", ylabel="bytes that training needs")
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=1e7)
    parser.add_argument("--picture", type=Path, default=Path("docs/img/argument.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    fresh = spiral(20_000, np.random.default_rng(1)).clip(-BOUND, BOUND)
    measure(1000, fresh)  # what is compiled at first use is no part of the figures
    rows = []
    n = 1000
    while n <= options.most:
        rows.append(measure(n, fresh))
        show("argument", rows[-1:])
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
        options.picture.write_bytes(picture(rows))
        n *= 10


if __name__ == "__main__":
    main()
