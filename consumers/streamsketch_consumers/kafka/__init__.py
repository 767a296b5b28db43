"""Kafka as a source, as a sink of generated rows and as a dead-letter queue."""

from streamsketch_consumers.kafka.source import KafkaSource, make

__all__ = ["KafkaSource", "make"]
