"""The image figures of Turinici (2022) on full MNIST and Fashion-MNIST.

    python -m benchmarks.sampler_images [--set mnist] [--epochs 12] [--seeds 3] [--folder docs/img]

A variational autoencoder is trained on the 60,000 images; its decoder is given to `Sampler` as it
is (`streamsketch.generator.Decoder`), and 250 images are drawn in ten batches of 25:

| method | memory |
|---|---|
| independent | none |
| diverse, memoryless | each batch is 25 points of HAW-C by itself |
| HAW-C with memory | the last 256 latents |
| herding, target latent, generator or data | one sketch of all that was drawn |

The data's target is the released sketch of the images (m = 2048). Scores compare with 2,000 test
images, in the first 50 principal components of the training images; classes are those of a
perceptron trained on the real images. Results go to benchmarks/results/sampler_images.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from benchmarks.image_data import Images, load
from benchmarks.sampler import spread
from benchmarks.show import show
from streamsketch import Sampler, Schema, Sketcher
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.diversity import coverage, median_scale, rke, vendi
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.generator import Decoder
from streamsketch.sampler import GaussianTarget, energy_points

RESULTS = Path(__file__).parent / "results" / "sampler_images.json"
SCHEMA = Schema.from_dict(
    {"x": {"kind": "vector", "type": "fixed_size_list<float>[784]", "low": 0, "high": 1}}
)
BATCHES, SIZE = 10, 25
METHODS: dict[str, dict[str, Any]] = {
    "independent": {"method": "iid"},
    "diverse, memoryless": {},
    "HAW-C with memory": {"method": "energy"},
    "herding, latent target": {"target": "latent"},
    "herding, generator target": {"target": "generator"},
    "herding, data target": {"target": "data"},
}


class Autoencoder(nn.Module):
    """A variational autoencoder of 784 pixels in [0, 1] (Kingma and Welling 2014)."""

    def __init__(self, latent: int, width: int = 512) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(784, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 784), nn.Sigmoid(),
        )  # fmt: skip

    def loss(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The negative evidence lower bound, with Bernoulli pixels."""
        mean, log_scale = self.encoder(x).chunk(2, dim=1)
        z = mean + log_scale.exp() * torch.randn(mean.shape, generator=rng)
        fit = nn.functional.binary_cross_entropy(self.decoder(z), x, reduction="none").sum(1)
        prior = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
        return (fit + prior).mean()


def train(module: nn.Module, loss: Any, n: int, epochs: int, batch: int = 200) -> float:
    """Adam with a cosine-decayed rate; the mean loss of the last epoch."""
    rng, steps = np.random.default_rng(0), epochs * (n // batch)
    adam = torch.optim.Adam(module.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    losses: list[float] = []
    for step in range(steps):
        if step % (n // batch) == 0:
            order = rng.permutation(n)
        rows = torch.from_numpy(order[step % (n // batch) * batch :][:batch])
        adam.zero_grad()
        value = loss(rows)
        value.backward()
        adam.step()
        decay.step()
        losses.append(float(value.detach()))
    return float(np.mean(losses[-(n // batch) :]))


def autoencoder(images: Images, latent: int, epochs: int) -> tuple[Autoencoder, float]:
    torch.manual_seed(0)
    model, rng, x = (
        Autoencoder(latent),
        torch.Generator().manual_seed(0),
        torch.from_numpy(images.x),
    )
    bound = train(model, lambda rows: model.loss(x[rows], rng), len(x), epochs)
    return model.eval().requires_grad_(False), bound


def judge(images: Images) -> nn.Module:
    """A perceptron that tells the classes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 256), nn.SiLU(), nn.Linear(256, 10))
    x, y = torch.from_numpy(images.x), torch.from_numpy(images.y)
    train(model, lambda r: nn.functional.cross_entropy(model(x[r]), y[r]), len(x), 4)
    return model.eval().requires_grad_(False)


def batches(decoder: Decoder, settings: dict[str, Any], seed: int) -> np.ndarray:
    """Ten batches of encoded images, in order."""
    if settings:
        sampler = Sampler(decoder, seed=seed, **settings)
        return np.concatenate([sampler.sample_encoded(SIZE) for _ in range(BATCHES)])
    law = GaussianTarget(decoder.latent_dim)
    z = [energy_points(law, SIZE, seed=1000 * seed + k, steps=300) for k in range(BATCHES)]
    return decoder.rows_of(np.concatenate(z).astype(np.float32), None, 0)


def measure(
    name: str, decoder: Decoder, images: Images, tell: nn.Module, seeds: int
) -> list[dict[str, Any]]:
    plane = PCA(50, random_state=0).fit(images.x[:20_000])
    held = plane.transform(images.test_x[:2000])
    scale = median_scale(held)
    rows = []
    for method, settings in METHODS.items():
        begun = time.process_time()
        draws = [0.5 * (batches(decoder, settings, seed) + 1) for seed in range(seeds)]
        seconds = (time.process_time() - begun) / seeds
        flat = [plane.transform(x) for x in draws]
        classes = [tell(torch.from_numpy(x)).argmax(1).numpy() for x in draws]
        counts = [np.bincount(c, minlength=10) for c in classes]
        near = [coverage(x, held) for x in flat]
        rows.append(
            {
                "set": name, "latents": decoder.latent_dim, "method": method,
                "D2 x 1000": spread([1000 * energy_distance(x, held) for x in flat]),
                "coverage": spread([c.coverage for c in near]),
                "recall": spread([c.recall for c in near]),
                "precision": spread([c.precision for c in near]),
                "Vendi": spread([vendi(x, scale) for x in flat]),
                "RKE": spread([rke(x, scale) for x in flat]),
                "classes in 10": spread(
                    [np.mean([len(set(t)) for t in c.reshape(-1, 10)]) for c in classes]
                ),
                "fewest of a class": spread([c.min() for c in counts]),
                "CPU s": round(seconds, 2),
            }
        )  # fmt: skip
        show(name, rows[-1:])
    return rows


def grid(axes: Any, x: np.ndarray) -> None:
    for axis, image in zip(np.ravel(axes), x, strict=True):
        axis.imshow(image.reshape(28, 28), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_axis_off()


def twenty_five(decoders: dict[str, Decoder]) -> bytes:
    """25 independent and 25 diverse images of each set."""
    figure = new_figure(10.5, 3.0)
    parts = figure.subfigures(1, 2 * len(decoders))
    for k, (name, decoder) in enumerate(decoders.items()):
        law = GaussianTarget(decoder.latent_dim)
        z = energy_points(law, 25, seed=0).astype(np.float32)
        for part, x, title in (
            (parts[2 * k], decoder.sample_encoded(25, seed=0), "independent"),
            (parts[2 * k + 1], decoder.rows_of(z, None, 0), "25 diverse"),
        ):
            grid(part.subplots(5, 5, gridspec_kw={"wspace": 0.05, "hspace": 0.05}), x)
            part.suptitle(f"{name}: {title}", fontsize=9)
    return png(figure)


def ten(decoder: Decoder) -> bytes:
    """Ten points of a plane, independent and one after the other, and their images."""
    law, history = GaussianTarget(2), np.zeros((0, 2))
    for k in range(10):
        history = np.vstack([history, energy_points(law, 1, history, seed=k)])
    iid = np.random.default_rng(0).standard_normal((10, 2))
    figure = new_figure(8.0, 1.9)
    axes = figure.subplots(2, 10)
    for row, z, title in zip(
        axes, (iid, history), ("ten independent latents", "ten latents, each knows those before"),
        strict=True,
    ):  # fmt: skip
        grid(row, decoder.rows_of(z.astype(np.float32), None, 0))
        row[0].set_title(title, fontsize=8, loc="left")
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", choices=("mnist", "fashion"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    decoders, rows = {}, []
    for name in options.set or ("mnist", "fashion"):
        images = load(name)
        sketcher = Sketcher(SCHEMA, frequencies=2048)
        sketcher.learn_many(SCHEMA.decode(2 * images.x - 1))
        snapshot, tell = sketcher.release(), judge(images)
        accuracy = float(
            (tell(torch.from_numpy(images.test_x)).argmax(1).numpy() == images.test_y).mean()
        )
        for latent in (10, 2):
            begun = time.process_time()
            model, bound = autoencoder(images, latent, options.epochs)
            spent = time.process_time() - begun
            decoder = Decoder(model.decoder, latent, snapshot=snapshot)
            print(
                f"{name}, {latent} latents: bound {bound:.1f} nats, {spent:.0f} CPU s; judge {accuracy:.3f}"
            )
            rows += measure(name, decoder, images, tell, options.seeds)
            if latent == 10:
                decoders[name] = decoder
            else:
                (options.folder / f"sampling_ten_{name}.png").write_bytes(ten(decoder))
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    (options.folder / "sampling_images.png").write_bytes(twenty_five(decoders))


if __name__ == "__main__":
    main()
