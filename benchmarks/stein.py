"""The comparison of Li (2017), Stein KL against MMD, on scikit-learn's digits or on full MNIST.

    python -m benchmarks.stein [--seeds 3] [--steps 600]
    python -m benchmarks.stein --mnist [--epochs 1,3,6] [--rate 1e-3] [--pictures docs/img]

Batches of 100 and four IMQ kernels as in the paper. On the digits the default network at the rate
of `fit`; on MNIST a convolutional generator (`conv`) of 50 latents, trained for each number of epochs.
The paper reports 6.84 s an epoch for Stein and 10.77 s for MMD by automatic differentiation (.64),
and for Stein the better scores, at a rate of 5e-5. Scores are the paper's:
inception score of a classifier, entropy of the labels of nearest neighbours in l1 (500 samples);
and this project's: energy distance and MMD.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

from benchmarks.image_data import load
from benchmarks.quality import digits
from benchmarks.show import show
from streamsketch import Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance, mmd2
from streamsketch.generator import OBJECTIVES, NetworkConfig, TrainingConfig
from streamsketch.generator.objectives import Entry, Problem

HERE = Path(__file__).parent
TRAIN = 1300
NEAR = 10_000  # images among which nearest neighbours are sought
PLAIN = "mmd, automatic differentiation"


class PlainMMD:
    """The V-statistic over X and Y by automatic differentiation, as Li (2017) timed it."""

    def __init__(self, problem: Problem, model: Any) -> None:
        self.problem = problem

    def __call__(self, y: torch.Tensor, done: float) -> torch.Tensor:
        x = self.problem.some_rows(len(y))
        median = torch.pdist(torch.cat([x, y.detach()])).square().median()

        def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            square = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
            parts = [(1 + square.clamp_min(0) / (f * median)) ** -0.5 for f in (0.5, 1, 2, 4)]
            return torch.stack(parts).sum(0).mean()

        return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


class Scores:
    """What made digits are judged by."""

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, train: int = TRAIN, passes: int = 500
    ) -> None:
        from sklearn.neural_network import MLPClassifier

        self.data, self.test, self.labels = x[:train], x[train:], labels[:train]
        self.classifier = MLPClassifier((64,), max_iter=passes, random_state=0)
        self.classifier.fit(self.data, self.labels)

    def __call__(self, made: np.ndarray) -> dict[str, float]:
        chances = np.clip(self.classifier.predict_proba(made), 1e-12, 1)
        sure = (chances * np.log(chances / chances.mean(0))).sum(1)
        near = cdist(made[:500], self.data[:NEAR], "cityblock").argmin(1)
        share = np.bincount(self.labels[near], minlength=10) / len(near)
        share = share[share > 0]
        return {
            "inception": float(np.exp(sure.mean())),
            "label entropy": float(-(share * np.log(share)).sum()),
            "energy": energy_distance(made, self.test[:2000]),
            "MMD2": mmd2(made, self.test[:2000], 1.6 * np.sqrt(made.shape[1] / 64)),
        }


def runs(seeds: int, steps: int) -> Iterator[dict[str, Any]]:
    x, labels = digits()
    x = 2 * x - 1
    scores = Scores(x, labels)
    yield {"trainer": "test digits", **scores(x[TRAIN:])}
    config = TrainingConfig(batch=100, validations=1)
    for seed in range(seeds):
        sketcher = Sketcher(Schema.vectors(64, -1, 1), frequencies=64, seed=seed)
        sketcher.learn_many(x[:TRAIN])
        snapshot = sketcher.release()
        rows = snapshot.schema.encode_array(x[:TRAIN])
        for name in ("mmd", PLAIN, "stein"):  # in turns, as a busy machine slows all
            options: dict[str, Any] = {
                "objective": name, "samples": rows, "config": config, "seed": seed,
            }  # fmt: skip
            fit(snapshot, steps=5, **options)  # the first compiles
            begun = time.process_time()
            generator = fit(snapshot, steps=steps, **options)
            took = 1000 * (time.process_time() - begun) / steps
            yield {
                "trainer": name, "seed": seed, "steps": steps, "CPU ms/step": took,
                **scores(generator.sample_encoded(2000, seed)),
            }  # fmt: skip


def mnist(epochs: list[int], rate: float, pictures: Path | None) -> Iterator[dict[str, Any]]:
    """The same on 28 x 28 pixels: a training for each number of epochs, so that rates end alike."""
    data = load("mnist")
    x = np.concatenate([data.x, data.test_x]) * 2 - 1
    scores = Scores(x, np.concatenate([data.y, data.test_y]), 60_000, 10)
    yield {"trainer": "test digits", **scores(x[62_000:64_000])}  # not those compared with
    sketcher = Sketcher(Schema.vectors(784, -1, 1), frequencies=64)
    sketcher.learn_many(x[:2000])
    snapshot = sketcher.release()
    drawn: dict[str, np.ndarray] = {}
    for many in epochs:
        for name in ("stein", "mmd", PLAIN):
            begun = time.process_time()
            generator = fit(
                snapshot, steps=many * 600, objective=name, samples=x[:60_000], device="cpu",
                network=NetworkConfig("conv", latent=50, width=32),
                config=TrainingConfig(batch=100, rate=rate, validations=1),
            )  # fmt: skip
            took = 1000 * (time.process_time() - begun) / (many * 600)
            made = generator.sample_encoded(2000, 0)
            drawn[name] = made[:60]
            yield {"trainer": name, "epochs": many, "CPU ms/step": took, **scores(made)}
            if name == "mmd" and many > min(epochs):
                break  # the two MMDs differ in time only, which the first round tells
    if pictures is not None:
        picture({name: drawn[name] for name in ("stein", "mmd")}, pictures / "stein-mnist.png")


def picture(drawn: dict[str, np.ndarray], path: Path) -> None:
    """Sixty digits of each trainer, side by side."""
    from streamsketch.evaluate.pictures import new_figure, png

    figure = new_figure(7.6, 2.6)
    for axis, (name, made) in zip(figure.subplots(1, len(drawn)), drawn.items(), strict=True):
        tiles = made.reshape(6, 10, 28, 28).swapaxes(1, 2).reshape(168, 280)
        axis.imshow(tiles, cmap="gray", vmin=-1, vmax=1)
        axis.set_title(name, fontsize=8, loc="left", pad=2)
        axis.axis("off")
    path.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--mnist", action="store_true")
    parser.add_argument("--epochs", default="1,3,6", help="with --mnist; a training for each")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pictures", type=Path, help="folder for a picture, with --mnist")
    given = parser.parse_args()
    torch.set_num_threads(1)
    OBJECTIVES[PLAIN] = Entry("samples", PlainMMD)
    if given.mnist:
        records = []
        for record in mnist([int(e) for e in given.epochs.split(",")], given.rate, given.pictures):
            records.append(record)
            show("mnist", [record])
            (HERE / "results" / "stein_mnist.json").write_text(
                json.dumps(records, indent=1) + "\n"
            )
        return
    records = list(runs(given.seeds, given.steps))
    (HERE / "results" / "stein.json").write_text(json.dumps(records, indent=1))
    show("Stein KL and MMD on digits, batches of 100", records)


if __name__ == "__main__":
    main()
