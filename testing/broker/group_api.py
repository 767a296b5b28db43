"""Requests of consumer groups."""

from kafka.protocol.consumer import (
    HeartbeatResponse,
    JoinGroupResponse,
    LeaveGroupResponse,
    OffsetCommitResponse,
    OffsetFetchResponse,
    SyncGroupResponse,
)

from testing.broker.groups import Member
from testing.broker.state import Message, State

NEEDS_MEMBER_ID = 4  # from this JoinGroup version on, a member first asks for its id
REBALANCE_TIMEOUT = 1  # and from this one on it says how long it may take to join


def join_group(state: State, request: Message, version: int) -> Message:
    """Join the group's next generation."""
    limit = request.session_timeout_ms
    if version >= REBALANCE_TIMEOUT:
        limit = request.rebalance_timeout_ms
    member = Member(
        protocols={item.name: bytes(item.metadata) for item in request.protocols},
        session=request.session_timeout_ms / 1000,
        rebalance=limit / 1000,
        instance=request.group_instance_id if version >= 5 else None,
    )
    group = state.group(request.group_id)
    joined = group.join(request.member_id, member, version >= NEEDS_MEMBER_ID)
    members = [
        JoinGroupResponse.JoinGroupResponseMember(
            version=version, member_id=name, group_instance_id=instance, metadata=metadata
        )
        for name, instance, metadata in joined.members
    ]
    return JoinGroupResponse(
        version=version,
        throttle_time_ms=0,
        error_code=joined.error,
        generation_id=joined.generation,
        protocol_name=joined.protocol,
        leader=joined.leader,
        member_id=joined.member,
        members=members,
    )


def sync_group(state: State, request: Message, version: int) -> Message:
    """Hand in and hand out the assignment."""
    given = {item.member_id: bytes(item.assignment) for item in request.assignments}
    group = state.group(request.group_id)
    error, assignment = group.sync(request.member_id, request.generation_id, given)
    return SyncGroupResponse(
        version=version, throttle_time_ms=0, error_code=error, assignment=assignment
    )


def heartbeat(state: State, request: Message, version: int) -> Message:
    """A sign of life."""
    error = state.group(request.group_id).heartbeat(request.member_id, request.generation_id)
    return HeartbeatResponse(version=version, throttle_time_ms=0, error_code=error)


def leave_group(state: State, request: Message, version: int) -> Message:
    """Members go."""
    names = [request.member_id] if version < 3 else [item.member_id for item in request.members]
    state.group(request.group_id).remove(names)
    members = []
    if version >= 3:
        members = [
            LeaveGroupResponse.MemberResponse(
                version=version, member_id=name, group_instance_id=None, error_code=0
            )
            for name in names
        ]
    return LeaveGroupResponse(version=version, throttle_time_ms=0, error_code=0, members=members)


def offset_commit(state: State, request: Message, version: int) -> Message:
    """Store offsets, of a member of the present generation or of somebody outside of groups."""
    generation = request.generation_id_or_member_epoch
    error = 0
    if generation >= 0:
        error = state.group(request.group_id).check(request.member_id, generation)
    topic_class = OffsetCommitResponse.OffsetCommitResponseTopic
    topics = []
    for topic in request.topics:
        results = []
        for part in topic.partitions:
            if not error:
                state.storage.commit(
                    request.group_id,
                    topic.name,
                    part.partition_index,
                    part.committed_offset,
                    part.committed_metadata or "",
                )
            results.append(
                topic_class.OffsetCommitResponsePartition(
                    version=version, partition_index=part.partition_index, error_code=error
                )
            )
        topics.append(topic_class(version=version, name=topic.name, partitions=results))
    return OffsetCommitResponse(version=version, throttle_time_ms=0, topics=topics)


def offset_fetch(state: State, request: Message, version: int) -> Message:
    """The stored offsets of the named partitions, or of all."""
    group = request.group_id
    if request.topics is None:
        wanted = state.storage.committed_partitions(group)
    else:
        wanted = {topic.name: list(topic.partition_indexes) for topic in request.topics}
    topic_class = OffsetFetchResponse.OffsetFetchResponseTopic
    topics = []
    for name, indexes in wanted.items():
        results = []
        for index in indexes:
            offset, metadata = state.storage.committed(group, name, index)
            results.append(
                topic_class.OffsetFetchResponsePartition(
                    version=version,
                    partition_index=index,
                    committed_offset=offset,
                    committed_leader_epoch=-1,
                    metadata=metadata,
                    error_code=0,
                )
            )
        topics.append(topic_class(version=version, name=name, partitions=results))
    return OffsetFetchResponse(version=version, throttle_time_ms=0, error_code=0, topics=topics)
