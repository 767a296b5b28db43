"""`recover` with the operators of the real deepinv; skipped where it cannot be imported.

deepinv needs torchvision. The wheels of the package index are linked to CUDA: beside a CPU build
of torch they fail while they are imported, and these tests are skipped with that reason.
"""

import numpy as np
import pytest
import torch

from streamsketch.errors import ConfigError
from streamsketch.inverse import recover
from tests.inverse.test_recover import Prior

torch.set_num_threads(1)

IMAGE = (1, 8, 8)


@pytest.fixture(scope="module")
def deepinv():
    try:
        import deepinv
    except (ImportError, RuntimeError) as e:
        pytest.skip(f"deepinv cannot be imported: {str(e).splitlines()[0]}")
    return deepinv


@pytest.fixture(scope="module")
def image():
    """A row in the range of a prior, as the image that a physics takes, and the prior."""
    prior = Prior(d=64, seed=1)
    with torch.no_grad():
        x = prior(torch.tensor([[0.7, -0.4]])).reshape(1, *IMAGE)
    return x, prior


def gaussian_kernel():
    t = torch.arange(-1, 2.0)
    kernel = torch.exp(-(t**2))
    return (torch.outer(kernel, kernel) / kernel.sum() ** 2)[None, None]


PHYSICS = {
    "CompressedSensing": lambda p: p.CompressedSensing(
        m=6, img_size=IMAGE, rng=torch.Generator().manual_seed(0)
    ),
    "Inpainting": lambda p: p.Inpainting(
        img_size=IMAGE, mask=0.2, rng=torch.Generator().manual_seed(0)
    ),
    "Blur": lambda p: p.Blur(filter=gaussian_kernel(), padding="circular"),
    "Blur, valid": lambda p: p.Blur(filter=gaussian_kernel(), padding="valid"),
    "BlurFFT": lambda p: p.BlurFFT(img_size=IMAGE, filter=gaussian_kernel()),
    "Downsampling": lambda p: p.Downsampling(
        img_size=IMAGE, factor=4, filter=gaussian_kernel(), padding="circular"
    ),
    "Denoising": lambda p: p.Denoising(),
    "SinglePixelCamera": lambda p: p.SinglePixelCamera(
        m=6, img_size=IMAGE, rng=torch.Generator().manual_seed(0)
    ),
}


@pytest.mark.parametrize("name", PHYSICS)
def test_physics_of_deepinv_are_forward_operators(name, deepinv, image):
    x, prior = image
    physics = PHYSICS[name](deepinv.physics)
    with torch.no_grad():
        y = physics.A(x)
    found = recover(y, physics, prior, lam=0.0, restarts=8, steps=200, shape=IMAGE)
    np.testing.assert_allclose(found.x, x.numpy().ravel(), atol=0.02)


def test_noise_models_of_deepinv_are_not_drawn_again(deepinv, image):
    x, prior = image
    physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma=0.1))
    y = physics(x)
    a, b = (recover(y, physics, prior, steps=30, shape=IMAGE, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a.x, b.x)


def test_a_physics_that_does_not_fit_its_measurements_is_refused(deepinv, image):
    x, prior = image
    physics = PHYSICS["Downsampling"](deepinv.physics)
    with pytest.raises(ConfigError, match="make them agree"):
        recover(x, physics, prior, shape=IMAGE)
