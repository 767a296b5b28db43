"""Dropped modes: generators that begin as the decoded mixture, and those that do not.

    python -m benchmarks.modes [--seeds 3]

| set | what |
|---|---|
| grid of 25, of 49 | narrow Gaussians of unequal weight (largest five times the smallest) in the plane |
| 20 in ten dimensions | Gaussians of deviation 0.05 anywhere in the box |
| spiral, digits | no mixtures: the spiral of Schellekens and Jacques (2020); scikit-learn's 64 pixels |

A point belongs to a mode when it is within four deviations of its mean (in d dimensions
sqrt(d) + 3). A mode is dropped when it has less than a quarter of its weight. CPU seconds hold the
decoding; one thread.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import toys
from benchmarks.quality import digits
from benchmarks.show import show
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance

HERE = Path(__file__).parent
ROWS = 50_000
RUNS = (("random", 200), ("random", 1000), ("mixture", 1), ("mixture", 200))


@dataclass
class Modes:
    """A mixture of isotropic Gaussians with known modes."""

    means: np.ndarray
    std: float
    weights: np.ndarray

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        which = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[which] + self.std * rng.normal(size=(n, self.means.shape[1]))

    def found(self, x: np.ndarray) -> dict[str, float]:
        """Modes dropped, share of points in no mode, total variation of the modes' weights."""
        d = self.means.shape[1]
        distance = np.linalg.norm(x[:, None] - self.means, axis=2) / self.std
        near = distance.min(1) < (4 if d == 2 else np.sqrt(d) + 3)
        share = np.bincount(distance.argmin(1)[near], minlength=len(self.weights)) / len(x)
        return {
            "dropped": int((share < 0.25 * self.weights).sum()),
            "outside": float(1 - near.mean()),
            "weights off": 0.5 * float(np.abs(share - self.weights).sum()),
        }


def modes(seed: int) -> dict[str, Modes]:
    rng = np.random.default_rng(seed)
    out = {}
    for side, std in ((5, 0.03), (7, 0.02)):
        at = np.linspace(-0.8, 0.8, side)
        means = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        out[f"grid of {side * side}"] = Modes(means, std, _unequal(side * side, rng))
    out["20 in ten dimensions"] = Modes(rng.uniform(-0.7, 0.7, (20, 10)), 0.05, _unequal(20, rng))
    return out


def _unequal(k: int, rng: np.random.Generator) -> np.ndarray:
    weights = 1 + 4 * rng.random(k)
    return weights / weights.sum()


def runs(seeds: int) -> Iterator[dict[str, Any]]:
    for seed in range(seeds):
        rng = np.random.default_rng(100 + seed)
        pixels = 2 * digits()[0] - 1
        clouds: dict[str, Any] = {
            name: (law(ROWS, rng), law(5000, rng), law) for name, law in modes(seed).items()
        }
        clouds["spiral"] = (toys.spiral(ROWS, rng) / 1.6, toys.spiral(5000, rng) / 1.6, None)
        clouds["digits"] = (pixels[:1300], pixels[1300:], None)
        for name, (data, held, law) in clouds.items():
            sketcher = Sketcher(Schema.vectors(data.shape[1], -1, 1), 2048, seed=seed)
            sketcher.learn_many(np.clip(data, -1, 1))
            snapshot = sketcher.release()
            for init, steps in RUNS:
                begun = time.process_time()
                generator = fit(snapshot, steps=steps, seed=seed, init=init)
                took = time.process_time() - begun
                made = generator.sample_encoded(5000, seed)
                yield {
                    "set": name, "init": init, "steps": steps, "seed": seed, "CPU s": took,
                    "held-out": generator.metrics["heldout"], "floor": generator.metrics["floor"],
                    "energy": energy_distance(made, held), **(law.found(made) if law else {}),
                }  # fmt: skip


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    records = list(runs(given.seeds))
    (HERE / "results" / "modes.json").write_text(json.dumps(records, indent=1))
    rows = []
    for key in dict.fromkeys((r["set"], r["init"], r["steps"]) for r in records):
        mine = [r for r in records if (r["set"], r["init"], r["steps"]) == key]
        row = dict(zip(("set", "init", "steps"), key, strict=True))
        for c in ("CPU s", "dropped", "outside", "weights off", "held-out", "energy"):
            if c in mine[0]:
                values = [r[c] for r in mine]
                row[c] = f"{np.median(values):.2g} ({max(values):.2g})"
        rows.append(row)
    show("median over seeds (worst)", rows)


if __name__ == "__main__":
    main()
