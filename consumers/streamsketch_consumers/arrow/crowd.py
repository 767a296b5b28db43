"""Several producers at once, so that one that is silent does not hold up the others."""

import logging
import threading
import time
from collections.abc import Callable

from streamsketch_consumers.arrow.wire import TICK, Stopped, Wire

__all__ = ["Crowd"]

log = logging.getLogger(__name__)

MOST = 64  # connections read at once
SILENT_SECONDS = 5.0  # after which a connection makes room for another


class Crowd:
    """Reads each connection in a thread of its own.

    When there are as many as may be, the one that was silent for longest is closed.

    Args:
        stop: Ends all of them.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._wires: dict[Wire, threading.Thread] = {}

    def serve(self, wire: Wire, read: Callable[[Wire], None]) -> None:
        """Read a connection in a thread; waits while there is no room for it.

        Raises:
            Stopped: All was stopped meanwhile.
        """
        while len(self._living()) >= MOST:
            silent = min(self._wires, key=lambda w: w.heard)
            if time.monotonic() - silent.heard > SILENT_SECONDS and not silent.stop.is_set():
                log.warning("%d producers are connected; the most silent one is cut off", MOST)
                silent.stop.set()
            if self._stop.wait(TICK):
                wire.close()
                raise Stopped
        thread = threading.Thread(target=read, args=(wire,), daemon=True)
        self._wires[wire] = thread
        thread.start()

    def close(self, seconds: float) -> None:
        """End all of them."""
        for wire in self._living():
            wire.stop.set()
        end = time.monotonic() + seconds
        for thread in self._wires.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _living(self) -> dict[Wire, threading.Thread]:
        self._wires = {wire: t for wire, t in self._wires.items() if t.is_alive()}
        return self._wires
