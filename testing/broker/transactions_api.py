"""Requests of idempotent and transactional producers."""

import struct
import time

from kafka.protocol.producer import (
    AddPartitionsToTxnResponse,
    EndTxnResponse,
    InitProducerIdResponse,
)
from kafka.record.util import calc_crc32c

from testing.broker.log import CONTROL, HEADER, TRANSACTIONAL
from testing.broker.state import UNKNOWN_PARTITION, Message, State, Transaction

CRC_AT, CHECKED_FROM = 17, 21  # places in a batch


def init_producer_id(state: State, request: Message, version: int) -> Message:
    """Give a producer its id; a transaction that its former self left open is aborted."""
    name = request.transactional_id
    producer, epoch = -1, 0
    if name is not None and name in state.transactions:
        left = state.transactions[name]
        _end(state, left, commit=False)
        producer, epoch = left.producer, left.epoch + 1
    else:
        producer = state.storage.new_producer()
    if name is not None:
        state.transactions[name] = Transaction(producer, epoch)
    return InitProducerIdResponse(
        version=version,
        throttle_time_ms=0,
        error_code=0,
        producer_id=producer,
        producer_epoch=epoch,
    )


def add_partitions(state: State, request: Message, version: int) -> Message:
    """Note the partitions that a transaction will write to."""
    transaction = state.transactions[request.v3_and_below_transactional_id]
    topic_class = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
    topics = []
    for topic in request.v3_and_below_topics:
        results = []
        for partition in topic.partitions:
            known = state.storage.has(topic.name, partition)
            if known:
                transaction.partitions.add((topic.name, partition))
            results.append(
                topic_class.AddPartitionsToTxnPartitionResult(
                    version=version,
                    partition_index=partition,
                    partition_error_code=0 if known else UNKNOWN_PARTITION,
                )
            )
        topics.append(topic_class(version=version, name=topic.name, results_by_partition=results))
    return AddPartitionsToTxnResponse(
        version=version, throttle_time_ms=0, results_by_topic_v3_and_below=topics
    )


def end_transaction(state: State, request: Message, version: int) -> Message:
    """Commit or abort: a marker goes to every partition of the transaction."""
    _end(state, state.transactions[request.transactional_id], request.committed)
    return EndTxnResponse(version=version, throttle_time_ms=0, error_code=0)


def _end(state: State, transaction: Transaction, commit: bool) -> None:
    for topic, partition in transaction.partitions:
        state.storage.log(topic, partition).append(marker(transaction, commit))
    transaction.partitions.clear()
    state.changed.notify_all()


def marker(transaction: Transaction, commit: bool) -> bytes:
    """A control batch of one record, which says how a transaction ended."""
    key, value = struct.pack(">hh", 0, int(commit)), struct.pack(">hi", 0, 0)
    # lengths and counts are varints, zigzag: twice the number while it is small
    body = bytes([0, 0, 0, 2 * len(key)]) + key + bytes([2 * len(value)]) + value + b"\0"
    record = bytes([2 * len(body)]) + body
    now = int(time.time() * 1000)
    attributes = TRANSACTIONAL | CONTROL
    size = HEADER.size + len(record) - 12
    head = HEADER.pack(
        0, size, 0, 2, 0, attributes, 0, now, now, transaction.producer, transaction.epoch, -1, 1
    )
    batch = bytearray(head + record)
    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[CHECKED_FROM:])))
    return bytes(batch)
