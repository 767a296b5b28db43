"""What was spent, on what and under which assumption, in words for a data-protection officer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamsketch.privacy.accountant import epsilon_from_rho
from streamsketch.privacy.ledger import Ledger
from streamsketch.privacy.mechanisms import lookup
from streamsketch.snapshot import Snapshot

if TYPE_CHECKING:
    from streamsketch.privacy.release import Releaser

__all__ = ["explain"]

UNITS = {
    "row": "one row of the stream",
    "user": "everything that one user adds to the stream, within the stated limits",
}
NEIGHBOURS = {
    "add_remove": "being in the stream or not (the place of an absent row stays empty)",
    "replace_one": "being replaced by any other",
}


def explain(subject: "Snapshot | Ledger | Releaser") -> str:
    """Describe the privacy of a snapshot, a ledger or a releaser.

    Only facts that may be published are used.

    Args:
        subject: What to describe.

    Returns:
        A few lines of plain text.

    >>> from streamsketch.schema import Schema
    >>> from streamsketch.features import FeatureMap
    >>> import numpy as np
    >>> fm = FeatureMap.from_frequencies(np.ones((1, 2)))
    >>> print(explain(Snapshot(np.zeros(4), 0.0, fm.spec, Schema.vectors(1, 0, 1))))
    Mechanism: none. No noise is added: releases are exact and not private.
    Anyone who reads this snapshot learns the exact sums of the stream.
    """
    if isinstance(subject, Snapshot):
        return _snapshot(subject)
    ledger = subject if isinstance(subject, Ledger) else getattr(subject, "ledger", None)
    if ledger is None:
        return _not_private("stream")
    return _ledger(ledger)


def _not_private(what: str) -> str:
    return (
        f"Mechanism: none. {lookup('none').summary}\n"
        f"Anyone who reads this {what} learns the exact sums of the stream."
    )


def _snapshot(snapshot: Snapshot) -> str:
    r = snapshot.release
    if not r.private:
        return _not_private("snapshot")
    facts = dict(r.notes) | {"strict": r.notes.get("noise") == "discrete"}
    return "\n".join(
        [
            f"Stream: {r.stream}. Release {r.index} of epoch {r.epoch}.",
            *_promise(r.mechanism, r.memory, r.epsilon, r.delta, r.rho, r.releases, r.unit,
                      r.adjacency, facts),
            f"Noise in this release: standard deviation {r.noise_std:.4g} on every coordinate of the "
            f"sum, {r.count_std:.4g} rows on the released count of {snapshot.count:.0f}.",
            *_caveats(facts),
        ]
    )  # fmt: skip


def _ledger(ledger: Ledger) -> str:
    opened = next((e for e in ledger.entries if e["kind"] == "open"), None)
    last = ledger.last("release")
    made = sum(e["kind"] == "release" for e in ledger.entries)
    lines = [
        f"Stream: {ledger.stream}. The ledger has {ledger.length} entries, head {ledger.head[:16]}."
    ]
    if opened is None:
        lines.append(
            "Nothing was released" + (" and nothing was spent." if not ledger.spent else ".")
        )
    else:
        s = opened["settings"]
        lines += _promise(
            opened["mechanism"], opened["memory"], opened["epsilon"], s["delta"], opened["rho"],
            s["releases"] or 0, s["unit"], s["adjacency"], s,
        )  # fmt: skip
    lines += [
        f"Paid query: {e.get('name', 'query')}, rho = {e['charge']:.6g}, at {e['at']}."
        for e in ledger.entries
        if e["kind"] == "query"
    ]
    if opened is not None and any(e["kind"] == "query" for e in ledger.entries):
        delta = opened["settings"]["delta"]
        epsilon = epsilon_from_rho(ledger.spent, delta, strict=True)
        lines.append(
            f"Queries and releases together are ({epsilon:.4g}, {delta:.3g})-differentially private."
        )
    if last is not None and opened is not None:
        planned = opened["settings"]["releases"]
        left = "without a last one" if planned is None else f"of {planned} planned"
        lines.append(
            f"Made so far: release {last['index']} (counted from 0, {left}) of epoch "
            f"{last['epoch']}, the latest at {last['at']}; {made} are in the kept part of the ledger."
        )
    lines.append(
        f"Spent so far: rho = {ledger.spent:.6g} (zCDP). The budget of an epoch is spent as a whole "
        "when its first release is made; the releases after it share it and cost nothing more. "
        "There are no refunds."
    )
    if opened is not None:
        lines += _caveats(opened["settings"])
    if any("clock_went_back_to" in e for e in ledger.entries):
        lines.append("Note: the clock went backwards at some entries; no promise depends on it.")
    return "\n".join(lines)


def _promise(
    mechanism: str,
    memory: str,
    epsilon: float,
    delta: float,
    rho: float,
    releases: int,
    unit: str,
    adjacency: str,
    facts: Mapping[str, Any],
) -> list[str]:
    number = f"all {releases} planned releases" if releases else "all releases, however many,"
    lines = [
        f"Mechanism: {mechanism}. {lookup(mechanism).summary}",
        f"Memory: {memory}.",
        f"Promise: {number} together are ({epsilon:.4g}, {delta:.3g})-differentially private "
        f"(rho = {rho:.6g} zCDP) for {UNITS[unit]}, compared by {NEIGHBOURS[adjacency]}.",
        f"In words: whoever sees all of them can change the odds that it was there by at most a "
        f"factor of {_odds(epsilon)}, except with probability about {delta:.3g}. {_strength(epsilon)}",
    ]
    if unit == "user":
        lines.append(
            f"User limits: at most {facts.get('windows')} windows, {facts.get('separation')} apart, "
            f"{facts.get('rows')} rows in each; rows beyond them were left out. At most "
            f"{facts.get('users')} different users are told apart; if there were more, the promise is "
            "that for two users."
        )
    if int(facts.get("epochs", 1)) > 1:
        lines.append(
            "Epochs: a row lies in one epoch only, so the promise per row is that of one epoch; "
            "it does not protect a person whose rows lie in several."
        )
    return lines


def _caveats(facts: Mapping[str, Any]) -> list[str]:
    arithmetic = (
        "Arithmetic: exact discrete Gaussian noise on whole numbers."
        if facts.get("strict")
        else "Arithmetic: continuous Gaussian noise in double precision, rounded to the lattice of "
        "the sums; the promise is that of the ideal Gaussian (strict mode has no such gap)."
    )
    lines = [
        arithmetic,
        "Assumptions: column limits, categories, frequencies and scale were chosen without looking at "
        "these rows, or paid for; the time of a release does not depend on the rows.",
        "Not covered: the time a computation takes, and whoever can read the memory or the state "
        "folder of the sketching process.",
    ]
    if "TEST MODE" in facts:
        lines.append("TEST MODE: the noise came from a seeded generator. THIS IS NOT PRIVATE.")
    return lines


def _strength(epsilon: float) -> str:
    for limit, words in (
        (1.0, "That is a strong promise."),
        (4.0, "That is a usual promise."),
        (10.0, "That is a weak promise: it rules out certainty, not a good guess."),
    ):
        if epsilon <= limit:
            return words
    return "THAT PROTECTS LITTLE: a determined observer can be nearly certain."


def _odds(epsilon: float) -> str:
    from math import exp

    return f"{exp(epsilon):.3g}" if epsilon < 30 else "more than 10^13: in effect no protection"
