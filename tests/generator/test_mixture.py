"""init = "mixture": what the decoded mixture has is there from the first step."""

import dataclasses

import numpy as np
import pytest
import torch

from streamsketch import Generator, Sampler, Schema, Sketcher, fit
from streamsketch.errors import ConfigError
from streamsketch.generator import NetworkConfig
from streamsketch.generator.components import Components
from streamsketch.generator.heads import Head
from streamsketch.generator.mixture import place, weights_of
from tests.generator.conftest import table

SMALL = NetworkConfig("residual", latent=4, width=32, depth=2)
CENTRES = np.array([[x, y] for x in (-0.7, -0.2, 0.3, 0.8) for y in (-0.6, 0.0, 0.6)])
WEIGHTS = np.arange(1, 13) / 78


def twelve(n, seed=0, weights=WEIGHTS):
    """Twelve narrow Gaussians; the heaviest is twelve times the lightest."""
    r = np.random.default_rng(seed)
    which = r.choice(12, n, p=weights)
    return CENTRES[which] + 0.03 * r.normal(size=(n, 2))


def released(weights=WEIGHTS, **options):
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=512, seed=1, **options)
    s.learn_many(np.clip(twelve(20000, weights=weights), -1, 1))
    return s.release()


def shares(generator):
    x = generator.sample_encoded(8000)
    distance = np.linalg.norm(x[:, None] - CENTRES, axis=2)
    near = distance.min(1) < 0.15
    return np.bincount(distance[near].argmin(1), minlength=12) / len(x)


@pytest.fixture(scope="module")
def begun():
    return fit(released(), steps=1, network=SMALL, init="mixture")


def test_every_mode_is_there_at_once(begun):
    assert np.abs(shares(begun) - WEIGHTS).sum() < 0.1
    assert begun.metrics["heldout"] < 20 * begun.metrics["floor"]
    random = fit(released(), steps=100, network=SMALL)
    assert random.metrics["heldout"] > 10 * begun.metrics["heldout"]
    assert (shares(random) < WEIGHTS / 4).any()


def test_the_network_corrects_what_no_mixture_is():
    r = np.random.default_rng(0)
    ring = np.exp(2j * np.pi * r.random(20000))
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=256, law="gaussian", scale=0.2, seed=1)
    s.learn_many(
        0.7 * np.column_stack([ring.real, ring.imag]) * (1 + 0.02 * r.normal(size=(20000, 1)))
    )
    first = fit(s.release(), steps=1, init="mixture", network=SMALL).metrics["heldout"]
    assert fit(s.release(), steps=300, init="mixture", network=SMALL).metrics["heldout"] < max(
        first, 1e-4
    )


def test_the_held_out_frequencies_have_no_part_in_the_mixture(monkeypatch):
    from streamsketch.generator import fitting

    seen = {}

    def spy(omega, *rest):
        seen["m"] = omega.shape[1]
        return real(omega, *rest)

    real = fitting.decoded
    monkeypatch.setattr(fitting, "decoded", spy)
    fit(released(), steps=1, network=SMALL, init="mixture")
    assert seen["m"] == 512 - round(0.05 * 512)


def test_the_checkpoint_goes_on_and_draws_the_same(begun, tmp_path):
    begun.save(tmp_path / "c")
    again = Generator.load(tmp_path / "c")
    assert again.id == begun.id and again.config.components == len(again.network.components.means)
    assert np.array_equal(again.sample_encoded(100), begun.sample_encoded(100))
    assert fit(released(), steps=3, start=again).config == begun.config


def test_a_warm_start_weighs_the_components_again(begun):
    """The weights are reversed; no gradient reaches them, but the new sketch tells them."""
    moved = released(WEIGHTS[::-1].copy())
    warm = fit(moved, steps=1, start=begun)
    assert np.abs(shares(warm) - WEIGHTS[::-1]).sum() < 0.12
    assert np.abs(shares(begun) - WEIGHTS).sum() < 0.12  # the generator given is not touched


def test_latents_stay_standard_normal(begun):
    for method in ("iid", "sobol"):
        rows = Sampler(begun, method=method, seed=0).sample(64)
        assert rows.num_rows == 64
    z = torch.randn(5, begun.latent_dim, requires_grad=True)
    begun.decode_latent(z).sum().backward()
    assert torch.isfinite(z.grad).all() and begun.latent_dim > 2


def test_the_quantiles_of_the_first_latent_give_the_weights():
    c = Components(3, 2, classes=2)
    c.weigh(np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 5.0]]))
    z = torch.randn((40000, 4), generator=torch.Generator().manual_seed(0))
    one = np.bincount(c.choose(z, torch.zeros(40000, dtype=torch.long)), minlength=3) / 40000
    two = np.bincount(c.choose(z, torch.ones(40000, dtype=torch.long)), minlength=3) / 40000
    assert np.allclose(one, [0.25, 0.5, 0.25], atol=0.01)
    assert two.tolist() == [0, 0, 1]


def test_weights_are_exact_where_they_can_be():
    features = np.random.default_rng(0).normal(size=(4, 30))
    assert np.allclose(
        weights_of(features, np.array([[0.1, 0, 0.4, 0.5]]) @ features), [0.1, 0, 0.4, 0.5]
    )


def test_it_works_with_classes_and_with_tables(snapshot, conditional):
    for given in (snapshot, conditional):
        g = fit(given, steps=10, network=SMALL, init="mixture")
        got, real = g.sample(4000).to_pandas(), table(4000, seed=9).to_pandas()
        random = fit(given, steps=10, network=SMALL)
        assert g.metrics["heldout"] < random.metrics["heldout"]
        assert abs(got.x.mean() - real.x.mean()) < 0.15
    assert g.sample(20, label="rare").num_rows == 20


def test_a_private_snapshot_is_decoded_with_its_noise():
    """Post-processing: the snapshot is all that is read, and it says how noisy it is."""
    private = released(mechanism="gaussian", privacy={"epsilon": 1.0, "delta": 1e-6})
    g = fit(private, steps=1, network=SMALL, init="mixture")
    assert g.snapshot.release == private.release and private.release.private
    assert np.abs(shares(g) - WEIGHTS).sum() < 0.4
    assert g.metrics["heldout"] < 0.2 * fit(private, steps=60, network=SMALL).metrics["heldout"]


def test_what_does_not_fit_is_refused(points):
    with pytest.raises(ConfigError, match="random, mixture"):
        fit(points, steps=1, init="middle")
    with pytest.raises(ConfigError, match="more latents than coordinates"):
        Generator.create(Schema.vectors(4, -1, 1), config=dataclasses.replace(SMALL, components=3))


@pytest.mark.parametrize("bounded", [True, False])
def test_a_component_keeps_its_place_and_width_through_the_head(bounded):
    """A normal law of mean 0.8 and deviation 0.02 is that after tanh too, whose slope is 0.36."""
    blocks = Schema.vectors(1, -1, 1).blocks
    c, head = Components(1, 1), Head(blocks, bounded)
    place(c, (np.array([[0.8]]), np.array([[0.02]]), np.ones((1, 1))), blocks, bounded)
    mean, scale = c(torch.zeros(20000, dtype=torch.long))
    z = torch.randn((20000, 1), generator=torch.Generator().manual_seed(0))
    y = head(mean + scale * z, None).detach()
    assert float(y.mean()) == pytest.approx(0.8, abs=2e-3)
    assert float(y.std()) == pytest.approx(0.02, rel=0.03)
