"""Pictures of an evaluation, drawn without a display and without pyplot's global state."""

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.evaluate.frame import Data, Frame, frames
from streamsketch.evaluate.structure import Marginal, associations
from streamsketch.evaluate.tables import CEILING, FLOOR, METRICS, SYNTHETIC, Evaluation, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange stay apart for every common colour blindness; grey recedes.
REAL, MADE, FAINT, INK = "#9aa5b1", "#d95f02", "#dfe3e8", "#27313d"

_MOST_COLUMNS = 24
_MOST_POINTS = 1_500


def pictures(
    synthetic: "Data", real: "Data", evaluation: Evaluation, *, seed: int = 0
) -> dict[str, bytes]:
    """Draw an evaluation.

    Args:
        synthetic: the synthetic rows.
        real: the held-out real rows.
        evaluation: what `evaluate` returned for them.
        seed: seed of the points that are shown.

    Returns:
        PNG files by name: "anchors", "columns", "pairs" (two numbers or more), "associations"
        (two columns or more).
    """
    shared = [m.column for m in evaluation.columns]
    made, held = frames(synthetic, real, categorical=_categories(evaluation.columns))
    keep = [made.names.index(name) for name in shared if name in made.names]
    made, held = _columns(made, keep), _columns(held, keep)
    drawn: dict[str, Callable[[], Figure | None]] = {
        "anchors": lambda: draw_anchors(evaluation),
        "columns": lambda: draw_columns(made, held, evaluation.columns),
        "pairs": lambda: draw_pairs(made, held, np.random.default_rng(seed)),
        "associations": lambda: draw_associations(made, held),
    }
    files = {}
    for name, draw in drawn.items():
        figure = draw()
        if figure is not None:
            files[name] = png(figure)
    return files


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file, the same bytes for the same figure."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110, metadata={"Software": None})
    return target.getvalue()


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure in inches, laid out by constraint, bound to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def draw_anchors(evaluation: Evaluation) -> "Figure":
    """Each metric as a line from the floor to the ceiling, the synthetic rows a dot on it."""
    names = [n for n in METRICS if not math.isnan(evaluation.skill(n))]
    figure = new_figure(8.2, 1.0 + 0.42 * len(names))
    axes = figure.add_subplot()
    for y, name in enumerate(reversed(names)):
        skill = evaluation.skill(name)
        shown = min(max(skill, -0.25), 1.12)
        axes.plot([0, 1], [y, y], color=FAINT, linewidth=5, solid_capstyle="round", zorder=1)
        axes.plot([0, shown], [y, y], color=MADE, linewidth=2, alpha=0.55, zorder=2)
        axes.plot(shown, y, "o" if shown == skill else "<", color=MADE, markersize=9, zorder=3)
        for x, row, side in ((-0.03, FLOOR, "right"), (1.03, CEILING, "left")):
            text = number(evaluation.scores[row][name])
            axes.annotate(
                text,
                (x, y),
                ha=side,
                va="center",
                fontsize=8,
                color="#6b7683",
                zorder=4,
                bbox={"color": "white", "pad": 1.5},
            )
        value = number(evaluation.scores[SYNTHETIC][name])
        axes.annotate(
            value, (shown, y), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_yticks(range(len(names)), [METRICS[n].title for n in reversed(names)])
    axes.set_xticks([0, 1], [f"{FLOOR}\n(floor)", f"{CEILING}\n(ceiling)"])
    axes.set_xlim(-0.32, 1.18)
    axes.set_ylim(-0.6, len(names) - 0.3)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def draw_columns(made: Frame, held: Frame, columns: tuple[Marginal, ...]) -> "Figure":
    """The marginal of each column, real filled and synthetic outlined; the worst come first."""
    shown = [m for m in columns if m.column in made.names][:_MOST_COLUMNS]
    wide = min(4, len(shown))
    tall = math.ceil(len(shown) / wide)
    figure = new_figure(2.9 * wide + 0.4, 2.0 * tall + 0.4)
    for place, marginal in enumerate(shown):
        axes = figure.add_subplot(tall, wide, place + 1)
        j = made.names.index(marginal.column)
        names = made.categories[j]
        if names is None:
            _histogram(axes, made.values[:, j], held.values[:, j])
            if marginal.column in made.times:
                axes.xaxis.set_major_formatter(_date)
        else:
            _bars(axes, made.values[:, j], held.values[:, j], names)
        axes.set_title(f"{_short(marginal.column, 22)}  TV {marginal.tv:.3f}", fontsize=8.5)
        _quiet(axes)
    figure.legend(handles=_legend(), loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_pairs(made: Frame, held: Frame, rng: np.random.Generator) -> "Figure | None":
    """Scatter of the most correlated pairs of numbers, real beside synthetic on the same axes."""
    numbers = np.flatnonzero(~held.is_category)
    if len(numbers) < 2:
        return None
    strength = np.abs(np.triu(associations(_columns(held, list(numbers))), k=1))
    best = np.argsort(-strength, axis=None)[: min(3, len(numbers) * (len(numbers) - 1) // 2)]
    pairs = [(int(numbers[k // len(numbers)]), int(numbers[k % len(numbers)])) for k in best]
    figure = new_figure(3.4 * len(pairs) + 0.3, 6.6)
    for place, (i, j) in enumerate(pairs):
        limits = [_limits(held.values[:, c]) for c in (i, j)]
        for row, (frame, colour, title) in enumerate(
            ((held, INK, "real"), (made, MADE, "synthetic"))
        ):
            axes = figure.add_subplot(2, len(pairs), row * len(pairs) + place + 1)
            some = frame.sample(_MOST_POINTS, rng).values
            axes.scatter(some[:, i], some[:, j], s=5, alpha=0.35, color=colour, linewidths=0)
            axes.set(xlim=limits[0], ylim=limits[1])
            axes.set_xlabel(_short(frame.names[i], 24), fontsize=8)
            axes.set_ylabel(_short(frame.names[j], 24), fontsize=8)
            axes.set_title(title, fontsize=8.5)
            _quiet(axes, ticks=True)
    return figure


def draw_associations(made: Frame, held: Frame) -> "Figure | None":
    """Strength of every pair: the real rows, the synthetic rows, and the difference."""
    if len(held.names) < 2:
        return None
    order = sorted(range(len(held.names)), key=lambda j: held.names[j])[: _MOST_COLUMNS + 6]
    left, right = (associations(_columns(f, order)) for f in (held, made))
    figure = new_figure(13.5, 4.9)
    names = [_short(held.names[j], 16) for j in order]
    parts = (("real", left, 1.0), ("synthetic", right, 1.0), ("difference", right - left, 0.5))
    for place, (title, table, limit) in enumerate(parts):
        axes = figure.add_subplot(1, 3, place + 1)
        image = axes.imshow(table, cmap="PuOr_r", vmin=-limit, vmax=limit)
        axes.set_title(title, fontsize=9.5)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names), fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, shrink=0.75).ax.tick_params(labelsize=7)
    return figure


def _columns(frame: Frame, keep: list[int]) -> Frame:
    return Frame(
        tuple(frame.names[j] for j in keep),
        frame.values[:, keep],
        tuple(frame.categories[j] for j in keep),
        frame.times,
    )


def _categories(columns: tuple[Marginal, ...]) -> list[str]:
    return [m.column for m in columns if m.kind == "category"]


def _limits(column: NDArray[np.float64]) -> tuple[float, float]:
    """Nearly all of the column, so that one far value does not hide the rest."""
    known = column[~np.isnan(column)]
    low, high = np.quantile(known, [0.002, 0.998]) if len(known) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _histogram(axes: "Axes", made: NDArray[np.float64], held: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    edges = _edges(held)
    for values, colour, width in ((held, REAL, None), (made, MADE, 1.5)):
        shares = np.histogram(values[~np.isnan(values)], edges)[0] / max(len(values), 1)
        axes.stairs(shares, edges, color=colour, fill=width is None, alpha=0.75, linewidth=width)
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _edges(held: NDArray[np.float64]) -> NDArray[np.float64]:
    """About 40 bins over nearly all of the column; whole numbers fall in bins of equal count."""
    low, high = _limits(held)
    inside = held[(held >= low) & (held <= high)]
    if not len(inside):
        return np.arange(2.0)
    distinct = np.unique(inside)
    steps = np.diff(distinct)
    # The smallest gap of the grid that whole numbers (or tenths) lie on.
    step = float(steps.min()) if len(steps) else 1.0
    if len(distinct) > 400 or not np.allclose(steps / step, np.round(steps / step)):
        return np.linspace(low, high, 41)
    step *= max(1, math.ceil((distinct[-1] - distinct[0]) / step / 40))
    return np.arange(distinct[0] - step / 2, distinct[-1] + step, step)


def _bars(
    axes: "Axes", made: NDArray[np.float64], held: NDArray[np.float64], names: tuple[str, ...]
) -> None:
    real = np.bincount(held.astype(int), minlength=len(names)) / max(len(held), 1)
    drawn = np.bincount(made.astype(int), minlength=len(names)) / max(len(made), 1)
    top = np.argsort(-real)[:10]
    at = np.arange(len(top))
    axes.bar(at, real[top], width=0.8, color=REAL, alpha=0.75)
    axes.plot(at, drawn[top], "_", color=MADE, markersize=13, markeredgewidth=2)
    axes.set_xticks(at, [_short(names[k], 11) for k in top], rotation=50, ha="right")


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color=REAL, alpha=0.75, label="real"),
        Line2D([], [], color=MADE, linewidth=1.8, label="synthetic"),
    ]


def _quiet(axes: "Axes", *, ticks: bool = False) -> None:
    axes.tick_params(labelsize=6.5, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8c0c9")
    if not ticks:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)


def _date(microseconds: float, _: object) -> str:
    return np.datetime_as_string(np.datetime64(int(microseconds), "us"), unit="D")[2:]


def _short(text: str, most: int) -> str:
    # A dollar sign would start a formula.
    text = text.replace("$", r"\$")
    return text if len(text) <= most else text[: most - 1] + "…"
