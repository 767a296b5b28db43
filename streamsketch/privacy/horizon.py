"""How long a privacy budget lasts: one line for people, from what is public only."""

import datetime as dt
from typing import TYPE_CHECKING, Any

from streamsketch.privacy.ledger import LedgerCopy, read_copy

if TYPE_CHECKING:
    from streamsketch.storage.store import Store

__all__ = ["made_in", "outlook", "pace_in"]


def outlook(
    releases: int | None,
    epochs: int = 1,
    *,
    made: int = 0,
    seconds: float | None = None,
    rows: int | None = None,
) -> str:
    """One line: what is left of the planned releases, and for how long that is.

    Args:
        releases: Planned releases of an epoch; None for an endless mechanism.
        epochs: Planned epochs.
        made: Releases that were made so far.
        seconds: Time between two releases.
        rows: Rows read between two releases.

    >>> outlook(100, made=40, seconds=600)
    'privacy budget: 60 of 100 planned releases are left, one every 10 min: it lasts 10 h'
    >>> outlook(10, rows=5000)
    'privacy budget: 10 of 10 planned releases are left, one every 5,000 rows read: it lasts 50,000 rows'
    >>> outlook(None, seconds=86400)
    'privacy budget: endless, one release every 1 d'
    """
    paces = [] if seconds is None else [span(seconds)]
    paces += [] if rows is None else [f"{rows:,} rows read"]
    pace = " or ".join(paces)
    if releases is None:
        return "privacy budget: endless" + (f", one release every {pace}" if pace else "")
    planned = releases * epochs
    left = planned - made
    if left <= 0:
        return (
            f"privacy budget: spent, all {planned:,} planned releases were made; consuming goes on, "
            "nothing more is released"
        )
    line = f"privacy budget: {left:,} of {planned:,} planned releases are left"
    if not paces:
        return f"{line}, one at the end of each run"
    lasts = [] if seconds is None else [span(left * seconds)]
    lasts += [] if rows is None else [f"{left * rows:,} rows"]
    most = "at most " if len(lasts) > 1 else ""
    return f"{line}, one every {pace}: it lasts {most}{' or '.join(lasts)}"


def span(seconds: float) -> str:
    """A time in its two largest units.

    >>> span(90), span(1000), span(90_000), span(0.5)
    ('1 min 30 s', '16 min 40 s', '1 d 1 h', '0.5 s')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts, rest = [], round(seconds)
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        many, rest = divmod(rest, size)
        if many:
            parts.append(f"{many:,} {name}")
    return " ".join(parts[:2])


def made_in(store: "Store") -> int:
    """How many private releases the store's ledger knows of."""
    releases = [e for e in read_copy(LedgerCopy(store).text()) if e["kind"] == "release"]
    return len({(e.get("epoch"), e.get("index")) for e in releases})


def pace_in(store: "Store") -> str:
    """`outlook` of a store, from its ledger alone: at the pace of its releases so far; "" without one."""
    entries = read_copy(LedgerCopy(store).text())
    opened: dict[str, Any] | None = next((e for e in entries if e["kind"] == "open"), None)
    times = [dt.datetime.fromisoformat(e["at"]) for e in entries if e["kind"] == "release"]
    if opened is None:
        return ""
    settings = opened["settings"]
    took = (times[-1] - times[0]).total_seconds() if len(times) > 1 else 0.0
    seconds = took / (len(times) - 1) if took > 0 else None
    line = outlook(
        settings["releases"], settings.get("epochs", 1), made=len(times), seconds=seconds
    )
    return line if seconds is None else f"{line} (at the pace so far)"
