"""The Kafka settings as librdkafka names them."""

from typing import Any

from streamsketch.errors import ConfigError
from streamsketch_consumers.kafka.settings import (
    FRAME_BYTES,
    SECRETS,
    Connection,
    KafkaSettings,
    secret,
)

__all__ = ["configuration"]

LARGEST_FRAME = 2**31 - 1
STRATEGIES = {"range": "range", "roundrobin": "roundrobin", "cooperative": "cooperative-sticky"}


def configuration(settings: KafkaSettings) -> dict[str, Any]:
    """The settings as librdkafka names them, secrets included: never log them.

    Raises:
        ConfigError: librdkafka does not have one, or a secret is not there.
    """
    if settings.assignment not in STRATEGIES:
        raise ConfigError(
            f"assignment = {settings.assignment!r} is not offered by client = 'confluent'; use one "
            f"of {', '.join(STRATEGIES)}"
        )
    refresh = max(10, int(settings.metadata_seconds * 1000))
    return {
        **_connection(settings),
        "group.id": settings.group,
        **({"group.instance.id": settings.group_instance_id} if settings.group_instance_id else {}),
        "partition.assignment.strategy": STRATEGIES[settings.assignment],
        "isolation.level": settings.isolation_level,
        # Positions come from the saved state alone: an offset that the broker does not have
        # must be heard of, never reset in silence.
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "allow.auto.create.topics": False,
        "enable.partition.eof": True,
        "check.crcs": True,
        "fetch.max.bytes": settings.fetch_bytes,
        "max.partition.fetch.bytes": settings.fetch_bytes,
        "message.max.bytes": min(settings.fetch_bytes, 1_000_000),
        "receive.message.max.bytes": min(LARGEST_FRAME, max(FRAME_BYTES, 4 * settings.fetch_bytes)),
        "queued.max.messages.kbytes": max(1, settings.fetch_bytes >> 10),
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": max(1, min(3000, settings.session_timeout_ms // 6)),
        "max.poll.interval.ms": max(300_000, settings.session_timeout_ms),
        "topic.metadata.refresh.interval.ms": refresh,
        "metadata.max.age.ms": refresh,
    }  # fmt: skip


def _connection(settings: Connection) -> dict[str, Any]:
    names = {
        "sasl_mechanism": "sasl.mechanism",
        "sasl_plain_username": "sasl.username",
        "sasl_plain_password": "sasl.password",
        "sasl_kerberos_service_name": "sasl.kerberos.service.name",
        "ssl_cafile": "ssl.ca.location",
        "ssl_certfile": "ssl.certificate.location",
        "ssl_keyfile": "ssl.key.location",
        "ssl_password": "ssl.key.password",
    }
    found: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.servers),
        "security.protocol": settings.security_protocol,
        "ssl.endpoint.identification.algorithm": "https" if settings.ssl_check_hostname else "none",
        "reconnect.backoff.max.ms": 2000,
    }  # fmt: skip
    for ours, theirs in names.items():
        value = getattr(settings, ours)
        if value is not None:
            found[theirs] = secret(ours, value) if ours in SECRETS else value
    return found
