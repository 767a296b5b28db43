"""Closed-form generators that obey the generator's interface, for the sampler's tests."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from streamsketch import Schema, Sketcher
from streamsketch.snapshot import Snapshot

GRID = np.array([[5.0 * i, 5.0 * j] for i in range(4) for j in range(4)])


class ToyGenerator:
    """Gaussian latents through a given map."""

    def __init__(
        self,
        latent_map: Any,
        latent_dim: int,
        schema: Schema,
        snapshot: Snapshot | None,
        version: str = "toy-1",
    ) -> None:
        self.map, self.latent_dim, self.schema = latent_map, latent_dim, schema
        self.snapshot, self.id = snapshot, version
        self.metrics: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        return "" if self.snapshot is None else self.snapshot.spec.fingerprint

    @property
    def classes(self) -> int:
        return 1

    def decode_latent(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.map(z)

    def draw_labels(self, n: int, seed: int, label: Any = None) -> None:
        return None

    def rows_of(self, z: NDArray[np.float32], labels: None, seed: int) -> NDArray[np.float32]:
        return self.map(torch.from_numpy(z)).numpy()

    def sample(self, n: int, seed: int = 0, label: Any = None) -> pa.Table:
        return self.schema.decode(self.sample_encoded(n, seed, label))

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        z = np.random.default_rng(seed).standard_normal((n, self.latent_dim)).astype(np.float32)
        return self.map(torch.from_numpy(z)).numpy()


def snapshot_of(
    x: NDArray[Any], schema: Schema, frequencies: int = 512, seed: int = 0
) -> Snapshot:
    """A released snapshot of rows in the schema's own units."""
    sketcher = Sketcher(schema, frequencies=frequencies, seed=seed)
    sketcher.learn_many(np.asarray(x, np.float64))
    return sketcher.release()


def gaussian_generator(
    d: int = 2, scale: float = 0.25, version: str = "toy-1", seed: int = 0, frequencies: int = 512
) -> ToyGenerator:
    """A centred Gaussian in [-1, 1]^d whose data are the same law."""
    schema = Schema.vectors(d, -1.0, 1.0)
    x = np.clip(np.random.default_rng(9).normal(0.0, scale, (20_000, d)), -1.0, 1.0)
    snapshot = snapshot_of(x, schema, frequencies, seed)
    return ToyGenerator(lambda z: (scale * z).clamp(-1.0, 1.0), d, schema, snapshot, version)


class MixtureGenerator(ToyGenerator):
    """16 Gaussians on a grid with given weights, in [-1, 1]^2; latents of no use."""

    def __init__(self, weights: NDArray[Any], snapshot: Snapshot, schema: Schema) -> None:
        super().__init__(None, 2, schema, snapshot, "mixture")
        self.weights = weights

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        return grid_points(self.weights, n, np.random.default_rng(seed)).astype(np.float32)


def grid_points(weights: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of the mixture, scaled into the box."""
    which = rng.choice(16, size=n, p=weights / weights.sum())
    raw = GRID[which] + rng.standard_normal((n, 2))
    return np.clip((raw - 7.5) / 12.0, -1.0, 1.0)
