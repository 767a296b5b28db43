"""Inverse problems on scikit-learn's 8x8 digits, with a generator trained from a sketch only.

    python -m benchmarks.inverse [--seconds 60] [--images 16] [--pictures docs/img]

1500 digits are sketched once (m = 3000); the generator sees the snapshot and nothing else. The
test digits are the other 297. Lasso's weight, total variation's and the wavelet threshold are
the best of a grid *on the test images themselves*, which favours them; the generator's weight is
set by the noise.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.fft import idctn
from sklearn.datasets import load_digits
from sklearn.linear_model import Lasso

from benchmarks.show import show
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.generator import NetworkConfig
from streamsketch.inverse import recover

HERE = Path(__file__).parent
SIDE, D = 8, 64
DCT = np.stack(
    [idctn(np.eye(D)[k].reshape(SIDE, SIDE), norm="ortho").ravel() for k in range(D)], 1
)


def haar() -> np.ndarray:
    """Orthonormal two-dimensional Haar basis, (64, 64) in columns."""
    one = np.eye(1)
    while len(one) < SIDE:
        n = len(one)
        one = np.vstack([np.kron(one, [1, 1]), np.kron(np.eye(n), [1, -1])]) / np.sqrt(2)
    return np.kron(one, one).T


def total_variation(image: np.ndarray, weight: float, steps: int = 150) -> np.ndarray:
    """Isotropic total-variation denoising (Rudin, Osher, Fatemi), by Chambolle's dual (2004)."""
    p = np.zeros((2, SIDE, SIDE))
    for _ in range(steps):
        divergence = _divergence(p)
        g = np.zeros_like(p)
        u = divergence - image / weight
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


def psnr(mse: float) -> float:
    return float(-10 * np.log10(mse))


def trained(seconds: float, seed: int = 0) -> tuple[Generator, np.ndarray, np.ndarray]:
    images = load_digits().data / 16
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = images[order[:1500]], images[order[1500:]]
    s = Sketcher(Schema.vectors(D, 0, 1), frequencies=3000, scale=4.0, seed=seed)
    s.learn_many(train)
    network = NetworkConfig("residual", latent=16, width=128)
    return fit(s.release(), seconds=seconds, seed=seed, network=network), train, test


def compressed_sensing(generator: Generator, test: np.ndarray) -> list[dict[str, Any]]:
    records = []
    for ratio in (0.1, 0.2, 0.3, 0.5):
        count = round(ratio * D)
        ours: list[float] = []
        lasso: dict[float, list[float]] = {a: [] for a in (1e-3, 3e-3, 1e-2, 3e-2)}
        start = time.perf_counter()
        for i, x in enumerate(test):
            matrix = np.random.default_rng(i).normal(size=(count, D)) / np.sqrt(count)
            y = matrix @ x
            found = recover(y, matrix, generator, lam=0.05, steps=200)
            ours.append(float(np.mean((found.x - x) ** 2)))
            for alpha, errors in lasso.items():
                model = Lasso(alpha=alpha, fit_intercept=False, max_iter=3000)
                errors.append(float(np.mean((DCT @ model.fit(matrix @ DCT, y).coef_ - x) ** 2)))
        records.append(
            {
                "measurements / pixels": ratio,
                "measurements": count,
                "generator MSE": float(np.mean(ours)),
                "Lasso in DCT MSE, best weight": min(map(float, map(np.mean, lasso.values()))),
                "seconds per image": (time.perf_counter() - start) / len(test),
            }
        )
    return records


def denoising(generator: Generator, test: np.ndarray) -> list[dict[str, Any]]:
    basis, records = haar(), []
    for noise in (0.1, 0.25, 0.5, 1.0):
        ours: list[float] = []
        tv: dict[float, list[float]] = {w * noise: [] for w in (0.3, 0.6, 1.0, 1.5, 2.5)}
        wavelet: dict[float, list[float]] = {w * noise: [] for w in (0.5, 1.0, 1.5, 2.0, 3.0)}
        for i, x in enumerate(test):
            y = x + noise * np.random.default_rng(i).normal(size=D)
            found = recover(y, np.eye(D), generator, lam=max(noise**2, 0.01), steps=200)
            ours.append(float(np.mean((found.x - x) ** 2)))
            for weight, errors in tv.items():
                smooth = total_variation(y.reshape(SIDE, SIDE), weight).ravel()
                errors.append(float(np.mean((np.clip(smooth, 0, 1) - x) ** 2)))
            for threshold, errors in wavelet.items():
                c = basis.T @ y
                kept = np.sign(c) * np.maximum(np.abs(c) - threshold, 0)
                kept[0] = c[0]
                errors.append(float(np.mean((np.clip(basis @ kept, 0, 1) - x) ** 2)))
        best = [min(float(np.mean(e)) for e in grid.values()) for grid in (tv, wavelet)]
        records.append(
            {
                "noise": noise,
                "noisy PSNR": -20 * np.log10(noise),
                "generator PSNR": psnr(float(np.mean(ours))),
                "TV PSNR, best weight": psnr(best[0]),
                "Haar PSNR, best threshold": psnr(best[1]),
            }
        )
    return records


def _blur(rows: torch.Tensor) -> torch.Tensor:
    kernel = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0])
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    images = torch.nn.functional.pad(rows.reshape(-1, 1, SIDE, SIDE), (2, 2, 2, 2))
    return torch.nn.functional.conv2d(images, kernel[None, None]).reshape(len(rows), -1)


def pictures(generator: Generator, test: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """Inpainting, deblurring, denoising and compressed sensing of eight digits each."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown, records = test[:8], []
    rng = np.random.default_rng(1)
    hidden = torch.ones(D).reshape(SIDE, SIDE)
    hidden[2:6, 1:5] = 0
    mask = hidden.ravel()
    jobs: dict[str, tuple[Any, float, float]] = {
        "inpainting": (lambda rows: rows * mask, 0.02, 0.02),
        "deblurring": (_blur, 0.02, 0.01),
        "denoising": (np.eye(D), 0.5, 0.25),
    }
    for name, (forward, noise, lam) in jobs.items():
        figure, axes = plt.subplots(3, len(shown), figsize=(len(shown) * 0.7, 2.2))
        errors, plain = [], []
        for i, x in enumerate(shown):
            rows = torch.as_tensor(x[None], dtype=torch.float32)
            clean = (forward(rows) if callable(forward) else rows).numpy()[0]
            y = clean + noise * rng.normal(size=D)
            found = recover(y, forward, generator, lam=lam, steps=300)
            errors.append(np.mean((found.x - x) ** 2))
            plain.append(np.mean((y - x) ** 2))
            for row, image in enumerate((x, y, found.x)):
                axes[row, i].imshow(image.reshape(SIDE, SIDE), cmap="gray", vmin=0, vmax=1)
                axes[row, i].axis("off")
        figure.tight_layout(pad=0.2)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"inverse-{name}.png", dpi=90)
        plt.close(figure)
        records.append(
            {
                "problem": name,
                "measured PSNR": psnr(float(np.mean(plain))),
                "recovered PSNR": psnr(float(np.mean(errors))),
            }
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    generator, train, test = trained(options.seconds)
    chosen = test[: options.images]
    results: dict[str, list[dict[str, Any]]] = {
        "baseline": [
            {
                "what": "MSE of the mean image",
                "value": float(np.mean((chosen - train.mean(0)) ** 2)),
            }
        ],
        "compressed sensing": compressed_sensing(generator, chosen),
        "denoising": denoising(generator, chosen),
    }
    if options.pictures:
        results["pictures"] = pictures(generator, test, options.pictures)
    for name, records in results.items():
        show(name, records)
    out = HERE / "results" / "inverse.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
