"""Small snapshots that the generator's tests share."""

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher
from streamsketch.schema.columns import Column

CLASSES = ("a", "b", "rare")


def table(n, seed=0):
    """Rows with a number, an atom, nulls, a category and a label that depend on each other."""
    r = np.random.default_rng(seed)
    label = r.choice(3, n, p=(0.5, 0.4, 0.1))
    x = np.clip(r.normal(size=n) * 0.1 + np.array([-0.6, 0.0, 0.6])[label], -1, 1)
    gain = np.where(r.random(n) < np.array([0.9, 0.5, 0.1])[label], 0.0, r.uniform(0, 1, n))
    flag = np.where(r.random(n) < 0.8, label == 0, label != 0)
    missing = r.random(n) < 0.2
    return pa.table(
        {
            "x": x,
            "gain": pa.array(gain, mask=missing),
            "flag": flag,
            "label": [CLASSES[k] for k in label],
        }
    )


@pytest.fixture(scope="session")
def schema():
    return Schema(
        [
            Column("x", "numeric", low=-1, high=1),
            Column("gain", "numeric", low=0, high=1, atoms=(0.0,), nulls="indicator"),
            Column("flag", "boolean", "bool"),
            Column("label", "label", "string", values=CLASSES),
        ]
    )


@pytest.fixture(scope="session")
def snapshot(schema):
    s = Sketcher(schema, frequencies=256, seed=1)
    s.learn_many(table(20000))
    return s.release()


@pytest.fixture(scope="session")
def conditional(schema):
    s = Sketcher(schema, frequencies=128, seed=1, conditional=True)
    s.learn_many(table(20000))
    return s.release()


def two_bumps(n, seed=0):
    r = np.random.default_rng(seed)
    side = np.where(r.random(n) < 0.7, 0.5, -0.5)[:, None]
    return np.clip(r.normal(size=(n, 2)) * 0.1 + side, -1, 1)


@pytest.fixture(scope="session")
def points():
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=256, seed=1)
    s.learn_many(two_bumps(20000))
    return s.release()
