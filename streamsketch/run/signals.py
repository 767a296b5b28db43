"""Ending on a signal, or with the process that started this one, cleanly."""

import ctypes
import os
import signal
import sys
import threading

__all__ = ["SUPERVISED", "end_with_parent", "stop_on_signals"]

#: Set in the environment of a process whose standard input is a pipe from its supervisor.
SUPERVISED = "STREAMSKETCH_SUPERVISED"
GRACE_SECONDS = 20.0  # for saving; after it the process ends at once
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
QUICK_SECONDS = 0.5  # as above, for one that has nothing to save: what it made lies in whole files


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM, SIGINT and SIGHUP (the terminal is gone) set, so that a process can end cleanly."""
    stop = threading.Event()

    def handler(number: int, frame: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)
    return stop


def end_with_parent(stop: threading.Event, saves: bool = True) -> None:
    """Set `stop` when the supervisor is gone, however it ended; does nothing without one.

    A supervised process has the reading end of a pipe as its standard input. Nobody writes to it,
    and the kernel closes the other end when the supervisor dies.

    Args:
        stop: Asks this process to end by itself; it is ended when it has not within some seconds.
        saves: Whether it has something to save first.
    """
    if os.environ.get(SUPERVISED) is None:
        return
    if not saves and sys.platform == "linux":
        # the kernel does not wait for a thread of a busy process to get its turn
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))

    def wait() -> None:
        while os.read(0, 1):
            pass
        stop.set()
        threading.Event().wait(GRACE_SECONDS if saves else QUICK_SECONDS)
        os._exit(1)  # what was saved is sound

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
