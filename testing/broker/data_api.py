"""Requests that write and read records."""

import time

from kafka.protocol.consumer import FetchResponse, ListOffsetsResponse
from kafka.protocol.producer import ProduceResponse

from testing.broker.log import OutOfOrder
from testing.broker.state import (
    OFFSET_OUT_OF_RANGE,
    OUT_OF_ORDER,
    UNKNOWN_PARTITION,
    Message,
    State,
)

PARTITION_DATA = FetchResponse.FetchableTopicResponse.PartitionData
COMMITTED = 1  # the isolation level that hides aborted and open transactions
LATEST, EARLIEST = -1, -2  # the timestamps that ListOffsets gives a meaning of their own


def produce(state: State, request: Message, version: int) -> Message | None:
    """Append batches; no answer when the producer wants none (acks=0)."""
    topic_class = ProduceResponse.TopicProduceResponse
    topics = []
    for topic in request.topic_data:
        results = []
        for part in topic.partition_data:
            error, base = UNKNOWN_PARTITION, -1
            if state.storage.has(topic.name, part.index):
                try:
                    base = state.storage.log(topic.name, part.index).append(bytes(part.records))
                    error = 0
                except OutOfOrder:
                    error = OUT_OF_ORDER
            results.append(
                topic_class.PartitionProduceResponse(
                    version=version,
                    index=part.index,
                    error_code=error,
                    base_offset=base,
                    log_append_time_ms=-1,
                    log_start_offset=state.storage.start(topic.name, part.index),
                )
            )
        topics.append(topic_class(version=version, name=topic.name, partition_responses=results))
    state.changed.notify_all()
    if request.acks == 0:
        return None
    return ProduceResponse(version=version, responses=topics, throttle_time_ms=0)


class Fetch:
    """One fetch: reads what is there, at most ``max_bytes`` and at least one batch."""

    def __init__(self, state: State, request: Message, version: int) -> None:
        self._state = state
        self._request = request
        self._version = version
        self.size = 0
        self.failed = False

    def topics(self) -> list[Message]:
        """The response's topics."""
        topic_class = FetchResponse.FetchableTopicResponse
        return [
            topic_class(
                version=self._version,
                topic=topic.topic,
                partitions=[self._partition(topic.topic, part) for part in topic.partitions],
            )
            for topic in self._request.topics
        ]

    def _partition(self, topic: str, part: Message) -> Message:
        storage = self._state.storage
        committed = self._request.isolation_level == COMMITTED
        error, end, start, stable, records = UNKNOWN_PARTITION, -1, -1, -1, b""
        aborted: list[Message] = []
        if storage.has(topic, part.partition):
            log = storage.log(topic, part.partition)
            end, start, stable = log.end, storage.start(topic, part.partition), log.stable
            error = 0 if start <= part.fetch_offset <= end else OFFSET_OUT_OF_RANGE
            room = min(part.partition_max_bytes, self._request.max_bytes - self.size)
            if not error and (self.size == 0 or room > 0):
                records = log.read(part.fetch_offset, room, stable if committed else end)
                aborted = [
                    PARTITION_DATA.AbortedTransaction(
                        version=self._version, producer_id=found.producer, first_offset=found.first
                    )
                    for found in log.aborted(part.fetch_offset)
                ]
        self.size += len(records)
        self.failed = self.failed or error != 0
        return PARTITION_DATA(
            version=self._version,
            partition_index=part.partition,
            error_code=error,
            high_watermark=end,
            last_stable_offset=stable,
            log_start_offset=start,
            aborted_transactions=aborted if committed else None,
            preferred_read_replica=-1,
            records=records,
        )


def fetch(state: State, request: Message, version: int) -> Message:
    """Read records, waiting up to the asked time until there are some."""
    limit = time.monotonic() + request.max_wait_ms / 1000
    while True:
        attempt = Fetch(state, request, version)
        topics = attempt.topics()
        left = limit - time.monotonic()
        if attempt.size >= request.min_bytes or attempt.failed or left <= 0:
            break
        state.changed.wait(left)
    return FetchResponse(
        version=version, throttle_time_ms=0, error_code=0, session_id=0, responses=topics
    )


def list_offsets(state: State, request: Message, version: int) -> Message:
    """First, last, and by-time offsets."""
    topic_class = ListOffsetsResponse.ListOffsetsTopicResponse
    topics = []
    for topic in request.topics:
        results = []
        for part in topic.partitions:
            known = state.storage.has(topic.name, part.partition_index)
            offset, timestamp = -1, -1
            if known:
                log = state.storage.log(topic.name, part.partition_index)
                start = state.storage.start(topic.name, part.partition_index)
                if part.timestamp == LATEST:
                    committed = version >= 2 and request.isolation_level == COMMITTED
                    offset = log.stable if committed else log.end
                elif part.timestamp == EARLIEST:
                    offset = start
                else:
                    offset, timestamp = log.at_time(part.timestamp)
                    offset = max(offset, start) if offset >= 0 else -1
            results.append(
                topic_class.ListOffsetsPartitionResponse(
                    version=version,
                    partition_index=part.partition_index,
                    error_code=0 if known else UNKNOWN_PARTITION,
                    timestamp=timestamp,
                    offset=offset,
                    leader_epoch=0,
                )
            )
        topics.append(topic_class(version=version, name=topic.name, partitions=results))
    return ListOffsetsResponse(version=version, throttle_time_ms=0, topics=topics)
