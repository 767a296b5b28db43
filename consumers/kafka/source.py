"""Kafka as a source: consumer groups whose positions live with the sums.

Delivery: exactly once. The position of each partition is saved with its sums in one atomic file;
on assignment a partition is claimed, which fences its former owner, and read from there. The
offsets that are committed to the broker are for monitoring only, and are never read.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError, UnsupportedCodecError
from kafka.structs import MemberState

from consumers import settings as checked
from consumers.kafka.chunks import Messages, blocks, part_name, position_at
from consumers.kafka.contact import Contact, connect
from consumers.kafka.settings import KafkaSettings
from streamsketch.errors import SourceError, StreamSketchError
from streamsketch.schema import Schema
from streamsketch.streams import Chunk, Ownership, Position

__all__ = ["KafkaSource", "make"]

log = logging.getLogger(__name__)

CLOSE_MS = 3000  # leaving the group must not hold up the end of a process
HIDDEN_SECONDS = 3.0  # without messages before the end: those that are left are not committed
GAPS = 100  # gaps remembered one by one


def make(settings: dict[str, Any], schema: Schema) -> "KafkaSource":
    """The entry point `kafka`: a source from its table in pipeline.toml."""
    return KafkaSource(checked.parse(KafkaSettings, settings, 'source "kafka"'), schema)


@dataclass
class _Partition:
    """What is known of a partition while it is ours."""

    next: int | None = None  # offset after what was handed out
    end: int | None = None  # as the first answer to a fetch says it
    gaps: list[list[int]] = field(default_factory=list)


class KafkaSource:
    """Reads the partitions that the consumer group gives to this member.

    Args:
        settings: What to read, and how.
        schema: The declared columns.
    """

    coordinated = True  # the broker says who owns a part: a former owner is fenced, not refused

    def __init__(self, settings: KafkaSettings, schema: Schema) -> None:
        self.settings = settings
        self.finished = False
        self._messages = Messages(settings, schema)
        self._consumer: KafkaConsumer | None = None
        self._owner: Ownership | None = None
        self._parts: dict[TopicPartition, _Partition] = {}
        self._blocks: deque[tuple[TopicPartition, Sequence[Any]]] = deque()
        self._chunks: deque[tuple[TopicPartition, Chunk]] = deque()
        self._ends: dict[TopicPartition, int] = {}
        self._contact = Contact(settings.servers)
        self._received = time.monotonic()
        self._subscribed = False
        self._paused = False
        self._stable = False
        self._closing = False

    # --- the source protocol

    def open(self, owner: Ownership) -> None:
        """Connect and join the group; partitions are claimed as they are assigned.

        Raises:
            SourceError: No broker answers, or a topic does not exist.
        """
        _warn_without_crc32c()
        self._owner = owner
        given = self.settings.consumer()
        self._consumer = connect(
            lambda: KafkaConsumer(**given),
            self.settings.servers,
            self.settings.connect_seconds,
            SourceError,
        )
        try:
            self._subscribe()
        except BaseException:
            self.close()
            raise

    def poll(self, timeout: float) -> Iterator[Chunk]:
        """The next chunks; what is not taken from the iterator is handed out by the next call.

        Raises:
            SourceError: The stream cannot go on; a broker that is gone is waited for instead.
        """
        if not self._chunks and not self._blocks:
            self._fetch(timeout)
        while self._chunks or self._blocks:
            if not self._chunks:
                tp, records = self._blocks.popleft()
                chunks = self._messages.chunks(tp, records, self._parts[tp].gaps)
                self._chunks.extend((tp, chunk) for chunk in chunks)
            tp, chunk = self._chunks.popleft()
            self._parts[tp].next = chunk.position["offset"]
            yield chunk
            self._received = time.monotonic()
        self.finished = self._at_end()

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Commit the offsets to the broker, for those who watch the group from there."""
        if self._consumer is None or not (self.settings.commit and self._stable):
            return
        offsets = {
            tp: OffsetAndMetadata(positions[part_name(tp)]["offset"], "", -1)
            for tp in self._parts
            if part_name(tp) in positions
        }
        if offsets:
            try:
                self._consumer.commit_async(offsets)
            except KafkaError as e:
                log.debug("offsets were not committed: %s", e)

    def lag(self) -> dict[str, int | None]:
        """Messages between what was handed out and the end, per partition."""
        found: dict[str, int | None] = {}
        for tp, part in self._parts.items():
            end = self._highwater(tp)
            found[part_name(tp)] = (
                None if end is None or part.next is None else max(0, end - part.next)
            )
        return found

    def close(self) -> None:
        """Leave the group, within seconds; nothing is saved from here."""
        self._closing = True
        self._stable = False
        consumer, self._consumer = self._consumer, None
        self._chunks.clear()
        self._blocks.clear()
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
            except (KafkaError, RuntimeError) as e:
                log.debug("leaving the group: %s", e)

    # --- back-pressure

    def pause(self) -> None:
        """Read nothing more for now, and stay in the group: `poll` must go on being called."""
        self._paused = True
        self._live.pause(*self._parts)

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._live.resume(*self._parts)

    # --- topics

    @property
    def _live(self) -> KafkaConsumer:
        if self._consumer is None:
            raise SourceError("the Kafka source is not open; call open first")
        return self._consumer

    def _subscribe(self) -> None:
        """Join the group once all topics are there."""
        absent = [t for t in self.settings.topics if not self._live.partitions_for_topic(t)]
        if absent and not self.settings.wait_for_topic:
            known = sorted(self._live.topics())
            raise SourceError(
                f"topic {', '.join(map(repr, absent))} does not exist on "
                f"{', '.join(self.settings.servers)} (it has {', '.join(known[:20]) or 'none'}); create "
                "it, correct topic, or set wait_for_topic = true"
            )
        if absent:
            return
        if self.settings.until == "end":
            self._ends = self._end_offsets(CLOSE_MS * 3)
        self._live.subscribe(self.settings.topics, listener=_Listener(self))
        # Learn the partitions before joining, not after: that would mean to join twice.
        self._live.topics()
        self._subscribed = True

    def _end_offsets(self, timeout_ms: int) -> dict[TopicPartition, int]:
        partitions = [
            TopicPartition(topic, number)
            for topic in self.settings.topics
            for number in sorted(self._live.partitions_for_topic(topic))
        ]
        try:
            return dict(self._live.end_offsets(partitions, timeout_ms=timeout_ms))
        except KafkaError as e:
            raise SourceError(
                f"the ends of {', '.join(self.settings.topics)} cannot be read ({type(e).__name__}); "
                "see that the brokers are up, and start again"
            ) from e

    # --- ownership, called by the consumer inside of its poll, while nothing else runs here

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """Claim partitions and begin them where their sums stand."""
        for tp in sorted(partitions):
            position = self._owned_by.claim(part_name(tp))
            part = self._parts[tp] = _Partition()
            if position is not None:
                part.next = int(position["offset"])
                part.gaps = [list(gap) for gap in position.get("gaps", [])]
                self._live.seek(tp, part.next)
            elif self.settings.start == "earliest":
                self._live.seek_to_beginning(tp)
            else:
                self._live.seek_to_end(tp)
            if self._paused:
                self._live.pause(tp)

    def given_up(self, partitions: Sequence[TopicPartition], lost: bool) -> None:
        """Forget partitions; save them first unless they were lost, or all is saved already."""
        for tp in partitions:
            self._parts.pop(tp, None)
            if self._closing:
                continue
            if lost:
                self._owned_by.lose(part_name(tp))
            else:
                self._owned_by.revoke(part_name(tp))

    @property
    def _owned_by(self) -> Ownership:
        assert self._owner is not None
        return self._owner

    # --- reading

    def _fetch(self, timeout: float) -> None:
        if not self._subscribed:
            self._await_topics(timeout)
            return
        try:
            records = self._live.poll(int(timeout * 1000), max_records=self.settings.max_records)
        except OffsetOutOfRangeError as e:
            self._out_of_range(e.args[0])
            return
        except KafkaError as e:
            self._failed(e, timeout)
            return
        self._keep_joining()
        if records:
            self._contact.answered()
        elif self._contact.quiet:
            self._probe()
        for tp, part in self._parts.items():
            if part.next is None:
                self._begin(tp, part, records.get(tp))
        for tp, found in records.items():
            if tp in self._parts:
                self._blocks.extend((tp, block) for block in blocks(found))

    def _keep_joining(self) -> None:
        """See to it that a join which outlasts one poll is completed by the next ones.

        kafka-python 3.0.12 forgets a join that began because partitions were added: its leader
        takes note of the new partitions at once, finds no more reason to join, never completes,
        and sends no heartbeats either.
        """
        state = self._live.group_metadata().state
        self._stable = state == MemberState.STABLE
        if state == MemberState.REBALANCING:
            self._live._coordinator.request_rejoin()

    def _await_topics(self, timeout: float) -> None:
        time.sleep(min(timeout, 1.0))
        try:
            self._subscribe()
        except KafkaError as e:
            self._failed(e, timeout)

    def _begin(self, tp: TopicPartition, part: _Partition, records: Sequence[Any] | None) -> None:
        """Hand out where a new partition begins: the pipeline saves it before any row is lost."""
        offset = records[0].offset if records else self._position(tp)
        if offset is not None:
            part.next = offset
            self._chunks.append((tp, Chunk(part_name(tp), position_at(offset, part.gaps))))

    def _position(self, tp: TopicPartition) -> int | None:
        try:
            offset = self._live.position(tp, timeout_ms=100)
        except KafkaError:
            return None
        return None if offset is None else int(offset)

    def _highwater(self, tp: TopicPartition) -> int | None:
        if self._consumer is None or tp not in self._consumer.assignment():
            return None
        end = self._consumer.highwater(tp)
        return None if end is None else int(end)

    def _at_end(self) -> bool:
        """Whether all partitions of this member have come to the ends seen at the start."""
        if self.settings.until != "end" or not self._parts or self._consumer is None:
            return False
        return all(self._part_at_end(tp, part) for tp, part in self._parts.items())

    def _part_at_end(self, tp: TopicPartition, part: _Partition) -> bool:
        if part.end is None:
            part.end = self._highwater(tp)
        at = part.next
        if at is None or at < self._ends.get(tp, 0):
            # behind the last message may stand a transaction's marker, which is no message
            at = self._position(tp)
        if part.end is None or at is None or at < self._ends.get(tp, 0):
            return False
        # Tansu 0.6.0 names the start of the last batch when it is asked for the end, so what a
        # fetch says counts as well; but an open transaction may stand there and hide for good.
        return at >= part.end or time.monotonic() - self._received > HIDDEN_SECONDS

    # --- what can go wrong

    def _failed(self, error: KafkaError, timeout: float) -> None:
        cause = error.__cause__
        if isinstance(cause, StreamSketchError | OSError):
            raise cause
        if not error.retriable:
            raise SourceError(
                f"Kafka topic {', '.join(self.settings.topics)} cannot be read on: "
                f"{type(error).__name__}: {error}{_remedy(error)}"
            ) from error
        self._contact.failed(error)
        time.sleep(min(timeout, 0.5))

    def _probe(self) -> None:
        """Nothing came for a while: is the stream quiet, or are the brokers gone?"""
        if not self._parts:
            return
        try:
            self._live.end_offsets(list(self._parts), timeout_ms=1000)
        except KafkaError as e:
            self._contact.failed(e)
        else:
            self._contact.answered()

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The broker does not have the offset that is next."""
        try:
            first = self._live.beginning_offsets(list(offsets), timeout_ms=CLOSE_MS)
            ends = self._live.end_offsets(list(offsets), timeout_ms=CLOSE_MS)
        except KafkaError as e:
            self._failed(e, 0.1)
            return
        for tp, wanted in offsets.items():
            if wanted > ends[tp]:
                raise SourceError(
                    f"{part_name(tp)} is saved up to offset {wanted}, but ends at {ends[tp]}: the topic was "
                    "made anew or cut; start from an empty store, or name the topic that was read"
                )
            if wanted < first[tp]:
                self._gap(tp, wanted, first[tp])

    def _gap(self, tp: TopicPartition, wanted: int, first: int) -> None:
        missing = (
            f"{part_name(tp)}: offsets {wanted} to {first - 1} were deleted before they were read"
        )
        if self.settings.on_gap == "stop":
            raise SourceError(
                f'{missing}; lengthen the topic\'s retention, and set on_gap = "continue" to go on '
                "without them"
            )
        log.error("%s; going on at %d, the gap is kept in the position", missing, first)
        part = self._parts[tp]
        part.gaps = _joined([*part.gaps, [wanted, first]])
        self._live.seek(tp, first)
        self._chunks.append((tp, Chunk(part_name(tp), position_at(first, part.gaps))))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes the consumer's news of its partitions on to the source."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Partitions came."""
        self._source.assigned(assigned)

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Partitions go, in order."""
        self._source.given_up(revoked, lost=False)

    def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:
        """Partitions are gone: somebody else may have them already."""
        self._source.given_up(lost, lost=True)


def _joined(gaps: list[list[int]]) -> list[list[int]]:
    """The gaps with neighbours joined; the oldest are joined when there are too many."""
    out: list[list[int]] = []
    for low, high in gaps:
        if out and (low <= out[-1][1]):
            out[-1][1] = max(out[-1][1], high)
        else:
            out.append([low, high])
    while len(out) > GAPS:
        out[0:2] = [[out[0][0], out[1][1]]]
    return out


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
