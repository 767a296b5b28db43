"""Stein score estimates against closed forms and the augmented system."""

import math

import pytest
import torch

from streamsketch.generator import stein


def normal(n, d, seed=0):
    return torch.randn((n, d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SCALES = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("d", [2, 7])
def test_the_kernels_gradient(d):
    x, y = normal(4, d).requires_grad_(), normal(5, d, 1)
    k = stein.kernel(x, y, SCALES)
    (grad,) = torch.autograd.grad(k[1, 2], x)
    assert torch.allclose(grad[1], -(x[1] - y[2]) * stein.kernel_and_slope(x, y, SCALES)[1][1, 2])
    assert torch.allclose(
        stein.kernel(x, x, SCALES).diagonal(), torch.full((4,), 4.0, dtype=torch.float64)
    )


def test_out_of_sample_is_the_last_row_of_the_augmented_system():
    y, x = normal(30, 3), normal(6, 3, 1)
    eta = 0.05
    inside = stein.score_at(x, y, SCALES, eta)
    for i in range(6):
        augmented = stein.score(torch.cat([y, x[i : i + 1]]), SCALES, eta)[-1]
        assert torch.allclose(inside[i], augmented, rtol=1e-9, atol=1e-10)


def test_the_score_of_a_normal_distribution():
    x = normal(500, 2)
    s = stein.scales(x.float(), x.float(), torch.Generator().manual_seed(0)).double()
    estimate = stein.score(x, s, eta=5.0)
    # the true score is -x; a wrong sign or a missing factor is far off
    cosine = (estimate * -x).sum() / estimate.norm() / x.norm()
    assert cosine > 0.95
    assert 0.7 < estimate.norm() / x.norm() < 1.3


def test_the_direction_points_from_the_generated_to_the_data():
    y = normal(128, 2).float()
    x = y + 0.7
    step = -stein.direction(x, normal(128, 2, 3).float(), torch.Generator().manual_seed(0))
    assert (step.mean(0) < 0).all()


def test_the_median_is_over_a_subsample():
    x = normal(2000, 2).float()
    s = stein.scales(x, x, torch.Generator().manual_seed(0))
    exact = torch.pdist(x).square().median()
    assert torch.allclose(s / exact, torch.tensor([0.5, 1, 2, 4]), rtol=0.15)


def test_duplicates_and_one_point_give_no_nan():
    x = torch.zeros((20, 3))
    step = stein.direction(x, x, torch.Generator().manual_seed(0))
    assert torch.isfinite(step).all()
    assert math.isclose(float(stein.kernel(x.double(), x.double(), SCALES)[0, 1]), 4.0)
