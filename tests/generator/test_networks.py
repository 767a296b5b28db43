"""Networks by name, and the latents."""

import pytest
import torch
from torch import nn

from streamsketch import Schema
from streamsketch.errors import ConfigError
from streamsketch.generator import NETWORKS, Generator, NetworkConfig
from streamsketch.generator.networks import doubled, preset


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_makes_rows_and_has_gradients(name):
    d = 64 if name == "conv" else 5
    g = Generator.create(Schema.vectors(d, -1, 1), config=name)
    y = g.network.draw(7, torch.Generator().manual_seed(0))
    assert y.shape == (7, d)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in g.network.parameters())


def test_the_papers_network():
    network = NETWORKS["cl-gn"](preset("cl-gn", 2), 10, 2)
    linear = [m for m in network if isinstance(m, nn.Linear)]
    leaky = [m for m in network if isinstance(m, nn.LeakyReLU)]
    assert [(m.in_features, m.out_features) for m in linear] == [(10, 10)] * 7 + [(10, 2)]
    assert [m.negative_slope for m in leaky] == [0.2] * 7
    assert all((m.bias == 0).all() for m in linear)
    assert preset("cl-gn", 2).bounded is False


def test_weights_depend_on_the_seed_only():
    schema = Schema.vectors(2, -1, 1)
    torch.manual_seed(5)
    a = Generator.create(schema, seed=3)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    b = Generator.create(schema, seed=3)
    assert a.id == b.id and a.id != Generator.create(schema, seed=4).id
    assert torch.equal(before, torch.get_rng_state())  # the caller's generator is left alone


def test_classwise_adds_each_classes_own_linear_map():
    torch.manual_seed(0)
    network = NETWORKS["classwise"](NetworkConfig("classwise", latent=3, width=8), 3 + 4, 2)
    torch.nn.init.normal_(network.own.bias)
    z, labels = torch.randn(6, 3), torch.tensor([0, 3, 3, 1, 2, 0])
    x = torch.cat([z, nn.functional.one_hot(labels, 4).float()], 1)
    weight, bias = network.own.weight.view(4, 2, 3), network.own.bias.view(4, 2)
    own = torch.stack([weight[k] @ u + bias[k] for u, k in zip(z, labels, strict=True)])
    torch.testing.assert_close(network(x) - network.shared(x), own)


def test_conv_with_a_label_column():
    network = NETWORKS["conv"](preset("conv", 74), 32, 64 + 10)
    assert network(torch.zeros((2, 32))).shape == (2, 74)


@pytest.mark.parametrize("d", [2, 15, 100])
def test_conv_refuses_what_is_no_image(d):
    with pytest.raises(ConfigError, match="residual"):
        Generator.create(Schema.vectors(d, -1, 1), config="conv")


BAD = ({"name": "nope"}, {"width": 0}, {"latent": 0}, {"depth": 0}, {"components": -1})


@pytest.mark.parametrize("bad", BAD)
def test_wrong_configurations_are_refused(bad):
    with pytest.raises(ConfigError, match=str(next(iter(bad.values())))):
        Generator.create(Schema.vectors(2, -1, 1), config=NetworkConfig(**bad))


@pytest.mark.parametrize(("h", "w", "channels"), [(1, 1, 1), (3, 5, 2), (7, 7, 4)])
def test_a_doubled_map_is_convolved_as_if_it_were_made(h, w, channels):
    x = torch.randn((2, 3, h, w), generator=torch.Generator().manual_seed(0))
    plain = torch.nn.Conv2d(3, channels, 5, padding=2)
    expected = plain(torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
    assert torch.allclose(doubled(x, plain), expected, atol=1e-5)
    doubled(x, plain).square().sum().backward()
    mine = plain.weight.grad.clone()
    plain.zero_grad()
    plain(torch.nn.functional.interpolate(x, scale_factor=2)).square().sum().backward()
    assert torch.allclose(mine, plain.weight.grad, rtol=1e-3, atol=1e-3)
