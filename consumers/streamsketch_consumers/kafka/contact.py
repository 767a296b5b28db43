"""Whether the brokers answer: at the start, when they stop, and when they are back."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from streamsketch.errors import StreamSketchError

__all__ = ["Contact", "connect"]

T = TypeVar("T")

log = logging.getLogger("streamsketch_consumers.kafka")

PROBE_SECONDS = 5.0  # of silence, after which the brokers are to be asked whether they are there
GRACE_SECONDS = 3.0  # beyond the time that a client takes by itself


def connect(
    make: Callable[[], T], servers: Sequence[str], seconds: float, error: type[StreamSketchError]
) -> T:
    """A client of Kafka, or an error within the time.

    Its own time limit does not hold where a peer takes the connection and then says nothing, as
    a port without TLS does when it is spoken to in TLS.

    Args:
        make: Makes the client, with `seconds` as its time limit.
        servers: The brokers' addresses, for the message.
        seconds: How long to try.
        error: What is raised when it fails; an error of ours comes through as it is.
    """
    made: list[T] = []
    problems: list[Exception] = []

    def attempt() -> None:
        try:
            made.append(make())
        except Exception as e:  # the settings reach TLS, SASL and sockets, each with its errors
            problems.append(e)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds + GRACE_SECONDS)
    if made:
        return made[0]
    if problems and isinstance(problems[0], StreamSketchError):
        raise problems[0]
    problem = (
        problems[0] if problems else TimeoutError("the connection was taken, but not answered")
    )
    raise error(
        f"no Kafka broker answers at {', '.join(servers)} within {seconds:g} s "
        f"({type(problem).__name__}: {problem}); start one, or correct bootstrap_servers and the "
        "security settings"
    ) from problem


class Contact:
    """Keeps when the brokers were last heard.

    Args:
        servers: Their addresses, for the messages.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = ", ".join(servers)
        self._heard = time.monotonic()
        self._silent_since: float | None = None

    def answered(self) -> bool:
        """They were heard; returns whether they had been away."""
        self._heard = time.monotonic()
        if self._silent_since is None:
            return False
        log.warning("Kafka answers again after %.0f s", self._heard - self._silent_since)
        self._silent_since = None
        return True

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
        # kafka-python leaves the sockets of its vain attempts in reference cycles
        gc.collect()

    @property
    def quiet(self) -> bool:
        """Whether nothing was heard for so long that it is time to ask."""
        return time.monotonic() - self._heard > PROBE_SECONDS
