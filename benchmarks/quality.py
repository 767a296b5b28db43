"""How good the generators are: every trainer, every data set, one table.

    python -m benchmarks.quality [--parts toys,tables,objectives,steps,drift,images] [--seconds 30] [--seeds 2]
                                 [--adult adult.parquet] [--fashion fashion.parquet] [--threads 2]

| part | what |
|---|---|
| toys | the 2-D sets of Schellekens and Jacques, 2020 (benchmarks/toys.py has the picture and the paper's preset) |
| tables | networks on Adult and NYC flights, with floor and ceiling (others: benchmarks/quality_tables.py) |
| objectives | five sets, every objective, equal CPU time |
| steps | time per step against n |
| drift | a mixture that moves: steps to the same held-out distance, warm and cold |
| images | digits (scikit-learn) and Fashion-MNIST through PCA: train on synthetic, test on real |

A set whose file is not given is left out and said so. Rows show the median over seeds and the
range. Methods named "(study)" are quoted from the project's issue, not run. "peak MB" is the
largest resident memory of a process that only trains, its libraries included. Sets: the Adult
file has the UCI columns and `split`; the Fashion file `image`, `label`, `split`.
The time is that of `fit`; evaluation takes longer.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from benchmarks import toys
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance, mmd2, pair_tv, tstr, two_sample_auc
from streamsketch.features.frequencies import advised
from streamsketch.generator import OBJECTIVES, NetworkConfig, TrainingConfig
from streamsketch.snapshot import Snapshot

HERE = Path(__file__).parent
ROOT = HERE.parent
Record = dict[str, Any]
BOX = 25.0  # half the side of the drifting mixture's declared limits


# --- tables


def adult(path: Path) -> tuple[pa.Table, pa.Table, str]:
    table = pq.read_table(path)
    split = table["split"]
    table = table.drop_columns(["split"])
    return table.filter(pc.equal(split, "train")), table.filter(pc.equal(split, "test")), "income"


FLIGHT_COLUMNS = (
    "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "carrier", "origin", "dest", "air_time", "distance", "hour", "minute", "time_hour",
)  # fmt: skip


def flights(path: Path) -> tuple[pa.Table, pa.Table, str]:
    """Every tenth flight is held out; flight and tail numbers are identifiers."""
    table = pq.read_table(path).select(list(FLIGHT_COLUMNS))
    held = np.arange(table.num_rows) % 10 == 0
    return table.filter(pa.array(~held)), table.filter(pa.array(held)), "origin"


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns = [
        table[name].take(pa.array(rng.permutation(table.num_rows))) for name in table.column_names
    ]
    return pa.Table.from_arrays(columns, names=table.column_names)


# Figures of the study (the project's issue on generators), from another machine of two cores: C2ST,
# TSTR, pairs (None: not given), seconds of the fit. All see the rows; quoted, not measured here.
PEERS: dict[str, tuple[float, float, float | None, float]] = {
    "SDV GaussianCopula": (1.0, 0.804, None, 22),
    "CTGAN, 28 epochs": (0.995, 0.848, 0.169, 123),
    "TVAE, 90 epochs": (0.989, 0.879, None, 107),
    "TabularARGN": (0.589, 0.912, 0.033, 162),
}


def peers() -> Iterator[Record]:
    for name, (c2st, score, pairs, seconds) in PEERS.items():
        record = {"data": "adult", "trainer": f"{name} (study)", "C2ST": c2st, "TSTR": score}
        yield {**record, **({} if pairs is None else {"pairs": pairs}), "seconds": seconds}


def trained(snapshot: bytes, seconds: float, seed: int) -> tuple[bytes, Record]:
    """A generator's file, and what the training took; run in a process that does nothing else."""
    given = Snapshot.from_bytes(snapshot, "the snapshot")
    fit(given, seed=seed, steps=2)  # kernels are loaded outside of the time
    begun, cpu = time.perf_counter(), time.process_time()
    generator = fit(given, seconds, seed)
    used = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return generator.to_bytes(), {**used, "peak MB": peak, "steps": generator.metrics["steps"]}


def apart(snapshot: Snapshot, seconds: float, seed: int) -> tuple[Generator, Record]:
    """`trained` in a process of its own, so that its peak memory is the trainer's alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        data, took = pool.submit(trained, snapshot.to_bytes(), seconds, seed).result()
    return Generator.from_bytes(data), took


def judged(made: pa.Table, real: pa.Table, label: str, seed: int) -> Record:
    made = made.select(real.column_names)
    return {
        "C2ST": two_sample_auc(real, made, seed),
        "TSTR": tstr(made, real, label, seed),
        "pairs": pair_tv(real, made),
    }


def tables(given: argparse.Namespace) -> Iterator[Record]:
    found = {"adult": (adult, given.adult), "flights": (flights, given.flights)}
    for name, (load, path) in found.items():
        if not path.exists():
            yield {"data": name, "trainer": f"left out: no file {path.name}"}
            continue
        train, test, label = load(path)
        some = train.take(pa.array(np.random.default_rng(0).permutation(train.num_rows)[:32561]))
        yield {"data": name, "trainer": "real rows (ceiling)", **judged(some, test, label, 0)}
        yield {
            "data": name,
            "trainer": "shuffled columns (floor)",
            **judged(shuffled(some, 0), test, label, 0),
        }
        if name == "adult":
            yield from peers()
        schema = Schema.propose(train, label=label)
        frequencies = max(8192, advised(schema.blocks))
        for seed in range(given.seeds):
            for trainer, conditional in (("sketch", False), ("sketch, conditional", True)):
                if conditional and train.num_rows > 100_000:
                    continue  # one kind is enough where sketching takes long
                sketcher = Sketcher(
                    schema, frequencies, seed=seed, conditional=conditional, cells=False
                )
                sketcher.learn_many(train)
                generator, took = apart(sketcher.release(), given.seconds, seed)
                yield {
                    "data": name, "trainer": trainer, "seed": seed, **took,
                    **judged(generator.sample(32561, seed), test, label, seed),
                }  # fmt: skip


# --- points


def ring(n: int, rng: np.random.Generator) -> np.ndarray:
    """Eight Gaussians on a circle of radius 3 (the study's)."""
    angle = 2 * np.pi * rng.integers(0, 8, n) / 8
    return 3 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.3 * rng.normal(size=(n, 2))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 8 x 8 digits in [0, 1] and their labels, in a fixed random order."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order] / 16, y[order]


def point_sets(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Training and test points of the five sets, in the unit ball's scale."""
    rng = np.random.default_rng(seed)
    made: dict[str, toys.Draw] = {**toys.sets(seed), "ring": ring}
    out = {name: (draw(50_000, rng), draw(5000, rng)) for name, draw in made.items()}
    x, _ = digits()
    out["digits"] = (2 * x[:1300] - 1, 2 * x[1300:] - 1)
    return out


def objectives(given: argparse.Namespace) -> Iterator[Record]:
    """Each objective on the same network for the same CPU time; samples objectives hold all rows.

    The steps that fit into the time are found from a few, the price of a decoded mixture included.
    """
    seconds = given.seconds / 2
    for seed in range(given.seeds):
        for name, (data, test) in point_sets(seed).items():
            if name not in given.sets.split(","):
                continue
            bound = float(np.abs(data).max())
            for objective, init in [*((o, "random") for o in OBJECTIVES), ("sketch", "mixture")]:
                needs = OBJECTIVES[objective].requires
                law = "second_order" if needs == "second-order sketch" else "multiscale"
                schema = Schema.vectors(data.shape[1], -bound, bound)
                sketcher = Sketcher(schema, 2048, law, seed)
                sketcher.learn_many(data)
                snapshot = sketcher.release()
                samples = schema.encode_array(data) if needs == "samples" else None
                batch = 128 if objective == "stein" else 256 if samples is not None else 500
                config = TrainingConfig(batch=batch)
                options: dict[str, Any] = {
                    "seed": seed, "objective": objective, "samples": samples, "config": config, "init": init,
                }  # fmt: skip
                _cpu(snapshot, 1, options)  # the first compiles
                one = _cpu(snapshot, 1, options)
                step = min(_cpu(snapshot, 41, options) - one for _ in range(2)) / 40
                steps = max(int((seconds - one) / step), 1)
                begun = time.process_time()
                generator = fit(snapshot, steps=steps, **options)
                used = time.process_time() - begun
                made = generator.sample_encoded(5000, seed)
                held = snapshot.schema.encode_array(np.clip(test, -bound, bound))
                scale = 0.2 * np.sqrt(data.shape[1])
                yield {
                    "data": name, "trainer": objective if init == "random" else f"{objective}, from a mixture",
                    "seed": seed, "energy": energy_distance(made, held), "MMD2": mmd2(made, held, scale),
                    "seconds": used, "steps": generator.metrics["steps"],
                }  # fmt: skip


def _cpu(snapshot: Snapshot, steps: int, options: dict[str, Any]) -> float:
    """CPU seconds of a fit."""
    begun = time.process_time()
    fit(snapshot, steps=steps, **options)
    return time.process_time() - begun


def steps(given: argparse.Namespace) -> Iterator[Record]:
    """The trainer never sees n: time per step after sketches of 1e4 to 1e7 rows."""
    rng = np.random.default_rng(0)
    sketcher, seen = Sketcher(Schema.vectors(2, -4, 4), frequencies=1024), 0
    for n in (10_000, 100_000, 1_000_000, 10_000_000):
        while seen < n:
            sketcher.learn_many(np.clip(ring(min(n - seen, 500_000), rng), -4, 4))
            seen = min(n, seen + 500_000)
        begun = time.process_time()
        fit(sketcher.release(), steps=150)
        yield {
            "data": f"ring, n = {n:.0e}",
            "trainer": "sketch",
            "ms/step": (time.process_time() - begun) / 0.15,
        }


# --- drift


def drift(given: argparse.Namespace) -> Iterator[Record]:
    """The mixture's means move; how many steps a warm and a cold start need to come as close."""
    for seed in range(given.seeds):
        mixture = toys.Mixture(seed)
        rng = np.random.default_rng(seed)

        def snapshot(
            shift: float, mixture: Any = mixture, rng: Any = rng, seed: int = seed
        ) -> Any:
            sketcher = Sketcher(Schema.vectors(2, -BOX, BOX), frequencies=1024, seed=seed)
            sketcher.learn_many(np.clip(mixture(50_000, rng) + shift, -BOX, BOX))
            return sketcher.release()

        start = fit(snapshot(0.0), steps=1500, seed=seed)
        moved = snapshot(1.0)
        reach = fit(moved, steps=1500, seed=seed).metrics["heldout"]
        for trainer, origin in (("cold start", None), ("warm start", start)):
            steps = first_within(moved, origin, seed, 1.5 * reach)
            yield {"data": "moving mixture", "trainer": trainer, "seed": seed, "steps": steps}


def first_within(snapshot: Any, start: Any, seed: int, distance: float) -> int:
    """The shortest training, of a geometric series, that comes within a held-out distance."""
    for steps in (25, 50, 100, 200, 400, 800, 1600, 3200):
        if fit(snapshot, steps=steps, seed=seed, start=start).metrics["heldout"] <= distance:
            return steps
    return 6400


# --- images


def images(given: argparse.Namespace) -> Iterator[Record]:
    x, y = digits()
    yield from labelled("digits, PCA 24", x[:1300], y[:1300], x[1300:], y[1300:], 24, given)
    if not given.fashion.exists():
        yield {"data": "fashion", "trainer": f"left out: no file {given.fashion.name}"}
        return
    table = pq.read_table(given.fashion)
    flat = table["image"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1) / 255
    label, train = table["label"].to_numpy(), np.array(table["split"].to_pylist()) == "train"
    yield from labelled(
        "fashion 12k, PCA 40", flat[train], label[train], flat[~train], label[~train], 40, given
    )


def labelled(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    p: int,
    given: argparse.Namespace,
) -> Iterator[Record]:
    """A conditional sketch in the PCA space of a tenth of the images, declared public and left out."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    public = len(x) // 10
    pca = PCA(p, random_state=0).fit(x[:public])
    spread = 3 * np.sqrt(pca.explained_variance_)
    code = np.clip(pca.transform(x[public:]) / spread, -1, 1)
    columns = {f"c{k}": code[:, k] for k in range(p)}
    table = pa.table({**columns, "label": pa.array([str(v) for v in y[public:]])})
    schema = Schema.from_dict(
        {
            **{c: {"kind": "numeric", "low": -1, "high": 1} for c in columns},
            "label": {"kind": "label", "type": "string", "values": sorted({str(v) for v in y})},
        }
    )

    def accuracy(train_x: np.ndarray, train_y: np.ndarray) -> dict[str, float]:
        models = {
            "LR": LogisticRegression(max_iter=300),
            "MLP": MLPClassifier((100,), max_iter=30, random_state=0),
        }
        return {k: float(m.fit(train_x, train_y).score(test_x, test_y)) for k, m in models.items()}

    import warnings

    warnings.simplefilter("ignore")  # the classifiers stop before they converge
    yield {"data": name, "trainer": "real rows", **accuracy(x[public:], y[public:])}
    through = pca.inverse_transform(code * spread)
    yield {"data": name, "trainer": "real rows through PCA", **accuracy(through, y[public:])}
    for seed in range(given.seeds):
        sketcher = Sketcher(schema, frequencies=2048, seed=seed, conditional=True)
        sketcher.learn_many(table)
        generator = fit(sketcher.release(), given.seconds, seed, network=NetworkConfig(width=256))
        made = generator.sample(len(code), seed)
        codes = np.column_stack([made[f"c{k}"].to_numpy() for k in range(p)])
        pixels = np.clip(pca.inverse_transform(codes * spread), 0, 1)
        yield {
            "data": name, "trainer": "sketch, conditional", "seed": seed, "seconds": given.seconds,
            "steps": generator.metrics["steps"],
            **accuracy(pixels, np.array([int(v) for v in made["label"].to_pylist()])),
        }  # fmt: skip


def toy_rows(given: argparse.Namespace) -> Iterator[Record]:
    records, _ = toys.measure(given.seconds, given.seeds)
    for r in records:
        yield {"data": r["set"], **{k: v for k, v in r.items() if k not in ("set", "floor")}}


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Record]]] = {
    "toys": toy_rows,
    "tables": tables,
    "objectives": objectives,
    "steps": steps,
    "drift": drift,
    "images": images,
}

COLUMNS = {
    "C2ST": "{:.3f}", "TSTR": "{:.3f}", "pairs": "{:.3f}", "LR": "{:.3f}", "MLP": "{:.3f}", "energy": "{:.1e}",
    "MMD2": "{:.1e}", "worst weight": "{:.0%}", "ms/step": "{:.1f}", "steps": "{:.0f}", "seconds": "{:.0f}",
    "cpu": "{:.0f}", "peak MB": "{:.0f}",
}  # fmt: skip


def show(records: list[Record]) -> None:
    """One row per data set and trainer: the median over seeds, and the largest and smallest."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="generators: median over seeds (range)")
    used = [c for c in COLUMNS if any(c in r for r in records)]
    for heading in ("data", "trainer", *used):
        table.add_column(heading, justify="left" if heading in ("data", "trainer") else "right")
    last = ""
    for data, trainer in dict.fromkeys((r["data"], r["trainer"]) for r in records):
        if data != last and last:
            table.add_section()
        runs = [r for r in records if (r["data"], r["trainer"]) == (data, trainer)]
        cells = [_cell([r[c] for r in runs if c in r], COLUMNS[c]) for c in used]
        table.add_row(data if data != last else "", trainer, *cells)
        last = data
    Console(width=200).print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(f"peak memory of this process, evaluation included: {peak:.0f} MB")


def _cell(values: list[float], form: str) -> str:
    if not values:
        return ""
    text = form.format(float(np.median(values)))
    if len(values) > 1:
        text += f" ({form.format(min(values))}-{form.format(max(values))})"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--sets", default="six Gaussians,spiral,circle,ring,digits", help="of the part objectives"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--adult", type=Path, default=ROOT / "data" / "adult.parquet")
    parser.add_argument("--flights", type=Path, default=ROOT / "data" / "nycflights13.parquet")
    parser.add_argument(
        "--fashion", type=Path, default=ROOT / "data" / "fashion_mnist_16k.parquet"
    )
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    records: list[Record] = []
    for part in given.parts.split(","):
        if part not in PARTS:
            parser.error(f"part {part!r} is unknown; choose from {', '.join(PARTS)}")
        for record in PARTS[part](given):
            records.append({"part": part, **record})
        (HERE / "results").mkdir(exist_ok=True)
        mine = [r for r in records if r["part"] == part]
        (HERE / "results" / f"quality_{part}.json").write_text(json.dumps(mine, indent=1))
    show(records)


if __name__ == "__main__":
    main()
