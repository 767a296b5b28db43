"""The components of a mixture that a generator corrects (`generator.mixture`)."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

__all__ = ["Components"]

TINY = 1e-12


class Components(nn.Module):
    """The components that latents choose from.

    Args:
        count: Components K.
        d: Coordinates of the encoded rows.
        classes: Label values, each with weights of its own.
    """

    edges: Tensor

    def __init__(self, count: int, d: int, classes: int = 1) -> None:
        super().__init__()
        self.d = d
        self.means = nn.Parameter(torch.zeros(count, d))
        self.log_scales = nn.Parameter(torch.zeros(count, d))
        # normal quantiles of the cumulated weights
        self.register_buffer("edges", torch.zeros(classes, count - 1))

    def choose(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """The component (n,) that each latent of z (n, p) falls into."""
        edges = self.edges[0] if labels is None else self.edges[labels]
        return (z[:, :1] > edges).sum(1)

    def forward(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales (n, d) of components (n,)."""
        return self.means[which], torch.exp(self.log_scales[which])

    def weigh(self, weights: NDArray[np.float64]) -> None:
        """Set the weights (classes, K), each class's up to a factor."""
        total = weights.sum(1, keepdims=True)
        share = np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / weights.shape[1])
        inner = np.clip(np.cumsum(share, 1)[:, :-1], TINY, 1 - TINY)
        with torch.no_grad():
            self.edges.copy_(torch.from_numpy(ndtri(inner)))
