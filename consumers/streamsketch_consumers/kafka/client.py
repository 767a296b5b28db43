"""What the source asks of a Kafka client, so that two of them stand behind it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

__all__ = [
    "BEGINNING",
    "Client",
    "Diverged",
    "Listener",
    "OutOfRange",
    "Partition",
    "Record",
    "Records",
    "Unavailable",
]

BEGINNING = -2  # instead of an offset: the first that there is


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """What came along with a message's value."""

    offset: int
    timestamp: int
    key: bytes | None
    headers: Sequence[tuple[str, Any]]
    epoch: int = -1


@dataclass(frozen=True)
class Records:
    """Messages of one partition in their order, at least one.

    Attributes:
        at: The partition.
        values: The messages' values.
        messages: The same messages as the client has them.
        unpack: Reads one of them: all but the value is asked for rarely.
    """

    at: Partition
    values: list[bytes | None]
    messages: Sequence[Any]
    unpack: Callable[[Any], Record]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> Record:
        return self.unpack(self.messages[i])

    def part(self, start: int, stop: int) -> "Records":
        """Messages number `start` to `stop`."""
        return Records(self.at, self.values[start:stop], self.messages[start:stop], self.unpack)

    def since(self, offset: int | None) -> "Records | None":
        """The messages from an offset on: what a client gives twice is passed over."""
        if offset is None or self[0].offset >= offset:
            return self
        fresh = [i for i in range(len(self)) if self[i].offset >= offset]
        return self.part(fresh[0], len(self)) if fresh else None


class OutOfRange(Exception):
    """The broker does not have the offsets that are next.

    Args:
        offsets: Those offsets.
    """

    def __init__(self, offsets: Mapping[Partition, int]) -> None:
        super().__init__(offsets)
        self.offsets = offsets


class Diverged(Exception):
    """Partitions lost records that were read: their logs were cut, and may go on otherwise.

    Args:
        partitions: Those.
    """

    def __init__(self, partitions: Collection[Partition]) -> None:
        super().__init__(partitions)
        self.partitions = partitions


class Unavailable(Exception):
    """The brokers do not answer, or ask to be asked again."""


class Listener(Protocol):
    """Hears, during `Client.poll`, of the partitions that come and go."""

    def assigned(self, partitions: Collection[Partition]) -> Mapping[Partition, int | None]:
        """Partitions came; where to read them from: an offset, BEGINNING, None for the declared start."""
        ...

    def given_up(self, partitions: Collection[Partition], lost: bool) -> None:
        """Partitions go; when `lost`, somebody else may have them already."""
        ...


class Client(Protocol):
    """A member of a consumer group.

    All but `close` may raise `Unavailable`, and `SourceError` for what will not pass by itself.
    """

    def topics(self, timeout: float) -> list[str]:
        """The names of all topics."""
        ...

    def partitions(self, topic: str, timeout: float) -> list[Partition]:
        """The partitions of a topic, none when there is no such topic."""
        ...

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group."""
        ...

    def poll(self, timeout: float, most: int) -> list[Records]:
        """The next messages, at most so many; of partitions held at the end of the call only.

        Raises:
            OutOfRange: The broker does not have the next ones.
            Diverged: The broker no longer has what was read.
        """
        ...

    def seek(self, at: Partition, offset: int) -> None:
        """Read on from there."""
        ...

    def pause(self) -> None:
        """Fetch nothing, of what is held and of what comes."""
        ...

    def resume(self) -> None:
        """Fetch again."""
        ...

    def position(self, at: Partition) -> int | None:
        """The next offset, also behind what is no message (a transaction's marker)."""
        ...

    def highwater(self, at: Partition) -> int | None:
        """The end of the partition, as the last answer to a fetch has it."""
        ...

    def ends(self, partitions: Collection[Partition], timeout: float) -> dict[Partition, int]:
        """The ends of partitions, asked for now."""
        ...

    def at_time(
        self, partitions: Collection[Partition], milliseconds: int, timeout: float
    ) -> dict[Partition, int]:
        """The first offsets at or after a time since 1970; the end where there is none."""
        ...

    def topic_id(self, topic: str) -> str | None:
        """What tells a topic from another that has its name later; None if unknown."""
        ...

    def beginnings(
        self, partitions: Collection[Partition], timeout: float
    ) -> dict[Partition, int]:
        """The first offsets of partitions, asked for now."""
        ...

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the broker, for those who watch; what fails is not tried again."""
        ...

    def close(self, seconds: float) -> None:
        """Leave the group, within the time."""
        ...
