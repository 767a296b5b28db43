"""Inverse problems on full MNIST (28 x 28), with a generator trained from a sketch only.

    python -m benchmarks.inverse [--steps 2500] [--images 16] [--pictures docs/img] [--folder IDX_FILES]

The 60,000 training images are sketched once, with their labels, as their 150 slowest cosine coefficients (no image is
needed for these); the generator sees the snapshot and nothing else. The images that are recovered
are test images. Every rival's weight is the best of a grid *on these images themselves*, anew for
every number of measurements and every noise, which favours them; the generator's weight is the
noise's variance and a fixed guess of what it cannot reach.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import idctn

from benchmarks.image_data import Images, load
from benchmarks.images import Cosines, sketched
from benchmarks.show import show
from streamsketch import Generator, fit
from streamsketch.generator import NetworkConfig, TrainingConfig
from streamsketch.inverse import recover

HERE = Path(__file__).parent
SIDE, D = 28, 784
MEASUREMENTS = (10, 25, 50, 100, 200, 300, 400)
NOISES = (0.1, 0.25, 0.5, 1.0)
SEARCH = {"restarts": 8, "steps": 250}
UNREACHED = 0.02  # squared error per pixel of the best image in the range, a guess
Record = dict[str, Any]


# --- the rivals


def cosines() -> np.ndarray:
    """Orthonormal two-dimensional cosines, (784, 784) in columns."""
    return idctn(np.eye(D).reshape(D, SIDE, SIDE), axes=(1, 2), norm="ortho").reshape(D, D).T


def haar() -> np.ndarray:
    """Orthonormal two-dimensional Haar wavelets of two levels (28 = 4 x 7), (784, 784) in columns.

    >>> basis = haar()
    >>> bool(np.allclose(basis.T @ basis, np.eye(784)))
    True
    """
    coarse = np.kron(np.eye(7), np.ones(4)) / 2
    middle = np.kron(np.eye(7), np.array([1, 1, -1, -1])) / 2
    fine = np.kron(np.eye(14), np.array([1, -1])) / np.sqrt(2)
    one = np.vstack([coarse, middle, fine])
    return np.kron(one, one).T


def lasso(matrix: np.ndarray, y: np.ndarray, weights: np.ndarray, steps: int = 1500) -> np.ndarray:
    """argmin |y - matrix c|^2 / 2 + weight |c|_1 for all columns of y (m, n) and all weights, by FISTA.

    Returns:
        (weights, n, d) coefficients. (On one column they agree with scikit-learn's Lasso, whose
        alpha is weight / m.)
    """
    m, n = y.shape
    a = torch.from_numpy(matrix).float()
    target = torch.from_numpy(y).float().repeat(1, len(weights))
    weight = torch.from_numpy(np.repeat(weights, n)).float()
    slope = float(torch.linalg.matrix_norm(a, 2)) ** 2
    c = ahead = torch.zeros(a.shape[1], target.shape[1])
    t = 1.0
    for _ in range(steps):
        moved = ahead - a.T @ (a @ ahead - target) / slope
        new = torch.sign(moved) * (moved.abs() - weight / slope).clamp_min(0)
        later = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, c, t = new + (t - 1) / later * (new - c), new, later
    return c.T.reshape(len(weights), n, -1).double().numpy()


def total_variation(image: np.ndarray, weight: float, steps: int = 150) -> np.ndarray:
    """Isotropic total-variation denoising (Rudin, Osher, Fatemi), by Chambolle's dual (2004)."""
    p = np.zeros((2, SIDE, SIDE))
    for _ in range(steps):
        g = np.zeros_like(p)
        u = _divergence(p) - image / weight
        g[0, :-1], g[1, :, :-1] = np.diff(u, axis=0), np.diff(u, axis=1)
        p = (p + 0.2 * g) / (1 + 0.2 * np.sqrt((g**2).sum(0)))
    return image - weight * _divergence(p)


def _divergence(p: np.ndarray) -> np.ndarray:
    out = np.zeros((SIDE, SIDE))
    out[:-1] += p[0, :-1]
    out[1:] -= p[0, :-1]
    out[:, :-1] += p[1, :, :-1]
    out[:, 1:] -= p[1, :, :-1]
    return out


def shrunk(y: np.ndarray, basis: np.ndarray, threshold: float) -> np.ndarray:
    """Soft threshold of all coefficients but the 49 of the coarsest images."""
    c = basis.T @ y
    kept = np.sign(c) * np.maximum(np.abs(c) - threshold, 0)
    coarse = np.zeros((SIDE, SIDE), bool)
    coarse[:7, :7] = True
    return basis @ np.where(coarse.ravel(), c, kept)


def error(found: np.ndarray, x: np.ndarray) -> float:
    """Mean squared error per pixel of images cut to [0, 1]."""
    return float(np.mean((np.clip(found, 0, 1) - x) ** 2))


def psnr(mse: float) -> float:
    return float(-10 * np.log10(mse))


# --- the generator


class Prior(torch.nn.Module):
    """A generator of coefficients as one of images in [0, 1]: latents (n, p) to (n, 784)."""

    def __init__(self, generator: Generator, encoder: Cosines) -> None:
        super().__init__()
        self.generator, self.latent_dim = generator, generator.latent_dim
        self.classes = generator.classes
        self.basis = torch.from_numpy(encoder.basis * encoder.limits[:, None]).float()
        self.start = encoder.mean * torch.from_numpy(encoder.basis[0]).float()

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        code = self.generator.decode_latent(z, labels)[:, : len(self.basis)]
        image: torch.Tensor = self.start + code @ self.basis
        return image.clamp(0, 1)


def trained(data: Images, given: argparse.Namespace) -> Prior:
    encoder = Cosines(given.coefficients)
    snapshot = sketched(data, encoder, given.frequencies, given.scale, given.law)
    network = NetworkConfig("classwise", latent=given.latent, width=given.width)
    config = TrainingConfig(batch=given.batch, rate=3e-3)
    made = fit(snapshot, steps=given.steps, device="cpu", network=network, config=config)
    return Prior(made, encoder)


# --- the problems


def compressed_sensing(generator: Prior, test: np.ndarray, mean: np.ndarray) -> list[Record]:
    """Gaussian matrices without noise; one matrix for each number of measurements."""
    records = []
    bases = {"DCT": cosines(), "Haar": haar()}
    weights = np.array([1e-3, 3e-3, 1e-2, 3e-2, 1e-1])
    for m in MEASUREMENTS:
        matrix = np.random.default_rng(m).normal(size=(m, D)) / np.sqrt(m)
        y = matrix @ test.T
        begun = time.process_time()
        lam = UNREACHED * D / m
        ours = [recover(y[:, i], matrix, generator, lam=lam, **SEARCH).x for i in range(len(test))]
        spent = (time.process_time() - begun) / len(test)
        record = {"measurements": m, "m/n": m / D, "generator": error(np.array(ours), test)}
        for name, basis in bases.items():
            found = lasso(matrix @ basis, y, weights) @ basis.T
            record[f"Lasso {name}"] = min(error(images, test) for images in found)
        record |= {"mean image": error(mean, test), "CPU s per image": spent}
        records.append(record)
    return records


def ratios(records: list[Record]) -> list[Record]:
    """How many times more measurements the better Lasso needs for the generator's error.

    Interpolated in the logarithms; None where no number of measurements that was tried suffices.
    """
    found = []
    m = np.log([r["measurements"] for r in records])
    rival = np.minimum.accumulate([min(r["Lasso DCT"], r["Lasso Haar"]) for r in records])
    for r in records:
        enough = rival.min() <= r["generator"] <= rival.max()
        needed = float(np.exp(np.interp(-np.log(r["generator"]), -np.log(rival), m)))
        found.append(
            {
                "measurements": r["measurements"],
                "generator": r["generator"],
                "Lasso needs": needed if enough else None,
                "times more": needed / r["measurements"] if enough else None,
            }
        )
    return found


def denoising(generator: Prior, test: np.ndarray) -> list[Record]:
    basis, records = haar(), []
    for noise in NOISES:
        noisy = test + noise * np.random.default_rng(0).normal(size=test.shape)
        lam = noise**2 + UNREACHED
        ours = [recover(y, np.eye(D), generator, lam=lam, **SEARCH).x for y in noisy]
        tv = [
            [total_variation(y.reshape(SIDE, SIDE), w * noise).ravel() for y in noisy]
            for w in (0.3, 0.6, 1.0, 1.5, 2.5)
        ]
        wavelet = [[shrunk(y, basis, w * noise) for y in noisy] for w in (0.5, 1.0, 1.5, 2.0, 3.0)]
        records.append(
            {
                "noise": noise,
                "noisy": psnr(float(np.mean((noisy - test) ** 2))),
                "generator": psnr(error(np.array(ours), test)),
                "TV, best weight": psnr(min(error(np.array(found), test) for found in tv)),
                "Haar, best threshold": psnr(
                    min(error(np.array(found), test) for found in wavelet)
                ),
            }
        )
    return records


def blur(rows: torch.Tensor) -> torch.Tensor:
    """A Gaussian blur of standard deviation 2 pixels, 9 x 9."""
    kernel = torch.exp(-(torch.arange(-4, 5.0) ** 2) / 8)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    images = torch.nn.functional.pad(rows.reshape(-1, 1, SIDE, SIDE), (4, 4, 4, 4))
    return torch.nn.functional.conv2d(images, kernel[None, None]).reshape(len(rows), -1)


def pictures(generator: Prior, test: np.ndarray, folder: Path) -> list[Record]:
    """Inpainting, deblurring, denoising and compressed sensing of ten digits each."""
    from streamsketch.evaluate.pictures import new_figure, png

    rng = np.random.default_rng(1)
    hole = torch.ones(SIDE, SIDE)
    hole[8:18, 8:18] = 0
    mask = hole.ravel()
    few = np.random.default_rng(50).normal(size=(50, D)) / np.sqrt(50)
    jobs: dict[str, tuple[Any, float, float]] = {
        "inpainting": (lambda rows: rows * mask, 0.05, 0.0),
        "deblurring": (blur, 0.05, 0.0),
        "denoising": (np.eye(D), 0.5, 0.0),
        "sensing": (few, 0.0, UNREACHED * D / 50),
    }
    records = []
    for name, (forward, noise, lam) in jobs.items():
        figure = new_figure(7.0, 2.2)
        axes = figure.subplots(3, len(test))
        found, shown = [], []
        for x in test:
            rows = torch.as_tensor(x[None], dtype=torch.float32)
            clean = forward(rows).numpy()[0] if callable(forward) else forward @ x
            y = clean + noise * rng.normal(size=clean.shape)
            found.append(
                recover(y, forward, generator, lam=lam or noise**2 + UNREACHED, **SEARCH).x
            )
            shown.append(y if y.size == D else few.T @ y)
        for i, images in enumerate(zip(test, shown, found, strict=True)):
            for row, image in enumerate(images):
                axes[row, i].imshow(image.reshape(SIDE, SIDE), cmap="gray", vmin=0, vmax=1)
                axes[row, i].axis("off")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"inverse-{name}.png").write_bytes(png(figure))
        records.append(
            {
                "problem": name,
                "measured PSNR": psnr(error(np.array(shown), test)),
                "recovered PSNR": psnr(error(np.array(found), test)),
            }
        )
    return records


def curve(records: list[Record], path: Path) -> None:
    from streamsketch.evaluate.pictures import new_figure, png

    figure = new_figure(5.0, 3.2)
    axes = figure.subplots()
    m = [r["measurements"] for r in records]
    for name, style in (
        ("generator", "o-"),
        ("Lasso DCT", "s-"),
        ("Lasso Haar", "^-"),
        ("mean image", ":"),
    ):
        axes.plot(m, [r[name] for r in records], style, label=name, markersize=4)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="measurements of 784 pixels",
        ylabel="squared error per pixel",
    )
    axes.legend(frameon=False, fontsize=8)
    path.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="MNIST's IDX files, in the place of the cache")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--coefficients", type=int, default=150)
    parser.add_argument("--frequencies", type=int, default=16384)
    parser.add_argument("--law", default="gaussian")
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--latent", type=int, default=96)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--only-sensing", action="store_true")
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load("mnist", given.folder)
    begun = time.process_time()
    generator = trained(data, given)
    results: dict[str, Any] = {
        "generator": [
            {
                **generator.generator.metrics,
                "CPU s": time.process_time() - begun,
                "latent": given.latent,
            }
        ]
    }
    show("generator", results["generator"])
    test = data.test_x[: given.images].astype(float)
    sensing = compressed_sensing(generator, test, data.x.mean(0))
    results |= {"compressed sensing": sensing, "measurements at equal error": ratios(sensing)}
    if not given.only_sensing:
        results["denoising"] = denoising(generator, test)
    if given.pictures:
        results["pictures"] = pictures(generator, test[:10], given.pictures)
        curve(sensing, given.pictures / "inverse-curve.png")
    for name, records in list(results.items())[1:]:
        show(name, records)
    (HERE / "results" / "inverse.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
