"""The exact gradient by drawn slots, against the loss of every row that could have been drawn."""

import numpy as np
import pytest
import torch

from streamsketch.features.kernels.draws import drawn_loss, draws
from streamsketch.features.kernels.loss import sketch_loss

COLUMNS = [slice(0, 1), slice(1, 4), slice(4, 9)]
SLOTS = COLUMNS[1:]
N, D, M = 7, 9, 6


def case(seed, sharp=8.0):
    """Rows of a number and two categories, frequencies of which two leave out a column each."""
    r = np.random.default_rng(seed)
    y = np.zeros((N, D), np.float32)
    y[:, 0] = r.uniform(-1, 1, N)
    for s in SLOTS:
        y[np.arange(N), r.integers(s.start, s.stop, N)] = 1
    omega = sharp * r.normal(size=(D, M)).astype(np.float32)
    omega[1:4, 0] = omega[4:, 1] = 0
    target, weights = 0.1 * r.normal(size=2 * M), r.uniform(0.1, 1, M)
    return [torch.tensor(v, dtype=torch.float32) for v in (y, omega, target, weights)]


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_the_difference_that_another_category_makes(seed):
    y, omega, target, weights = case(seed)
    given = draws(omega, COLUMNS, SLOTS)
    assert len(given.turned) == 2
    rows = y.clone().requires_grad_()
    drawn_loss(rows, given, target, weights).backward()
    for i in range(N):
        for s in SLOTS:
            losses = []
            for k in range(s.start, s.stop):
                other = y.double().clone()
                other[i, s] = 0
                other[i, k] = 1
                losses.append(
                    float(sketch_loss(other, omega, target, weights, unbiased=True).detach())
                )
            gap = rows.grad[i, s].double() - torch.tensor(losses)
            assert (gap - gap.mean()).abs().max() < 1e-5 < 1e-3 < np.ptp(losses)


def test_loss_and_derivative_by_numbers_are_the_ordinary_ones():
    y, omega, target, weights = case(0)
    rows, plain = y.clone().requires_grad_(), y.clone().requires_grad_()
    loss = drawn_loss(rows, draws(omega, COLUMNS, SLOTS), target, weights)
    usual = sketch_loss(plain, omega, target, weights, unbiased=True)
    assert float(loss.detach()) == pytest.approx(float(usual.detach()), abs=1e-5)
    loss.backward()
    usual.backward()
    assert torch.allclose(rows.grad[:, 0], plain.grad[:, 0], atol=1e-5)


def test_soft_phases_and_frequencies_on_many_columns_keep_the_derivative():
    _, omega, _, _ = case(0, sharp=0.3)
    assert draws(omega, COLUMNS, SLOTS).turned == ()
    _, omega, _, _ = case(0)
    each = [slice(j, j + 1) for j in range(D)]
    assert draws(omega, each, SLOTS).turned == ()
