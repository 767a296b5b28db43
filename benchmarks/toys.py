"""The three 2-D sets of Schellekens and Jacques (2020), learned from a sketch.

    python -m benchmarks.toys [--seconds 30] [--seeds 5] [--picture docs/img/toys.png]

Each set: 1e5 points, sketched once with the default law (m = 2048), a generator fitted by `fit`
with nothing set but the time, and by the paper's own preset (its network, its law, fixed narrow
scale). Distances are to fresh points, in units of the largest norm as in the authors' code.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance
from streamsketch.generator import TrainingConfig

HERE = Path(__file__).parent
N, TEST = 100_000, 20_000
Draw = Callable[[int, np.random.Generator], np.ndarray]


def spiral(n: int, rng: np.random.Generator) -> np.ndarray:
    """The spiral of the authors' code: radius .3 + 1.2 t with noise .01, angle 2 pi t."""
    t = rng.random(n)
    r = 0.3 + 1.2 * t + 0.01 * rng.normal(size=n)
    return np.column_stack([r * np.cos(2 * np.pi * t), r * np.sin(2 * np.pi * t)])


def circle(n: int, rng: np.random.Generator) -> np.ndarray:
    """The circle of the authors' code with R = 3 and noise .08 (the code draws R at random)."""
    a, r = 2 * np.pi * rng.random(n), 3 + 0.08 * rng.normal(size=n)
    return np.column_stack([r * np.cos(a), r * np.sin(a)])


class Mixture:
    """The paper's six Gaussians, with the parameters' laws of the authors' code."""

    def __init__(self, seed: int, k: int = 6) -> None:
        rng = np.random.default_rng(seed)
        self.means = 10 / np.sqrt(2) * rng.normal(size=(k, 2))
        self.stds = np.sqrt(0.1 * (1 + 8 * rng.random((k, 1))) * (1 + 3 * rng.random((k, 2))))
        weights = 1 + 3 * rng.random(k)
        self.weights = weights / weights.sum()

    def __call__(self, n: int, rng: np.random.Generator) -> np.ndarray:
        which = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[which] + self.stds[which] * rng.normal(size=(n, 2))

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """Mean responsibility of each component for points x."""
        z = (x[:, None] - self.means) / self.stds
        log = np.log(self.weights) - np.log(self.stds).sum(1) - 0.5 * (z**2).sum(2)
        p = np.exp(log - log.max(1, keepdims=True))
        return (p / p.sum(1, keepdims=True)).mean(0)


def sets(seed: int) -> dict[str, Draw]:
    """The three sets; the mixture is another one for each seed."""
    return {"six Gaussians": Mixture(seed), "spiral": spiral, "circle": circle}


def learn(
    draw: Draw, seed: int, seconds: float, **options: Any
) -> tuple[Generator, dict[str, Any], np.ndarray]:
    """Sketch, fit, and compare with fresh points; the generated points are in the data's units."""
    rng = np.random.default_rng(1000 + seed)
    data, fresh = draw(N, rng), draw(TEST, rng)
    bound = float(np.abs(data).max())
    law = options.pop("law", "multiscale")
    sketcher = Sketcher(
        Schema.vectors(2, -bound, bound),
        options.pop("frequencies", 2048),
        law,
        seed,
        options.pop("scale", 1.0),
    )
    sketcher.learn_many(data)
    begun = time.perf_counter()
    generator = fit(sketcher.release(), seconds, seed, **options)
    took = time.perf_counter() - begun
    made = generator.sample_encoded(TEST, seed=seed) * bound
    unit = np.linalg.norm(data, axis=1).max()
    found = {
        "energy": energy_distance(made / unit, fresh / unit),
        "floor": energy_distance(draw(TEST, rng) / unit, fresh / unit),
        "seconds": took,
        "steps": generator.metrics["steps"],
    }
    if isinstance(draw, Mixture):
        found["worst weight"] = float(
            np.abs(draw.posterior(made) / draw.posterior(fresh) - 1).max()
        )
    return generator, found, made


def paper(draw: Draw, seed: int, seconds: float) -> tuple[Generator, dict[str, Any], np.ndarray]:
    """The paper's preset: folded Gaussian of variance 1e-3 on the unit ball, 7 x 10 LeakyReLU."""
    plain = TrainingConfig(batch=1000, subset=2048, rate=1e-3, average=0.0)
    scale = float(np.sqrt(1e-3)) * np.sqrt(2)  # the box of side 2 holds the unit ball's square
    return learn(
        draw, seed, seconds, network="cl-gn", law="folded_gaussian", scale=scale, config=plain
    )


def picture(made: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Histograms of data and generated points, as in the paper's figure 2."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import PowerNorm

    rows = list(next(iter(made.values())))
    figure, axes = plt.subplots(
        len(rows), len(made), figsize=(3 * len(made), 3 * len(rows)), squeeze=False
    )
    for column, (name, clouds) in zip(axes.T, made.items(), strict=True):
        bound = 1.05 * np.abs(clouds[rows[0]]).max()
        for ax, row in zip(column, rows, strict=True):
            x = clouds[row]
            ax.hist2d(
                x[:, 0],
                x[:, 1],
                bins=90,
                range=[[-bound, bound]] * 2,
                cmap="Greys",
                norm=PowerNorm(0.4),
            )
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_aspect("equal")
            ax.set_title(f"{name}: {row}", fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def measure(
    seconds: float, seeds: int, preset: bool = True
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One record per set, seed and trainer, and the first seed's clouds for the picture."""
    records, clouds = [], {}
    for seed in range(seeds):
        for name, draw in sets(seed).items():
            trainers = {
                "default": learn,
                **({"paper's preset": paper} if preset and seed == 0 else {}),
            }
            shown = {"data": draw(TEST, np.random.default_rng(seed))}
            for trainer, run in trainers.items():
                _, found, made = run(draw, seed, seconds)
                records.append({"set": name, "trainer": trainer, "seed": seed, **found})
                shown[f"generated ({trainer})"] = made
            if seed == 0:
                clouds[name] = shown
    return records, clouds


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "img" / "toys.png")
    given = parser.parse_args()
    records, clouds = measure(given.seconds, given.seeds)
    table = Table(title=f"squared energy distance x 1e4 after {given.seconds:g} s (target: 3)")
    for heading in (
        "set",
        "trainer",
        "seeds",
        "median",
        "worst",
        "floor",
        "worst mode weight",
        "steps",
    ):
        table.add_column(heading, justify="left" if heading in ("set", "trainer") else "right")
    for name, trainer in dict.fromkeys((r["set"], r["trainer"]) for r in records):
        runs = [r for r in records if (r["set"], r["trainer"]) == (name, trainer)]
        energy = np.array([r["energy"] for r in runs]) * 1e4
        worst = max(r.get("worst weight", np.nan) for r in runs)
        table.add_row(
            name, trainer, str(len(runs)), f"{np.median(energy):.2f}", f"{energy.max():.2f}",
            f"{np.mean([r['floor'] for r in runs]) * 1e4:.2f}",
            "" if np.isnan(worst) else f"{worst:.0%}", f"{np.median([r['steps'] for r in runs]):.0f}",
        )  # fmt: skip
    Console().print(table)
    picture(clouds, given.picture)
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "toys.json").write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
