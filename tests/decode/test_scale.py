import numpy as np
import pytest

from streamsketch import Schema, Sketcher
from streamsketch.decode import Target
from streamsketch.decode.scale import pilot_scale, scale_of
from streamsketch.errors import ConfigError, PrivacyError, StoreError
from streamsketch.features.frequencies import draw


def pilot(seed, d=5, clusters=6, spread=0.1, n=3000, std=0.0, law_scale=1.0):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-0.7, 0.7, (clusters, d))
    rows = centers[rng.integers(clusters, size=n)] + spread * rng.normal(size=(n, d))
    omega = draw("multiscale", d, 600, seed, law_scale)
    z = np.exp(1j * rows @ omega).mean(axis=0)
    z += std * (rng.normal(size=600) + 1j * rng.normal(size=600))
    return Target.of(omega, z, count=n, noise_std=std)


@pytest.mark.parametrize("spread", [0.03, 0.1, 0.25])
def test_within_cluster_deviation_is_found(spread):
    found = [pilot_scale(pilot(seed, spread=spread)).scale for seed in range(5)]
    assert np.mean(found) == pytest.approx(spread, rel=0.1)


def test_private_noise_is_taken_out():
    found = [pilot_scale(pilot(seed, clusters=1, std=0.05)).scale for seed in range(5)]
    assert np.mean(found) == pytest.approx(0.1, rel=0.1)


def test_hopeless_pilots_are_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="larger scale"):
        pilot_scale(pilot(0, law_scale=1e-3))
    with pytest.raises(ConfigError, match="smaller scale"):
        pilot_scale(pilot(0, clusters=1, law_scale=1e5))
    with pytest.raises(ConfigError, match="at least 192"):
        pilot_scale(Target.of(draw("multiscale", 2, 50, 0), np.ones(50) + 0j))


def released(**more):
    rng = np.random.default_rng(0)
    s = Sketcher(Schema.vectors(3, -1, 1), frequencies=400, **more)
    s.learn_many(rng.choice([-0.5, 0.5], (20_000, 3)) + 0.08 * rng.normal(size=(20_000, 3)))
    return s.release()


def test_a_sketch_takes_its_scale_from_a_released_pilot(tmp_path):
    pilot = released()
    sketcher = Sketcher(pilot.schema, frequencies=8, law="adapted_radius", scale=pilot)
    assert sketcher.spec.scale == pytest.approx(0.08, rel=0.1)
    assert sketcher.spec.scale == float(f"{sketcher.spec.scale:.3g}")  # one fingerprint everywhere
    pilot.save(tmp_path / "pilot.safetensors")
    assert scale_of("pilot.safetensors", False, tmp_path) == sketcher.spec.scale
    assert scale_of(2, True) == 2.0
    with pytest.raises(StoreError):
        scale_of("nowhere.safetensors", False, tmp_path)


def test_a_private_sketch_takes_a_private_pilot_or_a_public_number():
    budget = {"epsilon": 1.0, "delta": 1e-6, "releases": 1}
    with pytest.raises(PrivacyError, match="where its rows are public"):
        Sketcher(released().schema, scale=released(), mechanism="gaussian", privacy=budget)
    paid = released(mechanism="gaussian", privacy=budget)
    sketcher = Sketcher(paid.schema, scale=paid, mechanism="gaussian", privacy=budget)
    assert sketcher.spec.scale == pytest.approx(0.08, rel=0.25)
