"""Metrics of the shape of a table: each column alone, and each pair of columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from streamsketch.evaluate.frame import Data, Frame, frames

MAX_PAIRS = 2_000
"""Pairs of columns that are measured; from more of them this many are drawn."""


@dataclass(frozen=True)
class Binned:
    """A frame cut into bins. codes (n, c) int64 in 0 .. sizes[j]-1, sizes (c,)."""

    codes: NDArray[np.int64]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Marginal:
    """How far one column is from the real one.

    Attributes:
        column: its name.
        kind: "category" or "number".
        tv: total variation distance of the (binned) column, 0 to 1.
        ks: Kolmogorov-Smirnov distance of a number, 0 to 1; None for a category.
    """

    column: str
    kind: str
    tv: float
    ks: float | None


def binned(real: "Data", *others: "Data", bins: int = 20) -> tuple[Binned, ...]:
    """Cut numbers at the quantiles of the real rows; categories keep their codes.

    A number with at most `bins` different values keeps them apart; nulls have a bin of their own.

    >>> [part.codes.ravel().tolist() for part in binned(np.arange(4.0), [[9.0]], bins=2)]
    [[0, 0, 1, 1], [1]]
    """
    parts = frames(real, *(np.asarray(o) if isinstance(o, list) else o for o in others))
    codes = [np.empty(part.values.shape, np.int64) for part in parts]
    sizes = []
    for j, names in enumerate(parts[0].categories):
        columns = [part.values[:, j] for part in parts]
        if names is not None:
            size = len(names)
            coded = [column.astype(np.int64) for column in columns]
        else:
            edges = _edges(columns[0], bins)
            size = len(edges) + 2
            coded = [
                np.where(np.isnan(c), size - 1, np.searchsorted(edges, c, side="right"))
                for c in columns
            ]
        sizes.append(size)
        for out, column in zip(codes, coded, strict=True):
            out[:, j] = column
    return tuple(Binned(out, tuple(sizes)) for out in codes)


def _edges(column: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Inner edges, ascending; a value belongs to the bin whose lower edge it reaches."""
    finite = column[~np.isnan(column)]
    if not len(finite):
        return np.empty(0)
    distinct = np.unique(finite)
    if len(distinct) <= bins:
        return (distinct[:-1] + distinct[1:]) / 2
    inner = np.quantile(finite, np.arange(1, bins) / bins, method="higher")
    edges: NDArray[np.float64] = np.unique(inner)
    return edges


def marginals(real: "Data", synthetic: "Data", *, bins: int = 20) -> tuple[Marginal, ...]:
    """The distance of each column from the real one.

    Args:
        real: Arrow table, array (n, d) or frame.
        synthetic: the same columns.
        bins: bins of a numeric column for its total variation.

    >>> marginals(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    (Marginal(column='x0', kind='number', tv=0.5, ks=0.5),)
    """
    a, b = frames(real, synthetic)
    left, right = binned(a, b, bins=bins)
    return tuple(
        Marginal(
            name,
            "number" if a.categories[j] is None else "category",
            _tv(left.codes[:, j], right.codes[:, j], left.sizes[j]),
            _ks(a.values[:, j], b.values[:, j]) if a.categories[j] is None else None,
        )
        for j, name in enumerate(a.names)
    )


def pair_tv(
    real: "Data", synthetic: "Data", *, bins: int = 20, pairs: int = MAX_PAIRS, seed: int = 0
) -> float:
    """Mean total variation distance of all pairs of columns (TV2), 0 to 1.

    Args:
        real: Arrow table, array (n, d) or frame.
        synthetic: the same columns.
        bins: bins of a numeric column.
        pairs: at most this many pairs are measured, drawn with `seed` where there are more.
        seed: seed of that draw.

    Returns:
        The mean over pairs; NaN where there is one column only.

    >>> x = np.array([0.0, 0.0, 1.0, 1.0])
    >>> pair_tv(np.stack([x, x], axis=1), np.stack([x, x[::-1]], axis=1))
    1.0
    """
    left, right = binned(real, synthetic, bins=bins)
    found = [
        _tv(_joint(left, i, j), _joint(right, i, j), left.sizes[i] * left.sizes[j])
        for i, j in _pairs(len(left.sizes), pairs, seed)
    ]
    return float(np.mean(found)) if found else float("nan")


def associations(data: "Data", *, bins: int = 10) -> NDArray[np.float64]:
    """How strongly each pair of columns depends on each other.

    Two numbers: Spearman's rank correlation, -1 to 1. Any other pair: Cramer's V of the columns
    cut into bins, corrected for its bias, 0 to 1.

    Args:
        data: Arrow table, array (n, d) or frame; c columns.
        bins: bins of a number that is compared with a category.

    Returns:
        (c, c) float64, symmetric, ones on the diagonal; 0 for a constant column.

    References:
        Bergsma, "A bias-correction for Cramer's V and Tschuprow's T", 2013.
    """
    (frame,) = frames(data)
    (cut,) = binned(frame, bins=bins)
    table = np.eye(len(frame.names))
    number = ~frame.is_category
    if number.sum() > 1:
        table[np.ix_(number, number)] = _spearman(frame.values[:, number])
    for i, j in combinations(range(len(frame.names)), 2):
        if not (number[i] and number[j]):
            table[i, j] = table[j, i] = _cramer(_joint(cut, i, j), cut.sizes[i], cut.sizes[j])
    return table


def association_difference(real: "Data", synthetic: "Data") -> float:
    """Mean absolute difference of `associations` over all pairs; NaN for one column."""
    a, b = frames(real, synthetic)
    upper = np.triu_indices(len(a.names), k=1)
    gap = np.abs(associations(a) - associations(b))[upper]
    return float(gap.mean()) if len(gap) else float("nan")


def points(reference: Frame, frame: Frame) -> NDArray[np.float64]:
    """A frame as points for the distances: numbers standardised, categories one-hot.

    Numbers are shifted and scaled by the mean and standard deviation of the reference, a null
    takes the mean and adds an indicator; a category's one-hot is divided by sqrt(2), so that two
    different values are 1 apart.

    Returns:
        (n, p) float64.
    """
    columns: list[NDArray[np.float64]] = []
    for j, names in enumerate(reference.categories):
        column, known = frame.values[:, j], reference.values[:, j]
        if names is not None:
            columns.extend((column == code) / np.sqrt(2.0) for code in range(len(names)))
            continue
        known = known[~np.isnan(known)]
        mean, spread = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
        null = np.isnan(column)
        columns.append(np.where(null, 0.0, (column - mean) / (spread or 1.0)))
        if np.isnan(reference.values[:, j]).any() or null.any():
            columns.append(null.astype(np.float64))
    return np.stack(columns, axis=1) if columns else np.zeros((frame.rows, 0))


def _pairs(columns: int, most: int, seed: int) -> Iterator[tuple[int, int]]:
    every = list(combinations(range(columns), 2))
    if len(every) <= most:
        return iter(every)
    chosen = np.random.default_rng(seed).choice(len(every), most, replace=False)
    return (every[k] for k in np.sort(chosen))


def _joint(data: Binned, i: int, j: int) -> NDArray[np.int64]:
    return data.codes[:, i] * data.sizes[j] + data.codes[:, j]


def _tv(a: NDArray[np.int64], b: NDArray[np.int64], size: int) -> float:
    p = np.bincount(a, minlength=size) / max(len(a), 1)
    q = np.bincount(b, minlength=size) / max(len(b), 1)
    return float(np.abs(p - q).sum() / 2)


def _ks(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = np.sort(a[~np.isnan(a)]), np.sort(b[~np.isnan(b)])
    if not (len(a) and len(b)):
        return float(len(a) != len(b))
    at = np.concatenate([a, b])
    below_a = np.searchsorted(a, at, side="right") / len(a)
    below_b = np.searchsorted(b, at, side="right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _spearman(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks = np.empty(values.shape)
    for j, column in enumerate(values.T):
        known = ~np.isnan(column)
        ranks[known, j] = rankdata(column[known])
        ranks[~known, j] = ranks[known, j].mean() if known.any() else 0.0
    ranks -= ranks.mean(axis=0)
    norms = np.sqrt((ranks**2).sum(axis=0))
    norms[norms == 0] = np.inf
    table: NDArray[np.float64] = (ranks.T @ ranks) / np.outer(norms, norms)
    np.fill_diagonal(table, 1.0)
    return table


def _cramer(joint: NDArray[np.int64], rows: int, columns: int) -> float:
    n = len(joint)
    counts = np.bincount(joint, minlength=rows * columns).reshape(rows, columns).astype(float)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    r, k = counts.shape
    if n < 2 or min(r, k) < 2:
        return 0.0
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi2 = ((counts - expected) ** 2 / expected).sum() / n
    corrected = max(phi2 - (r - 1) * (k - 1) / (n - 1), 0.0)
    limit = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(min(corrected / limit, 1.0))) if limit > 0 else 0.0
