"""Settings of the Flight source, and who may reach it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le

from streamsketch.errors import ConfigError
from streamsketch.tables import Positive, key
from streamsketch_consumers.columns import Extra, Missing

__all__ = ["LOOPBACK", "FlightSettings", "file_bytes"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class FlightSettings:
    """Settings of the Flight source.

    Attributes:
        host: Address to listen at.
        port: Port; 0 takes a free one.
        stream: Name that clients must put to.
        part: Name of the stream's one part in the store.
        token_env: Environment variable that holds the token clients must show.
        token_file: File that holds it.
        insecure: Allow an address that others can reach without a token.
        tls_cert: PEM file of the server's certificate chain; with `tls_key`, the stream is encrypted.
        tls_key: PEM file of its key.
        tls_client_ca: PEM file of the authority that clients' certificates must be signed by.
        batch_rows: Largest number of rows of a batch; longer ones are cut.
        queue_bytes: Rows waiting for the sketch; more wait at the clients.
        max_batch_bytes: A larger batch is refused.
        max_clients: Clients that are remembered; one more is refused.
        max_sample_rows: Most rows of one DoGet.
        missing: A column that a client does not send is `refuse`d, or taken as `null`.
        extra: A column that is not declared is `ignore`d, or `refuse`d.
        samples: Store whose newest checkpoint DoGet draws from; none if not set.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65535)] = 8815
    stream: str = "rows"
    part: str = "flight"
    token_env: str | None = None
    token_file: str | None = key(None, location=True)
    insecure: bool = False
    tls_cert: str | None = key(None, location=True)
    tls_key: str | None = key(None, location=True)
    tls_client_ca: str | None = key(None, location=True)
    batch_rows: Positive = 8192
    queue_bytes: Positive = 1 << 26
    max_batch_bytes: Positive = 1 << 30
    max_clients: Positive = 1000
    max_sample_rows: Positive = 1_000_000
    samples: str | None = key(None, location=True)
    missing: Missing = "refuse"
    extra: Extra = "ignore"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(problem)

    def _problem(self) -> str | None:
        if (self.tls_cert is None) != (self.tls_key is None):
            return "tls_cert and tls_key belong together; set both or none"
        if self.tls_client_ca is not None and self.tls_cert is None:
            return "tls_client_ca needs tls_cert and tls_key"
        if self.token_env is not None and self.token_file is not None:
            return "token_env and token_file contradict each other; set one of them"
        closed = self.token_env or self.token_file or self.tls_client_ca or self.host in LOOPBACK
        if not closed and not self.insecure:
            return (
                f"host = {self.host!r} lets anyone in the network feed rows; set token_env or "
                f"token_file, or "
                "insecure = true if that is meant"
            )
        return None

    def token(self) -> str | None:
        """The token, from where the settings say.

        Raises:
            ConfigError: It is not there, or empty.
        """
        if self.token_env is not None:
            name, token = (
                f"environment variable {self.token_env}",
                os.environ.get(self.token_env, ""),
            )
        elif self.token_file is not None:
            name = f"file {self.token_file!r}"
            token = file_bytes(self.token_file).decode(errors="replace")
        else:
            return None
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ConfigError(
                f"{name} holds no token of printable ASCII text; set it, or correct token_env or "
                "token_file"
            )
        return token


def file_bytes(path: str) -> bytes:
    """Content of a file that a setting names.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise ConfigError(
            f"cannot read {path!r} ({e.strerror}); correct the setting that names it"
        ) from e
