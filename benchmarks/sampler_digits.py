"""The image rows of Turinici (2022) on scikit-learn's digits: independent against history-aware draws.

    python -m benchmarks.sampler_digits [--steps 5000] [--picture docs/img/sampling_digits.png]

A small variational autoencoder is trained on the 8x8 digits; the released sketch of the digits is
the data target. Each method draws 200 images, ten at a time. Counted: distinct classes among ten
consecutive images (by a classifier trained on the real digits), shares of the classes over all
200, squared energy distance to held-out digits, and the scores of evaluate.diversity.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from benchmarks.sampler import show, spread
from streamsketch import Schema
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.diversity import coverage, median_scale, nearest_distances, vendi
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.sampler import Sampler
from testing.toys import ToyGenerator, snapshot_of

RESULTS = Path(__file__).parent / "results" / "sampler_digits.json"
LATENT, NOISE = 8, 0.35
METHODS: dict[str, dict[str, Any]] = {
    "iid": {"method": "iid"},
    "Sobol latents": {"method": "sobol"},
    "HAW-C latents": {"method": "energy"},
    "history, latent target": {"target": "latent"},
    "history, generator target": {"target": "generator"},
    "history, data target": {"target": "data"},
    "history, data target, optimised": {"target": "data", "solver": "optimize"},
}


class Autoencoder(torch.nn.Module):
    """A variational autoencoder of 64 pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layer, act = torch.nn.Linear, torch.nn.SiLU
        self.encoder = torch.nn.Sequential(
            layer(64, 256), act(), layer(256, 256), act(), layer(256, 2 * LATENT)
        )
        self.decoder = torch.nn.Sequential(
            layer(LATENT, 256), act(), layer(256, 256), act(), layer(256, 64), torch.nn.Tanh()
        )

    def loss(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        mean, log_scale = self.encoder(x).chunk(2, dim=1)
        z = mean + log_scale.exp() * torch.randn(mean.shape, generator=rng)
        fit = ((self.decoder(z) - x) ** 2).sum(1) / (2 * NOISE**2)
        prior = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
        return (fit + prior).mean()


def train(x: np.ndarray, steps: int) -> Autoencoder:
    torch.manual_seed(0)
    rng, model, data = torch.Generator().manual_seed(0), Autoencoder(), torch.from_numpy(x)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        rows = torch.randint(len(data), (128,), generator=rng)
        adam.zero_grad()
        model.loss(data[rows], rng).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        adam.step()
        decay.step()
    return model


def tens(labels: np.ndarray) -> np.ndarray:
    """Distinct classes in each ten consecutive draws."""
    return np.array([len(set(ten)) for ten in labels.reshape(-1, 10)])


def measure(generator: ToyGenerator, held: np.ndarray, judge: SVC, seeds: int) -> list[dict]:
    rows = []
    for name, settings in METHODS.items():
        draws = []
        begun = time.process_time()
        for seed in range(seeds):
            sampler = Sampler(generator, seed=seed, **settings)
            draws.append(np.concatenate([sampler.sample_encoded(10) for _ in range(20)]))
        seconds = (time.process_time() - begun) / seeds
        labels = [judge.predict(x) for x in draws]
        shares = [np.bincount(found, minlength=10) / len(found) for found in labels]
        scores = [coverage(x, held) for x in draws]
        rows.append(
            {
                "method": name,
                "classes in ten": spread([tens(found).mean() for found in labels]),
                "smallest class share": spread([s.min() for s in shares]),
                "D2 to held-out": spread([energy_distance(x, held) for x in draws]),
                "Vendi": spread([vendi(x, median_scale(held)) for x in draws]),
                "recall": spread([s.recall for s in scores]),
                "coverage": spread([s.coverage for s in scores]),
                "precision": spread([s.precision for s in scores]),
                "min NN": spread([nearest_distances(x).min() for x in draws]),
                "s": seconds,
            }
        )
        show("digits", rows[-1:])
    return rows


def picture(generator: ToyGenerator) -> bytes:
    """Three rows of ten: independent, history on latents, history on the data's sketch."""
    chosen = {
        "independent": {"method": "iid"},
        "HAW-C latents": {"method": "energy"},
        "history-aware, data target": {"target": "data"},
    }
    figure = new_figure(8.0, 3.2)
    axes = figure.subplots(len(chosen), 10)
    for row, (name, settings) in zip(axes, chosen.items(), strict=True):
        x = Sampler(generator, seed=0, **settings).sample_encoded(10)
        for axis, image in zip(row, x, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=-1, vmax=1)
            axis.set_axis_off()
        row[0].set_title(name, fontsize=9, loc="left")
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", type=Path, default=Path("docs/img/sampling_digits.png"))
    options = parser.parse_args()
    digits = load_digits()
    x = (digits.data / 8.0 - 1.0).astype(np.float32)
    x, held, y, _ = train_test_split(x, digits.target, test_size=500, random_state=0)
    schema = Schema.vectors(64, -1.0, 1.0)
    model = train(x, options.steps).eval().requires_grad_(False)
    snapshot = snapshot_of(x, schema, frequencies=2048)
    generator = ToyGenerator(model.decoder, LATENT, schema, snapshot, "digits-vae")
    rows = measure(generator, held, SVC().fit(x, y), options.seeds)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_bytes(picture(generator))
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
