"""One partition: an append-only file of Kafka v2 record batches and its index in memory."""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kafka.record import MemoryRecords

# baseOffset, batchLength, leaderEpoch, magic, crc, attributes, lastOffsetDelta,
# baseTimestamp, maxTimestamp, producerId, producerEpoch, baseSequence, count
HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH_PREFIX = 12  # the offset and length fields are not counted in batchLength
REMEMBERED = 5  # batches a producer may have in flight, hence may send again
TRANSACTIONAL, CONTROL = 0x10, 0x20  # bits of the attributes
MARKER_TYPE = HEADER.size + 8  # place of the lower byte of a marker's type: 0 abort, 1 commit


class OutOfOrder(Exception):
    """A batch of an idempotent producer whose predecessor never arrived."""


class Batch(NamedTuple):
    """Where one record batch lies in the file, and what its header says."""

    base: int
    last: int
    position: int
    size: int
    max_timestamp: int
    producer: int
    sequence: int
    attributes: int
    marker: int  # of a control batch: 0 aborts the producer's transaction, 1 commits it


class Aborted(NamedTuple):
    """A transaction whose records readers of committed records skip."""

    producer: int
    first: int
    last: int


@dataclass
class Producer:
    """The batches last seen of one idempotent producer: sequence -> base offset."""

    recent: dict[int, int] = field(default_factory=dict)
    next_sequence: int = 0

    def remember(self, batch: Batch) -> None:
        """Note a batch that is now in the log."""
        self.recent[batch.sequence] = batch.base
        self.next_sequence = batch.sequence + batch.last - batch.base + 1
        while len(self.recent) > REMEMBERED:
            del self.recent[next(iter(self.recent))]


def batches(data: bytes | bytearray, position: int = 0) -> Iterator[Batch]:
    """The whole record batches in ``data``; a torn last one is left out."""
    at = 0
    while at + HEADER.size <= len(data):
        head = HEADER.unpack_from(data, at)
        size = head[1] + LENGTH_PREFIX
        if size < HEADER.size or at + size > len(data):
            return
        last = head[0] + head[6]
        marker = data[at + MARKER_TYPE] if head[5] & CONTROL else 0
        yield Batch(
            head[0], last, position + at, size, head[8], head[9], head[11], head[5], marker
        )
        at += size


class PartitionLog:
    """Append, read and look up batches; what is in the file survives a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._load()

    def _load(self) -> None:
        self._file = self._path.open("ab+")
        self._index: list[Batch] = []
        self._bases: list[int] = []
        self._producers: dict[int, Producer] = {}
        self._open: dict[int, int] = {}  # producer -> first offset of its transaction
        self._aborted: list[Aborted] = []
        self.end = 0
        self._file.seek(0)
        for batch in batches(self._file.read()):
            self._add(batch)
        self._size = self._index[-1].position + self._index[-1].size if self._index else 0
        self._file.truncate(self._size)

    def _add(self, batch: Batch) -> None:
        self._index.append(batch)
        self._bases.append(batch.base)
        self.end = batch.last + 1
        if batch.attributes & CONTROL:
            first = self._open.pop(batch.producer, batch.base)
            if batch.marker == 0:
                self._aborted.append(Aborted(batch.producer, first, batch.last))
            return
        if batch.attributes & TRANSACTIONAL:
            self._open.setdefault(batch.producer, batch.base)
        if batch.producer >= 0:
            self._producers.setdefault(batch.producer, Producer()).remember(batch)

    @property
    def stable(self) -> int:
        """The first offset that belongs to a transaction still open, else the end."""
        return min(self._open.values(), default=self.end)

    def aborted(self, offset: int) -> list[Aborted]:
        """The transactions that were aborted at or after an offset."""
        return [found for found in self._aborted if found.last >= offset]

    def append(self, records: bytes) -> int:
        """Store the batches, numbered from the end of the log; the first one's offset.

        A batch that an idempotent producer sends a second time is not stored again.
        """
        first = self.end
        for sent in batches(records):
            producer = self._producers.get(sent.producer)
            if sent.sequence >= 0 and producer is not None:
                if sent.sequence in producer.recent:
                    return producer.recent[sent.sequence]
                if sent.sequence != producer.next_sequence:
                    raise OutOfOrder(f"{sent.sequence} after {producer.next_sequence}")
            data = bytearray(records[sent.position : sent.position + sent.size])
            # The offset and the leader epoch are outside of the batch's checksum.
            struct.pack_into(">q", data, 0, self.end)
            struct.pack_into(">i", data, LENGTH_PREFIX, 0)
            stored = next(batches(data, self._size))
            self._file.write(data)
            self._size += stored.size
            self._add(stored)
        self._file.flush()
        return first

    def read(self, offset: int, max_bytes: int, end: int) -> bytes:
        """Whole batches from the one that holds ``offset``: at least one, else up to a size.

        Nothing at or after the offset ``end`` is read.
        """
        at = bisect_right(self._bases, offset) - 1
        if at < 0 or offset >= end:
            return b""
        start, size = self._index[at].position, self._index[at].size
        for batch in self._index[at + 1 :]:
            if size + batch.size > max_bytes or batch.base >= end:
                break
            size += batch.size
        return os.pread(self._file.fileno(), size, start)

    def at_time(self, timestamp: int) -> tuple[int, int]:
        """Offset and timestamp of the first record at or after ``timestamp``, else (-1, -1)."""
        for batch in self._index:
            if batch.max_timestamp < timestamp:
                continue
            data = os.pread(self._file.fileno(), batch.size, batch.position)
            for group in MemoryRecords(data):
                for record in group:
                    if record.timestamp >= timestamp:
                        return record.offset, record.timestamp
        return -1, -1

    def cut(self, offset: int) -> None:
        """Give back the disk space of the batches before ``offset``; the last one stays."""
        at = max(0, min(bisect_right(self._bases, offset), len(self._bases)) - 1)
        if at <= 0:
            return
        start, rest = self._index[at].position, self._path.with_suffix(".rest")
        with rest.open("wb") as kept:
            while start < self._size:
                start += os.sendfile(kept.fileno(), self._file.fileno(), start, self._size - start)
        rest.replace(self._path)
        self._file.close()
        self._load()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
