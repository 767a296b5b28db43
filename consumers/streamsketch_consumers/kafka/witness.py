"""What an offset is an offset of: records that were read, by which a partition's log is known again.

A topic can be deleted and made anew under its name, and a log can lose its end when a replica that
lagged becomes the leader. Offsets go on meaning something else. So a position holds the newest
record that was read (offset, time, hash, leader epoch), and a few older ones at growing
distances: before reading goes on the newest is read once more, and must be the same.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from streamsketch.ingest.streams import Position
from streamsketch_consumers.kafka.client import Records

__all__ = ["Witness", "advanced", "position_at", "witnesses"]

STEPS = tuple(1000 * 4**k for k in range(6))  # of each, the last record before the step begun


class Witness(NamedTuple):
    """A record that was read.

    Attributes:
        offset: Where it stands.
        timestamp: Its time, milliseconds.
        digest: Hash of its key and value.
        epoch: How often the partition had changed its leader; -1 if the broker does not say.
    """

    offset: int
    timestamp: int
    digest: str
    epoch: int = -1

    @classmethod
    def of(cls, records: Records, i: int) -> "Witness":
        """The witness of one of the records."""
        record, value = records[i], records.values[i]
        h = hashlib.blake2b(digest_size=8)
        for part in (record.key, value):
            h.update(b"-" if part is None else b"+%d+" % len(part))
            h.update(part or b"")
        return cls(record.offset, record.timestamp, h.hexdigest(), record.epoch)

    def matches(self, other: "Witness") -> bool:
        """Whether it is the same record; its epoch tells of leaders, not of the record."""
        return self[:3] == other[:3]


def witnesses(position: Position) -> list[Witness]:
    """The records that a position was read up to, the newest first."""
    return [Witness(*found) for found in position.get("read", [])]


def position_at(offset: int, before: Position) -> Position:
    """The position at an offset, of the same log as the one before."""
    return {**before, "offset": offset}


def advanced(before: Position, records: Records, i: int) -> Position:
    """The position after one of the records."""
    newest, older = Witness.of(records, i), witnesses(before)
    kept = {newest.offset: newest}
    for step in STEPS:
        found = next((w for w in older if w.offset // step < newest.offset // step), None)
        if found is not None:
            kept[found.offset] = found
    read: Sequence[Any] = [list(kept[offset]) for offset in sorted(kept, reverse=True)]
    return {**before, "offset": newest.offset + 1, "read": read}
