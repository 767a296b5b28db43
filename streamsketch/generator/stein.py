r"""Stein score estimates with a mixture of IMQ kernels (seed 004; Li and Turner 2017).

.. math:: k(x, y) = \sum_n (1 + \|x - y\|^2 / s_n)^{-1/2}, \qquad
   \nabla_x k = -(x - y)\, A(x, y), \quad A = \sum_n s_n^{-1} (1 + \|x - y\|^2 / s_n)^{-3/2}

with :math:`s_n` = (1/2, 1, 2, 4) times the median squared distance. Linear systems are solved by
one Cholesky factor in float64: kernel matrices are nearly singular.
"""

import torch
from torch import Tensor

__all__ = [
    "direction",
    "kernel",
    "scales",
    "score",
    "score_at",
    "squared_distances",
]

ETA = 0.01
FACTORS = (0.5, 1.0, 2.0, 4.0)
MEDIAN_POINTS = (
    200  # the median is taken over this many points: all pairs of a batch cost more than the step
)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (n, k) of rows a (n, d) and b (k, d), never negative."""
    if a.shape[1] <= 4:  # exact, and as cheap in few dimensions
        return ((a[:, None, :] - b[None, :, :]) ** 2).sum(2)
    product = a @ b.T
    return ((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product).clamp_min(0)


def scales(x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """The kernels' squared lengths (4,): multiples of the median squared distance of x and y.

    Args:
        x: (n, d) samples.
        y: (k, d) generated rows.
        rng: Chooses the points that the median is taken over.
    """
    both = torch.cat([x, y])
    if len(both) > MEDIAN_POINTS:
        keep = torch.randperm(len(both), generator=rng, device=rng.device)[:MEDIAN_POINTS]
        both = both[keep.to(both.device)]
    square = squared_distances(both, both)
    upper = torch.triu_indices(len(both), len(both), 1, device=both.device)
    median = square[upper[0], upper[1]].median().clamp_min(1e-6)
    return torch.tensor(FACTORS, dtype=x.dtype, device=x.device) * median


def kernel(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Kernel matrix (n, k); its largest value, on the diagonal, is the number of scales."""
    return torch.rsqrt(1 + squared_distances(a, b) / s[:, None, None]).sum(0)


def kernel_and_slope(a: Tensor, b: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel matrix and A(a, b), both (n, k): the kernel's gradient in a is -(a - b) A."""
    root = torch.rsqrt(1 + squared_distances(a, b) / s[:, None, None])
    return root.sum(0), (root**3 / s[:, None, None]).sum(0)


def score(x: Tensor, s: Tensor, eta: float = ETA) -> Tensor:
    r"""Score estimates :math:`\nabla \log q` (n, d) at the points x ~ q themselves (eq. 2).

    Args:
        x: (n, d) float64 points.
        s: Squared lengths of the kernels.
        eta: Ridge added to the kernel matrix.
    """
    return _factor_and_score(x, s, eta)[1]


def score_at(x: Tensor, y: Tensor, s: Tensor, eta: float = ETA) -> Tensor:
    r"""Estimates of :math:`\nabla \log p` (n, d) at points x from samples y ~ p (eq. 3).

    It is the last row of the estimate over y with the point x appended.
    """
    factor, g = _factor_and_score(y, s, eta)
    k, slope = kernel_and_slope(x, y, s)
    v = torch.cholesky_solve(k.T.double(), factor).T.to(x.dtype)
    own = len(s) + eta - (v * k).sum(1)
    slope = slope * (v + 1)
    # grad_x k(y_j, x) = -(x - y_j) A
    push = slope.sum(1, keepdim=True) * x - slope @ y
    return -(k @ g + push) / own[:, None]


def direction(x: Tensor, y: Tensor, rng: torch.Generator, eta: float = ETA) -> Tensor:
    """Gradient of the KL divergence in the generated rows x (n, d), from samples y (k, d)."""
    s = scales(x, y, rng)
    return score(x, s, eta) - score_at(x, y, s, eta)


def _factor_and_score(x: Tensor, s: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Cholesky factor of K + eta I, and the scores -(K + eta I)^-1 b with b_i = sum_j (x_i - x_j) A_ij."""
    matrix, slope = kernel_and_slope(x, x, s)
    matrix.diagonal().add_(eta)
    factor: Tensor = torch.linalg.cholesky(matrix.double())
    pull = slope.sum(1, keepdim=True) * x - slope @ x
    return factor, -torch.cholesky_solve(pull.double(), factor).to(x.dtype)
