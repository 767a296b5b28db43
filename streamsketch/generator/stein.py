r"""Stein score estimates with a mixture of IMQ kernels (Li 2017; Li and Turner 2018).

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
    "squared_distances",
]

ETA = 0.01
FACTORS = (0.5, 1.0, 2.0, 4.0)
MEDIAN_POINTS = 200


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances (n, k) of rows a (n, d) and b (k, d), never negative."""
    if a.shape[1] <= 4:  # exact, and as cheap in few dimensions
        return ((a[:, None, :] - b[None, :, :]) ** 2).sum(2)
    product = a @ b.T
    return ((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * product).clamp_min(0)


def scales(x: Tensor, y: Tensor) -> Tensor:
    """The kernels' squared lengths (4,): multiples of the median squared distance of x and y.

    The median is over the distances of at most `MEDIAN_POINTS` rows, evenly from x and y, to a
    quarter of themselves: all pairs of a batch cost more than the step.

    Args:
        x: (n, d) samples, in random order.
        y: (k, d) generated rows, in random order.
    """
    both = torch.cat([x, y])
    both = both[:: -(-len(both) // MEDIAN_POINTS)]
    return _from_median(squared_distances(both, both[::4]), len(both[::4]))


def _from_median(square: Tensor, own: int) -> Tensor:
    """Multiples (4,) of the median of squared distances, of which `own` are of a row to itself."""
    rest = square.numel() - own
    median = square.flatten().kthvalue(max(own + rest // 2, 1)).values.clamp_min(1e-6)
    return torch.tensor(FACTORS, dtype=square.dtype, device=square.device) * median


def kernel(a: Tensor, b: Tensor, s: Tensor) -> Tensor:
    """Kernel matrix (n, k); its largest value, on the diagonal, is the number of scales."""
    return torch.rsqrt(1 + squared_distances(a, b) / s[:, None, None]).sum(0)


def kernel_and_slope(square: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel and A at squared distances of any shape: the kernel's gradient in a is -(a - b) A."""
    rates = (1 / s).view(-1, *[1] * square.ndim)
    root = torch.rsqrt(torch.addcmul(torch.ones_like(rates), rates, square))
    return root.sum(0), (root * root * root).mul_(rates).sum(0)


def score(x: Tensor, s: Tensor, eta: float = ETA) -> Tensor:
    r"""Score estimates :math:`\nabla \log q` (n, d) at the points x ~ q themselves (Li 2017, equation 2).

    Args:
        x: (n, d) float64 points.
        s: Squared lengths of the kernels.
        eta: Ridge added to the kernel matrix.
    """
    return _inside(x, *kernel_and_slope(squared_distances(x, x), s), eta)


def direction(x: Tensor, y: Tensor, eta: float = ETA) -> Tensor:
    """Gradient of the KL divergence in the generated rows x (n, d), from samples y (k, d).

    One matrix of distances serves the median and all kernels.
    """
    n, both = len(x), torch.cat([x, y])
    square = squared_distances(both, both)
    s = _from_median(square[:, ::4], len(both[::4]))
    # block by block: four kernels of the whole would be fetched from the system at every step
    xx, yy, xy = (kernel_and_slope(b, s) for b in (square[:n, :n], square[n:, n:], square[:n, n:]))
    return _inside(x, *xx, eta) - _outside(x, y, *yy, *xy, len(s), eta)


def _inside(x: Tensor, k: Tensor, a: Tensor, eta: float) -> Tensor:
    """Scores -(K + eta I)^-1 b with b_i = sum_j (x_i - x_j) A_ij."""
    return -torch.cholesky_solve(_pull(x, a), _factor(k, eta)).to(x.dtype)


def _outside(
    x: Tensor, y: Tensor, k: Tensor, a: Tensor, kxy: Tensor, axy: Tensor, top: float, eta: float
) -> Tensor:
    """Scores at x of the law of y, from the kernels of y, y and x, y; `top` is k(x, x)."""
    d = y.shape[1]
    solved = torch.cholesky_solve(torch.cat([_pull(y, a), kxy.T.double()], 1), _factor(k, eta))
    g, v = -solved[:, :d].to(x.dtype), solved[:, d:].T.to(x.dtype)
    own = top + eta - (v * kxy).sum(1)
    axy = axy * (v + 1)
    # grad_x k(y_j, x) = -(x - y_j) A
    push = axy.sum(1, keepdim=True) * x - axy @ y
    return -(kxy @ g + push) / own[:, None]


def _factor(k: Tensor, eta: float) -> Tensor:
    matrix = k.double() if k.dtype != torch.float64 else k.clone()
    matrix.diagonal().add_(eta)
    factor: Tensor = torch.linalg.cholesky(matrix)
    return factor


def _pull(x: Tensor, a: Tensor) -> Tensor:
    return (a.sum(1, keepdim=True) * x - a @ x).double()
