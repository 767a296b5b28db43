"""Whether the brokers answer: said once when they stop, and once when they are back."""

import logging
import time
from collections.abc import Sequence

__all__ = ["Contact"]

log = logging.getLogger("consumers.kafka")

PROBE_SECONDS = 5.0  # of silence, after which the brokers are to be asked whether they are there


class Contact:
    """Keeps when the brokers were last heard.

    Args:
        servers: Their addresses, for the messages.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = ", ".join(servers)
        self._heard = time.monotonic()
        self._silent_since: float | None = None

    def answered(self) -> None:
        """They were heard."""
        self._heard = time.monotonic()
        if self._silent_since is not None:
            log.warning("Kafka answers again after %.0f s", self._heard - self._silent_since)
            self._silent_since = None

    def failed(self, error: Exception) -> None:
        """They were asked, and did not answer."""
        if self._silent_since is None:
            self._silent_since = self._heard
            log.warning(
                "the Kafka brokers %s do not answer (%s); reading goes on when they are back",
                self._servers,
                type(error).__name__,
            )
        self._heard = time.monotonic()

    @property
    def quiet(self) -> bool:
        """Whether nothing was heard for so long that it is time to ask."""
        return time.monotonic() - self._heard > PROBE_SECONDS
