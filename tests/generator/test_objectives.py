"""Objectives: each is smallest at the data, and sketch matching is what eq. 6 says, unbiased."""

import numpy as np
import pytest
import torch

from streamsketch import Schema
from streamsketch.features.frequencies import draw, second_order_base
from streamsketch.generator import OBJECTIVES, Generator, TrainingConfig
from streamsketch.generator.objectives import Problem, first_shares, radii
from streamsketch.generator.trainer import Candidate

RNG = np.random.default_rng(0)
DATA = torch.tensor(RNG.normal(size=(6000, 2)) * 0.3, dtype=torch.float32)
OMEGA = torch.tensor(RNG.normal(size=(2, 60)) * 3, dtype=torch.float32)


def features(x, omega=OMEGA):
    return torch.cat([torch.cos(x @ omega), torch.sin(x @ omega)], 1)


def problem(name="sketch", **changes):
    given = {
        "omega": OMEGA, "targets": features(DATA).mean(0)[None], "rows": DATA,
        "rng": torch.Generator().manual_seed(0), "subset": 60, "batch": 200,
    }  # fmt: skip
    if OBJECTIVES[name].requires == "second-order sketch":
        omega = torch.tensor(draw("second_order", 2, 400, seed=0, scale=5.0), dtype=torch.float32)
        given |= {
            "omega": omega, "targets": features(DATA, omega).mean(0)[None], "base": second_order_base(400),
        }  # fmt: skip
    return Problem(**{**given, **changes})


def model(classes=1):
    network = Generator.create(Schema.vectors(2, -1, 1)).network
    if classes > 1:
        network.conditional, network.classes = True, classes
        network.shares = torch.full((classes,), 1 / classes)
    return network


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_leads_to_the_data(name):
    objective = OBJECTIVES[name].build(problem(name), model())
    shift = torch.tensor([0.2, -0.1])
    y = (DATA[:400] + shift).requires_grad_()
    objective(y, 0.5).backward()
    step = -y.grad.mean(0)
    assert step[0] < 0 < step[1]


# stein's and score's losses are surrogates of their gradients, and mmd's kernels widen with the batch
@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n not in ("stein", "score", "mmd")])
def test_the_loss_is_smaller_at_the_data_than_beside_it(name):
    objective = OBJECTIVES[name].build(problem(batch=1000), model())
    at = np.mean([float(objective(DATA[1000 * k : 1000 * (k + 1)], 1.0)) for k in range(5)])
    beside = np.mean(
        [float(objective(DATA[1000 * k : 1000 * (k + 1)] * 1.3, 1.0)) for k in range(5)]
    )
    assert at < beside


def test_the_sketch_loss_is_unbiased():
    """The mean loss of small batches is the squared distance of the distributions, not more."""
    objective = OBJECTIVES["sketch"].build(problem(), model())
    y = torch.tensor(
        np.random.default_rng(1).normal(size=(4000, 10, 2)) * 0.3, dtype=torch.float32
    )
    losses = np.array([float(objective(batch, 0.0)) for batch in y])
    error = losses.std() / np.sqrt(len(losses))
    # the targets are 6000 samples of the same law: 1/6000 is the true distance, 1/10 the bias removed
    assert abs(losses.mean() - 1 / 6000) < 4 * error < 0.01


def test_a_sweep_covers_all_frequencies_once():
    objective = OBJECTIVES["sketch"].build(problem(subset=17), model())
    sizes = [omega.shape[1] for omega, _ in objective.blocks]
    assert sum(sizes) == 60 and min(sizes) >= 8
    y = DATA[:300]
    whole = float(OBJECTIVES["sketch"].build(problem(), model())(y, 0.0))
    parts = sum(float(objective(y, 0.0)) * s for s in sizes) / 60
    assert parts == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("done", [0.0, 0.3])
def test_annealing_compares_blurred_distributions(done):
    """Weights exp(-r^2 / 2 R^2) are the features of rows with a normal noise of length 1/R."""
    annealed = OBJECTIVES["sketch"].build(problem(anneal=0.6), model())
    radius = OMEGA.norm(dim=0)
    slow, fast = np.quantile(radius, 0.1), float(radius.max())
    cut = slow * (2 * fast / slow) ** (done / 0.6)
    y = DATA[:300] + 0.2
    gap = (features(y) - features(DATA).mean(0)).mean(0).view(2, -1)
    own = (1 - features(y).mean(0).view(2, -1).square().sum(0)) / (len(y) - 1)
    expected = ((gap.square().sum(0) - own) * torch.exp(-0.5 * (radius / cut) ** 2)).mean()
    assert float(annealed(y, done)) == pytest.approx(float(expected), rel=1e-3)


def test_annealing_ends_with_the_plain_loss_and_brings_far_modes_near():
    plain = OBJECTIVES["sketch"].build(problem(), model())
    annealed = OBJECTIVES["sketch"].build(problem(anneal=0.5), model())
    y = (DATA[:1000] * 0.1 + 1.0).requires_grad_()
    assert float(annealed(y, 0.5).detach()) == float(plain(y, 0.5).detach())
    pulls = []
    for objective in (plain, annealed):
        (gradient,) = torch.autograd.grad(objective(y, 0.0), y)
        pulls.append(float(gradient.mean(0).min() / gradient.abs().mean()))
    assert pulls[1] > 0.6 > 0.3 > pulls[0], (
        pulls
    )  # every row is drawn to the data, along both axes


def test_a_category_counts_as_one_coordinate_of_annealing():
    omega = torch.tensor([[3.0], [1.0], [1.0], [1.0], [1.0]])
    assert radii(omega, [slice(1, 5)]).item() == pytest.approx(np.sqrt(10))


def test_shares_of_classes_are_read_off_the_sketch():
    slow = OMEGA / 30
    groups = [DATA[:3000], DATA[3000:4000], DATA[4000:]]
    targets = torch.stack([features(g, slow).sum(0) / 6000 for g in groups])
    assert torch.allclose(
        first_shares(targets), torch.tensor([3000, 1000, 2000]) / 6000, atol=0.01
    )


def test_classes_are_matched_with_the_square_of_their_shares():
    """The loss is sum_k |p_k mean_k - z_k|^2 / m over the classes, unbiased."""
    groups = (DATA[:3000], DATA[3000:4000] + 0.5, DATA[4000:] - 0.4)
    targets = torch.stack([features(g).sum(0) / 6000 for g in groups])
    given = model(3)
    objective = OBJECTIVES["sketch"].build(problem(targets=targets), given)
    given.shares.copy_(torch.tensor([3000, 1000, 2000]) / 6000)
    y, expected = [], 0.0
    for k, (group, shift) in enumerate(zip(groups, (0.1, -0.2, 0.15), strict=True)):
        part, share = group[:200] + shift, float(given.shares[k])
        mean = features(part).mean(0)
        gap = (share * mean - targets[k]).view(2, -1).square().sum(0)
        own = share**2 * (1 - mean.view(2, -1).square().sum(0)) / (len(part) - 1)
        expected += float((gap - own).mean())
        y.append(part)
    assert float(objective(torch.cat(y), 0.0)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["energy"])
def test_the_energy_loss_of_small_batches_is_that_of_large_ones(name):
    """A U-statistic: a row's distance to itself is no pair, or batches would shrink."""
    y = DATA[torch.randperm(6000, generator=torch.Generator().manual_seed(3))] * 0.8
    objective = OBJECTIVES[name].build(problem(name), model())
    few = [float(objective(y[4 * k : 4 * k + 4], 0.0)) for k in range(1500)]
    many = np.mean([float(objective(y[1000 * k : 1000 * (k + 1)], 0.0)) for k in range(6)])
    assert abs(np.mean(few) - many) < 4 * np.std(few) / np.sqrt(len(few)) < 0.02


def test_rows_that_are_the_samples_feel_no_force_of_mmd():
    """The derivative of mean k(y, y') - 2 mean k(x, y) vanishes where the two sets are one."""
    given = problem("mmd")
    given.some_rows = lambda n: DATA[:100]
    y = DATA[:100].clone().requires_grad_()
    OBJECTIVES["mmd"].build(given, model())(y, 0.0).backward()
    assert y.grad.abs().max() < 1e-6
    beside = (DATA[:100] + 0.1).requires_grad_()
    OBJECTIVES["mmd"].build(given, model())(beside, 0.0).backward()
    assert beside.grad.abs().max() > 1e-4


def test_the_learning_rate_warms_up_and_falls_to_zero():
    given, network = problem(), model()
    objective = OBJECTIVES["sketch"].build(given, network)
    candidate = Candidate(network, objective, given, given.rng, TrainingConfig(), peak=0.01)
    rates = []
    for done in (0.0, 0.25, 0.5, 1.0):
        candidate.steps = 0 if done == 0.0 else 100
        candidate.step(done)
        rates.append(candidate.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01 / 20, 0.0075, 0.005, 0.0])
