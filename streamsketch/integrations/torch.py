"""Rows of a generator as an endless data set of torch."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import IterableDataset, get_worker_info

from streamsketch.expect import whole
from streamsketch.latent import LatentModel

__all__ = ["SampleDataset"]


class SampleDataset(IterableDataset[torch.Tensor | pa.Table]):
    """Endless batches of independent rows, each worker's different from the others'.

    Args:
        generator: What draws them.
        batch: Rows of a batch.
        seed: Seed; the same seed and number of workers give the same batches.
        encoded: Batches are tensors (batch, d) of encoded coordinates; else Arrow tables.

    Example:
        >>> from streamsketch import Generator, Schema
        >>> rows = SampleDataset(Generator.create(Schema.vectors(2, -1, 1)), batch=8)
        >>> loader = torch.utils.data.DataLoader(rows, batch_size=None)
        >>> next(iter(loader)).shape
        torch.Size([8, 2])
    """

    def __init__(
        self, generator: LatentModel, batch: int = 1024, seed: int = 0, encoded: bool = True
    ) -> None:
        self.generator, self.encoded = generator, encoded
        self.batch, self.seed = whole(batch, "batch", 1), whole(seed, "seed")

    def __iter__(self) -> Iterator[torch.Tensor | pa.Table]:
        """Batches without end."""
        worker = get_worker_info()
        words = np.random.SeedSequence([self.seed, 0 if worker is None else worker.id])
        rng = np.random.default_rng(words)
        while True:
            seed = int(rng.integers(1 << 31))
            if self.encoded:
                yield torch.from_numpy(self.generator.sample_encoded(self.batch, seed))
            else:
                yield self.generator.sample(self.batch, seed)
