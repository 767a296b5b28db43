"""Combining what was learned apart: the result keeps the weakest promise of its parts, or is refused.

Sketchers release anew, so both must have given the same promise. Snapshots were released already: the
result states what holds for all rows in it, and what was spent adds up, because nothing says whether the
two streams share people. Rows that are in both would count twice: every release carries its provenance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import hypot
from typing import Any, Protocol

import numpy as np

from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.privacy.memory import Memory
from streamsketch.privacy.settings import Settings
from streamsketch.snapshot import Release, Snapshot

__all__ = ["average", "check_same_promise", "overlap", "provenance"]

APART = ("tumbling",)  # memories whose releases of one stream share no rows


class Promise(Protocol):
    """What of a releaser decides whether its rows may be joined with another's."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Streams whose rows it releases."""

    @property
    def mechanism(self) -> str:
        """How sums are protected."""

    @property
    def memory(self) -> Memory:
        """What a release stands for."""

    @property
    def private(self) -> bool:
        """Whether a mechanism is on."""

    @property
    def released(self) -> int:
        """Releases made."""

    @property
    def settings(self) -> Settings | None:
        """Privacy settings; None without privacy."""

    @property
    def stream(self) -> str:
        """Name of the stream."""

    @property
    def test_mode(self) -> bool:
        """Whether the noise is repeatable."""

    @property
    def paid(self) -> float:
        """What queries have cost before the first release, rho."""


def provenance(origins: Sequence[str], memory: str, epoch: int, index: int) -> list[str]:
    """What a release holds the rows of: streams, or single windows of one."""
    if memory not in APART:
        return list(origins)
    return [f"{origin}/{epoch}/{index}" for origin in origins]


def overlap(a: Iterable[str], b: Iterable[str]) -> list[str]:
    """Streams whose rows may be in both; a whole stream overlaps with each of its windows."""
    theirs = set(b)
    whole = {one for one in theirs if "/" not in one}
    streams = {one.split("/")[0] for one in theirs}
    return sorted(
        {
            one.split("/")[0]
            for one in a
            if one in theirs or one.split("/")[0] in whole or ("/" not in one and one in streams)
        }
    )


def check_same_promise(a: Promise, b: Promise) -> None:
    """Refuse two releasers whose rows cannot be released together under the promise given to each.

    Raises:
        ConfigError: Mechanism, memory, settings or test mode differ, rows may be in both, something was
            released or paid for already, or users are counted.
    """
    if shared := overlap(a.origins, b.origins):
        raise ConfigError(
            f"the rows of stream {', '.join(shared)} are in both sketchers and would count twice; merge sketchers of "
            "different rows"
        )
    for name, mine, theirs in (
        ("mechanism", a.mechanism, b.mechanism),
        ("memory", a.memory.text, b.memory.text),
        ("test mode", a.test_mode, b.test_mode),
        *_settings(a, b),
    ):
        if mine != theirs:
            raise ConfigError(
                f"the sketchers promise different things ({name} is {mine!r} and {theirs!r}) and the result could "
                "keep only one; make both with the same privacy settings"
            )
    for one in (a, b):
        if one.private and one.released:
            raise ConfigError(
                "sketchers that have released privately cannot be merged; merge before the first release"
            )
        if one.paid:
            raise ConfigError(
                f"the ledger of stream {one.stream!r} has paid queries, which the result would forget; merge before "
                "they are paid, and charge the result"
            )
        if one.settings is not None and one.settings.unit == "user":
            raise ConfigError(
                'sketchers with unit "user" cannot be merged: each counted users by itself; '
                "learn all rows with one"
            )


def _settings(a: Promise, b: Promise) -> list[tuple[str, Any, Any]]:
    mine = {} if a.settings is None else a.settings.to_dict()
    theirs = {} if b.settings is None else b.settings.to_dict()
    return [(name, mine.get(name), theirs.get(name)) for name in sorted({*mine, *theirs})]


def average(a: Snapshot, b: Snapshot, allow_overlap: bool = False) -> Snapshot:
    """The snapshot of both streams' rows: means by their counts, noise and spending added.

    Args:
        a: One snapshot.
        b: Another, of the same operator.
        allow_overlap: Count rows twice that may be in both.

    Raises:
        SpecMismatchError: The operators differ.
        ConfigError: One is private and the other is not, they protect different neighbours, or rows may
            be in both.
    """
    if a.spec.fingerprint != b.spec.fingerprint:
        raise SpecMismatchError.of("merge", a.spec.fingerprint, b.spec.fingerprint)
    shared = overlap(_origins(a), _origins(b)) or ([a.id] if a.id == b.id else [])
    if shared and not allow_overlap:
        raise ConfigError(
            f"rows of stream {', '.join(shared)} may be in both snapshots and would count twice; merge snapshots of "
            "different streams, or allow it (--allow-overlap)"
        )
    count = max(a.count, 0.0) + max(b.count, 0.0)
    share = max(a.count, 0.0) / count if count else 0.5

    def mixed(one: Any, other: Any) -> Any:
        return None if one is None else share * one + (1 - share) * np.asarray(other)

    return replace(
        a,
        mean=mixed(a.mean, b.mean),
        cells=mixed(a.cells, b.cells),
        count=count,
        release=_weakest(a, b),
        span={"merged": [dict(a.span), dict(b.span)]},
    )


def _origins(snapshot: Snapshot) -> list[str]:
    return list(snapshot.release.notes.get("origins", ()))


def _weakest(a: Snapshot, b: Snapshot) -> Release:
    """What holds for the rows of both."""
    mine, theirs = a.release, b.release
    if mine.private != theirs.private:
        raise ConfigError(
            f"a snapshot of mechanism {mine.mechanism!r} cannot be merged with one of {theirs.mechanism!r}: the result "
            "could not state what it protects"
        )
    if mine.adjacency != theirs.adjacency:
        raise ConfigError(
            f"snapshots with adjacency {mine.adjacency!r} and {theirs.adjacency!r} protect different "
            "neighbours; merge snapshots of one adjacency"
        )
    kept: dict[str, Any] = {}
    for release in (mine, theirs):
        kept |= {name: release.notes[name] for name in ("TEST MODE",) if name in release.notes}
    noises = {r.notes.get("noise", "") for r in (mine, theirs)}
    if any(noises):
        kept["noise"] = "discrete" if noises == {"discrete"} else "rounded"
    users = mine.unit == theirs.unit == "user"
    return replace(
        mine,
        mechanism=mine.mechanism if mine.mechanism == theirs.mechanism else "mixed",
        memory=mine.memory if mine.memory == theirs.memory else "mixed",
        index=0,
        epoch=0,
        stream=f"{mine.stream}+{theirs.stream}",
        # who protects a user within limits protects each row; the other way it does not hold
        unit="user" if users else ("row" if mine.private else ""),
        rho=mine.rho + theirs.rho,
        epsilon=mine.epsilon + theirs.epsilon,
        delta=mine.delta + theirs.delta,
        releases=0,
        noise_std=hypot(mine.noise_std, theirs.noise_std),
        count_std=hypot(mine.count_std, theirs.count_std),
        notes={
            **kept,
            "merged": [a.id, b.id],
            "origins": sorted({*_origins(a), *_origins(b)}),
            "spending": "added, as rows of both may be of one person",
        },
    )
