"""What flows between sources, the pipeline and sinks: small values and four protocols.

A source yields chunks; each carries the position *after* it, which the pipeline saves in the
same atomic write as the sums. A source learns where to start from the pipeline, part by part:
a part is what has a position of its own (a Kafka partition, a folder of files).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from streamsketch.errors import ConfigError

__all__ = [
    "Bounded",
    "Chunk",
    "Dead",
    "DeadLetters",
    "Dropped",
    "Ownership",
    "Position",
    "Sink",
    "Source",
    "plugin",
]

Position = dict[str, Any]


@dataclass(frozen=True)
class Dead:
    """A row or message that could not be used.

    Attributes:
        raw: What came, as bytes where it could not be decoded, else JSON text.
        reason: Why, in a few words.
        where: Its position: file and row, or topic, partition and offset.
    """

    raw: bytes | str
    reason: str
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """Rows of one part, and the position after them.

    Attributes:
        part: Name of the part.
        position: Position after this chunk: where to go on.
        batch: The rows, or None where only the position moved.
        dead: What could not be decoded.
        where: Position of the rows, to find a refused one again: its values are the rows'
            first position; a list under `rows` names each row's.
    """

    part: str
    position: Position
    batch: pa.RecordBatch | None = None
    dead: tuple[Dead, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)


class Ownership(Protocol):
    """What the pipeline offers to a source: which parts are this process's, and from where."""

    def claim(self, part: str) -> Position | None:
        """Take a part over, fencing a former owner; returns its saved position, None if new."""
        ...

    def revoke(self, part: str) -> None:
        """Give a part up: what was summed is saved, then forgotten."""
        ...

    def lose(self, part: str) -> None:
        """A part was taken away: what was summed since the last save is forgotten."""
        ...

    def read_before(self) -> Collection[str]:
        """Names of all parts of the stream that have a saved position, whoever owns them."""
        ...


class Source(Protocol):
    """A stream of chunks."""

    finished: bool

    def open(self, owner: Ownership) -> None:
        """Connect, and claim the parts that are known at once."""
        ...

    def poll(self, timeout: float) -> Iterable[Chunk]:
        """The next chunks, within about `timeout` seconds; none when nothing came."""
        ...

    def saved(self, positions: Mapping[str, Position]) -> None:
        """These positions are durable: acknowledge, or commit for monitoring."""
        ...

    def lag(self) -> Mapping[str, int | None]:
        """Rows or messages behind the end, per part, where known."""
        ...

    def close(self) -> None:
        """Release connections, within seconds."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A source that may know how much of it is left."""

    def left(self) -> int | None:
        """Rows that are still to be read, about; None where that is not known."""
        ...


class Sink(Protocol):
    """Where generated rows go."""

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        ...

    def flush(self) -> None:
        """Make what was written durable."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class DeadLetters(Protocol):
    """Where unusable rows go."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Add rows."""
        ...

    def flush(self) -> None:
        """Make what was put durable: called before positions are saved, and once at the start."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class Dropped:
    """Dead letters that nobody wants."""

    def put(self, dead: Sequence[Dead]) -> None:
        """Forget rows."""

    def flush(self) -> None:
        """Nothing to make durable."""

    def close(self) -> None:
        """Nothing to finish."""


def plugin(kind: str, name: str) -> Any:
    """The factory that an installed package offers under an entry point.

    Args:
        kind: `sources`, `sinks`, `tables` or `dead_letters`.
        name: The entry point's name.

    Raises:
        ConfigError: No such entry point; the known names are listed.
    """
    found = {e.name: e for e in entry_points(group=f"streamsketch.{kind}")}
    if name not in found:
        raise ConfigError(
            f"there is no {name!r} among the {kind} ({', '.join(sorted(found)) or 'none installed'}); "
            "install the package that offers it, or correct the name"
        )
    return found[name].load()
