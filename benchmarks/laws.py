"""Frequency laws by what is learned from them: structured laws against `multiscale`.

    python -m benchmarks.laws [--seeds 2] [--fashion FILE.parquet]

The same generator is trained for equal steps from sketches of equal size. Scores are squared energy
distances to held-out rows, over that of as many real rows (1 is as good as real), and the share of
frequencies at which the data's mean features are within two standard errors of nothing.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.show import show
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance

RESULTS = Path(__file__).parent / "results" / "laws.json"
LAWS = ("multiscale", "multiscale_hadamard", "hadamard", "multiscale_harmonic", "harmonic")


def sets(fashion: Path | None) -> dict[str, tuple[np.ndarray, int, int]]:
    """Per set its rows in [-1, 1], frequencies and steps."""
    found = {"digits, d = 64": (load_digits().data / 8.0 - 1.0, 2048, 600)}
    if fashion is not None:
        import pyarrow.parquet as pq

        images = pq.read_table(fashion)["image"].combine_chunks()
        pixels = images.flatten().to_numpy().reshape(len(images), -1)
        found["Fashion-MNIST, d = 784"] = (pixels[:12_000] / 127.5 - 1.0, 4096, 400)
    return found


def measure(name: str, x: np.ndarray, m: int, steps: int, law: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x = x[rng.permutation(len(x))].astype(np.float32)
    held, x = x[: len(x) // 4], x[len(x) // 4 :]
    sketcher = Sketcher(Schema.vectors(x.shape[1], -1, 1), frequencies=m, law=law, seed=seed)
    sketcher.learn_many(x)
    snapshot = sketcher.release()
    modulus = np.hypot(*snapshot.mean.reshape(2, -1))
    begun = time.process_time()
    generator = fit(snapshot, steps=steps, seed=seed)
    spent = time.process_time() - begun
    made = generator.sample_encoded(2000, seed=seed)
    real = energy_distance(x[:2000], held)
    return {
        "set": name, "law": law, "seed": seed, "m": m, "steps": steps,
        "D2 over real": energy_distance(made, held) / real,
        "nothing but noise": float((modulus < 2 / np.sqrt(len(x))).mean()),
        "CPU s": round(spent, 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fashion", type=Path, help="a file of 784-pixel images")
    options = parser.parse_args()
    rows = []
    for name, (x, m, steps) in sets(options.fashion).items():
        for law in LAWS:
            for seed in range(options.seeds):
                rows.append(measure(name, x, m, steps, law, seed))
                show("laws", rows[-1:])
                RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
