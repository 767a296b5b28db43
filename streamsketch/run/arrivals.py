"""What comes new into a store: each file is looked into once."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from streamsketch.storage.store import Family

__all__ = ["arrivals"]

LOOK_SECONDS = 0.5  # how often the store is looked at for something new

T = TypeVar("T")


def arrivals(
    family: Family,
    parse: Callable[[bytes, str], T],
    stop: threading.Event,
    ended: Callable[[], bool],
) -> Iterator[tuple[str, T]]:
    """The newest sound file of a family, now and each time that there is a newer one.

    Args:
        family: Snapshots or checkpoints.
        parse: From bytes and the path (for messages) to the value.
        stop: Ends the waiting.
        ended: Whether nothing will follow what is there now.

    Yields:
        Name and value.
    """
    looked = name = None
    while not stop.is_set():
        last = ended()  # asked before looking, so that what came last is seen
        names = family.names()
        if names and names[-1] != looked:
            looked = names[-1]
            newest = family.newest(parse)
            if newest is not None and newest[0] != name:
                name = newest[0]
                yield newest
                continue
        if last:
            return
        stop.wait(LOOK_SECONDS)
