"""The second-order sketch: exact second moments of features, exact smoothing, and the score."""

import dataclasses

import numpy as np
import pytest
import torch

from streamsketch import Schema, Sketcher, fit
from streamsketch.errors import ConfigError
from streamsketch.features import FeatureMap
from streamsketch.features.frequencies import draw, second_order_base
from streamsketch.features.kernels.loss import features as row_features
from streamsketch.generator import OBJECTIVES, NetworkConfig, TrainingConfig, score
from tests.generator.conftest import two_bumps

M = 300
P = second_order_base(M)
X = np.random.default_rng(0).normal(size=(400, 2)) * 0.4
OMEGA = draw("second_order", 2, M, seed=3, scale=2.0)
MEAN = torch.tensor(FeatureMap.from_frequencies(OMEGA).features(X).mean(0))


def reference(x, base):
    """E phi phi^T, row by row."""
    total = np.zeros((2 * base.shape[1],) * 2)
    for row in x:
        phase = row @ base
        phi = np.concatenate([np.cos(phase), np.sin(phase)])
        total += np.outer(phi, phi)
    return total / len(x)


def noisy(x, sigma, nodes=40):
    """Rows and weights whose weighted mean is the expectation over normal noise (quadrature)."""
    t, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    rows = (x[:, None, None] + sigma * np.stack(np.meshgrid(t, t), -1)).reshape(-1, 2)
    return rows, np.tile(np.outer(w, w).ravel(), len(x)) / len(x)


def test_the_pairs_of_the_law_leave_a_tenth():
    assert P + P**2 <= 0.9 * M < P + 1 + (P + 1) ** 2
    assert np.allclose(OMEGA[:, P + 1], OMEGA[:, 0] + OMEGA[:, 1])
    assert np.allclose(OMEGA[:, P + P * (P + 1) // 2], OMEGA[:, 0] - OMEGA[:, 1])


def test_the_sketch_holds_the_second_moments_exactly():
    first, second = score.moments(MEAN, P)
    assert np.allclose(second, reference(X, OMEGA[:, :P]), atol=1e-12)
    assert np.allclose(first, row_features(torch.tensor(X), torch.tensor(OMEGA[:, :P])).mean(0))


def test_a_sign_that_is_wrong_would_be_seen():
    """The mutant: differences of sines with the other sign."""
    wrong = MEAN.clone()
    wrong[M + P + P * (P + 1) // 2 : M + P + P**2] *= -1
    second = score.moments(wrong, P)[1]
    assert not np.allclose(second, reference(X, OMEGA[:, :P]), atol=1e-2)


def test_noise_is_added_exactly():
    sigma = 0.15
    rows, weights = noisy(X[:4], sigma)
    features = FeatureMap.from_frequencies(OMEGA).features
    mean = torch.tensor(features(X[:4]).mean(0))
    found = score.smoothed(torch.tensor(OMEGA), mean, sigma)
    assert np.allclose(found, weights @ features(rows), atol=1e-9)


def test_the_score_of_a_normal_distribution():
    """Against the closed form; a sign, a factor or a missing slope is far off."""
    base = torch.tensor(np.random.default_rng(1).normal(size=(2, 40)))
    x = torch.tensor(np.random.default_rng(2).normal(size=(20000, 2)))
    phi = row_features(x, base)
    found = phi @ score.score_matrix(phi.mean(0), phi.T @ phi / len(x), base)
    assert ((found + x) ** 2).sum() < 0.02 * (x**2).sum()


def test_noise_of_a_release_does_not_turn_directions_over():
    base = torch.eye(2, dtype=torch.float64)
    second = torch.eye(4, dtype=torch.float64) * 0.5
    second[0, 0] = -0.1
    matrix = score.score_matrix(torch.full((4,), 0.3, dtype=torch.float64), second, base)
    assert torch.isfinite(matrix).all() and matrix[0].abs().max() > 100


def test_it_trains_in_the_same_loop_and_keeps_the_held_out_apart():
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=300, law="second_order", scale=3.0, seed=1)
    s.learn_many(two_bumps(20000))
    small = NetworkConfig("residual", latent=4, width=32, depth=2)
    config = TrainingConfig(batch=256, rate=5e-3, average=0.98)
    g = fit(s.release(), steps=250, network=small, config=config, objective="score")
    x = g.sample_encoded(4000)
    right = x[:, 0] > 0
    assert 0.5 < right.mean() < 0.9
    assert np.allclose(x[right].mean(0), 0.5, atol=0.1)
    assert g.metrics["heldout"] < 0.1 * fit(s.release(), steps=1, network=small).metrics["heldout"]


def test_it_is_experimental_and_needs_its_own_sketch(points, snapshot):
    assert OBJECTIVES["score"].experimental
    with pytest.raises(ConfigError, match='law = "second_order"'):
        fit(points, steps=1, objective="score")
    spec = dataclasses.replace(snapshot.spec, law="second_order")
    with pytest.raises(ConfigError, match="numbers only"):
        fit(dataclasses.replace(snapshot, spec=spec), steps=1, objective="score")
