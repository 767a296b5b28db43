r"""The score of the data from a second-order sketch, and the KL divergence by it. Experimental.

With :math:`\phi = (\cos \omega_i \cdot x, \sin \omega_i \cdot x)_{i \le p}` and the score
:math:`s = \nabla \log \rho` of a density that vanishes at infinity, the best linear
:math:`g(x) = A \phi(x)` in the mean square has, by integration by parts,

.. math:: g(x) = -\mathbb E[\nabla \phi]^\top\, (M + \lambda)^{-1} \phi(x), \qquad
   M = \mathbb E[\phi \phi^\top]

(the random-feature form of the Stein estimate, Li 2017, equation 2; KMC finite of Strathmann et al.
2015 has the same for gradient fields). Products of cosines and sines are cosines and sines of sums
and differences of the frequencies, so M is itself read off a Fourier sketch: that of the law
`second_order`, which needs no map, mechanism or merging of its own. The sketch of the data with
normal noise of deviation :math:`\sigma` added follows exactly, by the factor
:math:`e^{-\sigma^2 |\omega|^2 / 2}`; beginning with much noise gives far modes a gradient.
"""

import torch
from torch import Tensor

__all__ = ["moments", "score_matrix", "smoothed"]

RIDGE = 1e-3  # of the study's range, 1e-4 to 1e-2


def smoothed(omega: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Mean features (2m,) of the data with normal noise of deviation sigma added."""
    damp = torch.exp(-0.5 * sigma**2 * (omega.to(mean.dtype) ** 2).sum(0))
    return mean * damp.repeat(2)


def moments(mean: Tensor, p: int) -> tuple[Tensor, Tensor]:
    """First and second moments (2p,), (2p, 2p) of the features at p base frequencies.

    Args:
        mean: (2m,) mean features of the law `second_order`: at the base, at the sums i <= j, at
            the differences i < j, and at others.
        p: Base frequencies.
    """
    c, s = mean.view(2, -1)
    i, j = torch.triu_indices(p, p)
    a, b = torch.triu_indices(p, p, 1)
    sums = slice(p, p + len(i))
    differences = slice(sums.stop, sums.stop + len(a))
    c_sum, s_sum, c_diff, s_diff = (c.new_zeros(p, p) for _ in range(4))
    c_sum[i, j] = c_sum[j, i] = c[sums]
    s_sum[i, j] = s_sum[j, i] = s[sums]
    c_diff[a, b] = c_diff[b, a] = c[differences]
    c_diff.fill_diagonal_(1.0)
    s_diff[a, b], s_diff[b, a] = s[differences], -s[differences]
    cos_sin = (s_sum - s_diff) / 2  # cos_i sin_j
    second = torch.cat(
        [
            torch.cat([(c_diff + c_sum) / 2, cos_sin], 1),
            torch.cat([cos_sin.T, (c_diff - c_sum) / 2], 1),
        ]
    )
    return torch.cat([c[:p], s[:p]]), second


def score_matrix(first: Tensor, second: Tensor, base: Tensor, ridge: float = RIDGE) -> Tensor:
    """A (2p, d) such that features @ A is the score.

    Args:
        first: (2p,) mean features.
        second: (2p, 2p) mean products of features; where noise has made it indefinite, it is
            taken without its negative part.
        base: (d, p) frequencies.
        ridge: What is added to its eigenvalues.
    """
    cosines, sines = first.view(2, -1)
    slope = torch.cat([-sines * base, cosines * base], 1).T
    values, vectors = torch.linalg.eigh(second)
    matrix: Tensor = -vectors @ ((vectors.T @ slope) / (values.clamp_min(0) + ridge)[:, None])
    return matrix
