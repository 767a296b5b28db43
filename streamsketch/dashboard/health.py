"""One sentence on whether all is well, and what to do if not."""

from typing import Any

from streamsketch.verdict import verdict as judged

__all__ = ["verdict"]

SILENT_SECONDS = 30.0
LAG_SECONDS = 60.0
OLD_SECONDS = 600.0


def verdict(facts: dict[str, Any]) -> dict[str, str]:
    """`level` (`good`, `rest`, `warn`, `bad`), `text`, and what to `do`.

    >>> verdict({"snapshots": [], "checkpoints": [], "processes": [], "local": True,
    ...          "privacy": None, "alarms": [], "time": 0.0})["text"]
    'The store is empty.'
    """
    worst = max(_found(facts), key=lambda one: _ORDER.index(one[0]))
    return dict(zip(("level", "text", "do"), worst, strict=True))


_ORDER = ("rest", "good", "warn", "bad")


def _found(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    alive = [p for p in facts["processes"] if p["alive"]]
    found = [_base(facts, alive)]
    damaged = [f["name"] for k in ("snapshots", "checkpoints") for f in facts[k] if "damaged" in f]
    if damaged:
        found.append((
            "bad", f"{len(damaged)} file(s) are damaged, the newest {damaged[0]}.",
            "Older ones are used; check the disk, then remove the damaged file.",
        ))  # fmt: skip
    dead = [p for p in facts["processes"] if not p["alive"] and p.get("phase") != "ended"]
    if facts["local"] and dead:
        found.append((
            "bad", f"{dead[0]['name']} has ended without saying so.",
            "Run the pipeline again: it goes on where it was saved. Its log lies in state/logs.",
        ))  # fmt: skip
    silent = [p for p in alive if p["seconds_ago"] > SILENT_SECONDS and p.get("rows_per_s")]
    if silent:
        found.append((
            "warn", f"{silent[0]['name']} has said nothing for {silent[0]['seconds_ago']:.0f} s.",
            "It may wait for a disk or a broker; see its log in state/logs.",
        ))  # fmt: skip
    found += _lag(alive) + _letters(alive) + _budget(facts) + _model(facts) + _drift(facts)
    return found


def _base(facts: dict[str, Any], alive: list[dict[str, Any]]) -> tuple[str, str, str]:
    if alive:
        return "good", "All is well: the stream is read and nothing waits.", ""
    if not facts["snapshots"] and not facts["checkpoints"]:
        return "rest", "The store is empty.", "Start `streamsketch run` with its pipeline file."
    where = "" if facts["local"] else " Its processes, if any, run on another machine."
    return "rest", f"The store is at rest: no process runs here.{where}", ""


def _lag(alive: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    late = max((p.get("lag_s") or 0.0 for p in alive), default=0.0)
    if late < LAG_SECONDS:
        return []
    rows = sum(p.get("lag") or 0 for p in alive)
    return [(
        "warn", f"Reading is {late:.0f} s ({rows:,} rows) behind the stream.",
        "If it grows, start more members ([source] members), or give them more cores.",
    )]  # fmt: skip


def _letters(alive: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    dead = sum(p.get("dead") or 0 for p in alive)
    rows = sum(p.get("rows") or 0 for p in alive)
    if dead <= 0.02 * (rows + dead):
        return []
    return [(
        "warn", f"{dead / (rows + dead):.0%} of the rows are refused.",
        "See the reasons below; correct the schema, then `streamsketch redrive`.",
    )]  # fmt: skip


def _budget(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    budget = facts["privacy"]
    if budget is None:
        return []
    if budget["left"] == 0:
        return [(
            "bad", "The privacy budget is spent: no more snapshots are released.",
            "Plan more epochs, or begin a new stream with a budget of its own.",
        )]  # fmt: skip
    if budget["share"] >= 0.9:
        return [("warn", f"{budget['left']} releases are left of the privacy budget.",
                 "Release less often, or plan what follows.")]  # fmt: skip
    return []


def _model(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    newest = next((c for c in facts["checkpoints"] if "damaged" not in c), None)
    if newest is None:
        return []
    good, said = judged(newest)
    if not good:
        return [("bad", f"The newest generator is no good: {said}.", "Do not use its rows.")]
    if "poor" in said:
        return [("warn", f"The newest generator: {said}.", "See its panels below.")]
    return []


def _drift(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    recent = [a for a in facts["alarms"] if facts["time"] - a["time"] < OLD_SECONDS]
    if not recent:
        return []
    columns: list[Any] = next((s["columns"] for s in facts["snapshots"] if s.get("columns")), [])
    named = f"; {', '.join(c for c, _ in columns)} moved most" if columns else ""
    return [(
        "warn", f"The stream has changed {len(recent)} time(s) in the last ten minutes{named}.",
        "Check that the source means the same as before.",
    )]  # fmt: skip
