"""Decoders against scikit-learn and pycle.

    python -m benchmarks.decode [--seeds 10] [--most 7] [--pycle PYTHON] [--picture FILE]

k-means on 10 clusters in d = 10 from m = 1000 frequencies; Gaussian mixtures of 5 components;
decoding time against the number of rows; quality against the number of frequencies. `--pycle` is
the interpreter of an environment that has pycle 1.2 (not a dependency): the same rows are then
sketched and decoded by it, once and best of five.
"""

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.cluster import KMeans as Lloyd
from sklearn.mixture import GaussianMixture as EM

from benchmarks.show import show
from streamsketch import Schema, Sketcher, Snapshot
from streamsketch.decode import GaussianMixture, KMeans

HERE = Path(__file__).parent
K, D, M = 10, 10, 1000
CONSOLE = Console(width=130)

PYCLE = """
import sys, time, json, numpy as np
import pycle.sketching as sk, pycle.compressive_learning as cl
data = np.load(sys.argv[1]); X, kind, K, m, runs, seed = data["X"], str(data["kind"]), *map(int, data["n"])
np.random.seed(seed)
S = sk.estimate_Sigma(X, m0=500, n0=2000)
Phi = sk.SimpleFeatureMap("complexExponential", sk.drawFrequencies("AR", X.shape[1], m, S))
z = sk.computeSketch(X, Phi)
b = np.array([X.min(0), X.max(0)])
t = time.process_time()
if kind == "kmeans":
    s = cl.CLOMP_CKM(Phi, K, b, z)
    s.fit_several_times(runs) if runs > 1 else s.fit_once()
    out = {"centers": np.asarray(s.get_centroids()).tolist()}
else:
    s = cl.CLOMP_dGMM(Phi, K, b, z); s.fit_once()
    w, mu, sig = s.get_GMM()
    out = {"w": w.tolist(), "mu": mu.tolist(), "sig": sig.tolist()}
out["seconds"] = time.process_time() - t
print("RESULT" + json.dumps(out))
"""


def clusters(kind: str, seed: int, n: int, part: int = 0) -> np.ndarray:
    """Ten clusters: apart and round, overlapping, or of unequal shape and weight."""
    rng = np.random.default_rng(seed)
    if kind == "round":
        centers, weights, spread = rng.uniform(-0.7, 0.7, (K, D)), None, np.full((K, D), 0.1)
    elif kind == "overlapping":
        centers, weights, spread = 0.25 * rng.normal(size=(K, D)), None, np.full((K, D), 0.15)
    else:
        centers, weights = 0.3 * rng.normal(size=(K, D)), rng.dirichlet(np.full(K, 3.0))
        spread = rng.uniform(0.03, 0.2, (K, D))
    rng = np.random.default_rng([seed, part])
    labels = rng.choice(K, n, p=weights)
    return np.clip(centers[labels] + spread[labels] * rng.normal(size=(n, D)), -1, 1)


def sketch(rows: np.ndarray, m: int, seed: int) -> Snapshot:
    s = Sketcher(Schema.vectors(rows.shape[1], -1, 1), frequencies=m, seed=seed)
    s.learn_many(rows)
    return s.release()


def sse(rows: np.ndarray, centers: np.ndarray) -> float:
    square = ((rows**2).sum(1)[:, None] - 2 * rows @ centers.T + (centers**2).sum(1)).min(1)
    return float(square.sum())


def pycle(
    python: str, rows: np.ndarray, kind: str, k: int, runs: int, seed: int
) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, X=rows, kind=kind, n=[k, M, runs, seed])
        file.flush()
        done = subprocess.run(
            [python, "-W", "ignore", "-c", PYCLE, file.name],
            capture_output=True,
            text=True,
            env={"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout.split("RESULT")[1])
    return found


def kmeans(seeds: int) -> list[dict[str, Any]]:
    records = []
    for kind in ("round", "overlapping", "unequal"):
        for seed in range(seeds):
            rows = clusters(kind, seed, 20_000)
            best = Lloyd(K, n_init=10, random_state=0).fit(rows).inertia_
            snapshot = sketch(rows, M, seed)
            start = time.process_time()
            model = KMeans(K).fit(snapshot)
            records.append(
                {
                    "data": kind,
                    "seed": seed,
                    "seconds": time.process_time() - start,
                    "ratio": sse(rows, model.cluster_centers_) / best,
                }
            )
    return records


def against_pycle(ours: list[dict[str, Any]], seeds: int, python: str) -> list[dict[str, Any]]:
    """The first seeds of each data set, by pycle: one run, and the best of five."""
    records = []
    for mine in ours:
        if mine["seed"] >= seeds:
            continue
        rows = clusters(mine["data"], mine["seed"], 20_000)
        best = Lloyd(K, n_init=10, random_state=0).fit(rows).inertia_
        record = dict(mine)
        for runs in (1, 5):
            found = pycle(python, rows, "kmeans", K, runs, mine["seed"])
            record[f"pycle x{runs} ratio"] = sse(rows, np.array(found["centers"])) / best
            record[f"pycle x{runs} seconds"] = found["seconds"]
        records.append(record)
    return records


def mixtures(seeds: int, python: str | None, pycle_seeds: int) -> list[dict[str, Any]]:
    records = []
    for kind in ("diag", "full"):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            centers, labels = 0.3 * rng.normal(size=(5, D)), rng.choice(5, 20_000)
            spread = rng.uniform(0.05, 0.2, (5, D))
            turn = [
                np.linalg.qr(rng.normal(size=(D, D)))[0] if kind == "full" else np.eye(D)
                for _ in range(5)
            ]
            factors = np.array([q * s for q, s in zip(turn, spread, strict=True)])
            rows = centers[labels] + np.einsum(
                "nij,nj->ni", factors[labels], rng.normal(size=(20_000, D))
            )
            rows /= np.abs(rows).max()
            start = time.process_time()
            em = EM(5, covariance_type=kind, n_init=3, random_state=0).fit(rows)
            em_seconds = time.process_time() - start
            snapshot = sketch(rows, M, seed)
            start = time.process_time()
            model = GaussianMixture(5, covariance_type=kind).fit(snapshot)
            record = {
                "kind": kind,
                "seed": seed,
                "seconds": time.process_time() - start,
                "em_seconds": em_seconds,
                "gap": em.score(rows) - model.score(rows),
            }
            if python and kind == "diag" and seed < pycle_seeds:
                found = pycle(python, rows, "gmm", 5, 1, seed)
                other = EM(5, covariance_type="diag")
                other.weights_ = np.maximum(found["w"], 1e-12) / np.sum(found["w"])
                other.means_ = np.array(found["mu"])
                sigma = np.array(found["sig"])
                other.covariances_ = np.einsum("kii->ki", sigma) if sigma.ndim == 3 else sigma
                other.precisions_cholesky_ = 1 / np.sqrt(np.maximum(other.covariances_, 1e-12))
                record["pycle_gap"] = em.score(rows) - other.score(rows)
                record["pycle_seconds"] = found["seconds"]
            records.append(record)
    return records


def against_rows(most: int) -> list[dict[str, Any]]:
    """Time to decode, and to fit scikit-learn (one start), as the number of rows grows."""
    records = []
    for power in range(4, most + 1):
        n, s = 10**power, Sketcher(Schema.vectors(D, -1, 1), frequencies=M)
        start = time.process_time()
        for part in range(max(n // 100_000, 1)):
            s.learn_many(clusters("round", 0, min(n, 100_000), part))
        sketching = time.process_time() - start
        snapshot = s.release()
        start = time.process_time()
        KMeans(K).fit(snapshot)
        record = {"rows": n, "decode": time.process_time() - start, "sketch": sketching}
        if power <= 6:
            rows = clusters("round", 0, n)
            start = time.process_time()
            Lloyd(K, n_init=10, random_state=0).fit(rows)
            record["lloyd"] = time.process_time() - start
            start = time.process_time()
            EM(K, covariance_type="diag", random_state=0).fit(rows)
            record["em"] = time.process_time() - start
        records.append(record)
    return records


def against_frequencies(seeds: int) -> list[dict[str, Any]]:
    records = []
    for per in (2, 3, 4, 5, 7, 10):
        ratios = []
        for seed in range(seeds):
            rows = clusters("round", seed, 20_000)
            best = Lloyd(K, n_init=3, random_state=0).fit(rows).inertia_
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = KMeans(K).fit(sketch(rows, per * K * D, seed))
            ratios.append(sse(rows, model.cluster_centers_) / best)
        records.append(
            {
                "frequencies_per_Kd": per,
                "ratio_median": float(np.median(ratios)),
                "ratio_worst": float(np.max(ratios)),
            }
        )
    return records


def draw(records: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.6, 3))
    n = [r["rows"] for r in records]
    axes.loglog(n, [r["decode"] for r in records], "o-", label="decode k-means from the sketch")
    small = [r for r in records if "lloyd" in r]
    axes.loglog(
        [r["rows"] for r in small],
        [r["lloyd"] for r in small],
        "s--",
        label="scikit-learn k-means, 10 starts",
    )
    axes.loglog(
        [r["rows"] for r in small],
        [r["em"] for r in small],
        "^--",
        label="scikit-learn EM, 1 start",
    )
    axes.set_xlabel("rows")
    axes.set_ylabel("CPU seconds")
    axes.legend(fontsize=7)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--most", type=int, default=7, help="largest power of ten of rows")
    parser.add_argument("--pycle", help="python of an environment with pycle 1.2")
    parser.add_argument("--pycle-seeds", type=int, default=2, help="its runs are slow")
    parser.add_argument("--only", help="run one table, and keep the others' results")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    out = HERE / "results" / "decode.json"
    out.parent.mkdir(exist_ok=True)
    results: dict[str, list[dict[str, Any]]] = json.loads(out.read_text()) if options.only else {}
    jobs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "kmeans": lambda: kmeans(options.seeds),
        "mixtures": lambda: mixtures(min(options.seeds, 5), options.pycle, options.pycle_seeds),
        "frequencies": lambda: against_frequencies(3),
        "rows": lambda: against_rows(options.most),
    }
    if options.pycle:
        jobs["pycle"] = lambda: against_pycle(
            results["kmeans"], options.pycle_seeds, options.pycle
        )
    for name, job in jobs.items():
        if options.only in (None, name):
            results[name] = job()
    for name, records in results.items():
        show(name, records)
    ratios = [r["ratio"] for r in results["kmeans"]]
    CONSOLE.print(
        f"k-means within 1.05 of the best of ten Lloyd runs: "
        f"{sum(r <= 1.05 for r in ratios)} of {len(ratios)}"
    )
    out.write_text(json.dumps(results, indent=1))
    if options.picture:
        draw(results["rows"], options.picture)


if __name__ == "__main__":
    main()
