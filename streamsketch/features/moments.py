"""Sketches of moments: the mean of all monomials of a row, up to degree two or four.

They are feature maps like any other (exact fixed-point sums, mergeable, with a norm bound for
privacy), for what moments say best: principal components from degree two, independent components
from degree four. Encoded coordinates lie in [-1, 1]; whatever lies beyond is clipped, so that the
bound holds for every row.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError
from streamsketch.features.kernels import ONE
from streamsketch.features.map import Fourierlike

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec
    from streamsketch.schema import Block


__all__ = ["MomentMap", "QuadraticMap", "QuarticMap"]

# Numbers in one row's features: beyond this a Fourier sketch says more with less.
MOST_WIDTH = 50_000
ROWS = 1024


class MomentMap(Fourierlike):
    """All monomials of degrees 1 to `degree`, by degree, indices in lexicographic order.

    Args:
        spec: What identifies the operator; only ``d`` and ``map`` matter, there is no frequency.

    Raises:
        ConfigError: There would be more than 50,000 monomials.
    """

    degree: ClassVar[int]

    def __init__(self, spec: "Spec") -> None:
        self.spec = spec
        if self.width > MOST_WIDTH:
            raise ConfigError(
                f"d = {spec.d} has {self.width} monomials of degree {self.degree}, more than "
                f"{MOST_WIDTH}: sketch fewer columns, or use the 'fourier' map"
            )

    @classmethod
    def from_spec(cls, spec: "Spec", blocks: "Sequence[Block]" = ()) -> "MomentMap":
        """The map that a spec names."""
        return cls(spec)

    @cached_property
    def width(self) -> int:
        """Length of one row's features."""
        return sum(_count(self.spec.d, k) for k in range(1, self.degree + 1))

    @property
    def norm_bound(self) -> float:
        """Square root of the width: a monomial of coordinates in [-1, 1] is at most one."""
        return float(np.sqrt(self.width))

    @cached_property
    def _indices(self) -> list[NDArray[np.int64]]:
        """Per degree k, the ``(n_k, k)`` nondecreasing index tuples."""
        d = self.spec.d
        return [
            np.array(list(combinations_with_replacement(range(d), k)), np.int64)
            for k in range(1, self.degree + 1)
        ]

    def features(self, x: NDArray[np.floating[Any]]) -> F64:
        """The definition: monomials ``(n, width)`` of rows ``(n, d)``."""
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.spec.d:
            raise ConfigError(
                f"rows have shape {x.shape}, but the feature map takes (n, {self.spec.d})"
            )
        x = np.clip(x, -1, 1)
        parts = []
        for indices in self._indices:
            product = x[:, indices[:, 0]]
            for k in range(1, indices.shape[1]):
                product = product * x[:, indices[:, k]]
            parts.append(product)
        return np.concatenate(parts, axis=1)

    def sum(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Sum over rows in units of 2^-16; exact.

        Monomials are rounded to nearest, not truncated: products of small coordinates are a few
        units, and the bias of truncation would not average out.
        """
        total = np.zeros(self.width, np.int64)
        for start in range(0, len(x), ROWS):
            values = self.features(x[start : start + ROWS])
            total += np.rint(values * ONE).astype(np.int64).sum(axis=0)
        return total

    def tensors(self, mean: F64) -> list[F64]:
        """Symmetric moment tensors ``(d,)``, ``(d, d)``, ... from mean features ``(width,)``."""
        d, start, found = self.spec.d, 0, []
        for k, indices in enumerate(self._indices, 1):
            values = mean[start : start + len(indices)]
            start += len(indices)
            grid = np.sort(np.stack(np.meshgrid(*[np.arange(d)] * k, indexing="ij"), -1), axis=-1)
            weights = d ** np.arange(k - 1, -1, -1)
            # index tuples are in lexicographic order, so their codes are sorted
            position = np.searchsorted(indices @ weights, grid @ weights)
            found.append(values[position])
        return found


class QuadraticMap(MomentMap):
    """Monomials of degree one and two: mean and covariance of the stream.

    Example:
        >>> from streamsketch.features.spec import Spec
        >>> QuadraticMap(Spec("none", 2, 1, map="quadratic")).features(np.array([[0.5, -1.0]]))
        array([[ 0.5 , -1.  ,  0.25, -0.5 ,  1.  ]])
    """

    degree = 2


class QuarticMap(MomentMap):
    """Monomials of degree one to four: covariance and fourth-order cumulants, for small d."""

    degree = 4


def _count(d: int, k: int) -> int:
    from math import comb

    return comb(d + k - 1, k)
