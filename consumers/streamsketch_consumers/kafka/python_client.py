"""kafka-python as the source's client."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)
from kafka.structs import MemberState

from streamsketch.errors import SourceError, StreamSketchError
from streamsketch_consumers.kafka.client import (
    BEGINNING,
    Diverged,
    Listener,
    OutOfRange,
    Partition,
    Record,
    Records,
    Unavailable,
)
from streamsketch_consumers.kafka.settings import KafkaSettings

__all__ = ["PythonClient"]

T = TypeVar("T")

log = logging.getLogger(__name__)


class PythonClient:
    """A member of the group by kafka-python.

    Args:
        settings: What to read, and how.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        _warn_without_crc32c()
        self._consumer = KafkaConsumer(**settings.consumer())
        self._from_start = settings.start == "earliest"
        self._paused = False
        self._stable = False

    def topics(self, timeout: float) -> list[str]:
        """The names of all topics."""
        return sorted(_translated(self._consumer.topics))

    def partitions(self, topic: str, timeout: float) -> list[Partition]:
        """The partitions of a topic."""
        found = _translated(lambda: self._consumer.partitions_for_topic(topic))
        return [Partition(topic, number) for number in sorted(found or ())]

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group."""
        listening = _Rebalances(self, listener)
        if any(name.startswith("^") for name in topics):
            # one pattern for all: kafka-python takes names or a pattern
            parts = [n if n.startswith("^") else f"^{re.escape(n)}$" for n in topics]
            self._consumer.subscribe(pattern="|".join(parts), listener=listening)
        else:
            self._consumer.subscribe(list(topics), listener=listening)
        # Learn the partitions before joining, not after: that would mean to join twice.
        _translated(self._consumer.topics)

    def begin(self, at: TopicPartition, offset: int | None) -> None:
        """Read a partition that was assigned, from there or from the declared start."""
        if offset is not None and offset != BEGINNING:
            self._consumer.seek(at, offset)
        elif offset == BEGINNING or self._from_start:
            self._consumer.seek_to_beginning(at)
        else:
            self._consumer.seek_to_end(at)
        if self._paused:
            self._consumer.pause(at)

    def poll(self, timeout: float, most: int) -> list[Records]:
        """The next messages."""
        found = _translated(lambda: self._consumer.poll(int(timeout * 1000), max_records=most))
        self._keep_joining()
        return [
            Records(Partition(*tp), [m.value for m in messages], messages, _record)
            for tp, messages in found.items()
        ]

    def _keep_joining(self) -> None:
        """See to it that a join which outlasts one poll is completed by the next ones.

        kafka-python 3.0.12 forgets a join that began because partitions were added: its leader
        takes note of the new partitions at once, finds no more reason to join, never completes,
        and sends no heartbeats either.
        """
        state = self._consumer.group_metadata().state
        self._stable = state == MemberState.STABLE
        if state == MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()

    def seek(self, at: Partition, offset: int) -> None:
        """Read on from there."""
        self._consumer.seek(TopicPartition(*at), offset)

    def pause(self) -> None:
        """Fetch nothing."""
        self._paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        self._consumer.resume(*self._consumer.assignment())

    def position(self, at: Partition) -> int | None:
        """The next offset."""
        try:
            offset = self._consumer.position(TopicPartition(*at), timeout_ms=100)
        except KafkaError:
            return None
        return None if offset is None else int(offset)

    def highwater(self, at: Partition) -> int | None:
        """The end as the last fetch says it."""
        if at not in self._consumer.assignment():
            return None
        end = self._consumer.highwater(TopicPartition(*at))
        return None if end is None else int(end)

    def ends(self, partitions: Collection[Partition], timeout: float) -> dict[Partition, int]:
        """The ends of partitions."""
        return self._offsets(self._consumer.end_offsets, partitions, timeout)

    def beginnings(
        self, partitions: Collection[Partition], timeout: float
    ) -> dict[Partition, int]:
        """The first offsets of partitions."""
        return self._offsets(self._consumer.beginning_offsets, partitions, timeout)

    def at_time(
        self, partitions: Collection[Partition], milliseconds: int, timeout: float
    ) -> dict[Partition, int]:
        """The first offsets at or after a time."""
        wanted = {TopicPartition(*at): milliseconds for at in partitions}
        found = _translated(
            lambda: self._consumer.offsets_for_times(wanted, timeout_ms=int(timeout * 1000))
        )
        here = {Partition(*tp): int(place.offset) for tp, place in found.items() if place}
        late = [at for at in partitions if here.get(at, -1) < 0]
        return {**here, **(self.ends(late, timeout) if late else {})}

    def topic_id(self, topic: str) -> str | None:
        """The topic's id, of brokers since 2.8."""
        found = self._consumer._cluster.topic_id(topic)
        return None if not found or not found.int else str(found)

    def _offsets(
        self, ask: Callable[..., Any], partitions: Collection[Partition], timeout: float
    ) -> dict[Partition, int]:
        wanted = [TopicPartition(*at) for at in partitions]
        found = _translated(lambda: ask(wanted, timeout_ms=int(timeout * 1000)))
        return {Partition(*tp): int(offset) for tp, offset in found.items()}

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the broker, while the group is not rebalancing."""
        if not self._stable:
            return
        told = {TopicPartition(*at): OffsetAndMetadata(n, "", -1) for at, n in offsets.items()}
        try:
            self._consumer.commit_async(told)
        except KafkaError as e:
            log.debug("offsets were not committed: %s", e)

    def close(self, seconds: float) -> None:
        """Leave the group."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=int(seconds * 1000))
        except (KafkaError, RuntimeError) as e:
            log.debug("leaving the group: %s", e)


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes the consumer's news on; it runs inside of `poll`, while nothing else runs here."""

    def __init__(self, client: PythonClient, listener: Listener) -> None:
        self._client = client
        self._listener = listener

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Partitions came."""
        begin = self._listener.assigned([Partition(*tp) for tp in assigned])
        for tp in assigned:
            self._client.begin(tp, begin[Partition(*tp)])

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Partitions go, in order."""
        self._listener.given_up([Partition(*tp) for tp in revoked], lost=False)

    def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:
        """Partitions are gone."""
        self._listener.given_up([Partition(*tp) for tp in lost], lost=True)


def _record(message: Any) -> Record:
    epoch = -1 if message.leader_epoch is None else int(message.leader_epoch)
    return Record(message.offset, message.timestamp, message.key, message.headers or (), epoch)


def _translated(call: Callable[[], T]) -> T:
    """The call's outcome, with kafka-python's errors as those that the source knows."""
    try:
        return call()
    except OffsetOutOfRangeError as e:
        raise OutOfRange({Partition(*tp): offset for tp, offset in e.args[0].items()}) from e
    except LogTruncationError as e:
        raise Diverged([Partition(*tp) for tp in e.divergent_offsets]) from e
    except KafkaError as e:
        if isinstance(e.__cause__, StreamSketchError | OSError):
            raise e.__cause__ from None
        if e.retriable:
            raise Unavailable(f"{type(e).__name__}: {e}") from e
        raise SourceError(f"Kafka cannot be read on: {type(e).__name__}: {e}{_remedy(e)}") from e


def _remedy(error: KafkaError) -> str:
    if isinstance(error, UnsupportedCodecError):
        return "; install the codecs with pip install 'kafka-python[lz4,snappy,zstd]'"
    return ""


@cache
def _warn_without_crc32c() -> None:
    if find_spec("crc32c") is None:
        log.warning(
            "the package crc32c is not installed: reading Kafka is 4 to 20 times slower without it; "
            "install kafka-python[crc32c]"
        )
