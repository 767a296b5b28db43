"""The critic of two sketches: what it says on average, its units, and what it is good for."""

import numpy as np
import pytest
import torch
from torch import nn

from streamsketch import Schema, Sketcher
from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.inverse import critic, recover

ANGLES = np.random.default_rng(0).uniform(0, 2 * np.pi, 4000)
CIRCLE = 5 + 4 * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
NOISY = CIRCLE + np.random.default_rng(1).normal(size=CIRCLE.shape)


def released(x, seed=0):
    s = Sketcher(Schema.vectors(2, -4, 14), frequencies=256, seed=seed)
    s.learn_many(x)
    return s.release()


class Free(nn.Module):
    latent_dim = 2

    def forward(self, z):
        return 5 + 4 * z


def test_the_critic_is_one_higher_on_what_is_not_real():
    judge = critic(released(CIRCLE), released(NOISY))
    real, other = (judge(torch.as_tensor(x, dtype=torch.float32)).mean() for x in (CIRCLE, NOISY))
    assert float(other - real) == pytest.approx(1.0, abs=1e-3)


def test_it_pulls_a_denoised_point_towards_the_real_ones():
    judge = critic(released(CIRCLE), released(NOISY))
    away = []
    for angle in (0.3, 2.0, 4.0):
        y = 5 + 5.5 * np.array([np.cos(angle), np.sin(angle)])
        for weight in (0.0, 3.0):
            found = recover(
                y, np.eye(2), Free(), lam=0.0, restarts=8, steps=200,
                penalty=lambda rows, weight=weight: weight * judge(rows),
            )  # fmt: skip
            away.append(abs(np.linalg.norm(found.x - 5) - 4))
    assert np.mean(away[1::2]) < 0.6 * np.mean(away[::2])


def test_sketches_that_cannot_be_compared_are_refused():
    with pytest.raises(SpecMismatchError):
        critic(released(CIRCLE), released(NOISY, seed=1))
    with pytest.raises(ConfigError, match="the same mean"):
        critic(released(CIRCLE), released(CIRCLE))
