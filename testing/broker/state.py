"""What the request handlers share: the stored state, the groups and one lock over both."""

from dataclasses import dataclass, field
from threading import Condition, RLock
from typing import Any

from testing.broker.groups import Group
from testing.broker.storage import Storage

NODE = 1
UNKNOWN_PARTITION, OFFSET_OUT_OF_RANGE, OUT_OF_ORDER = 3, 1, 45
TOPIC_EXISTS, INVALID_PARTITIONS = 36, 37


@dataclass
class Transaction:
    """A transactional producer, and the partitions its open transaction wrote to."""

    producer: int
    epoch: int
    partitions: set[tuple[str, int]] = field(default_factory=set)


Message = Any  # kafka-python's protocol classes carry no types at run time


@dataclass
class State:
    """The broker's data. ``changed`` is its lock, notified on new records and group changes."""

    storage: Storage
    host: str
    port: int
    partitions: int  # of a topic that is created by its first use
    auto_create: bool
    groups: dict[str, Group] = field(default_factory=dict)
    transactions: dict[str, Transaction] = field(default_factory=dict)  # not kept over a restart
    changed: Condition = field(default_factory=lambda: Condition(RLock()))

    def group(self, name: str) -> Group:
        """The group, which is begun when it is not there."""
        if name not in self.groups:
            self.groups[name] = Group(self.changed)
        return self.groups[name]
