"""Three 2-D point sets, each learned from a sketch alone: spiral, six Gaussians, circle.

    python -m examples.shapes [--seconds 30] [--points 100000] [--out example-out]

The sets of "Compressive learning of generative networks" (Schellekens and Jacques, 2020, section
4), with this library's default law and generator instead of theirs. The points are streamed in
parts and dropped; what is kept is one sum of 2 x 2048 numbers for each set.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.pictures import new_figure, png

Points = NDArray[np.float64]
LIMIT = 1.5  # every set lies within [-LIMIT, LIMIT] on both axes


def spiral(n: int, rng: np.random.Generator) -> Points:
    angle = rng.uniform(0, 2 * np.pi, n)
    return polar(angle / (2 * np.pi) + 0.03 * rng.normal(size=n), angle)


def six_gaussians(n: int, rng: np.random.Generator) -> Points:
    centre = rng.integers(0, 6, n) * (np.pi / 3)
    return polar(np.ones(n), centre) + 0.1 * rng.normal(size=(n, 2))


def circle(n: int, rng: np.random.Generator) -> Points:
    return polar(1 + 0.05 * rng.normal(size=n), rng.uniform(0, 2 * np.pi, n))


def polar(radius: Points, angle: Points) -> Points:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


SETS: dict[str, Callable[[int, np.random.Generator], Points]] = {
    "spiral": spiral,
    "six Gaussians": six_gaussians,
    "circle": circle,
}


def learn(draw: Callable[[int, np.random.Generator], Points], n: int, seconds: float) -> Generator:
    """One pass over the points, in parts that are not kept; then training without any point."""
    rng = np.random.default_rng(0)
    sketcher = Sketcher(Schema.vectors(2, -LIMIT, LIMIT), frequencies=2048)
    for _ in range(10):
        sketcher.learn_many(draw(n // 10, rng))
    return fit(sketcher.release(), seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="training time of each set")
    parser.add_argument("--points", type=int, default=100_000, help="points of each set")
    parser.add_argument("--out", type=Path, default=Path("example-out"))
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    figure = new_figure(9.6, 6.7)
    for place, (name, draw) in enumerate(SETS.items()):
        generator = learn(draw, given.points, given.seconds)
        table = generator.sample(20_000, seed=1)
        made = np.stack([table["x0"].to_numpy(), table["x1"].to_numpy()], axis=1)
        real, other = draw(20_000, rng), draw(20_000, rng)
        distance, least = (energy_distance(x[:5000], real[:5000]) for x in (made, other))
        print(f"{name}: energy distance {distance:.2g}, of another real sample {least:.2g}")
        for row, (points, title) in enumerate(
            ((real, f"{name}: the stream"), (made, "from its sketch"))
        ):
            axes = figure.add_subplot(2, 3, 3 * row + place + 1)
            edges = np.linspace(-LIMIT, LIMIT, 101)
            axes.hist2d(*points.T, bins=(edges, edges), cmap="magma")
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.set_title(title if row == 0 else f"{title} (D2 {distance:.1g})", fontsize=10)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "shapes.png").write_bytes(png(figure))
    print(f"picture: {given.out / 'shapes.png'}")


if __name__ == "__main__":
    main()
