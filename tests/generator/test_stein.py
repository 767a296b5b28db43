"""Stein score estimates against closed forms and the augmented system."""

import math

import pytest
import torch

from streamsketch.generator import stein


def normal(n, d, seed=0):
    return torch.randn((n, d), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score_at(x, y, s, eta=stein.ETA):
    """The score of y's law at each x: the last row of the estimate over y and x (equation 3)."""
    return torch.stack([stein.score(torch.cat([y, row[None]]), s, eta)[-1] for row in x])


SCALES = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("d", [2, 7])
def test_the_kernels_gradient(d):
    x, y = normal(4, d).requires_grad_(), normal(5, d, 1)
    k = stein.kernel(x, y, SCALES)
    other, slope = stein.kernel_and_slope(stein.squared_distances(x, y), SCALES)
    assert torch.allclose(k, other)
    (grad,) = torch.autograd.grad(k[1, 2], x)
    assert torch.allclose(grad[1], -(x[1] - y[2]) * slope[1, 2])
    assert torch.allclose(
        stein.kernel(x, x, SCALES).diagonal(), torch.full((4,), 4.0, dtype=torch.float64)
    )


def test_the_score_of_a_normal_distribution():
    x = normal(500, 2)
    s = stein.scales(x.float(), x.float()).double()
    estimate = stein.score(x, s, eta=5.0)
    # the true score is -x; a wrong sign or a missing factor is far off
    cosine = (estimate * -x).sum() / estimate.norm() / x.norm()
    assert cosine > 0.95
    assert 0.7 < estimate.norm() / x.norm() < 1.3


def test_the_direction_points_from_the_generated_to_the_data():
    y = normal(128, 2).float()
    x = y + 0.7
    step = -stein.direction(x, normal(128, 2, 3).float())
    assert (step.mean(0) < 0).all()


def test_the_median_is_over_a_subsample():
    found = torch.stack(
        [stein.scales(normal(2000, 2, k), normal(2000, 2, 100 + k)) for k in range(20)]
    )
    exact = torch.pdist(normal(2000, 2)).square().median()
    assert torch.allclose(
        found.mean(0) / exact, torch.tensor([0.5, 1, 2, 4], dtype=torch.float64), rtol=0.1
    )
    assert (found.std(0) < 0.25 * found.mean(0)).all()


def test_duplicates_and_one_point_give_no_nan():
    x = torch.zeros((20, 3))
    step = stein.direction(x, x)
    assert torch.isfinite(step).all()
    assert math.isclose(float(stein.kernel(x.double(), x.double(), SCALES)[0, 1]), 4.0)


def test_one_matrix_for_all_gives_the_same_direction():
    """The shared distances against the two estimates by themselves."""
    x, y = normal(60, 3), normal(60, 3, 1) + 0.5
    both = torch.cat([x, y])
    s = stein.scales(x, y)
    assert torch.allclose(s[1], torch.pdist(both).square().median(), rtol=0.3)
    apart = stein.score(x, s) - score_at(x, y, s)
    assert torch.allclose(stein.direction(x, y), apart, rtol=1e-8, atol=1e-10)


def test_the_median_leaves_out_the_distance_of_a_row_to_itself():
    x, y = torch.zeros((3, 2)), torch.ones((1, 2))
    x[1], x[2] = 1.0, 2.0
    square = stein.squared_distances(torch.cat([x, y]), torch.cat([x, y])[::4])  # 0, 2, 8, 2
    assert sorted(square.flatten().tolist()) == [0, 2, 2, 8]
    assert stein.scales(x, y)[1] == 2.0
