"""One release of a stream: the sums as saved, through the mechanism, written ahead, then published."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsketch.files import Arrays
from streamsketch.privacy.ledger import LedgerCopy
from streamsketch.snapshot import Snapshot
from streamsketch.state import State

if TYPE_CHECKING:
    from streamsketch.privacy.release import Releaser
    from streamsketch.store import Store

__all__ = ["Schedule", "release_now"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """When to save and when to release; None switches a trigger off."""

    save_seconds: float = 2.0
    release_seconds: float | None = 10.0
    release_rows: int | None = None
    keep: int | None = 100
    max_age: float | None = None


def release_now(
    state: State,
    store: "Store",
    new_releaser: "Callable[[], Releaser]",
    schedule: Schedule = Schedule(),
    wait: bool = False,
    reset: bool = False,
) -> Snapshot | None:
    """Release the sum of all parts as last saved, with write-ahead.

    The finished snapshot is part of the release state before anyone sees it; after a crash in
    between it is put into the store as it was, never made again.

    Returns:
        The snapshot; None where another process is releasing, or nothing is new.
    """
    with state.releasing(wait) as mine:
        if not mine:
            return None
        releaser = new_releaser()
        copy = LedgerCopy(store) if releaser.private else None
        saved = state.load_release()
        number = 0
        if saved is not None:
            releaser.restore(saved[0], saved[1]["releaser"])
            number = saved[1]["number"] + 1
        if copy is not None:
            copy.check(releaser.ledger)
        if saved is not None:
            _publish_again(store, *saved)
        cut, positions, rows = state.cut()
        if saved is not None and saved[1]["positions"] == positions:
            return None
        span = {"parts": positions} if releaser.mechanism == "none" else {}
        snapshot = releaser.release(cut.total, cut.count, span)
        if reset:
            releaser.forget()
        data = snapshot.to_bytes()
        arrays, numbers = releaser.state()
        arrays = {**arrays, "pending": np.frombuffer(data, np.uint8)}
        state.save_release(
            arrays,
            {"releaser": numbers, "number": number, "positions": positions, "rows": rows},
        )
        if copy is not None:
            copy.extend(releaser.ledger)
        store.snapshots.put(data, number)
        store.snapshots.retain(schedule.keep, schedule.max_age)
        return snapshot


def _publish_again(store: "Store", arrays: Arrays, body: dict[str, Any]) -> None:
    """Put the last finished snapshot into the store as it was, where a crash came before that."""
    number = body["number"]
    if number not in map(store.snapshots.number, store.snapshots.names()[-1:]):
        log.info("snapshot %d was finished but not published; publishing it as it was", number)
        store.snapshots.put(arrays["pending"].tobytes(), number)
