"""What a call of the sampler achieved: scores beside those of independent draws, and a picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.arrays import F32
from streamsketch.errors import DataError
from streamsketch.evaluate.diversity import (
    coverage,
    duplicate_rate,
    energy_gain,
    median_scale,
    nearest_distances,
    vendi,
)
from streamsketch.sampler.unique import row_keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from streamsketch.sampler.sampler import Sampler


_POOL = 4096
_SCORED = 1024  # Vendi grows like n^3
_NUMBERED = 60


@dataclass(frozen=True)
class SamplingReport:
    """Scores and picture of a set of outputs.

    Attributes:
        scores: Per score, its value for the outputs and for as many independent draws.
        outputs: Outputs that the history holds, this call's included.
        reference: What the scores compare with: "held-out rows" or "the generator's own draws".
        picture: PNG file: the outputs, numbered in order, over the reference.
    """

    scores: dict[str, tuple[float, float]]
    outputs: int
    reference: str
    picture: bytes


def sampling_report(
    sampler: "Sampler", rows: pa.Table, held: pa.Table | None = None, seed: int = 0
) -> SamplingReport:
    """Score rows that a sampler drew.

    Args:
        sampler: The sampler, after it drew the rows.
        rows: Rows it returned, at least two.
        held: Real rows to compare with, where there are any that may be used: they are not
            released objects. Without them, fresh draws of the generator stand for the target.
        seed: Seed of the independent draws.

    Raises:
        DataError: Fewer than two rows.
    """
    schema, generator = sampler.generator.schema, sampler.generator
    x = np.ascontiguousarray(schema.encode(rows).x)
    if len(x) < 2:
        raise DataError(f"a sampling report needs at least two rows, got {len(x)}")
    seeds = np.random.SeedSequence([seed, 1]).generate_state(2)
    label = sampler.label
    if held is None:
        reference = "the generator's own draws"
        pool = generator.sample_encoded(_POOL, seed=int(seeds[0]), label=label)
    else:
        reference, pool = "held-out rows", schema.encode(held).x[:_POOL]
    encoded = generator.sample_encoded(len(x), seed=int(seeds[1]), label=label)
    drawn = schema.decode(encoded)
    iid = np.ascontiguousarray(schema.encode(drawn).x)
    ours, theirs = _scores(x, rows, pool), _scores(iid, drawn, pool)
    scores = {name: (ours[name], theirs[name]) for name in ours}
    return SamplingReport(
        scores, sampler.history.count, reference, picture(x, iid, pool, reference, sampler.method)
    )


def _scores(x: F32, rows: pa.Table, pool: F32) -> dict[str, float]:
    some = x[:_SCORED]
    near = nearest_distances(x)
    found = {
        "energy gain": energy_gain(x, pool),
        "Vendi": vendi(some, scale=median_scale(pool)),
        "smallest neighbour distance": float(near.min()),
        "median neighbour distance": float(np.median(near)),
        "duplicates": duplicate_rate(row_keys(rows)),
    }
    if min(len(x), len(pool)) > 5:
        c = coverage(x, pool[:_SCORED])
        found |= {"precision": c.precision, "recall": c.recall, "coverage": c.coverage}
    return found


def picture(outputs: F32, iid: F32, pool: F32, reference: str, method: str) -> bytes:
    """The picture of Turinici (2022): outputs numbered in order over the target, beside iid draws.

    Args:
        outputs: ``(n, d)`` outputs in order.
        iid: ``(n, d)`` independent draws.
        pool: ``(k, d)`` rows that stand for the target.
        reference: What the pool is, for the caption.
        method: How the outputs were drawn, for the caption.

    Returns:
        A PNG file.
    """
    from streamsketch.evaluate.pictures import new_figure, png

    flat, names = _plane(pool)
    figure = new_figure(10.0, 5.2)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, points, title in zip(
        axes, (iid, outputs), ("independent draws", f"method: {method}"), strict=True
    ):
        _draw(axis, flat(points), flat(pool), title)
        axis.set_xlabel(names[0])
    axes[0].set_ylabel(names[1])
    figure.suptitle(f"{len(outputs)} outputs over {reference}", fontsize=11)
    return png(figure)


def _draw(axis: "Axes", points: NDArray[Any], pool: NDArray[Any], title: str) -> None:
    axis.scatter(pool[:, 0], pool[:, 1], s=3, color="#dfe3e8", linewidths=0)
    axis.scatter(points[:, 0], points[:, 1], s=14, color="#d95f02", linewidths=0, alpha=0.8)
    for i, (a, b) in enumerate(points[:_NUMBERED]):
        axis.annotate(
            str(i), (a, b), xytext=(2, 2), textcoords="offset points", fontsize=6, color="#27313d"
        )
    axis.set_title(title, fontsize=10)


def _plane(pool: F32) -> tuple[Any, tuple[str, str]]:
    """Where to look from: the plane itself in 2-D, else the first two principal directions."""
    d = pool.shape[1]
    if d == 2:
        return np.asarray, ("first coordinate", "second coordinate")
    centre = pool.mean(axis=0)
    axes = np.linalg.svd(pool - centre, full_matrices=False)[2][:2]
    if d == 1:
        axes = np.vstack([axes, np.zeros((1, 1))])
    names = ("first principal direction", "second principal direction")
    return (lambda x: (x - centre) @ axes.T), names
