"""More inverse problems on full MNIST: super-resolution, tomography, missing pixels, blind deblurring.

    python -m benchmarks.inverse_problems [--steps 2500] [--images 16] [--pictures docs/img]

The generator is that of `benchmarks.inverse`, trained from a sketch; the blurs have a generator of
their own, trained from a sketch of 50,000 random ones. The rival is Lasso in Haar wavelets, its
weight the best of a grid on the test images themselves. PSNR in dB, and SSIM (Wang et al. 2004).
Also: the prior's weight from nothing to a hundred times the rule, and what the generator's range
forbids: the error of the best image in it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, rotate

from benchmarks.image_data import load
from benchmarks.inverse import SEARCH, SIDE, UNREACHED, D, Prior, error, haar, lasso, psnr, trained
from benchmarks.show import show
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.inverse import recover, recover_blind

RESULTS = Path(__file__).parent / "results" / "inverse_problems.json"
WIDTH = 9  # of a blur
Record = dict[str, Any]


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity of two images in [0, 1], Gaussian window of 1.5 pixels.

    >>> round(ssim(np.eye(28), np.eye(28)), 6)
    1.0
    """
    a, b = (np.clip(x, 0, 1).reshape(SIDE, SIDE) for x in (a, b))

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(x, 1.5, truncate=3.5))

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    top = (2 * ma * mb + 0.01**2) * (2 * both + 0.03**2)
    return float((top / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))).mean())


def shrink(factor: int) -> np.ndarray:
    """Means over squares of pixels, (784 / factor^2, 784)."""
    one = np.kron(np.eye(SIDE // factor), np.full(factor, 1 / factor))
    return np.kron(one, one)


def radon(angles: int) -> np.ndarray:
    """Sums along parallel lines at evenly spread angles, (28 angles, 784), divided by 28."""
    pixels = np.eye(D).reshape(D, SIDE, SIDE)
    turned = [
        rotate(pixels, 180 * k / angles, axes=(1, 2), reshape=False, order=1).sum(1) / SIDE
        for k in range(angles)
    ]
    return np.concatenate(turned, axis=1).T


def scores(found: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    similar = float(np.mean([ssim(a, b) for a, b in zip(found, test, strict=True)]))
    return psnr(error(found, test)), similar


def linear(prior: Prior, test: np.ndarray) -> tuple[list[Record], dict[str, Any]]:
    """The linear problems, with their rival."""
    rng, basis = np.random.default_rng(1), haar()
    problems = {
        "super-resolution, 14 x 14": (shrink(2), 0.05),
        "super-resolution, 7 x 7": (shrink(4), 0.05),
        "tomography, 8 angles": (radon(8), 0.02),
        "four pixels of five missing": (np.eye(D)[rng.random(D) < 0.2], 0.05),
    }
    records, images = [], {}
    for name, (matrix, noise) in problems.items():
        y = matrix @ test.T
        y = y + noise * rng.normal(size=y.shape)
        # what the range cannot reach is seen through the operator too
        lam = noise**2 + UNREACHED * float((matrix**2).sum(1).mean())
        ours = np.array([recover(c, matrix, prior, lam=lam, **SEARCH).x for c in y.T])
        grid = np.array([1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1])
        rivals = lasso(matrix @ basis, y, grid) @ basis.T
        rival = min(rivals, key=lambda x: error(x, test))
        (a, b), (c, d) = scores(ours, test), scores(rival, test)
        records.append(
            {
                "problem": name, "measurements": len(matrix), "noise": noise,
                "PSNR": a, "SSIM": b, "PSNR, Lasso Haar": c, "SSIM, Lasso Haar": d,
            }
        )  # fmt: skip
        shown = y if len(matrix) == len(y) == D else np.linalg.pinv(matrix) @ y
        images[name] = (test, shown.T, ours, rival)
    return records, images


def blurs(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random elongated Gaussian blurs (n, 81), each of sum one."""
    t = np.arange(WIDTH) - WIDTH // 2
    x, y = np.meshgrid(t, t)
    angle = rng.uniform(0, np.pi, (n, 1, 1))
    long, short = rng.uniform(1.0, 3.0, (n, 1, 1)), rng.uniform(0.4, 1.0, (n, 1, 1))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    k = np.exp(-0.5 * ((u / long) ** 2 + (v / short) ** 2)).reshape(n, -1)
    return np.asarray(k / k.sum(1, keepdims=True))


def blur_generator(steps: int) -> Generator:
    """A generator of blurs, from a sketch of random ones; a pixel is at most a half."""
    sketcher = Sketcher(Schema.vectors(WIDTH**2, 0.0, 0.5), frequencies=2048)
    sketcher.learn_many(blurs(50_000, np.random.default_rng(0)))
    return fit(sketcher.release(), steps=steps, seed=0)


def convolve(rows: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Rows (n, 784) blurred by kernels (n, 81), one each."""
    images = torch.nn.functional.pad(rows.reshape(1, -1, SIDE, SIDE), (WIDTH // 2,) * 4)
    filters = kernels.reshape(-1, 1, WIDTH, WIDTH).flip(2, 3)
    return torch.nn.functional.conv2d(images, filters, groups=len(rows))[0].reshape(len(rows), -1)


def blind(prior: Prior, steps: int, test: np.ndarray, labels: np.ndarray) -> tuple[Record, Any]:
    """Image and blur from the blurred image alone, beside the blur being known."""
    rng, generator, noise = np.random.default_rng(2), blur_generator(steps), 0.02
    kernels = blurs(len(test), rng)
    x, k = (torch.as_tensor(a, dtype=torch.float32) for a in (test, kernels))
    y = convolve(x, k).numpy() + noise * rng.normal(size=test.shape)
    lam = noise**2 + UNREACHED
    found = [
        recover_blind(
            c, convolve, prior, generator, lam=lam, lam_kernel=lam, restarts=16, steps=400
        )
        for c in y
    ]
    ours = np.array([f.x for f in found])
    known = np.array(
        [
            recover(c, lambda r, k=k[i : i + 1]: convolve(r, k.expand(len(r), -1)), prior, lam=lam,
                    **SEARCH).x
            for i, c in enumerate(y)
        ]
    )  # fmt: skip
    record = {
        "problem": "blind deblurring", "blurred PSNR": psnr(error(y, test)),
        "PSNR": scores(ours, test)[0], "SSIM": scores(ours, test)[1],
        "PSNR, blur known": scores(known, test)[0], "SSIM, blur known": scores(known, test)[1],
        "labels right": float(np.mean([f.label == t for f, t in zip(found, labels, strict=True)])),
        "error of the blur over its size": float(
            np.mean([np.sum((f.kernel - k) ** 2) / np.sum(k**2) for f, k in zip(found, kernels, strict=True)])
        ),
    }  # fmt: skip
    return record, (test, y, ours, known)


def weights(prior: Prior, test: np.ndarray) -> list[Record]:
    """PSNR against the prior's weight, in units of the rule."""
    rng, few = (
        np.random.default_rng(3),
        np.random.default_rng(50).normal(size=(50, D)) / np.sqrt(50),
    )
    noisy = test + 0.5 * rng.normal(size=test.shape)
    problems: dict[str, tuple[Any, np.ndarray, float]] = {
        "50 measurements": (few, test @ few.T, UNREACHED * D / 50),
        "denoising, 0.5": (np.eye(D), noisy, 0.25 + UNREACHED),
    }
    records = []
    for factor in (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0):
        record: Record = {"weight over the rule": factor}
        for name, (matrix, y, rule) in problems.items():
            found = [recover(c, matrix, prior, lam=factor * rule, **SEARCH).x for c in y]
            record[f"PSNR, {name}"] = psnr(error(np.array(found), test))
        records.append(record)
    return records


def reach(prior: Prior, test: np.ndarray) -> Record:
    """The best image in the range, from all pixels without noise, and what the cosines leave out."""
    best = [recover(x, np.eye(D), prior, lam=1e-4, restarts=16, steps=1000).x for x in test]
    basis = prior.basis.double().numpy()
    basis = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    start = prior.start.double().numpy()
    kept = start + (test - start) @ basis.T @ basis
    return {
        "best image in the range": error(np.array(best), test),
        "150 cosines alone": error(kept, test),
    }


def picture(images: dict[str, Any], path: Path) -> None:
    """Truth, measured, recovered and rival for the first eight digits of every problem."""
    figure = new_figure(9.0, 2.1 * len(images))
    parts = figure.subfigures(len(images), 1)
    for part, (name, rows) in zip(parts, images.items(), strict=True):
        part.suptitle(name, fontsize=9)
        axes = part.subplots(4, 8)
        for line, row in zip(axes, rows, strict=True):
            for axis, image in zip(line, row, strict=False):
                axis.imshow(image.reshape(SIDE, SIDE), cmap="gray", vmin=0, vmax=1)
                axis.axis("off")
    path.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--blur-steps", type=int, default=1500)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pictures", type=Path, default=Path("docs/img"))
    given = parser.parse_args()
    for key, value in (
        ("batch", 500), ("coefficients", 150), ("frequencies", 16384), ("law", "gaussian"),
        ("scale", 2.0), ("latent", 96), ("width", 256), ("folder", None),
    ):  # fmt: skip
        setattr(given, key, value)
    torch.set_num_threads(1)
    data = load("mnist", None)
    prior = trained(data, given)
    test, labels = data.test_x[: given.images].astype(float), data.test_y[: given.images]
    results: dict[str, Any] = {}
    sections: dict[str, Callable[[], Any]] = {
        "range": lambda: [reach(prior, test)],
        "weights": lambda: weights(prior, test),
    }
    records, images = linear(prior, test)
    results["linear"] = records
    show("linear", records)
    for name, section in sections.items():
        results[name] = section()
        show(name, results[name])
    record, images["blind deblurring"] = blind(prior, given.blur_steps, test, labels)
    results["blind"] = [record]
    show("blind", results["blind"])
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    picture(images, given.pictures / "inverse-problems.png")


if __name__ == "__main__":
    main()
