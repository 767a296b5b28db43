"""Kafka as a source, as a sink of generated rows and as a dead-letter queue. Names are loaded on first use."""

from typing import TYPE_CHECKING

from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch_consumers.kafka.source import KafkaSource as KafkaSource
    from streamsketch_consumers.kafka.source import make as make

__all__ = ["KafkaSource", "make"]

__getattr__, __dir__ = exports(__name__, {"KafkaSource": "source", "make": "source"})
