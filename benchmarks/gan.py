"""A GAN beside training from the sketch, for equal processor seconds.

    python -m benchmarks.gan [--seconds 20] [--seeds 2] [--sets "six Gaussians,spiral,circle,ring,digits,adult"]

The GAN is WGAN-GP (Gulrajani et al. 2017): the generator's network and the head of its columns are those that
`fit` trains, the critic has two layers of 256; batches of 256, five critic steps for one of the generator, penalty
10. It sees all rows as often as it likes, the other trainer the sketch alone (m = 2048; Adult: 8192). Its rate is
the better of two for each set and seed, by the score on test rows, which favours it; only the better
run's time counts. For seed 0 it is trained five times as long, too.
Scores: energy distance and MMD of points; C2ST, TSTR and pairs of Adult (see benchmarks/quality_tables.py).
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from benchmarks.quality import ROOT, Record, adult, judged, point_sets
from benchmarks.show import show
from streamsketch import Generator, Schema, Sketcher, fit
from streamsketch.evaluate import energy_distance, mmd2
from streamsketch.snapshot import Snapshot

RESULTS = Path(__file__).parent / "results" / "gan.json"
BATCH, CRITIC_STEPS, PENALTY = 256, 5, 10.0
LONGER = 5  # times the seconds, once for each set of points
RATES = (2e-4, 1e-3)


def critic(d: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(d, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
    )  # fmt: skip


def wgan(rows: Tensor, schema: Schema, seconds: float, rate: float, seed: int) -> Generator:
    """Train the default network against a critic, for so many processor seconds."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    made = Generator.create(schema, None, None, seed)
    model, judge = made.network.train(), critic(schema.d)
    options: dict[str, Any] = {"lr": rate, "betas": (0.0, 0.9)}
    makers = torch.optim.Adam(model.parameters(), **options)
    judges = torch.optim.Adam(judge.parameters(), **options)
    begun, steps = time.process_time(), 0
    while time.process_time() - begun < seconds:
        for _ in range(CRITIC_STEPS):
            real = rows[torch.randint(len(rows), (BATCH,), generator=rng)]
            false = model.draw(BATCH, rng).detach()
            between = torch.lerp(false, real, torch.rand((BATCH, 1), generator=rng))
            between.requires_grad_()
            (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
            steep = ((slope.norm(dim=1) - 1) ** 2).mean()
            loss = judge(false).mean() - judge(real).mean() + PENALTY * steep
            judges.zero_grad()
            loss.backward()
            judges.step()
        makers.zero_grad()
        (-judge(model.draw(BATCH, rng)).mean()).backward()
        makers.step()
        steps += 1
    model.eval()
    made.metrics = {"steps": steps}
    return made


def from_sketch(snapshot: Snapshot, seconds: float, seed: int) -> Generator:
    """`fit` for as many steps as take so many processor seconds."""
    fit(snapshot, steps=2, seed=seed, network="residual")  # the first compiles
    begun = time.process_time()
    fit(snapshot, steps=60, seed=seed, network="residual")
    step = (time.process_time() - begun) / 60
    return fit(snapshot, steps=max(int(seconds / step), 1), seed=seed, network="residual")


def points(name: str, seconds: float, seed: int) -> Iterator[Record]:
    data, test = point_sets(seed)[name]
    bound = float(np.abs(data).max())
    schema = Schema.vectors(data.shape[1], -bound, bound)
    held = schema.encode_array(np.clip(test, -bound, bound))
    sketcher = Sketcher(schema, 2048, seed=seed)
    sketcher.learn_many(data)

    def scored(trainer: str, generator: Generator, used: float) -> Record:
        made = generator.sample_encoded(5000, seed)
        return {
            "data": name, "trainer": trainer, "seed": seed, "energy": energy_distance(made, held),
            "MMD2": mmd2(made, held, 0.2 * np.sqrt(data.shape[1])), "CPU s": used,
            "steps": generator.metrics["steps"],
        }  # fmt: skip

    begun = time.process_time()
    generator = from_sketch(sketcher.release(), seconds, seed)
    yield scored("sketch", generator, time.process_time() - begun)
    rows = torch.from_numpy(schema.encode_array(data))
    tried = [
        {**scored("WGAN-GP", wgan(rows, schema, seconds, rate, seed), seconds), "rate": rate}
        for rate in RATES
    ]
    best = min(tried, key=lambda r: float(r["energy"]))
    yield best
    if seed == 0:
        longer = wgan(rows, schema, LONGER * seconds, best["rate"], seed)
        yield {
            **scored("WGAN-GP, longer", longer, LONGER * seconds),
            "rate": best["rate"],
        }


def table(seconds: float, seed: int, path: Path) -> Iterator[Record]:
    train, test, label = adult(path)
    schema = Schema.propose(train, label=label)
    sketcher = Sketcher(schema, 8192, seed=seed, cells=False)
    sketcher.learn_many(train)
    counts = Sketcher(schema, seed=seed)
    counts.learn_many(train)
    rows = torch.from_numpy(schema.encode(train).x)

    def scored(trainer: str, generator: Generator, used: float) -> Record:
        found = judged(generator.sample(train.num_rows, seed), test, label, seed)
        return {"data": "adult", "trainer": trainer, "seed": seed, **found, "CPU s": used}

    for trainer, of in (("sketch, network", sketcher), ("sketch, counts", counts)):
        begun = time.process_time()
        snapshot = of.release()
        plain = trainer == "sketch, counts"
        generator = fit(snapshot, seed=seed) if plain else from_sketch(snapshot, seconds, seed)
        yield scored(trainer, generator, time.process_time() - begun)
    tried = [
        {**scored("WGAN-GP", wgan(rows, schema, seconds, rate, seed), seconds), "rate": rate}
        for rate in RATES
    ]
    yield min(tried, key=lambda r: float(r["C2ST"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", default="six Gaussians,spiral,circle,ring,digits,adult")
    parser.add_argument("--adult", type=Path, default=ROOT / "data" / "adult.parquet")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    records: list[Record] = []
    for name in given.sets.split(","):
        for seed in range(given.seeds):
            found = (
                table(2 * given.seconds, seed, given.adult)
                if name == "adult"
                else points(name, given.seconds, seed)
            )
            for record in found:
                records.append(record)
                show("gan", [record])
                RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
