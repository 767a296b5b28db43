import numpy as np
import pytest

from streamsketch.errors import ConfigError
from streamsketch.sampler.kernels import KERNELS, gaussian, power, ratio, squared_distances

ALL = [make() for make in KERNELS.values()] + [power(0.3, 0.2), power(0.0, 0.8), ratio(0.5, 0.7)]


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_kernels_are_conditionally_negative_and_zero_at_zero(kernel):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)) * 2.0
    h = kernel.value(squared_distances(x, x))
    p = rng.standard_normal((200, 40))
    p -= p.mean(axis=1, keepdims=True)
    assert np.einsum("ni,ij,nj->n", p, h, p).max() <= 1e-9
    assert abs(float(kernel.value(np.zeros(1))[0])) < 1e-12


@pytest.mark.parametrize("kernel", ALL, ids=lambda k: k.name)
def test_slope_is_the_gradient_and_the_gaussian_mixture_is_the_kernel(kernel):
    r2 = np.array([0.3, 1.7, 9.0])
    r, step = np.sqrt(r2), 1e-6
    numeric = (kernel.value((r + step) ** 2) - kernel.value((r - step) ** 2)) / (2 * step)
    assert np.allclose(kernel.slope(r2) * r, numeric, atol=1e-7)
    mixture = -(kernel.masses * np.expm1(-kernel.nodes * r2[:, None])).sum(axis=1)
    assert np.allclose(mixture, kernel.value(r2), atol=2e-5)


def test_slope_is_finite_where_points_coincide():
    for kernel in ALL:
        assert np.isfinite(kernel.slope(np.zeros(2))).all()


@pytest.mark.parametrize("d", [2, 40])
def test_squared_distances_far_from_the_origin(d):
    x = np.random.default_rng(1).standard_normal((6, d)) + 1000.0
    exact = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    assert np.allclose(squared_distances(x, x), exact, atol=1e-9)


@pytest.mark.parametrize(
    "call",
    [lambda: power(-1.0, 0.5), lambda: power(1.0, 1.0), lambda: ratio(0.0), lambda: gaussian(0.0)],
)
def test_parameters_out_of_range_are_refused(call):
    with pytest.raises(ConfigError):
        call()
