"""History-aware sampling: the paper's figures, the endless stream, drift, imbalance, peers.

    python -m benchmarks.sampler [--only paper,gain,endless,drift,imbalance,peers] [--seeds 5]

Every number is D2 = E|X-Z| - E|X-X'|/2 - E|Z-Z'|/2 or the gain E|Z-Z'| / (2 N D2), 1 for
independent draws. Peers are measured where their packages are installed (goodpoints, dppy); the
others are a few lines in benchmarks/sampler_peers.py. Results go to
benchmarks/results/sampler.json, one entry per section.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.sampler_peers import PEERS
from streamsketch.evaluate import energy_distance
from streamsketch.evaluate.diversity import energy_gain
from streamsketch.features import ONE
from streamsketch.sampler import (
    GaussianTarget,
    Herding,
    MixtureTarget,
    Sampler,
    energy_points,
    squared_distance,
)
from streamsketch.sampler.herding import energy_map
from streamsketch.sampler.kernels import squared_distances
from testing.toys import (
    GRID,
    MixtureGenerator,
    gaussian_generator,
    grid_points,
    snapshot_of,
)

RESULTS = Path(__file__).parent / "results" / "sampler.json"
MIXTURE, GAUSSIAN = MixtureTarget(GRID, np.ones(16)), GaussianTarget(2)
Rows = list[dict[str, Any]]


def spread(values: Any) -> str:
    """Mean and range over seeds."""
    v = np.asarray(values, float)
    return f"{v.mean():.3g} ({v.min():.3g} .. {v.max():.3g})"


def layers(points: np.ndarray) -> tuple[int, ...]:
    radii = np.sort(np.linalg.norm(points, axis=1))
    cuts = np.sort(np.argsort(np.diff(radii))[-2:]) + 1
    return tuple(np.diff([0, *cuts, len(radii)]).tolist())


def recursive(k: int, batches: int, seed: int) -> np.ndarray:
    history = np.zeros((0, 2))
    for batch in range(batches):
        new = energy_points(GAUSSIAN, k, history, seed=1000 * seed + batch)
        history = np.vstack([history, new])
    return history


def paper(seeds: int) -> Rows:
    """The figures of Turinici (2022)."""
    exact, distances, begun = 0, [], time.perf_counter()
    for seed in range(2 * seeds):
        points = energy_points(MIXTURE, 48, seed=seed)
        nearest = squared_distances(points, GRID).argmin(axis=1)
        exact += int((np.bincount(nearest, minlength=16) == 3).all())
        distances.append(squared_distance(points, MIXTURE))
    seconds = (time.perf_counter() - begun) / (2 * seeds)
    rows: Rows = [
        {
            "figure": "16 Gaussians, K=48",
            "D2": spread(distances),
            "iid D2": MIXTURE.spread / 96,
            "note": f"3 per component in {exact} of {2 * seeds}, {seconds:.2f} s each",
        }
    ]
    found = [energy_points(GAUSSIAN, 17, seed=seed) for seed in range(2 * seeds)]
    shapes = [layers(points) for points in found]
    rows.append(
        {
            "figure": "Gaussian, K=17",
            "D2": spread([squared_distance(points, GAUSSIAN) for points in found]),
            "iid D2": GAUSSIAN.spread / 34,
            "note": ", ".join(f"{s}: {shapes.count(s)}" for s in sorted(set(shapes))),
        }
    )
    for k in (1, 10):
        rows.append(
            {
                "figure": f"ten recursive batches of {k}",
                "D2": spread(
                    [squared_distance(recursive(k, 10, s), GAUSSIAN) for s in range(seeds)]
                ),
                "iid D2": GAUSSIAN.spread / (20 * k),
                "note": "",
            }
        )
    return rows


def network(latent: int) -> Callable[[np.ndarray], np.ndarray]:
    """A random two-layer network from latents to the plane: a generator that is not Gaussian."""
    rng = np.random.default_rng(7)
    a = rng.standard_normal((latent, 64)) * np.sqrt(2.0 / latent)
    b = rng.standard_normal((64, 2)) / 8.0
    return lambda z: np.maximum(z @ a + 0.3, 0.0) @ b


def sobol(dimension: int, n: int, seed: int) -> np.ndarray:
    from scipy.special import ndtri
    from scipy.stats import qmc

    u = qmc.Sobol(dimension, rng=np.random.default_rng(seed)).random(n)
    return ndtri(np.clip(u, 1e-12, 1 - 1e-12))


def stream(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    z: Callable[[Any], np.ndarray],
    length: float,
    n: int,
    seed: int,
) -> np.ndarray:
    """``n`` outputs of the sampler's own selection with its default settings."""
    fm, weights = energy_map(2, 2048, length)
    selector, mean = Herding(fm, weights), z(fm)
    rng = np.random.default_rng(seed)
    residual, out = np.zeros(fm.width), np.zeros((0, 2))
    for _ in range(n // 8):
        x = draw(rng, 200)
        choice = selector.choose(residual, mean, x, 8, out[-256:])
        residual, out = choice.residual, np.vstack([out, x[choice.rows]])
    return out


def gain(seeds: int) -> Rows:
    """Gain at N = 1024 in 2-D, beside scrambled Sobol."""
    n = 1024
    rows: Rows = []
    for name, target in (("Gaussian", GAUSSIAN), ("16 Gaussians", MIXTURE)):

        def score(x: np.ndarray, target: MixtureTarget = target) -> float:
            return target.spread / (2 * n) / squared_distance(x, target)

        residual = [
            score(
                stream(
                    lambda r, k, t=target: t.sample(r, k),
                    lambda fm, t=target: t.mean_features(fm.omega),
                    target.spread,
                    n,
                    s,
                )
            )
            for s in range(seeds)
        ]
        if name == "Gaussian":
            quasi = [score(sobol(2, n, s)) for s in range(seeds)]
        else:
            quasi = []
            for s in range(seeds):
                from scipy.stats import norm

                u = norm.cdf(sobol(3, n, s))
                which = np.minimum((u[:, 0] * 16).astype(int), 15)
                quasi.append(score(GRID[which] + norm.ppf(u[:, 1:])))
        rows.append({"target": name, "history": spread(residual), "Sobol": spread(quasi)})
    for latent in (2, 8, 32):
        g = network(latent)
        pool = g(sobol(latent, 1 << 13, 99))
        length = float(np.sqrt(squared_distances(pool[:1000], pool[1000:2000])).mean())
        residual = [
            energy_gain(
                stream(
                    lambda r, k, g=g, p=latent: g(r.standard_normal((k, p))),
                    lambda fm, p=pool: fm.sum(p.astype(np.float32)) / (ONE * len(p)),
                    length,
                    n,
                    s,
                ),
                pool,
            )
            for s in range(seeds)
        ]
        quasi = [energy_gain(g(sobol(latent, n, s)), pool) for s in range(seeds)]
        name = f"network, {latent} latents"
        rows.append({"target": name, "history": spread(residual), "Sobol": spread(quasi)})
    return rows


def endless(seeds: int, total: int = 1_000_000) -> Rows:
    """State and time per output over a long run of the sampler itself."""
    generator = gaussian_generator(2, frequencies=256)
    sampler = Sampler(generator, candidates=100, seed=0)
    law = MixtureTarget([[0.0, 0.0]], [0.25])
    rows: Rows = []
    done, kept = 0, []
    for upto in (1024, 10_000, 100_000, 250_000, 500_000, 750_000, total):
        if upto > total:
            break
        begun, before = time.process_time(), done
        while done < upto:
            x = sampler.sample_encoded(min(8192, upto - done))
            kept, done = [*kept, x][-1:] if done else [x], done + len(x)
        ms = 1000 * (time.process_time() - begun) / (done - before)
        rows.append(
            {
                "outputs": done,
                "state bytes": len(sampler.history.to_bytes()),
                "ms per output": ms,
                "gain in the sketch": sampler.gain(),
                "gain of the last part alone": law.spread
                / (2 * len(kept[-1]))
                / squared_distance(kept[-1], law),
            }
        )
        show("endless", rows[-1:])
    return rows


def drifted(rule: str, jump: bool, seed: int) -> tuple[float, float]:
    """D2 of all outputs against the mixture over time, and mean D2 of a batch to its target."""
    steps, k = 64, 16
    path = np.where(np.arange(steps) < steps // 2, 0.0, 3.0) if jump else np.linspace(0, 3, steps)
    means = np.stack([path, np.zeros(steps)], axis=1)
    over_time = MixtureTarget(means, np.ones(steps))
    fm, weights = energy_map(2, 512, over_time.spread)
    selector = Herding(fm, weights, forget=0.99 if rule == "residual, gamma .99" else 1.0)
    rng = np.random.default_rng(seed)
    residual, out, each = np.zeros(fm.width), np.zeros((0, 2)), []
    for mean in means:
        now = MixtureTarget(mean[None], [1.0])
        z, x = now.mean_features(fm.omega), now.sample(rng, 300)
        if rule == "iid":
            new = x[:k]
        else:
            if rule == "literal":
                residual = len(out) * z - (fm.features(out).sum(axis=0) if len(out) else 0.0)
            choice = selector.choose(residual, z, x, k, out[-256:])
            residual, new = choice.residual, x[choice.rows]
        each.append(squared_distance(new, now))
        out = np.vstack([out, new])
    return squared_distance(out, over_time), float(np.mean(each))


def drift(seeds: int) -> Rows:
    """A target that walks by three standard deviations, or jumps."""
    rows: Rows = []
    for jump in (False, True):
        for rule in ("iid", "literal", "residual", "residual, gamma .99"):
            found = np.array([drifted(rule, jump, s) for s in range(seeds)])
            rows.append(
                {
                    "drift": "jump" if jump else "linear",
                    "books": rule,
                    "D2, all outputs to the mixture over time": spread(found[:, 0]),
                    "D2 of a batch": spread(found[:, 1]),
                }
            )
    return rows


def imbalance(seeds: int) -> Rows:
    """A generator with mode weights .8^i, data with equal ones; 512 outputs."""
    from streamsketch import Schema

    schema, rng = Schema.vectors(2, -1.0, 1.0), np.random.default_rng(0)
    snapshot = snapshot_of(grid_points(np.ones(16), 50_000, rng), schema, 1024)
    generator = MixtureGenerator(0.8 ** np.arange(16), snapshot, schema)
    held = grid_points(np.ones(16), 10_000, rng)
    found: dict[str, list[np.ndarray]] = {
        "real rows": [grid_points(np.ones(16), 512, rng) for _ in range(seeds)],
        "iid": [generator.sample_encoded(512, seed=s) for s in range(seeds)],
        "against z_G": [
            Sampler(generator, target="generator", seed=s).sample_encoded(512)
            for s in range(seeds)
        ],
        "against z_X": [Sampler(generator, seed=s).sample_encoded(512) for s in range(seeds)],
    }
    rows: Rows = []
    for name, draws in found.items():
        shares = [
            np.bincount(squared_distances(x * 12.0 + 7.5, GRID).argmin(1), minlength=16) / 512
            for x in draws
        ]
        rows.append(
            {
                "outputs": name,
                "D2 to the data": spread([energy_distance(x, held) for x in draws]),
                "smallest share": spread([s.min() for s in shares]),
                "largest share": spread([s.max() for s in shares]),
            }
        )
    return rows


def peers(seeds: int) -> Rows:
    """Gain at equal N: the mixture with 48 points, the Gaussian with 100."""
    rows: Rows = []
    for name, method in PEERS.items():
        row: dict[str, Any] = {"method": name}
        for label, target, n in (
            ("16 Gaussians, N=48", MIXTURE, 48),
            ("Gaussian, N=100", GAUSSIAN, 100),
        ):
            begun, gains = time.process_time(), []
            for seed in range(seeds):
                points = method(target, n, seed)
                if points is None:
                    break
                gains.append(target.spread / (2 * n) / squared_distance(points, target))
            row[label] = spread(gains) if gains else "not installed"
            row[f"s ({label})"] = (time.process_time() - begun) / seeds
        rows.append(row)
        show("peers", rows[-1:])
    return rows


SECTIONS: dict[str, Callable[[int], Rows]] = {
    "paper": paper,
    "gain": gain,
    "drift": drift,
    "imbalance": imbalance,
    "peers": peers,
    "endless": endless,
}


def show(title: str, rows: Rows) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for name in options.only.split(","):
        rows = SECTIONS[name](options.seeds)
        show(name, rows)
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[name] = rows
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
