"""Writes one small file of each format: run once per format number, never to make a test pass.

`python -m tests.golden.make FOLDER`
"""

import sys
from pathlib import Path

import numpy as np

from streamsketch import Generator, Sampler, Schema, Sketcher
from streamsketch.generator import NetworkConfig
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import release_now
from streamsketch.privacy.release import Releaser
from streamsketch.storage.files import write_atomic
from streamsketch.storage.store import Store


def points(n=50):
    return np.random.default_rng(0).uniform(-1, 1, (n, 2))


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
    Sampler(generator, history=folder / "history.safetensors", seed=0, window=8).sample(5)
    state = State(folder / "state", sketcher.features)
    part = state.claim("rows")
    part.sketch, part.position = sketcher.sketch, {"row": 50}
    state.save(part)
    release_now(state, Store(folder / "store"), lambda: Releaser(sketcher.features, schema))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
