"""The torch backends; Triton runs in its interpreter, in a process of its own (no GPU needed)."""

import importlib.util
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from streamsketch.errors import DataError
from streamsketch.features import FeatureMap
from streamsketch.features.kernels import ONE, device, reference


def case(d, m, n):
    rng = np.random.default_rng(d)
    return rng.standard_normal((d, m)) * 3, rng.uniform(-1, 1, (n, d)).astype(np.float32)


@pytest.mark.parametrize(("d", "m"), [(1, 1), (3, 50), (40, 7)])
def test_torch_agrees_with_the_reference(d, m):
    omega, x = case(d, m, 500)
    got = device.prepare(omega)(x)
    slack = ONE * (2 * d + 2) * 2.0**-24 * (np.abs(x).astype(float) @ np.abs(omega)).sum(axis=0)
    assert (np.abs(got - reference.sum_features(x, omega)).reshape(2, m) <= slack + 60).all()


def test_torch_bits_do_not_depend_on_the_split(monkeypatch):
    omega, x = case(5, 33, 301)
    fm = FeatureMap.from_frequencies(omega)
    whole = fm.sum(x, backend="torch")
    for cut in (1, 7, 64, 300):
        assert (fm.sum(x[:cut], backend="torch") + fm.sum(x[cut:], backend="torch") == whole).all()
    monkeypatch.setattr(device, "CELLS", 1000)
    assert (fm.sum(x.astype(np.float64), backend="torch") == whole).all()


def test_torch_refuses_what_is_not_finite_and_keeps_the_norm_bound():
    fm = FeatureMap.from_frequencies(case(2, 30, 1)[0])
    with pytest.raises(DataError, match="not finite"):
        fm.sum(np.array([[0.0, np.nan]]), backend="torch")
    total = fm.sum(np.full((1, 2), 3e38, np.float32), backend="torch")
    assert np.linalg.norm(total / ONE) <= fm.norm_bound
    assert fm.sum(np.zeros((3, 2)), backend="torch")[0] == 3 * ONE


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_triton_kernels_in_the_interpreter():
    """Sums exact over splits, close to the reference; loss and gradient equal to plain autograd."""
    program = """
        import numpy as np, torch
        from streamsketch.features import FeatureMap
        from streamsketch.features.kernels import ONE, loss
        rng = np.random.default_rng(0)
        for d, m, n in ((1, 1, 5), (3, 70, 300)):
            omega = rng.standard_normal((d, m)) * 3
            x = rng.uniform(-1, 1, (n, d)).astype(np.float32)
            fm = FeatureMap.from_frequencies(omega)
            whole = fm.sum(x, backend="triton")
            assert (fm.sum(x[:3], backend="triton") + fm.sum(x[3:], backend="triton") == whole).all()
            assert np.abs(whole - fm.sum(x, backend="reference")).max() <= 0.3 * n + 3
            huge = fm.sum(np.full((1, d), 3e38, np.float32), backend="triton")
            assert np.linalg.norm(huge / ONE) <= fm.norm_bound
            assert fm.sum(np.zeros((2, d)), backend="triton")[0] == 2 * ONE
            loss.has_numba = lambda: False
            y, target = torch.tensor(x[:70], requires_grad=True), rng.uniform(-1, 1, 2 * m)
            value = loss.sketch_loss(y, omega, target, unbiased=True)
            (grad,) = torch.autograd.grad(value, y)
            exact = torch.tensor(x[:70], dtype=torch.float64, requires_grad=True)
            want = loss.sketch_loss(exact, omega, target, unbiased=True)
            (want_grad,) = torch.autograd.grad(want, exact)
            assert abs(value - want) < 1e-5 * want.abs()
            assert (grad - want_grad).abs().max() < 1e-5 * want_grad.abs().max()
    """
    env = os.environ | {"TRITON_INTERPRET": "1", "STREAMSKETCH_TRITON": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
