"""confluent-kafka (librdkafka) as the source's client: several times faster on small messages."""

import contextlib
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from streamsketch.errors import ConfigError, SourceError
from streamsketch_consumers.kafka.client import (
    Diverged,
    Listener,
    OutOfRange,
    Partition,
    Record,
    Records,
    Unavailable,
)
from streamsketch_consumers.kafka.librdkafka import configuration
from streamsketch_consumers.kafka.settings import KafkaSettings

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        OFFSET_END,
        Consumer,
        KafkaError,
        KafkaException,
        Message,
        TopicPartition,
    )
except ImportError:
    raise ConfigError(
        "client = 'confluent' needs confluent-kafka; install it with "
        "pip install 'streamsketch[confluent]', or set client = \"kafka-python\""
    ) from None

__all__ = ["ConfluentClient", "configuration"]

log = logging.getLogger(__name__)

FILL_SECONDS = 0.02  # after a first message, for others to be handed over with it
PASSING = {  # what librdkafka tells of and goes on trying by itself
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._MAX_POLL_EXCEEDED,  # the group threw us out: the next poll joins again
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}


class ConfluentClient:
    """A member of the group by librdkafka.

    librdkafka makes its calls on a rebalance while it is asked for messages. A single message is
    always of after such a call, but among several some may be of before: so of partitions that
    came or went meanwhile all are dropped, and those that came begin again from their place.

    Args:
        settings: What to read, and how.

    Raises:
        Unavailable: No broker answers within `connect_seconds`.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._trouble = ""
        given = configuration(settings) | {"error_cb": self._troubled}
        self._consumer = Consumer(given, logger=_Quiet())
        self._cooperative = settings.assignment == "cooperative"
        self._start = OFFSET_BEGINNING if settings.start == "earliest" else OFFSET_END
        self._listener: Listener | None = None
        self._held: set[Partition] = set()
        self._fresh: set[Partition] = set()  # came during the last question
        self._touched: set[Partition] = set()  # came or went during it
        self._position: dict[Partition, int] = {}
        self._out_of_range: dict[Partition, int] = {}  # until somebody seeks
        self._diverged: set[Partition] = set()
        self._paused = False
        self._closing = False
        try:
            self._consumer.list_topics(timeout=settings.connect_seconds)
        except KafkaException as e:
            self._consumer.poll(0)  # hands over what librdkafka has to say about it
            self._consumer.close()
            raise Unavailable(self._trouble or e.args[0].str()) from e

    def _troubled(self, error: KafkaError) -> None:
        self._trouble = error.str()

    def topics(self, timeout: float) -> list[str]:
        """The names of all topics."""
        with _translated():
            return sorted(self._consumer.list_topics(timeout=timeout).topics)

    def partitions(self, topic: str, timeout: float) -> list[Partition]:
        """The partitions of a topic."""
        with _translated():
            found = self._consumer.list_topics(topic, timeout=timeout).topics[topic]
        return [Partition(topic, number) for number in sorted(found.partitions)]

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group."""
        self._listener = listener
        with _translated():
            self._consumer.subscribe(
                list(topics),
                on_assign=self._assigned,
                on_revoke=lambda _, gone: self._gone(gone, lost=False),
                on_lost=lambda _, gone: self._gone(gone, lost=True),
            )

    def _assigned(self, consumer: Consumer, came: list[TopicPartition]) -> None:
        if self._closing or self._listener is None:
            return
        begin = self._listener.assigned([Partition(tp.topic, tp.partition) for tp in came])
        where = [
            TopicPartition(*at, self._start if offset is None else offset)
            for at, offset in begin.items()
        ]
        (consumer.incremental_assign if self._cooperative else consumer.assign)(where)
        for at, offset in begin.items():
            self._forget(at)
            if offset is not None:
                self._position[at] = offset  # or BEGINNING, which librdkafka calls the same
        self._held |= begin.keys()
        self._fresh |= begin.keys()
        self._touched |= begin.keys()

    def _gone(self, gone: list[TopicPartition], lost: bool) -> None:
        parts = [Partition(tp.topic, tp.partition) for tp in gone]
        self._held.difference_update(parts)
        self._fresh.difference_update(parts)
        self._touched.update(parts)
        for at in parts:
            self._forget(at)
        if self._listener is not None:
            self._listener.given_up(parts, lost)

    def _forget(self, at: Partition) -> None:
        self._position.pop(at, None)
        self._out_of_range.pop(at, None)

    def _restart(self, parts: Collection[Partition]) -> None:
        """Fetch partitions that are held anew, from their positions.

        A seek is refused where fetching has stopped, as it has after an offset out of range. What
        was fetched ahead is fetched again.
        """
        if not self._cooperative:
            parts = self._held
        where = [TopicPartition(*at, self._position.get(at, self._start)) for at in parts]
        if self._cooperative:
            self._consumer.incremental_unassign(where)
            self._consumer.incremental_assign(where)
        else:
            self._consumer.assign(where)
        if self._paused:
            self.pause()

    def poll(self, timeout: float, most: int) -> list[Records]:
        """The next messages."""
        if self._out_of_range:
            raise OutOfRange(dict(self._out_of_range))
        with _translated():
            first = self._consumer.poll(timeout)
            self._touched.clear()
            self._fresh.clear()
            messages = [] if first is None else [first]
            if first is not None and first.error() is None and most > 1:
                messages += self._consumer.consume(most - 1, FILL_SECONDS)
            found = self._sorted(messages)
            if self._diverged:
                diverged, self._diverged = self._diverged, set()
                raise Diverged(diverged)
            self._touched.clear()
            if self._fresh:
                fresh, self._fresh = self._fresh, set()
                self._restart(fresh)
        return found

    def _sorted(self, messages: Sequence[Message]) -> list[Records]:
        """The messages by partition; what is no message is taken note of."""
        # loops in C, as this is where small messages cost
        places: list[Any] = list(
            zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
        )
        errors = list(map(Message.error, messages))
        found: dict[Any, list[Message]] = {}
        if len(set(places)) == 1 and not any(errors):
            found[places[0]] = list(messages)
        else:
            for place, error, message in zip(places, errors, messages, strict=True):
                if error is None:
                    found.setdefault(place, []).append(message)
                elif place not in self._touched:
                    self._heard(error, Partition(*place), message)
        here = {
            Partition(*p): mine for p, mine in found.items() if p in self._held - self._touched
        }
        for at, mine in here.items():
            self._position[at] = max(self._position.get(at, 0), _offset(mine[-1]) + 1)
        return [
            Records(at, list(map(Message.value, mine)), mine, _record) for at, mine in here.items()
        ]

    def _heard(self, error: KafkaError, at: Partition, message: Message) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            if at in self._held:
                self._position[at] = _offset(message)
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            if at in self._held:
                self._out_of_range[at] = self._position.get(at, _offset(message))
        elif code == KafkaError._LOG_TRUNCATION:
            self._diverged.add(at)
        elif code in PASSING or error.retriable():
            log.debug("Kafka: %s", error)
        else:
            raise KafkaException(error)

    def seek(self, at: Partition, offset: int) -> None:
        """Read on from there."""
        self._position[at] = offset
        self._out_of_range.pop(at, None)
        with _translated():
            self._restart([at])

    def pause(self) -> None:
        """Fetch nothing."""
        self._paused = True
        self._consumer.pause([TopicPartition(*at) for at in self._held])

    def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        self._consumer.resume([TopicPartition(*at) for at in self._held])

    def position(self, at: Partition) -> int | None:
        """The next offset."""
        found = self._position.get(at)
        return None if found is None or found < 0 else found

    def highwater(self, at: Partition) -> int | None:
        """The end as the last fetch says it."""
        if at not in self._held:
            return None
        found = self._consumer.get_watermark_offsets(TopicPartition(*at), cached=True)
        return found[1] if found and found[1] >= 0 else None

    def ends(self, partitions: Collection[Partition], timeout: float) -> dict[Partition, int]:
        """The ends of partitions."""
        return {at: self._watermarks(at, timeout)[1] for at in partitions}

    def at_time(
        self, partitions: Collection[Partition], milliseconds: int, timeout: float
    ) -> dict[Partition, int]:
        """The first offsets at or after a time."""
        wanted = [TopicPartition(*at, milliseconds) for at in partitions]
        with _translated():
            found = self._consumer.offsets_for_times(wanted, timeout)
        here = {Partition(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}
        late = [at for at in partitions if at not in here]
        return {**here, **(self.ends(late, timeout) if late else {})}

    def topic_id(self, topic: str) -> str | None:
        """Unknown: librdkafka's consumer does not say."""
        return None

    def beginnings(
        self, partitions: Collection[Partition], timeout: float
    ) -> dict[Partition, int]:
        """The first offsets of partitions."""
        return {at: self._watermarks(at, timeout)[0] for at in partitions}

    def _watermarks(self, at: Partition, timeout: float) -> tuple[int, int]:
        with _translated():
            found = self._consumer.get_watermark_offsets(TopicPartition(*at), timeout)
        if found is None:
            raise Unavailable(f"the ends of {at} were not answered")
        return found

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the broker."""
        try:
            self._consumer.commit(
                offsets=[TopicPartition(*at, offset) for at, offset in offsets.items()],
                asynchronous=True,
            )
        except KafkaException as e:
            log.debug("offsets were not committed: %s", e)

    def close(self, seconds: float) -> None:
        """Leave the group; a broker that does not answer is not waited for beyond the time."""
        self._closing = True
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(seconds)


class _translated(contextlib.AbstractContextManager[None]):
    """librdkafka's errors as those that the source knows."""

    def __exit__(self, kind: Any, e: BaseException | None, traceback: Any) -> None:
        if not isinstance(e, KafkaException):
            return
        error = e.args[0]
        if error.code() in PASSING or error.retriable():
            raise Unavailable(str(error)) from e
        raise SourceError(f"Kafka cannot be read on: {error.name()}: {error.str()}") from e


class _Quiet:
    """Where librdkafka logs: of brokers that are gone the source itself says so, once."""

    log = staticmethod(lambda level, message, *values: log.debug(message, *values))


def _offset(message: Message) -> int:
    return int(message.offset() or 0)


def _record(message: Message) -> Record:
    headers: Any = message.headers() or ()
    epoch = message.leader_epoch()
    when = message.timestamp()[1]
    return Record(
        _offset(message), when, _bytes(message.key()), headers, -1 if epoch is None else epoch
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
