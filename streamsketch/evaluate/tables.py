"""The evaluation of synthetic rows: every score beside what real and what independent rows get."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch import html
from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate.classifiers import MAX_ROWS, binned_auc, tstr, two_sample_auc
from streamsketch.evaluate.closeness import Closeness, closeness
from streamsketch.evaluate.distances import energy_distance, mmd2, pair_squares
from streamsketch.evaluate.frame import Data, Frame, frames
from streamsketch.evaluate.structure import (
    Marginal,
    association_difference,
    marginals,
    pair_tv,
    points,
)

if TYPE_CHECKING:
    from rich.table import Table

CEILING, SYNTHETIC, FLOOR = "other real rows", "synthetic", "shuffled columns"

_DISTANCE_ROWS = 5_000
SPLIT_ROWS = 10_000  # of each side, where columns are looked at apart


@dataclass(frozen=True)
class Metric:
    """How to read one score: its title, whether higher is better, and what it means."""

    title: str
    higher: bool
    meaning: str


METRICS: dict[str, Metric] = {
    "marginal_tv": Metric(
        "marginals", False, "mean total variation distance of single columns, 20 bins"
    ),
    "pair_tv": Metric(
        "pairs", False, "mean total variation distance of pairs of columns, 20 bins each"
    ),
    "association": Metric(
        "association", False, "mean gap of rank correlation (numbers) and Cramer's V (others)"
    ),
    "c2st": Metric(
        "C2ST", False, "AUC of boosting that tells synthetic from real; 0.5 is indistinguishable"
    ),
    "c2st_numbers": Metric("C2ST numbers", False, "the same of the columns of numbers alone"),
    "c2st_categories": Metric(
        "C2ST categories", False, "the same of the columns of categories alone"
    ),
    "c2st_binned": Metric(
        "C2ST binned", False, "the same for a linear model of 10 bins a column: marginals only"
    ),
    "tstr": Metric(
        "TSTR", True, "AUC on real rows of boosting that learned the label from these rows"
    ),
    "energy": Metric("energy", False, "energy distance D2 of standardised rows"),
    "mmd2": Metric("MMD2", False, "squared MMD of standardised rows, Gaussian of median scale"),
}


@dataclass(frozen=True)
class Evaluation:
    """Scores of synthetic rows and of the two anchors, all against the same reference rows.

    Attributes:
        scores: for "other real rows" (ceiling), "synthetic", and "shuffled columns" (floor) the
            value of each metric in `METRICS` that applies.
        columns: the distance of each column, worst first.
        label: the column that TSTR predicts, or None.
        notes: how it was measured: rows, seed, scale of the kernel, what was sampled.
        closeness: whether synthetic rows repeat rows that were learned; empty where those are not given.
    """

    scores: dict[str, dict[str, float]]
    columns: tuple[Marginal, ...]
    label: str | None
    notes: dict[str, Any]
    closeness: tuple[Closeness, ...] = ()

    def skill(self, metric: str) -> float:
        """Where the synthetic rows stand between the floor (0) and the ceiling (1); may be < 0.

        NaN where the anchors are within 5 % of each other, or the score is missing.
        """
        floor, value, ceiling = (
            self.scores[row].get(metric, math.nan) for row in (FLOOR, SYNTHETIC, CEILING)
        )
        if not abs(ceiling - floor) > 0.05 * max(abs(ceiling), abs(floor)):
            return math.nan
        return (value - floor) / (ceiling - floor)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; a score that does not exist is None."""
        return {
            "scores": {
                row: {name: _finite(value) for name, value in values.items()}
                for row, values in self.scores.items()
            },
            "skill": {name: _finite(self.skill(name)) for name in self.scores[SYNTHETIC]},
            "columns": [
                {"column": m.column, "kind": m.kind, "tv": m.tv, "ks": m.ks} for m in self.columns
            ],
            "label": self.label,
            "notes": self.notes,
            "closeness": [one.to_dict() for one in self.closeness],
        }

    def _repr_html_(self) -> str:
        rows = [
            (
                metric.title,
                "higher" if metric.higher else "lower",
                *(self.scores[row][name] for row in (FLOOR, SYNTHETIC, CEILING)),
                _bar(self.skill(name)),
            )
            for name, metric in METRICS.items()
            if name in self.scores[SYNTHETIC]
        ]
        scores = html.table(["metric", "better", FLOOR, SYNTHETIC, CEILING, "skill"], rows)
        columns = html.table(
            ["column", "total variation"], [(m.column, m.tv) for m in self.columns[:16]]
        )
        return html.card("Evaluation", {"label": self.label}, scores, columns)

    def table(self, title: str | None = None) -> "Table":
        """A rich table: one line for each metric, the synthetic rows between the anchors."""
        from rich.table import Table

        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("metric", no_wrap=True)
        table.add_column("better")
        for name in (FLOOR, SYNTHETIC, CEILING):
            table.add_column(name, justify="right", style="bold" if name == SYNTHETIC else "")
        table.add_column("skill", justify="right")
        for name, metric in METRICS.items():
            if name in self.scores[SYNTHETIC]:
                table.add_row(
                    metric.title,
                    "higher" if metric.higher else "lower",
                    *(number(self.scores[row][name]) for row in (FLOOR, SYNTHETIC, CEILING)),
                    number(self.skill(name), 2),
                )
        return table


def _bar(skill: float) -> Any:
    """A skill of 0 to 1 as one bar of ten."""
    if math.isnan(skill):
        return ""
    full = round(min(max(skill, 0.0), 1.0) * 10)
    return f"{'█' * full}{'░' * (10 - full)} {skill:.2f}"


def evaluate(
    synthetic: "Data",
    real: "Data",
    *,
    train: "Data | None" = None,
    label: str | None = None,
    categorical: Collection[str] = (),
    seed: int = 0,
    rows: int = MAX_ROWS,
) -> Evaluation:
    """Score synthetic rows against real rows that the generator has not seen.

    Args:
        synthetic: rows drawn from a generator: Arrow table, or array (n, d).
        real: held-out real rows; columns that the synthetic rows lack are left out.
        train: the real rows that were learned, for the ceiling, for what the floor shuffles, and to
            look for copies. Without them the held-out rows are split in two halves at random: one
            is the reference, one is this.
        label: the column that TSTR predicts; without it there is no TSTR.
        categorical: numeric columns to treat as categories.
        seed: seed of every split, sample, shuffle and classifier.
        rows: at most this many rows of each kind are used.

    Returns:
        The scores with floor and ceiling.

    Raises:
        DataError: no column in common, or fewer than 30 rows.
        ConfigError: a label that does not exist.

    >>> x = np.random.default_rng(0).normal(size=(400, 1)) @ [[1.0, 1.0]]
    >>> e = evaluate(x[:200], x[200:] + 0.01)
    >>> e.scores["shuffled columns"]["pair_tv"] > e.scores["synthetic"]["pair_tv"]
    True
    """
    data = [synthetic, real] if train is None else [synthetic, real, train]
    if any(isinstance(item, Frame) for item in data):
        msg = "Give tables or arrays to evaluate; frames are made here, with common codes"
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    # Without train rows the held-out ones serve twice, so twice as many may be read.
    caps = [rows, rows if train is not None else 2 * rows, rows]
    made, reference, ceiling = _parts(data, caps, label, categorical, rng)
    floor = ceiling.shuffled(rng)
    kinds = {FLOOR: floor, SYNTHETIC: made, CEILING: ceiling}
    near = points(reference, reference.sample(_DISTANCE_ROWS, rng))
    scale = _median_distance(near, rng)
    scores = {}
    for name, frame in kinds.items():
        far = points(reference, frame.sample(_DISTANCE_ROWS, rng))
        columns = marginals(reference, frame)
        scores[name] = {
            "marginal_tv": float(np.mean([m.tv for m in columns])),
            "pair_tv": pair_tv(reference, frame),
            "association": association_difference(reference, frame),
            **_told_apart(reference, frame, seed),
            "c2st_binned": binned_auc(reference, frame, seed),
            **({"tstr": tstr(frame, reference, label, seed)} if label is not None else {}),
            "energy": energy_distance(near, far),
            "mmd2": mmd2(near, far, scale),
        }
        scores[name] = {k: v for k, v in scores[name].items() if not math.isnan(v)}
    worst = sorted(marginals(reference, made), key=lambda m: -m.tv)
    notes = {
        "rows": {"reference": reference.rows, **{k: f.rows for k, f in kinds.items()}},
        "distance_rows": _DISTANCE_ROWS,
        "kernel_scale": scale,
        "anchors": "separate train rows" if train is not None else "held-out rows split in half",
        "seed": seed,
    }
    copies: tuple[Closeness, ...] = ()
    if train is not None:
        drawn, learned, held = _common([synthetic, train, real])
        copies = closeness(drawn, learned, held, seed)
    return Evaluation(scores, tuple(worst), label, notes, copies)


def _told_apart(reference: Frame, frame: Frame, seed: int) -> dict[str, float]:
    """The two-sample score of all columns, of numbers alone, and of categories alone, where there are both."""
    found = {"c2st": two_sample_auc(reference, frame, seed)}
    for name, chosen in (
        ("c2st_numbers", ~reference.is_category),
        ("c2st_categories", reference.is_category),
    ):
        if chosen.any() and not chosen.all():
            parts = (reference.columns(chosen), frame.columns(chosen))
            found[name] = two_sample_auc(*parts, seed, rows=SPLIT_ROWS)
    return found


def _parts(
    data: list[Any],
    caps: list[int],
    label: str | None,
    categorical: Collection[str],
    rng: np.random.Generator,
) -> tuple[Frame, Frame, Frame]:
    """Synthetic, reference and ceiling rows over the columns that all of them have."""
    tables = _common(data)
    coded = frames(*tables, categorical={*categorical, *((label,) if label else ())})
    if label is not None and label not in coded[0].names:
        msg = f"There is no column {label!r} to predict; the columns are {list(coded[0].names)}"
        raise ConfigError(msg)
    coded = tuple(frame.sample(cap, rng) for frame, cap in zip(coded, caps, strict=False))
    few = min(frame.rows for frame in coded)
    if few < 30:
        msg = f"Expected at least 30 rows of each kind to evaluate, got {few}; give more rows"
        raise DataError(msg)
    if len(coded) == 3:
        return coded[0], coded[1], coded[2]
    order = rng.permutation(coded[1].rows)
    half = len(order) // 2
    return coded[0], coded[1].take(np.sort(order[:half])), coded[1].take(np.sort(order[half:]))


def _common(data: list[Any]) -> list[Any]:
    named = [item for item in data if hasattr(item, "column_names") or hasattr(item, "schema")]
    if len(named) < len(data):
        return data
    shared = [n for n in named[0].schema.names if all(n in t.schema.names for t in named[1:])]
    if not shared:
        msg = (
            f"The synthetic columns {named[0].schema.names} and the real columns "
            f"{named[1].schema.names} have none in common; evaluate rows of the same stream"
        )
        raise DataError(msg)
    return [table.select(shared) for table in named]


def _median_distance(near: NDArray[np.float64], rng: np.random.Generator) -> float:
    some = near[rng.choice(len(near), min(len(near), 500), replace=False)]
    gaps = np.sqrt(pair_squares(some, some)[np.triu_indices(len(some), 1)])
    return float(np.median(gaps)) or 1.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def number(value: float, digits: int = 3) -> str:
    """A score for people: `digits` decimals, three significant digits where it is small."""
    if math.isnan(value):
        return "-"
    return f"{value:.{digits}f}" if abs(value) >= 0.0995 or digits < 3 else f"{value:.3g}"
