"""Writes one small file of each format: run once per format number, never to make a test pass.

`python -m tests.golden.make FOLDER`
"""

import datetime as dt
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from streamsketch import Generator, Sampler, Schema, Sketcher
from streamsketch.generator import NetworkConfig
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import release_now
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Column
from streamsketch.storage.files import write_atomic
from streamsketch.storage.store import Store


def points(n=50):
    return np.random.default_rng(0).uniform(-1, 1, (n, 2))


def table(n=300):
    rng = np.random.default_rng(0)
    start = dt.datetime(2024, 2, 29, 13)
    minutes = rng.integers(0, 200_000, n)
    return pa.table(
        {
            "sex": rng.choice(["f", "m"], n),
            "town": [f"t{k}" for k in rng.integers(0, 200, n)],
            "age": pa.array(rng.integers(0, 99, n), mask=rng.random(n) < 0.1),
            "gain": np.where(rng.random(n) < 0.7, 0.0, rng.gamma(2.0, 300.0, n)),
            "size": rng.choice([0.5, 1.5, 36.0], n),
            "day": [(start + dt.timedelta(minutes=int(m))).date() for m in minutes],
            "at": [start + dt.timedelta(minutes=int(m)) for m in minutes],
            "paid": rng.random(n) < 0.3,
        }
    )


def table_schema():
    """One column of each kind of cells; declared, as proposals may change."""
    knots = (0.0, 10.0, 100.0, 300.0, 700.0, 1500.0, 9000.0)
    towns = tuple(f"t{k}" for k in range(200))
    return Schema(
        [
            Column("sex", "label", "string", values=("f", "m")),
            Column("town", "categorical", "string", values=towns),
            Column("age", "numeric", "int64", low=0, high=120, nulls="indicator"),
            Column("gain", "numeric", "float64", low=0, high=9000, knots=knots, atoms=(0.0,)),
            Column("size", "numeric", "float64", low=0.5, high=36.0, levels=(0.5, 1.5, 36.0)),
            Column("day", "timestamp", "date32", low="2024-01-01", high="2024-12-31"),
            Column(
                "at", "timestamp", "timestamp[us]", low="2024-01-01T00:00:00", high="2024-12-31T23:59:59",
                resolution=60.0, periods=("day", "week"),
            ),
            Column("paid", "boolean", "bool"),
        ]
    )  # fmt: skip


def cells(folder):
    """Added with the counts of cells, which format 1 did not have at first."""
    partners = {"sex": ["town", "age"], "age": ["gain", "at.time"], "day.week": ["size", "paid"]}
    triples = [("sex", "age", "paid"), ("gain", "town", "at.weekday")]
    sketcher = Sketcher(
        table_schema(), 8, seed=1, middle=10, coarse=4, triples=triples, partners=partners
    )
    sketcher.learn_many(table())
    write_atomic(folder / "cells-sketch.safetensors", sketcher.sketch.to_bytes())
    sketcher.release().save(folder / "cells-snapshot.safetensors")


def main(folder):
    schema = Schema.vectors(2, -1, 1)
    sketcher = Sketcher(schema, frequencies=4, law="gaussian", seed=1)
    sketcher.learn_many(points())
    write_atomic(folder / "sketch.safetensors", sketcher.sketch.to_bytes())
    snapshot = sketcher.release()
    snapshot.save(folder / "snapshot.safetensors")
    generator = Generator.create(
        schema, snapshot, NetworkConfig(latent=2, width=4, depth=1), seed=0
    )
    generator.save(folder / "checkpoint.safetensors")
    Sampler(generator, history=folder / "history.safetensors", seed=0, recent=8).sample(5)
    state = State(folder / "state", sketcher.features)
    part = state.claim("rows")
    part.sketch, part.position = sketcher.sketch, {"row": 50}
    state.save(part)
    release_now(state, Store(folder / "store"), lambda: Releaser(sketcher.features, schema))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    cells(Path(sys.argv[1]))
