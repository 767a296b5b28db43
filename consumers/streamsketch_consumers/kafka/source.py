"""Kafka as a source: consumer groups whose positions live with the sums.

Delivery: exactly once. The position of each partition is saved with its sums in one atomic file;
on assignment a partition is claimed, which fences its former owner, and read from there. The
offsets that are committed to the broker are for monitoring only, and are never read.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping

from streamsketch.errors import SourceError
from streamsketch.ingest.streams import Chunk, Ownership, Position
from streamsketch.schema import Schema
from streamsketch.tables import takes
from streamsketch_consumers.decode import RegistryUnavailable
from streamsketch_consumers.kafka.chunks import Messages, blocks, part_name
from streamsketch_consumers.kafka.client import (
    BEGINNING,
    Client,
    Diverged,
    OutOfRange,
    Partition,
    Records,
    Unavailable,
)
from streamsketch_consumers.kafka.contact import Contact, connect
from streamsketch_consumers.kafka.continuity import Continuity, Held
from streamsketch_consumers.kafka.settings import KafkaSettings
from streamsketch_consumers.kafka.witness import position_at

__all__ = ["KafkaSource", "make"]

log = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0  # leaving the group must not hold up the end of a process
ASK_SECONDS = 9.0  # for an answer that is needed
HIDDEN_SECONDS = 3.0  # without messages before the end: those that are left are not committed


@takes(KafkaSettings, 'source "kafka"')
def make(settings: KafkaSettings, schema: Schema) -> "KafkaSource":
    """The entry point `kafka`: a source from its table in pipeline.toml."""
    return KafkaSource(settings, schema)


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
        self._most = min(settings.max_records, max(1, int(settings.rate or settings.max_records)))
        self._client: Client | None = None
        self._owner: Ownership | None = None
        self._parts: dict[Partition, Held] = {}
        self._blocks: deque[Records] = deque()
        self._chunks: deque[tuple[Partition, Chunk]] = deque()
        self._ends: dict[Partition, int] = {}
        self._there: set[Partition] = set()  # when this process subscribed
        self._ids: dict[str, str | None] = {}
        self._contact = Contact(settings.servers)
        self._received = time.monotonic()
        self._subscribed = False
        self._paused = False
        self._waiting = False  # for the schema registry
        self._closing = False
        self._early = False  # for the declared rate
        self._due = 0.0  # when the next rows may be handed out

    # --- the source protocol

    def open(self, owner: Ownership) -> None:
        """Connect and join the group; partitions are claimed as they are assigned.

        Raises:
            SourceError: No broker answers, or a topic does not exist.
        """
        self._owner = owner
        self._client = connect(
            lambda: _connected(self.settings),
            self.settings.servers,
            self.settings.connect_seconds,
            SourceError,
        )
        self._logs = Continuity(self._client, self._parts, self.settings.on_gap, self._go_on)
        try:
            self._subscribe()
        except Unavailable as e:  # gone again since: the next polls subscribe
            self._contact.failed(e)
        except BaseException:
            self.close()
            raise

    def poll(self, timeout: float) -> Iterator[Chunk]:
        """The next chunks; what is not taken from the iterator is handed out by the next call.

        Raises:
            SourceError: The stream cannot go on; a broker that is gone is waited for instead.
        """
        early = max(0.0, self._due - time.monotonic())
        self._hold_back(early > 0)
        if self._waiting or early or not (self._chunks or self._blocks):
            self._fetch(min(timeout, early) if early else timeout)
            if early:
                return
        if not self._blocks:
            self._wait(False)
        while self._chunks or (self._blocks and self._decode()):
            at, chunk = self._chunks.popleft()
            self._parts[at].next = chunk.position["offset"]
            self._parts[at].position = chunk.position
            yield chunk
            self._received = time.monotonic()
            if self.settings.rate is not None and chunk.batch is not None:
                self._due = max(self._due, self._received)
                self._due += chunk.batch.num_rows / self.settings.rate
                return
        self.finished = not self._blocks and self._at_end()

    def _decode(self) -> bool:
        """Decode the next block; it is kept when the schema registry does not answer.

        Meanwhile nothing more is fetched, and `poll` keeps this member in its group.
        """
        block = self._blocks[0]
        try:
            chunks = self._messages.chunks(block, self._parts[block.at].position)
        except RegistryUnavailable:
            self._wait(True)
            return False
        self._wait(False)
        self._blocks.popleft()
        self._chunks.extend((block.at, chunk) for chunk in chunks)
        return True

    def _wait(self, waiting: bool) -> None:
        if waiting != self._waiting:
            self._waiting = waiting
            self._hold()

    def _hold_back(self, early: bool) -> None:
        """While the rate allows no rows nothing is fetched, and this member stays in its group."""
        if early != self._early:
            self._early = early
            self._hold()

    def _hold(self) -> None:
        if self._paused or self._waiting or self._early:
            self._live.pause()
        else:
            self._live.resume()

    def saved(self, positions: Mapping[str, Position]) -> None:
        """Commit the offsets to the broker, for those who watch the group from there."""
        if self._client is None or not self.settings.commit:
            return
        offsets = {
            at: int(positions[part_name(at)]["offset"])
            for at in self._parts
            if part_name(at) in positions
        }
        if offsets:
            self._client.commit(offsets)

    def lag(self) -> dict[str, int | None]:
        """Messages between what was handed out and the end, per partition."""
        found: dict[str, int | None] = {}
        for at, part in list(self._parts.items()):
            end = self._client.highwater(at) if self._client is not None else None
            found[part_name(at)] = (
                None if end is None or part.next is None else max(0, end - part.next)
            )
        return found

    def close(self) -> None:
        """Leave the group, within seconds; nothing is saved from here."""
        self._closing = True
        client, self._client = self._client, None
        self._chunks.clear()
        self._blocks.clear()
        if client is not None:
            client.close(CLOSE_SECONDS)

    # --- back-pressure

    def pause(self) -> None:
        """Read nothing more for now, and stay in the group: `poll` must go on being called."""
        self._paused = True
        self._hold()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._hold()

    # --- topics

    @property
    def _live(self) -> Client:
        if self._client is None:
            raise SourceError("the Kafka source is not open; call open first")
        return self._client

    def _subscribe(self) -> None:
        """Join the group once all topics are there."""
        names = self.settings.topics
        if self.settings.patterns:
            names = self.settings.matching(self._live.topics(ASK_SECONDS))
        there = {t: self._live.partitions(t, ASK_SECONDS) for t in names}
        absent = [topic for topic, partitions in there.items() if not partitions]
        absent = absent or ([] if there else self.settings.patterns)
        if absent and not self.settings.wait_for_topic:
            known = self._live.topics(ASK_SECONDS)
            raise SourceError(
                f"topic {', '.join(map(repr, absent))} does not exist on "
                f"{', '.join(self.settings.servers)} (it has {', '.join(known[:20]) or 'none'}); create "
                "it, correct topic, or set wait_for_topic = true"
            )
        if absent:
            return
        if self.settings.until == "end":
            everything = [at for partitions in there.values() for at in partitions]
            self._ends = self._live.ends(everything, ASK_SECONDS)
        self._there = {at for partitions in there.values() for at in partitions}
        self._ids.update({topic: self._live.topic_id(topic) for topic in there})
        self._live.subscribe(self.settings.topics, self)
        self._subscribed = True

    # --- ownership, called by the client inside of its poll, while nothing else runs here

    def assigned(self, partitions: Collection[Partition]) -> dict[Partition, int | None]:
        """Claim partitions; where to read on, None where they are new."""
        begin: dict[Partition, int | None] = {}
        topics = self._topics_read_before()
        for at in sorted(partitions):
            position = self._owned_by.claim(part_name(at))
            if at.topic not in self._ids:  # it came later, and matches a pattern
                self._ids[at.topic] = self._live.topic_id(at.topic)
            part = self._parts[at] = Held(self._ids[at.topic])
            if position is None:
                part.added = at not in self._there or at.topic in topics
                begin[at] = BEGINNING if part.added else None
            else:
                begin[at] = part.take_up(position)
        return begin

    def _topics_read_before(self) -> set[str]:
        """Topics of which partitions have positions: others of theirs were added meanwhile."""
        if self.settings.start == "earliest":
            return set()
        names = self._owned_by.read_before()
        return {n.removeprefix("kafka:").rpartition(":")[0] for n in names}

    def given_up(self, partitions: Collection[Partition], lost: bool) -> None:
        """Forget partitions; save them first unless they were lost, or all is saved already."""
        self._blocks = deque(block for block in self._blocks if block.at not in partitions)
        self._chunks = deque((at, chunk) for at, chunk in self._chunks if at not in partitions)
        for at in partitions:
            self._parts.pop(at, None)
            if self._closing:
                continue
            if lost:
                self._owned_by.lose(part_name(at))
            else:
                self._owned_by.revoke(part_name(at))

    @property
    def _owned_by(self) -> Ownership:
        assert self._owner is not None
        return self._owner

    # --- reading

    def _fetch(self, timeout: float) -> None:
        """Fetch, and keep what is new; brokers that do not answer are asked again later."""
        try:
            if not self._subscribed:
                time.sleep(min(timeout, 1.0))
                self._subscribe()
                return
            found = self._poll(timeout)
        except Unavailable as e:
            self._contact.failed(e)
            time.sleep(min(timeout, 0.5))
            return
        here = {records.at: records for records in found if records.at in self._parts}
        for at, part in self._parts.items():
            try:
                self._take(at, part, here.get(at))
            except Unavailable as e:
                self._contact.failed(e)
                self._logs.back(at, here.get(at))

    def _poll(self, timeout: float) -> list[Records]:
        """The next messages, of logs that are as they were."""
        try:
            found = self._live.poll(timeout, self._most)
        except (OutOfRange, Diverged) as e:
            if not self._blocks:  # what was fetched before comes first
                self._logs.lost(e)
            return []
        if found and self._contact.answered():  # they were away: are these still the same logs?
            doubted = self._logs.doubt(self._parts)
            return [records for records in found if records.at not in doubted]
        if not found and self._contact.quiet:
            self._probe()
        return found

    def _take(self, at: Partition, part: Held, records: Records | None) -> None:
        """Keep what is new of a partition, once it is known where it begins."""
        if part.other_topic:
            self._logs.another_topic(at)
            return
        if part.next is None:
            records = self._begin(at, part, records)
        if records is None and part.check:
            self._logs.still_there(at, part, self._live.highwater(at))
        if records is not None:
            fresh = self._logs.known_again(at, part, records)
            if fresh is not None:
                self._blocks.extend(blocks(fresh))

    def _begin(self, at: Partition, part: Held, records: Records | None) -> Records | None:
        """Hand out where a new partition begins: the pipeline saves it before any row is lost."""
        start = self.settings.start_ms
        if start is not None and not part.added:
            offset: int | None = self._live.at_time([at], start, ASK_SECONDS)[at]
            self._live.seek(at, offset or 0)
            records = None
        else:
            offset = records[0].offset if records else self._live.position(at)
        if offset is not None:
            self._go_on(at, offset)
        return records

    def _go_on(self, at: Partition, offset: int) -> None:
        """Hand out that a partition is read on from an offset."""
        part = self._parts[at]
        part.next = offset
        self._chunks.append((at, Chunk(part_name(at), position_at(offset, part.position))))

    # --- the end

    def _at_end(self) -> bool:
        """Whether all partitions of this member have come to the ends seen at the start."""
        if self.settings.until != "end" or not self._parts or self._client is None:
            return False
        return all(self._part_at_end(at, part) for at, part in self._parts.items())

    def _part_at_end(self, at: Partition, part: Held) -> bool:
        if part.check:
            return False
        if part.end is None:
            part.end = self._live.highwater(at)
        next = part.next
        if next is None or next < self._ends.get(at, 0):
            # behind the last message may stand a transaction's marker, which is no message
            next = self._live.position(at)
        if part.end is None or next is None or next < self._ends.get(at, 0):
            return False
        # Tansu 0.6.0 names the start of the last batch when it is asked for the end, so what a
        # fetch says counts as well; but an open transaction may stand there and hide for good.
        return next >= part.end or time.monotonic() - self._received > HIDDEN_SECONDS

    # --- what can go wrong

    def _probe(self) -> None:
        """Nothing came for a while: is the stream quiet, or are the brokers gone?"""
        if not self._parts:
            return
        try:
            self._live.ends(list(self._parts), 1.0)
        except Unavailable as e:
            self._contact.failed(e)
        else:
            if self._contact.answered():  # they were away: are these still the same logs?
                self._logs.doubt(self._parts)


def _connected(settings: KafkaSettings) -> Client:
    """The client that the settings name, connected."""
    if settings.client == "confluent":
        from streamsketch_consumers.kafka.confluent_client import ConfluentClient

        return ConfluentClient(settings)
    from streamsketch_consumers.kafka.python_client import PythonClient

    return PythonClient(settings)
