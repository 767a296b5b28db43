import numpy as np
import pytest
import torch

from streamsketch import Generator, Schema
from streamsketch.errors import ConfigError, DataError
from streamsketch.inverse import recover, recover_blind

torch.set_num_threads(1)


class Prior(torch.nn.Module):
    """A fixed smooth map of the plane into 20 dimensions."""

    latent_dim = 2

    def __init__(self, d=20, seed=0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.inner = torch.nn.Parameter(torch.randn(2, 30, generator=rng))
        self.outer = torch.nn.Parameter(torch.randn(30, d, generator=rng) / 30**0.5)

    def forward(self, z):
        return torch.tanh(z @ self.inner) @ self.outer


@pytest.fixture
def truth():
    prior = Prior()
    z = torch.tensor([[0.7, -0.4]])
    return prior, prior(z).detach().numpy()[0].astype(float)


def test_compressed_sensing_with_fewer_measurements_than_unknowns(truth):
    prior, x = truth
    matrix = np.random.default_rng(0).normal(size=(5, 20))
    found = recover(matrix @ x, matrix, prior, lam=0.0, restarts=8, steps=300)
    np.testing.assert_allclose(found.x, x, atol=0.01)
    assert found.residual < 1e-3
    assert found.residuals.shape == (8,)
    assert found.residuals[0] <= found.residuals[-1]
    assert prior.inner.requires_grad  # the generator is as it was
    least_squares = np.linalg.pinv(matrix) @ (matrix @ x)
    assert np.linalg.norm(found.x - x) < 0.05 * np.linalg.norm(least_squares - x)


def test_functions_masks_and_shapes(truth):
    prior, x = truth
    mask = torch.zeros(4, 5)
    mask[:2] = 1
    y = x.reshape(4, 5) * mask.numpy()
    found = recover(y, lambda rows: rows * mask, prior, lam=0.0, shape=(4, 5), steps=300)
    np.testing.assert_allclose(found.x, x, atol=0.02)


class Labelled(torch.nn.Module):
    """Three planes far from each other, one for each label."""

    latent_dim, classes = 2, 3

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        self.planes = torch.nn.Parameter(torch.randn(3, 2, 20, generator=rng))
        self.middles = torch.nn.Parameter(3 * torch.randn(3, 20, generator=rng))

    def forward(self, z, labels):
        return self.middles[labels] + torch.einsum("np,npd->nd", z, self.planes[labels])


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("deviation", [False, 10.0])
def test_a_conditional_generator_is_tried_under_all_its_labels(label, deviation):
    prior = Labelled()
    x = prior(torch.tensor([[0.4, -0.9]]), torch.tensor([label])).detach().numpy()[0]
    matrix = np.random.default_rng(0).normal(size=(6, 20))
    found = recover(matrix @ x, matrix, prior, lam=0.0, restarts=4, deviation=deviation)
    assert found.label == label
    np.testing.assert_allclose(found.x, x, atol=0.05 if deviation else 0.01)


def test_physics_objects_are_called_by_their_method(truth):
    prior, x = truth

    class Physics:
        def A(self, images):
            assert images.shape[1:] == (1, 4, 5)
            return images[:, :, ::2]

    y = torch.as_tensor(x.reshape(1, 1, 4, 5)[:, :, ::2], dtype=torch.float32)
    found = recover(y, Physics(), prior, lam=0.0, shape=(1, 4, 5), steps=300)
    np.testing.assert_allclose(found.x, x, atol=0.02)


def test_a_sparse_deviation_from_the_range_is_found_only_when_asked_for(truth):
    prior, x = truth
    far = x.copy()
    far[3] += 2.0
    matrix = np.eye(20)
    bare = recover(far, matrix, prior, lam=0.0, steps=300)
    free = recover(far, matrix, prior, lam=0.0, steps=300, deviation=True)
    assert abs(free.x[3] - far[3]) < 0.1
    assert np.linalg.norm(free.x - far) < 0.2 * np.linalg.norm(bare.x - far)
    np.testing.assert_allclose(free.in_range, x, atol=0.1)
    np.testing.assert_array_equal(bare.x, bare.in_range)
    assert (np.abs(free.x - free.in_range) > 1e-6).sum() <= 4  # the departure is sparse


def test_poisson_counts_weigh_small_rates_more_than_least_squares_does():
    def rates(z):
        return torch.cat([torch.exp(z + 4), torch.exp(z)], 1)

    rates.latent_dim = 1
    # the maximum-likelihood estimate is log(sum y / sum exp): both counts enter by their size
    y = np.array([70.0, 1.0])
    exact = np.log(71 / (np.exp(4) + 1))
    found = recover(y, np.eye(2), rates, lam=0, noise="poisson", restarts=4, steps=400)
    assert found.z[0] == pytest.approx(exact, abs=1e-3)
    squares = recover(y, np.eye(2), rates, lam=0, restarts=4, steps=400)
    assert abs(squares.z[0] - exact) > 2e-3


def test_blind_deconvolution_finds_signal_and_kernel():
    prior = Prior(d=30, seed=3)

    class Widths(torch.nn.Module):
        latent_dim = 1

        def forward(self, z):
            t = torch.arange(-3, 4.0)
            kernel = torch.exp(-(t**2) / (2 * torch.exp(z) ** 2))
            return kernel / kernel.sum(1, keepdim=True)

    def convolve(rows, kernels):
        padded = torch.nn.functional.pad(rows, (3, 3))[None]
        return torch.nn.functional.conv1d(padded, kernels[:, None], groups=len(rows))[0]

    with torch.no_grad():
        x, k = prior(torch.tensor([[0.5, 0.9]])), Widths()(torch.tensor([[0.4]]))
        y = convolve(x, k)[0]
    found = recover_blind(y, convolve, prior, Widths(), lam=1e-5, lam_kernel=1e-5, restarts=12)
    np.testing.assert_allclose(found.x, x[0], atol=0.05)
    np.testing.assert_allclose(found.kernel, k[0], atol=0.02)


def test_a_streamsketch_generator_recovers_in_the_units_of_the_data():
    generator = Generator.create(Schema.vectors(6, 0, 200), seed=1)
    z = torch.full((1, generator.latent_dim), 0.3)
    with torch.no_grad():
        x = (generator.decode_latent(z)[0].double().numpy() + 1) * 100
    found = recover(x, np.eye(6), generator, lam=0.0, steps=300, restarts=8)
    np.testing.assert_allclose(found.x, x, atol=2.0)
    assert found.z.shape == (generator.latent_dim,)


def test_same_seed_same_answer(truth):
    prior, x = truth
    a, b = (recover(x[:3], np.eye(20)[:3], prior, steps=20, seed=4).x for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_wrong_shapes_show_both():
    prior = Prior()
    with pytest.raises(ConfigError, match=r"\(5, 20\).*shape \(4,\)"):
        recover(np.zeros(4), np.zeros((5, 20)), prior)
    with pytest.raises(ConfigError, match=r"\(5, 19\).*\(20,\)"):
        recover(np.zeros(5), np.zeros((5, 19)), prior)
    with pytest.raises(ConfigError, match=r"shape \(20,\).*shape \(7,\)"):
        recover(np.zeros(7), lambda rows: rows, prior)


def test_measurements_that_are_not_numbers_are_refused():
    prior = Prior()
    with pytest.raises(DataError, match="1 of 2 measurements are not finite"):
        recover([np.nan, 1.0], np.zeros((2, 20)), prior)
    with pytest.raises(DataError, match="negative"):
        recover([-1.0], np.zeros((1, 20)), prior, noise="poisson")


def test_bad_arguments_are_refused():
    prior, y, matrix = Prior(), np.zeros(2), np.zeros((2, 20))
    for bad in ({"noise": "salt"}, {"lam": -1.0}, {"restarts": 0}, {"steps": 0}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            recover(y, matrix, prior, **bad)
    with pytest.raises(ConfigError, match="latent_dim"):
        recover(y, matrix, lambda z: z)
    with pytest.raises(ConfigError, match="forward operator is a str"):
        recover(y, "blur", prior)


class Identity(torch.nn.Module):
    """Rows that are their latents: the problem is ridge regression, solved in closed form."""

    def __init__(self, d):
        super().__init__()
        self.latent_dim = d

    def forward(self, z):
        return z


@pytest.mark.parametrize("lam", [0.1, 3.0])
def test_the_prior_s_weight_is_that_of_ridge_regression(lam):
    rng = np.random.default_rng(0)
    matrix, y = rng.normal(size=(6, 4)), rng.normal(size=6)
    exact = np.linalg.solve(matrix.T @ matrix + lam * np.eye(4), matrix.T @ y)
    found = recover(y, matrix, Identity(4), lam=lam, steps=800, restarts=4)
    np.testing.assert_allclose(found.x, exact, atol=2e-3)


@pytest.mark.parametrize(("lam", "lam_kernel"), [(0.5, 0.02), (0.02, 0.5)])
def test_both_weights_of_a_blind_problem_count(lam, lam_kernel):
    """min (y - z k)^2 + a z^2 + b k^2 with y = 2: z k = 2 - sqrt(a b) and a z^2 = b k^2."""
    found = recover_blind(
        np.array([2.0]), lambda x, k: x * k, Identity(1), Identity(1),
        lam=lam, lam_kernel=lam_kernel, steps=1500,
    )  # fmt: skip
    product = 2 - np.sqrt(lam * lam_kernel)
    np.testing.assert_allclose(found.x * found.kernel, product, atol=1e-3)
    np.testing.assert_allclose(
        np.abs(found.x / found.kernel), np.sqrt(lam_kernel / lam), rtol=0.02
    )


def test_the_best_start_is_returned():
    """After one step the starts are far apart; without a prior the residual alone decides."""
    options = {"steps": 1, "restarts": 8}
    one = recover([0.5], np.ones((1, 1)), Identity(1), lam=0.0, **options)
    blind = recover_blind(
        np.array([2.0]), lambda x, k: x * k, Identity(1), Identity(1), lam=0, lam_kernel=0, **options
    )  # fmt: skip
    for found in (one, blind):
        assert found.residual == found.residuals[0] < found.residuals[-1]


def test_the_poisson_residual_is_zero_at_the_counts_themselves():
    found = recover([3.0, 5.0], np.eye(2), Identity(2), lam=0, noise="poisson", steps=2000)
    assert found.x == pytest.approx([3.0, 5.0], abs=1e-2)
    assert found.residual == pytest.approx(0.0, abs=1e-4)


def test_blind_deconvolution_finds_the_label_too():
    """Each label has a plane of its own, far from the others; the width of the blur is unknown."""
    prior, true = Labelled(), 2
    with torch.no_grad():
        x = prior(torch.tensor([[0.3, -0.6]]), torch.tensor([true]))
        y = 1.5 * x[0]
    gains = Identity(1)
    found = recover_blind(
        y, lambda rows, k: rows * (1 + k), prior, gains, lam=1e-4, lam_kernel=1e-4, restarts=24
    )
    assert found.label == true
    np.testing.assert_allclose(found.x * (1 + found.kernel), y, atol=0.05)


def test_a_penalty_counts_on_the_generated_row():
    """min (x - 3)^2 + 2 x: the penalty's slope moves the minimum to 2."""
    found = recover(
        [3.0], np.eye(1), Identity(1), lam=0, penalty=lambda rows: 2 * rows[:, 0], steps=800
    )
    assert found.x[0] == pytest.approx(2.0, abs=1e-2)
    blind = recover_blind(
        np.array([3.0]), lambda x, k: x + k, Identity(1), Identity(1), lam=0, lam_kernel=1,
        penalty=lambda rows: (rows[:, 0] - 1) ** 2, steps=1500,
    )  # fmt: skip
    assert blind.x[0] + blind.kernel[0] == pytest.approx(3 - 2 / 3, abs=1e-2)
