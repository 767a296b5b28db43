"""The training step against plain autograd, finite differences and its statistical claim."""

import numpy as np
import pytest
import torch

from streamsketch.errors import ConfigError
from streamsketch.features.kernels import loss as module
from streamsketch.features.kernels.loss import features, sketch_loss, sketch_mean
from streamsketch.features.kernels.reference import features as reference


def case(n, d, m, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, d, generator=g, dtype=torch.float64) * 2 - 1).to(dtype).requires_grad_()
    omega = torch.randn(d, m, generator=g, dtype=torch.float64) * 6 / d**0.5
    target = torch.rand(2 * m, generator=g, dtype=torch.float64) - 0.5
    weights = torch.rand(m, generator=g, dtype=torch.float64)
    return y, omega, target, weights


def complex_loss(y, omega, target, weights):
    """The definition, by autograd through complex numbers in float64."""
    m = omega.shape[1]
    mean = torch.exp(1j * (y.double() @ omega)).mean(dim=0)
    return (weights * (mean - torch.complex(target[:m], target[m:])).abs() ** 2).sum()


@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (37, 2, 300), (70, 140, 30)])
def test_row_features_are_those_of_the_reference(n, d, m):
    y, omega, *_ = case(n, d, m, torch.float64)
    found = features(y.detach(), omega).numpy()
    np.testing.assert_allclose(found, reference(y.detach().numpy(), omega.numpy()), atol=1e-12)


@pytest.fixture(params=["kept", "again", "torch"])
def path(request, monkeypatch):
    monkeypatch.setattr(module, "KEEP_FROM", 1 if request.param == "kept" else 10**9)
    if request.param == "torch":
        monkeypatch.setattr(module, "has_numba", lambda: False)
        monkeypatch.setattr(module, "CELLS", 1000)
    return request.param


@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (37, 2, 300), (1000, 10, 65), (70, 140, 30)])
def test_equals_complex_autograd(n, d, m, path):
    y, omega, target, weights = case(n, d, m)
    value = sketch_loss(y, omega, target, weights)
    (grad,) = torch.autograd.grad(value, y)
    want = complex_loss(y, omega, target, weights)
    (want_grad,) = torch.autograd.grad(want, y)
    assert value.item() == pytest.approx(want.item(), rel=1e-5)
    assert (grad - want_grad).abs().max() < 1e-5 * want_grad.abs().max()


@pytest.mark.parametrize("unbiased", [False, True])
def test_gradcheck_in_double(unbiased, monkeypatch):
    monkeypatch.setattr(module, "CELLS", 20)
    y, omega, target, weights = case(5, 3, 9, torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: sketch_loss(v, omega, target, weights, unbiased), (y,)
    )
    assert torch.autograd.gradcheck(lambda v: sketch_mean(v, omega), (y,))


def test_default_weights_are_equal(path):
    y, omega, target, _ = case(20, 2, 8)
    equal = sketch_loss(y, omega, target, np.full(8, 1 / 8))
    assert sketch_loss(y, omega, target).item() == pytest.approx(equal.item(), rel=1e-6)


def test_unbiased_loss_is_unbiased():
    """Average over batches of 5 of the same distribution: 0 with the correction, else 1/n of it."""
    g = torch.Generator().manual_seed(3)
    omega = torch.randn(1, 400, generator=g) * 2
    mu = torch.cat([torch.exp(-(omega[0] ** 2) / 2), torch.zeros(400)])  # N(0, 1)
    both = {False: [], True: []}
    for _ in range(600):
        y = torch.randn(5, 1, generator=g)
        for unbiased, values in both.items():
            values.append(sketch_loss(y, omega, mu, unbiased=unbiased).item())
    error = np.std(both[True]) / 600**0.5
    assert abs(np.mean(both[True])) < 4 * error
    assert np.mean(both[False]) > 20 * error
    with pytest.raises(ConfigError, match="2 rows"):
        sketch_loss(y[:1], omega, mu, unbiased=True)


def test_mean_is_the_mean_of_the_features(path):
    from streamsketch.features import FeatureMap

    y, omega, _, _ = case(999, 3, 21)
    fm = FeatureMap.from_frequencies(omega.numpy())
    want = fm.features(y.detach().numpy()).mean(axis=0)
    assert np.abs(fm.mean_torch(y).detach().numpy() - want).max() < 2e-6


@pytest.mark.parametrize("d", [2, 20])  # phases are computed again, and kept
def test_same_bits_for_any_number_of_threads(d, monkeypatch):
    y, omega, target, weights = case(1500, d, 3000)
    grads = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        grads.append(torch.autograd.grad(sketch_loss(y, omega, target, weights), y)[0])
    assert torch.equal(*grads)


def test_kept_phases_change_no_bit(monkeypatch):
    y, omega, target, weights = case(700, 20, 1500)
    grads = []
    for first in (1, 10**9):
        monkeypatch.setattr(module, "KEEP_FROM", first)
        grads.append(torch.autograd.grad(sketch_loss(y, omega, target, weights), y)[0])
    assert torch.equal(*grads)


def test_frequencies_that_are_changed_in_place_are_read_again():
    y, omega, target, weights = case(50, 3, 40)
    before = sketch_loss(y, omega, target, weights).item()
    other = omega.flip(1)
    omega.copy_(other)
    assert sketch_loss(y, omega, target, weights).item() != before
    want = sketch_loss(y, other.clone(), target, weights).item()
    assert sketch_loss(y, omega, target, weights).item() == want


def test_layouts_and_read_only_arrays(path):
    y, omega, target, weights = case(40, 3, 12)
    want = sketch_loss(y, omega, target, weights).item()
    assert sketch_loss(y.detach().T.contiguous().T, omega, target, weights).item() == want
    arrays = [a.numpy().copy() for a in (omega, target, weights)]
    for a in arrays:
        a.flags.writeable = False
    assert sketch_loss(y, *arrays).item() == pytest.approx(want, rel=1e-6)


def test_divergence_shows_in_the_loss(path):
    y, omega, target, weights = case(40, 3, 12)
    with torch.no_grad():
        y[3, 1] = torch.nan
    assert torch.isnan(sketch_loss(y, omega, target, weights))


def test_memory_is_independent_of_rows_times_frequencies():
    import tracemalloc

    y, omega, target, _ = case(4000, 2, 20_000)
    sketch_loss(y, omega, target).backward()
    tracemalloc.start()
    sketch_loss(y, omega, target).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # rows x frequencies would be 320 MB


@pytest.mark.parametrize(
    ("rows", "omega", "target"), [((0, 2), (2, 3), 6), ((4, 2), (3, 3), 6), ((4, 2), (2, 3), 3)]
)
def test_shapes_that_do_not_fit(rows, omega, target):
    with pytest.raises(ConfigError, match="do not fit"):
        sketch_loss(torch.zeros(rows), np.zeros(omega), np.zeros(target))
