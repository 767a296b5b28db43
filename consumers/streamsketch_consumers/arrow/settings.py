"""Settings of the Arrow source."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from streamsketch.errors import ConfigError
from streamsketch.tables import Positive, key
from streamsketch_consumers.arrow.wire import address
from streamsketch_consumers.columns import Extra, Missing

__all__ = ["ArrowSettings"]


@dataclass(frozen=True)
class ArrowSettings:
    """Settings of the Arrow stream source.

    Attributes:
        path: `-` for standard input, the path of a named pipe or file, or `tcp://host:port`.
        listen: Wait at the TCP address for the producer instead of connecting to it.
        keep_open: Wait for the next producer when one has ended (pipe and TCP).
        replayed: The producer sends the same rows from the beginning whenever it connects.
        part: Name of the stream's one part in the store.
        batch_rows: Largest number of rows of a batch; longer ones are cut.
        max_message_bytes: A longer message is refused before memory is taken for it.
        connect_seconds: How long to try to connect.
        on_error: A stream that is cut or damaged, or whose columns do not fit: `fail` stops, `dlq`
            writes one dead letter about it, `skip` says so in the log. Rows before it are kept.
        missing: A column that is not there is `refuse`d, or taken as `null` in every row.
        extra: A column that is not declared is `ignore`d, or `refuse`d.
    """

    path: str = key(location=True)
    listen: bool = False
    keep_open: bool = False
    replayed: bool = False
    part: str = "arrow"
    batch_rows: Positive = 8192
    max_message_bytes: Positive = 1 << 30
    connect_seconds: Annotated[float, Gt(0)] = 30.0
    on_error: Literal["fail", "skip", "dlq"] = "fail"
    missing: Missing = "refuse"
    extra: Extra = "ignore"

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(problem)
        if self.path.startswith("tcp://"):
            address(self.path)

    def _problem(self) -> str | None:
        if self.listen and not self.path.startswith("tcp://"):
            return f"listen needs path = tcp://host:port, not {self.path!r}"
        if self.keep_open and self.path == "-":
            return "keep_open makes no sense for standard input, which ends once; remove it"
        return None
