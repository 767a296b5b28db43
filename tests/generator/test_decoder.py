"""Any module as a latent model: its rows, its laws, its labels, through the sampler."""

import numpy as np
import pytest
import torch
from torch import nn

from streamsketch import Sampler, Schema, Sketcher
from streamsketch.errors import ConfigError
from streamsketch.generator import Decoder
from streamsketch.inverse import recover
from streamsketch.sampler import METHODS, GaussianTarget, squared_distance


class Scale(nn.Module):
    """Latents times ten, plus five: rows are in units of their own."""

    def forward(self, z):
        return 5 + 10 * z[:, None, :]


class Shifted(nn.Module):
    """A label moves the row."""

    def forward(self, z, labels):
        return 0.05 * z + labels[:, None]


def test_rows_are_the_module_s_in_its_own_units():
    decoder = Decoder(Scale(), 2, low=-95, high=105)
    x = np.array(decoder.sample(4000, seed=1)["x"].to_pylist())
    assert x.shape == (4000, 2)
    assert x.mean(0) == pytest.approx(5, abs=1) and x.std(0) == pytest.approx(10, abs=0.5)
    assert decoder.sample(5, seed=1) == decoder.sample(5000, seed=1).slice(0, 5)
    z = torch.tensor([[0.3, -0.2]], requires_grad=True)
    decoder.decode_latent(z).sum().backward()
    assert torch.allclose(z.grad, torch.full((1, 2), 0.1))


def test_outputs_beyond_the_limits_are_cut_to_them():
    assert (
        max(max(r) for r in Decoder(Scale(), 2, low=0, high=10).sample(50)["x"].to_pylist()) == 10
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_samples_from_it(method):
    decoder = Decoder(Scale(), 2, low=-95, high=105)
    sampler = Sampler(decoder, "latent", method=method, history_frequencies=256)
    x = np.concatenate([sampler.sample_encoded(16) for _ in range(4)])
    gain = GaussianTarget(2).spread / 128 / squared_distance(10 * x, GaussianTarget(2))
    assert (gain > 4) == (method != "iid")


def test_latents_of_another_law():
    decoder = Decoder(nn.Identity(), 3, law="uniform", low=-1, high=1)
    x = decoder.sample_encoded(20000)
    assert np.abs(np.quantile(x, [0.1, 0.5, 0.9], axis=0).T - [-0.8, 0, 0.8]).max() < 0.03
    moved = Decoder(nn.Identity(), 1, law=lambda z: 0.5 + 0.1 * z, low=0, high=1)
    assert np.array(moved.sample(4000)["x"].to_pylist()).mean() == pytest.approx(0.5, abs=0.01)


def test_a_released_snapshot_of_the_data_is_a_target():
    """The decoder gets the shares wrong; the sketch of the data tells."""
    schema = Schema.vectors(1, -1, 1)
    sketcher = Sketcher(schema, frequencies=256)
    sketcher.learn_many(np.random.default_rng(0).normal(0.5, 0.1, (5000, 1)).clip(-1, 1))
    decoder = Decoder(nn.Tanh(), 1, low=-1, high=1, snapshot=sketcher.release())
    x = Sampler(decoder, target="data").sample_encoded(200)
    assert x.mean() == pytest.approx(0.5, abs=0.05)
    assert decoder.sample_encoded(200).mean() < 0.2


def test_labels_of_a_conditional_module():
    decoder = Decoder(Shifted(), 1, low=-1, high=4, shares=(1, 1, 2))
    table = decoder.sample(8000)
    labels = table["label"].to_numpy()
    assert np.bincount(labels) / 8000 == pytest.approx([0.25, 0.25, 0.5], abs=0.02)
    x = np.array(table["x"].to_pylist())[:, 0]
    assert np.abs(x - labels).max() < 0.5
    sampler = Sampler(decoder, target="latent", label=2, history_frequencies=64)
    assert set(sampler.sample(12)["label"].to_pylist()) == {2}
    found = recover([2.0], lambda rows: rows[:, :1], decoder, lam=0.0, steps=100)
    assert found.label == 2


def test_a_decoder_has_the_id_of_its_weights():
    a, b = (nn.Linear(2, 3) for _ in range(2))
    assert Decoder(a, 2).id == Decoder(a, 2).id != Decoder(b, 2).id
    assert Decoder(a, 2).fingerprint == ""


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="normal, uniform"):
        Decoder(nn.Identity(), 2, law="cauchy")
    with pytest.raises(ConfigError, match="makes 2 numbers"):
        Decoder(nn.Identity(), 2, schema=Schema.vectors(3, 0, 1))
    with pytest.raises(ConfigError, match="n = -1"):
        Decoder(nn.Identity(), 2).sample(-1)
