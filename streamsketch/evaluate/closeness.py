"""Whether synthetic rows are too close to the rows that the generator learned: beside held-out rows."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.evaluate.frame import Data, Frame, frames
from streamsketch.evaluate.structure import points

__all__ = ["Closeness", "closeness"]

ASKED = 2_000  # rows of each kind whose nearest training row is looked for
AMONG = 50_000  # training rows that are looked through
NEAR = 0.05  # the quantile of distances that says how near the nearest are


@dataclass(frozen=True)
class Closeness:
    """One figure of synthetic rows beside that of held-out rows, which nobody has learned.

    Where the synthetic figure is worse, rows have been remembered.

    Attributes:
        title: What it is.
        synthetic: For synthetic rows.
        held: For held-out rows.
        meaning: How to read it.
    """

    title: str
    synthetic: float
    held: float
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def closeness(
    synthetic: "Data", train: "Data", held: "Data", seed: int = 0, *, asked: int = ASKED
) -> tuple[Closeness, ...]:
    """Copies, distances to the closest training row, and rare values, beside held-out rows.

    Copies and rare values are counted over all rows; distances are those of a sample to a sample of
    the training rows (`ASKED` and `AMONG`).

    Args:
        synthetic: Rows drawn.
        train: Rows that the generator has learned.
        held: Real rows that it has not.
        seed: Seed of the samples.
        asked: Rows of each kind whose nearest training row is looked for.

    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> copies = closeness(x[:100], x[:200], x[200:])[0]
    >>> copies.synthetic, copies.held
    (1.0, 0.0)
    """
    made, known, new = frames(synthetic, train, held)
    rng, keys = np.random.default_rng(seed), set(_keys(known))
    found = [
        Closeness(
            "copies", _copies(made, keys), _copies(new, keys),
            "share of rows that are equal to a training row",
        ),
    ]  # fmt: skip
    sample = known.sample(AMONG, rng)
    near = [_nearest(part.sample(asked, rng), sample) for part in (made, new)]
    (d, ratio), (d0, ratio0) = near
    found += [
        Closeness(
            "distance to the closest", float(np.quantile(d, NEAR)), float(np.quantile(d0, NEAR)),
            "5 % of rows are nearer than this to a training row (standardised)",
        ),
        Closeness(
            "nearest-neighbour ratio", float(np.median(ratio)), float(np.median(ratio0)),
            "median of the distance to the closest training row over that to the second closest",
        ),
    ]  # fmt: skip
    rare = _rare(made, known, new)
    if rare is not None:
        found.append(
            Closeness(
                "rare values", *rare,
                "share of rows with a text that only one training row has, such as a name or a number of an account",
            )
        )  # fmt: skip
    return tuple(found)


def _copies(rows: Frame, known: set[bytes]) -> float:
    """Share of rows that occur among the training rows, given by their keys."""
    return float(np.mean([key in known for key in _keys(rows)]))


def _keys(frame: Frame) -> list[bytes]:
    # NaN has many bit patterns, and zero has two
    values = np.where(np.isnan(frame.values), np.inf, frame.values) + 0.0
    return [row.tobytes() for row in np.ascontiguousarray(values)]


def _nearest(rows: Frame, train: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the closest training row, and its ratio to the second; 1 where both are zero."""
    from sklearn.neighbors import NearestNeighbors

    among = points(train, train)
    model = NearestNeighbors(n_neighbors=min(2, len(among)), algorithm="brute").fit(among)
    d, _ = model.kneighbors(points(train, rows))
    first, second = d[:, 0], d[:, -1]
    return first, np.divide(first, second, out=np.ones_like(first), where=second > 0)


def _rare(made: Frame, train: Frame, held: Frame) -> tuple[float, float] | None:
    """Shares of rows with a category that one training row has; None where no column has such."""
    hits = [np.zeros(frame.rows, bool) for frame in (made, held)]
    some = False
    for j, names in enumerate(train.categories):
        if names is None:
            continue
        counts = np.bincount(train.values[:, j].astype(np.intp), minlength=len(names))
        once = counts == 1
        some |= bool(once.any())
        for hit, frame in zip(hits, (made, held), strict=True):
            hit |= once[frame.values[:, j].astype(np.intp)]
    return (float(hits[0].mean()), float(hits[1].mean())) if some else None
