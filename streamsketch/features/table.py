"""The feature map of tables: random Fourier features and counts of cells, in one pass."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.features.cells import CellLayout, layout_named
from streamsketch.features.kernels import ONE
from streamsketch.features.map import FeatureMap
from streamsketch.features.spec import Spec

if TYPE_CHECKING:
    from streamsketch.schema import Schema

__all__ = ["TableMap"]

FOURIER_SHARE = (
    0.1  # of a private row's squared norm: the Fourier part validates, the counts are fitted
)


class TableMap:
    """Both parts of a table's sketch: Fourier features, then counts.

    The generator is fitted to the counts; the Fourier part, which it never saw, validates it and serves
    decoders, drift and the sampler. A row adds features of modulus 1 and one to a cell of each table, so
    its norm is sqrt(m + w^2 T) with the weight w of a count.

    Args:
        fourier: The Fourier part; its spec is the whole's.
        layout: The cells.

    Guarantees:
        `sum` is exactly additive; counts are equal on every machine and backend.
    """

    def __init__(self, fourier: FeatureMap, layout: CellLayout) -> None:
        self.spec, self.fourier, self.layout = fourier.spec, fourier, layout

    @classmethod
    def from_spec(cls, spec: Spec, schema: "Schema") -> "TableMap":
        """The map that a spec names."""
        return cls(FeatureMap.from_spec(spec, schema.blocks), layout_named(spec, schema))

    @property
    def width(self) -> int:
        """Length of one row's features: 2m, then the cells."""
        return self.fourier.width + self.layout.size

    @property
    def norm_bound(self) -> float:
        """sqrt(m (1 + 2^-16)^2 + w^2 T): every row adds one to one cell of each of T tables."""
        cells = self.spec.cell_weight**2 * self.layout.tables
        return float(np.sqrt(self.fourier.norm_bound**2 + cells))

    @property
    def replace_bound(self) -> float:
        """sqrt(4 m (1 + 2^-16)^2 + 2 w^2 T): counts are not negative, so two rows are at most sqrt(2 T) apart."""
        cells = 2 * self.spec.cell_weight**2 * self.layout.tables
        return float(np.sqrt(4 * self.fourier.norm_bound**2 + cells))

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """(width,) what a unit of each coordinate of a sum weighs, in 2^-16: 1, and ONE w for counts."""
        units = np.ones(self.width, np.int64)
        units[self.fourier.width :] = round(ONE * self.spec.cell_weight)
        return units

    def sum(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Sum over rows x (n, d): cosines and sines in 2^-16, then counts, (width,) int64."""
        from streamsketch.features.kernels.counts import add_counts

        total = np.zeros(self.width, np.int64)
        total[: self.fourier.width] = self.fourier.sum(x)
        if len(x):
            rows = np.asarray(x, np.float32)
            add_counts(self.layout, self.layout.codes(rows), total[self.fourier.width :])
        return total

    def split(
        self, value: NDArray[Any], weight: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean features and relative counts, of a sum in weighed units and its number of rows."""
        mean = np.asarray(value, np.float64) / (self.units * weight)
        mean[: self.fourier.width] /= ONE
        return mean[: self.fourier.width], mean[self.fourier.width :]

    def __repr__(self) -> str:
        return f"TableMap({self.fourier!r}, {self.layout!r})"


def private_weight(m: int, tables: int) -> float:
    """The weight of counts for which the Fourier part has `FOURIER_SHARE` of a row's squared norm.

    Rounded to an integer, so that counts stay integers in the mechanism's units.
    """
    return float(max(1, round(np.sqrt(m * (1 / FOURIER_SHARE - 1) / tables))))
