"""One release of a stream: the sums as saved, through the mechanism, written ahead, then published."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge, Gt

from streamsketch.errors import BudgetError, FencedError, PrivacyError
from streamsketch.ingest.parts import State
from streamsketch.ingest.windows import Windows
from streamsketch.privacy.ledger import LedgerCopy
from streamsketch.sketch import Sketch
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import Arrays

if TYPE_CHECKING:
    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

__all__ = ["ReleaseState", "Schedule", "release_now", "release_windows"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """[snapshots]: when sums are saved and released, and what is kept; None switches a trigger off.

    Attributes:
        save_seconds: Save sums and positions so often, in seconds.
        seconds: Release after so many seconds.
        rows: Release after so many rows read.
        keep: Keep the newest so many snapshots.
        max_age: Remove snapshots that are older, in seconds.
    """

    save_seconds: Annotated[float, Ge(0)] = 2.0
    seconds: Annotated[float, Gt(0)] | None = 10.0
    rows: Annotated[int, Ge(1)] | None = None
    keep: Annotated[int, Ge(1)] | None = 100
    max_age: Annotated[float, Gt(0)] | None = None


class ReleaseState(Protocol):
    """What releasing needs of a stream's state; see `ingest.parts.State`."""

    def releasing(self, wait: bool = False) -> AbstractContextManager[bool]:
        """Hold the stream's only releaser."""

    def identity(self, fresh: bool = False) -> str:
        """Tells this folder from a copy of it."""

    def load_release(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The saved release state."""

    def save_release(self, arrays: Arrays, body: dict[str, Any]) -> None:
        """Write the release state; FencedError where another process did since it was loaded."""

    def superseded(self) -> bool:
        """Whether another process has written it since."""

    def cut(self) -> tuple[Sketch, Any, int]:
        """The sum as saved, its positions, and the rows read for it."""


def release_now(
    state: ReleaseState,
    store: "Store",
    new_releaser: "Callable[[], Releaser]",
    schedule: Schedule = Schedule(),
    wait: bool = False,
    reset: bool = False,
    last: bool = False,
) -> Snapshot | None:
    """Release the sum of all parts as last saved, with write-ahead.

    The finished snapshot is part of the release state before anyone sees it; after a crash in
    between it is put into the store as it was, never made again.

    Args:
        state: The parts' sums, and what was released.
        store: Where snapshots go.
        new_releaser: Makes a releaser that has released nothing.
        schedule: What is kept.
        wait: Wait for another process that releases.
        reset: Start the memory anew afterwards.
        last: The stream has ended, and this is the release of its end.

    Returns:
        The snapshot; None where another process is releasing, or nothing is new. With a mechanism
        on, a release that is due is made whether anything is new or not: that nothing came is
        something that rows decide. Only the end of a stream is released once.
    """
    while True:
        try:
            return _release_once(state, store, new_releaser, schedule, wait, reset, last)
        except FencedError:
            # another machine was faster: what was made here was not shown to anybody
            if not wait:
                return None


def _release_once(
    state: ReleaseState,
    store: "Store",
    new_releaser: "Callable[[], Releaser]",
    schedule: Schedule,
    wait: bool,
    reset: bool,
    last: bool,
) -> Snapshot | None:
    with state.releasing(wait) as mine:
        if not mine:
            return None
        releaser, copy, saved = _resume(state, store, new_releaser)
        cut, positions, rows = state.cut()
        if saved is not None and saved["positions"] == positions:
            ended = last and saved.get("last")
            if ended or not releaser.private:
                return None
        span = {"parts": positions} if releaser.mechanism == "none" else {}
        snapshot = releaser.release(cut.total, cut.count, span)
        if reset:
            releaser.forget()
        body: dict[str, Any] = {
            "number": _next_number(saved),
            "positions": positions,
            "rows": rows,
            "last": last,
        }
        data = _write_ahead(state, releaser, snapshot, body)
        _publish(store, data, body["number"], releaser, copy, schedule)
        return snapshot


def release_windows(
    state: State,
    store: "Store",
    new_releaser: "Callable[[], Releaser]",
    windows: Windows,
    now: float,
    schedule: Schedule = Schedule(),
    wait: bool = False,
    reset: bool = False,
) -> list[Snapshot] | None:
    """Close and release the windows that are due by what the parts have saved, in order.

    One window is one pane of the memory: what a snapshot stands for is decided there, as for
    releases by time or rows. That a window is closed is part of the release state, in the same
    write as the finished snapshot: a window is released once, and rows that come later are late.

    Args:
        state: The parts' sums.
        store: Where snapshots go.
        new_releaser: Makes a releaser that has released nothing.
        windows: How the stream is cut.
        now: Seconds since 1970, for windows that close by the clock.
        schedule: What is kept.
        wait: Wait for another process that releases.
        reset: Start the memory anew after the first of them.

    Returns:
        The snapshots; None where another process is releasing.

    Raises:
        BudgetError: The privacy budget is spent; windows are closed unreleased.
        PrivacyError: Windows follow the rows' times, but a mechanism is on.
    """
    with state.releasing(wait) as mine:
        if not mine:
            return None
        # first of all, whether a window is due or not: what is finished is published
        releaser, copy, saved = _resume(state, store, new_releaser)
        closed = state.closed()
        parts = state.parts()
        turns = windows.turns(parts, closed, windows.due(parts, closed, now))
        if turns and releaser.private and windows.watermark == "rows":
            raise PrivacyError(
                "windows close by the rows' own times, so that one row decides whether others are "
                'late and no mechanism covers that; set [windows] watermark = "clock"'
            )
        made: list[Snapshot] = []
        for window, after in turns:
            body: dict[str, Any] = {"number": _next_number(saved), "closed": after}
            with state.closing():
                parts = state.parts()
                pane = [p.windows[window] for p in parts if window in p.windows]
                total = releaser.seen + sum(p.total for p in pane)
                count = releaser.seen_count + sum(p.count for p in pane)
                positions = {p.part: p.position for p in parts}
                body |= {"positions": positions, "rows": sum(p.rows for p in parts)}
                span: dict[str, Any] = {"window": windows.span(window)}
                if releaser.mechanism == "none":
                    span["parts"] = positions
                try:
                    snapshot = releaser.release(total, count, span)
                except BudgetError:
                    _give_up(state, body | {"number": body["number"] - 1, "closed": turns[-1][1]})
                    raise
                if reset and not made:
                    releaser.forget()
                data = _write_ahead(state, releaser, snapshot, body)
            _publish(store, data, body["number"], releaser, copy, schedule)
            saved = body
            made.append(snapshot)
        return made


def _resume(
    state: ReleaseState, store: "Store", new_releaser: "Callable[[], Releaser]"
) -> "tuple[Releaser, LedgerCopy | None, dict[str, Any] | None]":
    """The releaser as it was saved, what is finished published, and what was saved with it."""
    releaser = new_releaser()
    copy = LedgerCopy(store) if releaser.private else None
    saved = state.load_release()
    if saved is not None:
        releaser.restore(saved[0], saved[1]["releaser"])
    try:
        if copy is not None and releaser.ledger is not None:
            copy.check(releaser.ledger)
        number = _check_newest(state, store, saved, releaser)
    except PrivacyError:
        _still(state)  # the store may know more because another machine has just released
        raise
    if number is not None:
        _still(state)
        log.warning(
            "the store holds snapshot %d, which the state does not know: it is older; going on above it",
            number,
        )
    if saved is not None and number is None:
        _publish_again(store, *saved)
    body = None if saved is None else saved[1]
    return releaser, copy, body if number is None else {**(body or UNRELEASED), "number": number}


UNRELEASED: dict[str, Any] = {"positions": None, "rows": 0}


def _check_newest(
    state: ReleaseState,
    store: "Store",
    saved: tuple[Arrays, dict[str, Any]] | None,
    releaser: "Releaser",
) -> int | None:
    """What the store knows of releases that the state does not: the newest number, None for nothing.

    Raises:
        PrivacyError: A mechanism is on, and the state is older than what was published, or a copy:
            going on would draw other noise for releases that were made.
    """
    here = None if saved is None else saved[1].get("identity")
    if releaser.private and here is not None and here != state.identity():
        raise PrivacyError(
            f"the state of stream {releaser.stream!r} was copied or put back from a backup since its last release, so "
            "that releases may have been made that it does not know; go on with the original, or start "
            "a new stream for rows not used so far"
        )
    names = store.snapshots.names()[-1:]
    newest = max(map(store.snapshots.number, names), default=-1)
    mine = -1 if saved is None else int(saved[1]["number"])
    if newest <= mine:
        return None
    if releaser.private:
        raise PrivacyError(
            f"the store holds snapshot {newest} but the state of stream {releaser.stream!r} knows {mine + 1} of its "
            "releases: it is older than what was published; put back the newest state, or use a new store "
            "and stream for rows not used so far"
        )
    return newest


def _still(state: ReleaseState) -> None:
    """Raise FencedError where the release state that was loaded is not the newest any more."""
    if state.superseded():
        raise FencedError("another process has released meanwhile; try again")


def _next_number(saved: dict[str, Any] | None) -> int:
    return 0 if saved is None else int(saved["number"]) + 1


def _write_ahead(
    state: ReleaseState, releaser: "Releaser", snapshot: Snapshot, body: dict[str, Any]
) -> bytes:
    """Save the finished snapshot with the state of the releases; its bytes."""
    data = snapshot.to_bytes()
    arrays, numbers = releaser.packed()
    arrays = {**arrays, "pending": np.frombuffer(data, np.uint8)}
    identity = state.identity(fresh=body["number"] == 0)
    state.save_release(arrays, {**body, "releaser": numbers, "identity": identity})
    return data


def _publish(
    store: "Store",
    data: bytes,
    number: int,
    releaser: "Releaser",
    copy: LedgerCopy | None,
    schedule: Schedule,
) -> None:
    if copy is not None and releaser.ledger is not None:
        copy.extend(releaser.ledger)
    store.snapshots.put(data, number)
    store.snapshots.retain(schedule.keep, schedule.max_age)


def _give_up(state: State, body: dict[str, Any]) -> None:
    """Close windows unreleased: the state of the releases stays as it is."""
    saved = state.load_release()
    assert saved is not None  # a budget holds one release at the least
    state.save_release(saved[0], {**saved[1], **body})


def _publish_again(store: "Store", arrays: Arrays, body: dict[str, Any]) -> None:
    """Put the last finished snapshot into the store as it was, where a crash came before that."""
    number = body["number"]
    if number not in map(store.snapshots.number, store.snapshots.names()[-1:]):
        log.info("snapshot %d was finished but not published; publishing it as it was", number)
        store.snapshots.put(arrays["pending"].tobytes(), number)
