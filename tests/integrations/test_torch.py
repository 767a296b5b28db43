"""Endless batches for a data loader, each worker's its own."""

from itertools import islice

import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from streamsketch import Generator, Sampler, Schema
from streamsketch.errors import ConfigError
from streamsketch.integrations.torch import SampleDataset

GENERATOR = Generator.create(Schema.vectors(3, -1, 1), seed=0)


def test_batches_come_without_end_and_the_seed_decides():
    a, b = (list(islice(SampleDataset(GENERATOR, batch=5, seed=1), 4)) for _ in range(2))
    assert all(
        one.shape == (5, 3) and torch.equal(one, other) for one, other in zip(a, b, strict=True)
    )
    assert not torch.equal(a[0], a[1])
    other = next(iter(SampleDataset(GENERATOR, batch=5, seed=2)))
    assert not torch.equal(a[0], other)


def test_workers_draw_different_rows():
    loader = DataLoader(SampleDataset(GENERATOR, batch=5), batch_size=None, num_workers=2)
    batches = list(islice(loader, 4))
    assert len({tuple(one.ravel().tolist()) for one in batches}) == 4


def test_tables_and_wrong_sizes():
    rows = next(iter(SampleDataset(GENERATOR, batch=2, encoded=False)))
    assert isinstance(rows, pa.Table) and rows.num_rows == 2
    with pytest.raises(ConfigError, match="batch = 0"):
        SampleDataset(GENERATOR, batch=0)


def test_a_sampler_is_an_iterable_of_rows_without_end():
    sampler = Sampler(GENERATOR, target="generator", history_frequencies=16, candidates=20)
    rows = list(islice(sampler, 300))
    assert set(rows[0]) == {"x0", "x1", "x2"} and len(rows) == 300
    assert sampler.history.count == 512  # what was drawn counts as issued
