"""Images from a class-conditional sketch, without and with privacy: train on synthetic, test on real.

    python -m benchmarks.images [--sets mnist,fashion] [--encoders drawn,cosines,pixels] [--steps 1200]
                                [--seeds 1] [--average] [--held-out] [--pictures docs/img] [--folder IDX_FILES]

Full MNIST and Fashion-MNIST (benchmarks/image_data.py fetches them as packages). An image is sketched
by a frozen encoder that no image was needed for, so that nothing public has to be declared:

- `drawn`: 64 codes of an autoencoder of pictures drawn at random (benchmarks/image_coder.py)
- `cosines`: its 64 slowest cosine coefficients
- `pixels`: none; with 5,000 frequencies of length sqrt(105), a convolutional generator of few latents and
  600 steps of 500 rows this is DP-MERF (Harder, Adamczewski, Park 2021)

One release; the unit is one image with its label, add/remove (`--adjacency replace_one`: twice the noise).
The generator is told the label; as many labelled images as there are real ones are drawn from it, classifiers
are trained on them and tested on the 10,000 real test images.

Not paid for: the kernel's scale was chosen on 5,000 of MNIST's training images (`--held-out` tests on the last
5,000, which are not sketched then), the other options of `cosines` on its test images.

What the results file has is not scored again: delete it to begin anew.

`--average` adds eleven classifiers of scikit-learn on 10,000 images and their mean: DP-MERF's
twelve, with histogram boosting in the place of gradient boosting and XGBoost.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from torch import nn

from benchmarks.image_coder import CLASSES, SIDE, D, Drawn, Pixels, schema_of
from benchmarks.image_data import Images, load
from benchmarks.show import show
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.generator import NetworkConfig, TrainingConfig

HERE = Path(__file__).parent
Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Of the sketch and of the training: one for each encoder."""

    frequencies: int
    scale: float
    steps: int
    network: NetworkConfig
    config: TrainingConfig


CLASSWISE = NetworkConfig("classwise", latent=64, width=256)
WITH = {
    "drawn": Settings(8192, 3.0, 1200, CLASSWISE, TrainingConfig(1000, 1024, 4e-3)),
    "cosines": Settings(8192, 1.0, 1200, CLASSWISE, TrainingConfig(1000, 1024, 4e-3)),
    # its length is one of pixels in [0, 1], which are encoded to [-1, 1]
    "pixels": Settings(
        5000, 2 * 105**0.5, 600, NetworkConfig("conv", latent=8, width=16), TrainingConfig(500, 1024, 1e-2)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cosines:
    """The `k` slowest two-dimensional cosines: (n, 784) in [0, 1] to (n, k) in [-1, 1] and back.

    The first coefficient is 28 times the mean intensity; it is clipped to 0 and twice `mean`, the
    others to `reach` either way.
    """

    k: int = 64
    reach: float = 5.0
    mean: float = 8.0

    @property
    def basis(self) -> np.ndarray:
        """(k, 784), orthonormal rows from slow to fast."""
        t = np.arange(SIDE)
        one = np.cos(np.pi * np.outer(t, t + 0.5) / SIDE) * np.sqrt(2 / SIDE)
        one[0] /= np.sqrt(2)
        speed = np.add.outer(t**2, t**2).ravel()
        return np.kron(one, one)[np.argsort(speed, kind="stable")[: self.k]]

    @property
    def limits(self) -> np.ndarray:
        return np.concatenate([[self.mean], np.full(self.k - 1, self.reach)])

    def encode(self, x: np.ndarray) -> np.ndarray:
        code = x @ self.basis.T
        code[:, 0] -= self.mean
        return np.clip(code / self.limits, -1, 1).astype(np.float32)

    def decode(self, code: np.ndarray) -> np.ndarray:
        values = code * self.limits
        values[:, 0] += self.mean
        return np.clip(values @ self.basis, 0, 1).astype(np.float32)

    @property
    def schema(self) -> Schema:
        return schema_of(self.k)


Encoder = Drawn | Cosines | Pixels


def sketched(
    data: Images, encoder: Encoder, frequencies: int, scale: float, law: str = "gaussian",
    seed: int = 0, privacy: dict[str, Any] | None = None,
) -> Any:  # fmt: skip
    """The released snapshot of the training images."""
    sketcher = Sketcher(
        encoder.schema, frequencies, law, seed=seed, scale=scale, conditional=True,
        mechanism="gaussian" if privacy else "none", privacy=privacy,
    )  # fmt: skip
    flat = pa.array(encoder.encode(data.x).ravel())
    sketcher.learn_many(
        pa.table(
            {
                "code": pa.FixedSizeListArray.from_arrays(flat, encoder.k),
                "label": pa.array([str(v) for v in data.y]),
            }
        )
    )
    return sketcher.release()


def promise(epsilon: float, given: argparse.Namespace) -> dict[str, Any] | None:
    """One release at a budget; none where it has no end."""
    if not np.isfinite(epsilon):
        return None
    return {
        "epsilon": epsilon,
        "delta": given.delta,
        "releases": 1,
        "adjacency": given.adjacency,
    }


def trained(snapshot: Any, settings: Settings, seed: int) -> Generator:
    return fit(
        snapshot, steps=settings.steps, seed=seed, device="cpu",
        network=settings.network, config=settings.config,
    )  # fmt: skip


def drawn(
    generator: Generator, encoder: Encoder, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """n synthetic images (n, 784) and their labels (n,)."""
    encoded = generator.sample_encoded(n, seed)
    return encoder.decode(encoded[:, : encoder.k]), encoded[:, encoder.k :].argmax(1)


# --- classifiers


def network(kind: str) -> nn.Module:
    if kind == "LR":
        return nn.Linear(D, CLASSES)
    if kind == "MLP":
        return nn.Sequential(nn.Linear(D, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)), nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def accuracy(
    kind: str, x: np.ndarray, y: np.ndarray, data: Images, steps: int, seed: int
) -> float:
    """Test accuracy of a classifier trained by Adam with a falling rate, batches of 128."""
    torch.manual_seed(seed)
    model, rate = network(kind), 3e-3 if kind == "LR" else 1e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(steps):
        at = torch.randint(len(images), (128,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[at]), labels[at]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = model(torch.from_numpy(data.test_x)).argmax(1).numpy()
    return float((found == data.test_y).mean())


def boosting(x: np.ndarray, y: np.ndarray, data: Images, seed: int) -> float:
    """Histogram boosting, 30 rounds, on 5,000 images of 14 x 14."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def halved(images: np.ndarray) -> np.ndarray:
        return images.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)).reshape(len(images), -1)

    model = HistGradientBoostingClassifier(max_iter=30, random_state=seed, early_stopping=False)
    return float(model.fit(halved(x[:5000]), y[:5000]).score(halved(data.test_x), data.test_y))


def scores(
    x: np.ndarray, y: np.ndarray, data: Images, given: argparse.Namespace, seed: int
) -> Record:
    found = {
        kind: accuracy(kind, x, y, data, given.classifier_steps, seed)
        for kind in ("LR", "MLP", "CNN")
    }
    found["boosting"] = boosting(x, y, data, seed)
    found["mean"] = float(np.mean(list(found.values())))
    if given.average:
        found |= averaged(x[:10_000], y[:10_000], data, seed)
    return found


def averaged(x: np.ndarray, y: np.ndarray, data: Images, seed: int) -> Record:
    """Eleven classifiers of scikit-learn, as DP-MERF's evaluation sets them, and their mean."""
    from sklearn import (
        discriminant_analysis,
        ensemble,
        linear_model,
        naive_bayes,
        neural_network,
        svm,
        tree,
    )

    models: dict[str, Callable[[], Any]] = {
        "logistic": lambda: linear_model.LogisticRegression(max_iter=100),
        "random forest": lambda: ensemble.RandomForestClassifier(random_state=seed),
        "Gaussian bayes": naive_bayes.GaussianNB,
        "Bernoulli bayes": lambda: naive_bayes.BernoulliNB(binarize=0.5),
        "linear SVM": lambda: svm.LinearSVC(random_state=seed, max_iter=300),
        "tree": lambda: tree.DecisionTreeClassifier(random_state=seed),
        "LDA": discriminant_analysis.LinearDiscriminantAnalysis,
        "AdaBoost": lambda: ensemble.AdaBoostClassifier(random_state=seed),
        "bagging": lambda: ensemble.BaggingClassifier(random_state=seed),
        "perceptron": lambda: neural_network.MLPClassifier(max_iter=30, random_state=seed),
    }
    found = {
        name: float(make().fit(x, y).score(data.test_x, data.test_y))
        for name, make in models.items()
    }
    found["histogram boosting"] = boosting(x, y, data, seed)
    return {"mean of 11": float(np.mean(list(found.values()))), "each": found}


# --- the study


def results(name: str) -> Path:
    return HERE / "results" / f"images_{name}.json"


def made(kind: str) -> Encoder:
    return {"drawn": Drawn.trained, "cosines": Cosines, "pixels": Pixels}[kind]()


def study(
    name: str, given: argparse.Namespace, keep: Callable[[list[Record]], None]
) -> dict[str, np.ndarray]:
    """Records of one set, kept as they come; returns images of every kind."""
    data, path = load(name, given.folder), results(name)
    if given.held_out:
        data = Images(data.x[:-5000], data.y[:-5000], data.x[-5000:], data.y[-5000:])
    records: list[Record] = json.loads(path.read_text())["records"] if path.exists() else []
    rows: dict[str, np.ndarray] = {}

    def judge(what: str, x: np.ndarray, y: np.ndarray, seed: int = 0, **more: Any) -> None:
        rows.setdefault(what, by_class(x, y))
        if known(what, seed):
            return
        found = scores(x, y, data, given, seed)
        record = {"data": name, "trained on": what, "seed": seed, **found, **more}
        records.append(record)
        Console().print(record)
        keep(records)

    def known(what: str, seed: int) -> bool:
        return any((r["trained on"], r.get("seed", 0)) == (what, seed) for r in records)

    judge("real images", data.x, data.y)
    for kind in given.encoders.split(","):
        encoder = made(kind)
        settings = WITH[kind] if given.steps is None else replace(WITH[kind], steps=given.steps)
        if kind != "pixels":
            judge(f"real, through {kind}", encoder.decode(encoder.encode(data.x)), data.y)
        for epsilon in [float(e) for e in given.epsilon.split(",")]:
            if kind == "pixels" and not np.isfinite(epsilon):
                continue  # the baseline is one of privacy
            what = f"{kind}, epsilon = {epsilon:g}" if np.isfinite(epsilon) else kind
            for seed in range(given.seeds):
                if known(what, seed) and not given.pictures:
                    continue
                begun = time.process_time()
                snapshot = sketched(
                    data, encoder, settings.frequencies, settings.scale, seed=seed,
                    privacy=promise(epsilon, given),
                )  # fmt: skip
                generator = trained(snapshot, settings, seed)
                more = {k: generator.metrics[k] for k in ("steps", "heldout", "floor")}
                more["CPU s"] = time.process_time() - begun
                judge(what, *drawn(generator, encoder, len(data.x), seed), seed=seed, **more)
    return rows


def by_class(x: np.ndarray, y: np.ndarray, each: int = 2) -> np.ndarray:
    """The first images of every class, (classes * each, 28, 28)."""
    return np.concatenate([x[y == c][:each] for c in range(CLASSES)]).reshape(-1, SIDE, SIDE)


def picture(rows: dict[str, np.ndarray], path: Path) -> None:
    from streamsketch.evaluate.pictures import new_figure, png

    figure = new_figure(8.0, 0.62 * len(rows))
    for place, (what, images) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        place.imshow(np.concatenate(list(images), 1), cmap="gray", vmin=0, vmax=1)
        place.set_title(what, fontsize=7, loc="left", pad=2)
        place.axis("off")
    path.write_bytes(png(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="mnist,fashion")
    parser.add_argument(
        "--folder", type=Path, help="IDX files, in the place of the cache (one set)"
    )
    parser.add_argument("--encoders", default="drawn,pixels,cosines")
    parser.add_argument("--epsilon", default="1,10,inf")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--adjacency", default="add_remove", choices=["add_remove", "replace_one"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--classifier-steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--average", action="store_true", help="the mean of eleven classifiers too"
    )
    parser.add_argument("--held-out", action="store_true", help="test on training images")
    parser.add_argument("--pictures", type=Path, help="folder for them")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # the classifiers stop before they converge
    torch.set_num_threads(1)
    settings = {k: v for k, v in vars(given).items() if k not in ("folder", "pictures", "sets")}
    for name in given.sets.split(","):
        out = results(name)

        def keep(records: list[Record], out: Path = out) -> None:
            out.write_text(json.dumps({"settings": settings, "records": records}, indent=1) + "\n")
            show(out.stem, [{k: v for k, v in r.items() if k != "each"} for r in records[-1:]])

        rows = study(name, given, keep)
        if given.pictures:
            picture(rows, given.pictures / f"images-{name}.png")


if __name__ == "__main__":
    main()
