"""Kafka as a sink of generated rows."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streamsketch.errors import ConfigError, StoreError
from streamsketch.tables import Positive, takes
from streamsketch_consumers.kafka.contact import connect
from streamsketch_consumers.kafka.settings import Connection, TopicSettings

__all__ = ["KafkaSink", "Outbox", "make"]

log = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0
BLOCK_MS = 10_000  # a full buffer or an unreachable broker holds the caller up no longer
WAITING = 100_000  # messages kept for another try

Message = tuple[str, bytes, bytes | None, list[tuple[str, bytes]]]


class Outbox:
    """Sends messages and knows which are not acknowledged yet.

    Args:
        connection: How to reach the brokers.
    """

    def __init__(self, connection: Connection) -> None:
        self._servers = ", ".join(connection.servers)
        given = connection.arguments() | {"acks": "all", "linger_ms": 5, "max_block_ms": BLOCK_MS}
        self._producer = connect(
            lambda: KafkaProducer(**given),
            connection.servers,
            connection.connect_seconds,
            StoreError,
        )
        self._sent: list[tuple[Message, Any]] = []
        self._waiting: list[Message] = []

    def check(self, topic: str) -> None:
        """See to it that a topic exists.

        Raises:
            ConfigError: It does not, nor do the brokers make it.
        """
        try:
            found = self._producer.partitions_for(topic)
        except KafkaError:
            found = None
        if not found:
            raise ConfigError(
                f"topic {topic!r} does not exist on {self._servers}; create it, or correct topic"
            )

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Send one message; what fails is tried again by `flush`.

        Raises:
            StoreError: So many messages wait that the brokers must be gone for good.
        """
        self._send((topic, value, key, list(headers)))
        if len(self._waiting) > WAITING:
            raise StoreError(
                f"{len(self._waiting)} messages could not be sent to Kafka at {self._servers}; see "
                "that the brokers are up and the topic exists"
            )

    def _send(self, message: Message) -> None:
        topic, value, key, headers = message
        if self._waiting:  # each try can take `BLOCK_MS`: one at a time is enough
            self._waiting.append(message)
            return
        try:
            future = self._producer.send(topic, value, key=key, headers=headers)
        except KafkaError:
            self._waiting.append(message)
        else:
            self._sent.append((message, future))

    def flush(self) -> None:
        """Return when all is acknowledged.

        Raises:
            StoreError: Some is not; it is kept, and tried again by the next call.
        """
        again, self._waiting = self._waiting, []
        for message in again:
            self._send(message)
        problem: object = None
        try:
            self._producer.flush(timeout=FLUSH_SECONDS)
        except KafkaError as e:
            problem = e
        for message, future in self._sent:
            if not future.is_done or future.failed():
                problem = future.exception or problem
                self._waiting.append(message)
        self._sent = []
        if self._waiting:
            raise StoreError(
                f"{len(self._waiting)} messages were not acknowledged by Kafka at {self._servers} "
                f"({type(problem).__name__}: {problem}); they are kept and sent again"
            )

    def close(self) -> None:
        """Flush and disconnect."""
        try:
            self.flush()
        finally:
            self._producer.close(timeout=3)


@dataclass(frozen=True)
class SinkSettings(TopicSettings):
    """The Kafka sink's keys in pipeline.toml.

    Attributes:
        format: `json`, one row a message, or `arrow`, an IPC stream a message.
        rows: arrow: most rows of a message.
    """

    format: Literal["json", "arrow"] = "json"
    rows: Positive = 2000


class KafkaSink:
    """Writes rows to a topic.

    Args:
        settings: Where to, and how.
    """

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings
        self._outbox = Outbox(settings)
        self._outbox.check(settings.topic)

    def write(self, table: pa.Table) -> None:
        """Send the rows."""
        make_messages = _json if self._settings.format == "json" else _arrow
        for value in make_messages(table, self._settings.rows):
            self._outbox.send(self._settings.topic, value)

    def flush(self) -> None:
        """Return when the brokers have all rows."""
        self._outbox.flush()

    def close(self) -> None:
        """Flush and disconnect."""
        self._outbox.close()


@takes(SinkSettings, 'sink "kafka"')
def make(settings: SinkSettings) -> KafkaSink:
    """The entry point `kafka`: a sink from its keys in pipeline.toml."""
    return KafkaSink(settings)


def _json(table: pa.Table, rows: int) -> list[bytes]:
    import orjson

    return [orjson.dumps(row, default=str) for row in table.to_pylist()]


def _arrow(table: pa.Table, rows: int) -> list[bytes]:
    found = []
    for batch in table.to_batches(max_chunksize=rows):
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, batch.schema) as writer:
            writer.write_batch(batch)
        found.append(out.getvalue().to_pybytes())
    return found
