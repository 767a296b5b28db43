"""What notebooks show of our objects: a card of facts, tables, small inline pictures.

Pictures are SVG in the text's own colour, so that they suit light and dark. Names of others are
escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from streamsketch.plain import plain

__all__ = ["bars", "card", "merged", "table"]

BARS = 24
WIDTH, HEIGHT = 120, 28
STYLE = "border:1px solid currentColor;border-radius:6px;padding:8px 12px;display:inline-block;max-width:60em"


def card(title: str, facts: Mapping[str, Any], *parts: str) -> str:
    """A box with a title, facts that are known, and parts that are HTML already.

    >>> "<b>Schema</b>" in card("Schema", {"columns": 2, "label": None})
    True
    """
    said = " · ".join(f"{text(k)} <b>{text(v)}</b>" for k, v in facts.items() if v is not None)
    return f'<div style="{STYLE}"><b>{text(title)}</b><div>{said}</div>{"".join(parts)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; what begins as one of our pictures stays a picture.

    >>> table(["name"], [["<b>"]])
    '<table><tr><th>name</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    lines = ["".join(f"<th>{text(one)}</th>" for one in head)]
    lines += ["".join(f"<td>{_cell(one)}</td>" for one in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


class Picture(str):
    """HTML of our own, which is not escaped again."""


def bars(shares: Sequence[float], other: Sequence[float] = (), label: str = "") -> Picture:
    """A small bar chart of shares; those of `other` as a line over it.

    Args:
        shares: Heights, from left to right; less than 0 is 0.
        other: Heights to compare with.
        label: What it shows, for who cannot see it.
    """
    top = max([*shares, *other, 1e-12])
    step = WIDTH / max(len(shares), 1)

    def y(value: float) -> float:
        return HEIGHT * (1 - max(value, 0.0) / top)

    drawn = "".join(
        f'<rect x="{i * step:.1f}" y="{y(v):.1f}" width="{max(step - 0.6, 0.5):.1f}" '
        f'height="{HEIGHT - y(v):.1f}" fill="currentColor" opacity=".45"/>'
        for i, v in enumerate(shares)
    )
    if len(other):
        points = " ".join(f"{(i + 0.5) * step:.1f},{y(v):.1f}" for i, v in enumerate(other))
        drawn += f'<polyline points="{points}" fill="none" stroke="currentColor"/>'
    return Picture(
        f'<svg role="img" aria-label="{text(label)}" width="{WIDTH}" height="{HEIGHT}">{drawn}</svg>'
    )


def merged(shares: Sequence[float], most: int = BARS) -> list[float]:
    """Neighbouring shares added up, so that there are at most `most`.

    >>> merged([1, 2, 3, 4, 5], most=3)
    [3.0, 7.0, 5.0]
    """
    step = -(-len(shares) // most) if len(shares) else 1
    return [float(sum(shares[i : i + step])) for i in range(0, len(shares), step)]


def text(value: Any) -> str:
    """A value as escaped text: numbers short, with thousands apart."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(plain(str(value)))


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, Picture) else "" if value is None else text(value)
