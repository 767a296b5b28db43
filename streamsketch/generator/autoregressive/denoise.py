"""Tables from noisy counts: consistent margins, and no more dependence than the noise lets one see."""

import numpy as np

from streamsketch.arrays import F64
from streamsketch.features.cells import CellLayout

__all__ = ["denoised"]


VISIBLE = 2.0  # spreads within so many standard deviations of the noise's own are none
CERTAIN = 2.0  # shares below so many standard deviations of their estimate are none


def denoised(layout: CellLayout, cells: F64, sd: float) -> tuple[F64, float]:
    """Shares to fit from relative counts with noise of standard deviation `sd` on each.

    The margins of all tables of a variable are averaged by their inverse variances. Each table is then
    shrunk towards the product of its margins, cell by cell, by as much as its own spread is explained by
    noise (empirical Bayes, as James and Stein 1961): e + r tau e / (tau e + sd^2), with e the product, r
    the deviation from it and tau the spread that is left per unit of e.

    Args:
        layout: The cells.
        cells: (layout.size,) relative counts with noise.
        sd: Standard deviation of the noise.

    Returns:
        Shares (layout.size,), not negative, and the share of pair tables that keep any dependence.
    """
    out = np.zeros(layout.size)
    middles = [_single(layout, cells, sd, k, out) for k in range(len(layout.variables))]
    informed = 0
    for j, k in layout.pairs:
        made, tau = _shrunk(layout.pair(cells, j, k), np.outer(middles[j], middles[k]), sd)
        layout.pair(out, j, k)[:] = made
        informed += tau > 0
    coarse = [
        np.bincount(v.coarse_of, m, minlength=v.coarse)
        for v, m in zip(layout.variables, middles, strict=True)
    ]
    for q, (i, j, k) in enumerate(layout.triples):
        product = np.einsum("a,b,c->abc", coarse[i], coarse[j], coarse[k])
        layout.triple(out, q)[:] = _shrunk(layout.triple(cells, q), product, sd)[0]
    return out, informed / max(len(layout.pairs), 1)


def _single(layout: CellLayout, cells: F64, sd: float, k: int, out: F64) -> F64:
    """Write the finest shares of variable k; returns those of its middle cells."""
    v = layout.variables[k]
    single = layout.single(cells, k)
    size = np.bincount(v.middle_of, minlength=v.middle).astype(np.float64)
    total = np.bincount(v.middle_of, single, minlength=v.middle) / size
    precision = 1 / size
    for j in range(len(layout.variables)):
        if layout.counted(j, k):
            pair = layout.pair(cells, k, j)
            total = total + pair.sum(1) / pair.shape[1]
            precision = precision + 1 / pair.shape[1]
    middle = total / precision
    middle = np.where(middle > CERTAIN * sd / np.sqrt(precision), middle, 0.0)
    middle = middle / middle.sum() if middle.any() else np.full(v.middle, 1 / v.middle)
    fine = np.maximum(single - (sd if v.finest > v.middle else 0.0), 0.0)
    have = np.bincount(v.middle_of, fine, minlength=v.middle)
    spread = np.where(have[v.middle_of] > 0, fine, 1.0)
    whole = np.bincount(v.middle_of, spread, minlength=v.middle)
    layout.single(out, k)[:] = spread * (middle / whole)[v.middle_of]
    return middle


def _shrunk(table: F64, product: F64, sd: float) -> tuple[F64, float]:
    """The table shrunk towards a product of margins, and the spread tau that is not noise."""
    left = table - product
    excess = float(np.square(left).sum()) - left.size * sd**2
    by_chance = VISIBLE * np.sqrt(2 * left.size) * sd**2
    tau = excess / float(product.sum()) if excess > by_chance else 0.0
    spread = tau * product
    kept = np.divide(spread, spread + sd**2, out=np.zeros_like(spread), where=spread > 0)
    return np.maximum(product + left * kept, 0.0), tau
