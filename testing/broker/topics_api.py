"""Requests about the cluster and its topics."""

from kafka.protocol.admin import (
    CreatePartitionsResponse,
    CreateTopicsResponse,
    DeleteRecordsResponse,
)
from kafka.protocol.metadata import FindCoordinatorResponse, MetadataResponse

from testing.broker.state import (
    INVALID_PARTITIONS,
    NODE,
    OFFSET_OUT_OF_RANGE,
    TOPIC_EXISTS,
    UNKNOWN_PARTITION,
    Message,
    State,
)


def metadata(state: State, request: Message, version: int) -> Message:
    """Brokers (this one) and topics; creates topics on first use where that is allowed."""
    storage = state.storage
    everything = request.topics is None or (version == 0 and not request.topics)
    names = sorted(storage.topics) if everything else [topic.name for topic in request.topics]
    may_create = state.auto_create and (version < 4 or request.allow_auto_topic_creation)
    topic_class = MetadataResponse.MetadataResponseTopic
    topics = []
    for name in names:
        if name not in storage.topics and may_create:
            storage.set_partitions(name, state.partitions)
        count = storage.topics.get(name, 0)
        partitions = [
            topic_class.MetadataResponsePartition(
                version=version,
                error_code=0,
                partition_index=index,
                leader_id=NODE,
                leader_epoch=0,
                replica_nodes=[NODE],
                isr_nodes=[NODE],
                offline_replicas=[],
            )
            for index in range(count)
        ]
        topics.append(
            topic_class(
                version=version,
                error_code=0 if count else UNKNOWN_PARTITION,
                name=name,
                is_internal=False,
                partitions=partitions,
            )
        )
    node = MetadataResponse.MetadataResponseBroker(
        version=version, node_id=NODE, host=state.host, port=state.port, rack=None
    )
    return MetadataResponse(
        version=version,
        throttle_time_ms=0,
        brokers=[node],
        cluster_id="tests",
        controller_id=NODE,
        topics=topics,
    )


def find_coordinator(state: State, request: Message, version: int) -> Message:
    """This broker coordinates every group."""
    return FindCoordinatorResponse(
        version=version,
        throttle_time_ms=0,
        error_code=0,
        error_message=None,
        node_id=NODE,
        host=state.host,
        port=state.port,
    )


def create_topics(state: State, request: Message, version: int) -> Message:
    """Create topics."""
    results = []
    for topic in request.topics:
        error = TOPIC_EXISTS if topic.name in state.storage.topics else 0
        if not error:
            count = topic.num_partitions if topic.num_partitions > 0 else state.partitions
            state.storage.set_partitions(topic.name, count)
        results.append(
            CreateTopicsResponse.CreatableTopicResult(
                version=version, name=topic.name, error_code=error, error_message=None
            )
        )
    return CreateTopicsResponse(version=version, throttle_time_ms=0, topics=results)


def create_partitions(state: State, request: Message, version: int) -> Message:
    """Give topics more partitions."""
    results = []
    for topic in request.topics:
        present = state.storage.topics.get(topic.name, 0)
        error = UNKNOWN_PARTITION if not present else 0
        if present and topic.count <= present:
            error = INVALID_PARTITIONS
        if not error:
            state.storage.set_partitions(topic.name, topic.count)
        results.append(
            CreatePartitionsResponse.CreatePartitionsTopicResult(
                version=version, name=topic.name, error_code=error, error_message=None
            )
        )
    return CreatePartitionsResponse(version=version, throttle_time_ms=0, results=results)


def delete_records(state: State, request: Message, version: int) -> Message:
    """Move the log start offset of partitions forward, as retention does."""
    topic_class = DeleteRecordsResponse.DeleteRecordsTopicResult
    topics = []
    for topic in request.topics:
        results = []
        for part in topic.partitions:
            error, start = UNKNOWN_PARTITION, -1
            if state.storage.has(topic.name, part.partition_index):
                end = state.storage.log(topic.name, part.partition_index).end
                start = end if part.offset == -1 else part.offset
                error = OFFSET_OUT_OF_RANGE if start > end else 0
                if not error:
                    state.storage.set_start(topic.name, part.partition_index, start)
            results.append(
                topic_class.DeleteRecordsPartitionResult(
                    version=version,
                    partition_index=part.partition_index,
                    low_watermark=start,
                    error_code=error,
                )
            )
        topics.append(topic_class(version=version, name=topic.name, partitions=results))
    return DeleteRecordsResponse(version=version, throttle_time_ms=0, topics=topics)
