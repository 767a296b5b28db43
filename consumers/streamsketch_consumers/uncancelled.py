"""Arrow's readers and signals."""

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

__all__ = ["uncancelled"]

T = TypeVar("T")


def uncancelled(read: Callable[[], T]) -> T:
    """Call one of Arrow's text readers, again if a signal cancelled it.

    While they run in the main thread, `read_csv` and `read_json` take SIGINT and SIGTERM to
    themselves: they give up with an error that is easily mistaken for bad data, and then the
    signal's own handler is called.

    >>> uncancelled(lambda: 3)
    3
    """
    while True:
        try:
            return read()
        except pa.lib.ArrowCancelled:
            continue
