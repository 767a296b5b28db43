"""The pictures of docs/sampling.md.

python -m benchmarks.sampler_pictures [--folder docs/img]
"""

import argparse
from pathlib import Path

import numpy as np

from streamsketch.evaluate.pictures import new_figure, png
from streamsketch.sampler import (
    GaussianTarget,
    Herding,
    MixtureTarget,
    energy_points,
    squared_distance,
)
from streamsketch.sampler.herding import energy_map
from testing.toys import GRID

GREY, ORANGE, INK, BLUE = "#c9d0d8", "#d95f02", "#27313d", "#3a6ea5"


def paper() -> bytes:
    """K = 48 and K = 3 on 16 Gaussians, K = 17 on one, and ten recursive points numbered."""
    mixture, gaussian = MixtureTarget(GRID, np.ones(16)), GaussianTarget(2)
    figure = new_figure(14.0, 3.8)
    left, three, middle, right = figure.subplots(1, 4)
    cloud = mixture.sample(np.random.default_rng(0), 4000)
    for axis, k in ((left, 48), (three, 3)):
        axis.scatter(*cloud.T, s=1, color=GREY, linewidths=0)
        axis.scatter(*GRID.T, s=18, color="#b22222", marker="x")
        points = energy_points(mixture, k, seed=0)
        axis.scatter(*points.T, s=14 if k > 3 else 40, color=BLUE, linewidths=0)
        axis.set_title(f"K = {k} on 16 Gaussians, D2 = {squared_distance(points, mixture):.3g}")
    cloud = gaussian.sample(np.random.default_rng(0), 4000)
    points = energy_points(gaussian, 17, seed=0)
    middle.scatter(*cloud.T, s=1, color=GREY, linewidths=0)
    middle.scatter(*points.T, s=16, color=BLUE, linewidths=0)
    middle.set_title(f"K = 17 on a Gaussian, D2 = {squared_distance(points, gaussian):.4f}")
    right.scatter(*cloud.T, s=1, color=GREY, linewidths=0)
    history = np.zeros((0, 2))
    for i in range(10):
        history = np.vstack([history, energy_points(gaussian, 1, history, seed=i)])
        right.text(*history[-1], str(i + 1), color=ORANGE, ha="center", va="center", weight="bold")
    right.set_title(f"ten, one after the other, D2 = {squared_distance(history, gaussian):.4f}")
    for axis in (middle, right):
        axis.set_xlim(-3.2, 3.2)
        axis.set_ylim(-3.2, 3.2)
    for axis in (left, three, middle, right):
        axis.set_aspect("equal")
        axis.title.set_fontsize(9)
    return png(figure)


def endless() -> bytes:
    """D2 against the number of outputs: independent draws and the herding residual."""
    target = GaussianTarget(2)
    fm, weights = energy_map(2, 2048, target.spread)
    selector, z = Herding(fm, weights), target.mean_features(fm.omega)
    sizes = [2**k for k in range(4, 12)]
    figure = new_figure(5.6, 4.0)
    axis = figure.subplots()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        residual, out = np.zeros(fm.width), np.zeros((0, 2))
        while len(out) < sizes[-1]:
            x = target.sample(rng, 200)
            choice = selector.choose(residual, z, x, 8, out[-256:])
            residual, out = choice.residual, np.vstack([out, x[choice.rows]])
        iid = target.sample(rng, sizes[-1])
        axis.loglog(sizes, [squared_distance(iid[:n], target) for n in sizes], color=GREY)
        axis.loglog(sizes, [squared_distance(out[:n], target) for n in sizes], color=ORANGE)
    mean = target.spread / (2 * np.array(sizes))
    axis.loglog(sizes, mean, color=INK, linestyle=":", label="independent draws, on average")
    axis.plot([], [], color=GREY, label="independent draws, three runs")
    axis.plot([], [], color=ORANGE, label="herding, three runs")
    axis.set_xlabel("outputs")
    axis.set_ylabel("squared energy distance to the target")
    axis.legend(fontsize=8, frameon=False)
    return png(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("docs/img"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sampling_paper.png").write_bytes(paper())
    (folder / "sampling_endless.png").write_bytes(endless())


if __name__ == "__main__":
    main()
