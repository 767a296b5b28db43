"""A small persistent broker that speaks the Kafka protocol, for tests.

It is built on kafka-python's public protocol classes, which decode requests and encode responses
as well. It keeps its log and its groups' offsets in a folder, so that it can be killed and
started again; it does what the tests need (several partitions, groups, idempotent producers,
retention, new partitions, transactions) and nothing more: one node, no compaction, no TLS.
Being ours it may share our misunderstandings, so the same tests also run on Tansu and on any
real broker (see ``tests/consumers/conftest.py``).
"""

from testing.broker.process import BrokerProcess
from testing.broker.server import Broker

__all__ = ["Broker", "BrokerProcess"]
