"""What a process says of itself, in words: one line that fits the terminal."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamsketch.run.status import Line

__all__ = ["counted", "figures", "line"]

BAR = 16  # characters
GAP = "  "
SENTENCE = 40  # characters; a shorter part is shown whole or not at all
LEAST = 24  # characters that are worth showing of a sentence that does not fit
MORE = ("late", "duplicates", "open_windows", "watermark", "window", "drift", "discrepancy")


def line(one: "Line", width: int | None = None) -> str:
    """A process's name and figures, the most telling first; what does not fit is left out.

    >>> from streamsketch.run.status import Line
    >>> line(Line("consumer-0", "running", {"stored": 750, "left": 250, "rows_per_s": 50, "releases": 1}))
    'consumer-0   ━━━━━━━━━━━━──── 75%  750 of 1,000 rows  50 rows/s  0:05 left  1 snapshot'
    >>> line(Line("consumer-0", "running", {"stored": 750, "left": 250, "rows_per_s": 50}), 60)
    'consumer-0   ━━━━━━━━━━━━──── 75%  750 of 1,000 rows'
    """
    text = f"{one.name:<12} "
    parts = [*([] if one.phase == "running" else [one.phase]), *_parts(one.figures)]
    for k, part in enumerate(parts):
        room = None if width is None else width - len(text) - (len(GAP) if k else 0)
        if room is not None and len(part) > room:
            if room < LEAST or len(part) < SENTENCE:
                break
            return text + (GAP if k else "") + part[: room - 1] + "…"
        text += (GAP if k else "") + part
    return text.rstrip()


def figures(said: Mapping[str, Any]) -> str:
    """The figures of a process on one line, however long."""
    return GAP.join(_parts(said))


def _parts(said: Mapping[str, Any]) -> Iterator[str]:
    yield from _stream(said)
    yield from _model(said)
    for key in MORE:
        if said.get(key):
            yield f"{key.replace('_', ' ')} {_number(said[key])}"


def _stream(said: Mapping[str, Any]) -> Iterator[str]:
    """What has been read, and what is left."""
    rows, left, rate = (said.get(key) for key in ("stored", "left", "rows_per_s"))
    rows = said.get("rows") if rows is None else rows
    if rows is not None and left is not None and rows + left:
        share = rows / (rows + left)
        full = int(share * BAR)
        yield f"{'━' * full}{'─' * (BAR - full)} {share:.0%}"
    if rows is not None:
        yield f"{rows:,} of {rows + left:,} rows" if left else counted(rows, "row")
    if rate:
        yield f"{rate:,} rows/s"
        if left:
            yield f"{clock(left / rate)} left"
    if said.get("dead"):
        yield f"{said['dead']:,} refused"
    if said.get("lag") is not None and left is None:
        seconds = said.get("lag_s")
        yield f"lag {counted(said['lag'], 'row')}" + (f" ({seconds:g} s)" if seconds else "")
    if said.get("releases") is not None:
        yield counted(said["releases"], "snapshot")
    if said.get("alarms"):
        yield counted(said["alarms"], "drift alarm")


def _model(said: Mapping[str, Any]) -> Iterator[str]:
    """What is trained, or drawn from."""
    for kind in ("checkpoint", "snapshot"):
        if said.get(kind) is not None:
            yield short(str(said[kind]))
    if said.get("verdict") is not None:
        yield str(said["verdict"])
        return
    if said.get("left_s") is not None:
        yield f"{clock(said['left_s'])} left"
    if said.get("loss") is not None:
        yield f"loss {_number(said['loss'])}"
    if said.get("heldout") is not None:
        floor = said.get("floor")
        yield f"held-out {_number(said['heldout'])}" + (
            f" (floor {_number(floor)})" if floor is not None else ""
        )


def short(name: str) -> str:
    """A file's kind and number.

    >>> short("snapshot-00000012.safetensors"), short("other")
    ('snapshot 12', 'other')
    """
    found = re.fullmatch(r"([a-z]+)-(\d{8})\.safetensors", name)
    return f"{found[1]} {int(found[2])}" if found else name


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are any.

    >>> clock(5), clock(754), clock(7384)
    ('0:05', '12:34', '2:03:04')
    """
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, what: str) -> str:
    """A number of things, in the singular or the plural.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _number(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
