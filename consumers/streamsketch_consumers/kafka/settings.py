"""Settings of everything that talks to Kafka, and what kafka-python makes of them."""

import datetime as dt
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Gt

from streamsketch.errors import ConfigError
from streamsketch.tables import Positive
from streamsketch_consumers.columns import Extra, Missing
from streamsketch_consumers.decode import Limits, Options, RegistrySettings

__all__ = ["Connection", "KafkaSettings", "TopicSettings", "secret"]

SECRETS = ("sasl_plain_username", "sasl_plain_password", "ssl_password")
FRAME_BYTES = 256 << 20  # a broker sends a message whole, however large: it becomes a dead letter
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER")

Assignment = Literal["range", "roundrobin", "sticky", "cooperative"]


@dataclass(frozen=True)
class Connection:
    """How to reach the brokers; shared by the source, the sink and the dead letters.

    Attributes:
        bootstrap_servers: host:port, several separated by commas or as a list.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or OAUTHBEARER.
        sasl_plain_username: `env:NAME` or `file:PATH`.
        sasl_plain_password: `env:NAME` or `file:PATH`; never the password itself.
        sasl_kerberos_service_name: GSSAPI: name of the service.
        ssl_cafile: File of the authority's certificate.
        ssl_certfile: File of this client's certificate.
        ssl_keyfile: File of its key.
        ssl_password: `env:NAME` or `file:PATH` of that key's password.
        ssl_check_hostname: Whether the certificate must name the broker's host.
        connect_seconds: How long to try to reach a broker at the start.
    """

    bootstrap_servers: str | tuple[str, ...] = "localhost:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_plain_username: str | None = field(default=None, repr=False)
    sasl_plain_password: str | None = field(default=None, repr=False)
    sasl_kerberos_service_name: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True
    connect_seconds: Annotated[float, Gt(0)] = 30.0

    def __post_init__(self) -> None:
        # kafka-python takes a protocol that it does not know for PLAINTEXT
        if self.security_protocol not in PROTOCOLS:
            raise ConfigError(
                f"security_protocol = {self.security_protocol!r} is not one of {', '.join(PROTOCOLS)}"
            )
        if "SASL" in self.security_protocol and self.sasl_mechanism not in MECHANISMS:
            raise ConfigError(
                f"security_protocol = {self.security_protocol!r} needs sasl_mechanism, one of "
                f"{', '.join(MECHANISMS)}, not {self.sasl_mechanism!r}"
            )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for kafka-python's clients, secrets included: never log them.

        Raises:
            ConfigError: A secret is not named by `env:` or `file:`, or is not there.
        """
        found: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security_protocol,
            "ssl_check_hostname": self.ssl_check_hostname,
            "bootstrap_timeout_ms": int(self.connect_seconds * 1000),
            "reconnect_backoff_max_ms": 2000,
        }
        for name in (
            "sasl_mechanism",
            "sasl_kerberos_service_name",
            "ssl_cafile",
            "ssl_certfile",
            "ssl_keyfile",
            *SECRETS,
        ):
            value = getattr(self, name)
            if value is not None:
                found[name] = secret(name, value) if name in SECRETS else value
        return found

    @property
    def servers(self) -> list[str]:
        """The brokers' addresses."""
        given = self.bootstrap_servers
        return given.replace(" ", "").split(",") if isinstance(given, str) else list(given)


@dataclass(frozen=True)
class TopicSettings(Connection):
    """A topic to write to.

    Attributes:
        topic: Its name.
    """

    topic: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.topic:
            raise ConfigError("topic is missing; name the Kafka topic to write to")


@dataclass(frozen=True)
class KafkaSettings(Connection):
    """The Kafka source's table in pipeline.toml.

    Attributes:
        topic: Topic to read, or a list of topics. A name that begins with ^ is a pattern (a regular
            expression): all topics that it matches are read, those that come later from their
            beginning.
        client: The library that reads: kafka-python, or confluent (faster on small messages).
        group: Consumer group; its members share the partitions.
        group_instance_id: Static membership: a name of this member that survives its restart.
        assignment: How the group shares partitions: range, roundrobin, sticky, or cooperative
            (partitions that stay with their member are read on during a rebalance).
        format: What a message holds; see `streamsketch_consumers.decode`.
        start: Where to begin a partition that has no saved position: earliest, latest, or a time
            such as 2026-11-01T00:00Z. One that is added later is read from its beginning.
        until: `end` stops at the ends that the partitions have at the start; empty never stops.
        on_gap: When the broker no longer has the saved position, or has another log there (the
            topic was made anew, its log was cut): stop, or continue at the first message that
            was not read, with the gap recorded in the position.
        isolation_level: read_committed hides messages of aborted transactions.
        wait_for_topic: Wait for a topic that does not exist, instead of failing.
        timestamp_column: Time column that is taken from the messages' timestamps.
        missing: json, ndjson, avro, arrow: a field that is not there is refused, or taken as null.
        unwrap: json, ndjson, avro: the field that holds the row: `after` of Debezium's change
            events, `payload.after` where they carry their schema.
        extra: json, ndjson, avro, protobuf, arrow: a field that is not declared is ignored, or refused.
        delimiter: csv: between values.
        registry: Address of a schema registry, for avro, json and protobuf messages that name
            their schema; several are separated by commas.
        registry_username: `env:NAME` or `file:PATH`.
        registry_password: `env:NAME` or `file:PATH`; never the password itself.
        registry_cafile: File of the certificate of the registry's authority.
        registry_certfile: File of this client's certificate for the registry.
        registry_keyfile: File of its key.
        registry_key_password: `env:NAME` or `file:PATH` of that key's password.
        avro_schema: avro without a registry: the writer's schema as JSON text, or `file:PATH`.
        confluent_header: avro with avro_schema: skip the 5 bytes that a schema registry puts
            before values.
        rate: Rows per second of this member; as fast as it goes if not set.
        max_records: Messages asked for at once.
        max_message_bytes: A larger message is a dead letter.
        max_rows: Most rows of an Arrow message.
        max_decoded_bytes: Most bytes of an Arrow message after decompression.
        fetch_bytes: Memory for one answer of a broker.
        session_timeout_ms: Silence after which the group gives this member's partitions away.
        metadata_seconds: How often to look for new partitions.
        commit: Commit saved offsets to the broker, for monitoring; they are never read.
    """

    topic: str | tuple[str, ...] = ""
    client: Literal["kafka-python", "confluent"] = "kafka-python"
    group: str = "streamsketch"
    group_instance_id: str | None = None
    assignment: Assignment = "range"
    format: str = "json"
    start: str = "earliest"
    until: Literal["", "end"] = ""
    on_gap: Literal["stop", "continue"] = "stop"
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    wait_for_topic: bool = False
    timestamp_column: str | None = None
    missing: Missing = "refuse"
    unwrap: str = ""
    extra: Extra = "ignore"
    delimiter: str = ","
    registry: str = ""
    registry_username: str | None = field(default=None, repr=False)
    registry_password: str | None = field(default=None, repr=False)
    registry_cafile: str | None = None
    registry_certfile: str | None = None
    registry_keyfile: str | None = None
    registry_key_password: str | None = field(default=None, repr=False)
    avro_schema: str = ""
    confluent_header: bool = False
    rate: Annotated[float, Gt(0)] | None = None
    max_records: Positive = 5000
    max_message_bytes: Positive = 8 << 20
    max_rows: int = 1 << 20
    max_decoded_bytes: int = 256 << 20
    fetch_bytes: Positive = 16 << 20
    session_timeout_ms: Positive = 45000
    metadata_seconds: float = 30.0
    commit: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.start not in ("earliest", "latest") and self.start_ms is None:
            problems.append(
                f"start = {self.start!r} is not 'earliest', 'latest', or a time such as "
                "'2026-11-01T00:00Z'"
            )
        if not self.topics:
            problems.append("topic is missing; name the topic to read, or a list of topics")
        for name in self.patterns:
            try:
                re.compile(name)
            except re.error as e:
                problems.append(f"topic = {name!r} is no pattern ({e})")
        if self.registry and (self.avro_schema or self.confluent_header):
            problems.append("registry and avro_schema or confluent_header: use one way")
        if problems:
            raise ConfigError("; ".join(problems))

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        given = [self.topic] if isinstance(self.topic, str) else list(self.topic)
        return [name for name in given if name]

    @property
    def patterns(self) -> list[str]:
        """Those of the topics that are patterns."""
        return [name for name in self.topics if name.startswith("^")]

    def matching(self, there: Iterable[str]) -> list[str]:
        """The topics to read, of those that are there; named ones also where they are not."""
        named = [name for name in self.topics if not name.startswith("^")]
        found = {t for t in there if any(re.search(p, t) for p in self.patterns)}
        return [*named, *sorted(found - set(named))]

    @property
    def start_ms(self) -> int | None:
        """The time to begin at, in milliseconds since 1970, if it is a time (UTC if it has no zone)."""
        try:
            when = dt.datetime.fromisoformat(self.start)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
        return int(when.timestamp() * 1000)

    def decoding(self) -> Options:
        """How messages are decoded, secrets included: never log them."""
        limits = Limits(self.max_message_bytes, self.max_rows, self.max_decoded_bytes)
        avro = self.avro_schema
        if avro.startswith("file:"):
            avro = secret("avro_schema", avro)
        return Options(
            limits, self.missing, self.delimiter, avro, self.confluent_header, self._registry(),
            extra=self.extra, unwrap=self.unwrap,
        )  # fmt: skip

    def _registry(self) -> RegistrySettings | None:
        if not self.registry:
            return None

        def hidden(name: str) -> str | None:
            value = getattr(self, name)
            return None if value is None else secret(name, value)

        return RegistrySettings(
            self.registry,
            hidden("registry_username"),
            hidden("registry_password"),
            self.registry_cafile,
            self.registry_certfile,
            self.registry_keyfile,
            hidden("registry_key_password"),
        )

    def consumer(self) -> dict[str, Any]:
        """Keyword arguments for kafka-python's consumer: never log them."""
        return {
            **self.arguments(),
            "group_id": self.group,
            "group_instance_id": self.group_instance_id,
            "partition_assignment_strategy": [_assignor(self.assignment)],
            "isolation_level": self.isolation_level,
            # Positions come from the saved state alone: an offset that the broker does not have
            # must be heard of, never reset in silence.
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "max_poll_records": self.max_records,
            "fetch_max_bytes": self.fetch_bytes,
            "max_partition_fetch_bytes": self.fetch_bytes,
            "receive_message_max_bytes": max(FRAME_BYTES, 4 * self.fetch_bytes),
            "session_timeout_ms": self.session_timeout_ms,
            "heartbeat_interval_ms": max(1, min(3000, self.session_timeout_ms // 6)),
            "metadata_max_age_ms": int(self.metadata_seconds * 1000),
        }


def _assignor(name: str) -> Any:
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    kinds = (
        RangePartitionAssignor,
        RoundRobinPartitionAssignor,
        StickyPartitionAssignor,
        CooperativeStickyAssignor,
    )
    return dict(zip(get_args(Assignment), kinds, strict=True))[name]()


def secret(name: str, value: str) -> str:
    """The secret that a setting points to.

    Raises:
        ConfigError: The value is the secret itself, or what it points to is not there.

    >>> os.environ["BROKER_PASSWORD"] = "x"
    >>> secret("sasl_plain_password", "env:BROKER_PASSWORD")
    'x'
    >>> secret("sasl_plain_password", "hunter2")
    Traceback (most recent call last):
    streamsketch.errors.ConfigError: sasl_plain_password must not stand in the settings; write env:NAME or file:PATH
    """
    kind, _, where = value.partition(":")
    if kind == "env":
        if where not in os.environ:
            raise ConfigError(f"{name}: the environment has no {where!r}; set it")
        return os.environ[where]
    if kind == "file":
        try:
            return Path(where).read_text().rstrip("\r\n")
        except OSError as e:
            raise ConfigError(f"{name}: cannot read the file {where!r} ({e.strerror})") from None
    raise ConfigError(f"{name} must not stand in the settings; write env:NAME or file:PATH")
