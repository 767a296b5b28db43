"""Kafka's settings, secrets and sink."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from streamsketch_consumers import kafka
from streamsketch_consumers.kafka import python_client
from streamsketch_consumers.kafka.settings import KafkaSettings
from streamsketch_consumers.kafka.sink import make as make_sink

from streamsketch.errors import ConfigError
from testing.kafka_tools import SCHEMA, new_topic, read_all, source


def test_sink_rows_are_read_back(own_broker):
    topic = new_topic(own_broker.bootstrap)
    for form in ("json", "arrow"):
        sink = make_sink(
            {"bootstrap_servers": own_broker.bootstrap, "topic": topic, "format": form, "rows": 7}
        )
        sink.write(pa.table({"x0": np.arange(20.0)}))
        sink.flush()
        sink.close()
    member = read_all(source(own_broker.bootstrap, topic, until="end"))
    assert member.shared.rows() == list(range(20)) and len(member.dead) == 3


def test_secrets_are_neither_settings_nor_shown(monkeypatch):
    monkeypatch.setenv("BROKER_PASSWORD", "hunter2")
    settings = KafkaSettings(
        topic="t",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_plain_username="env:BROKER_PASSWORD",
        sasl_plain_password="env:BROKER_PASSWORD",
        ssl_cafile="ca.pem",
    )
    assert settings.consumer()["sasl_plain_password"] == "hunter2"
    assert settings.consumer()["ssl_cafile"] == "ca.pem"
    assert "BROKER_PASSWORD" not in repr(settings)
    with pytest.raises(ConfigError, match="must not stand in the settings") as caught:
        KafkaSettings(topic="t", sasl_plain_password="hunter2").consumer()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="environment has no 'NOWHERE'"):
        KafkaSettings(topic="t", sasl_plain_password="env:NOWHERE").consumer()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "topic is missing"),
        ({"topic": "t", "start": "middle"}, "start = 'middle'"),
        ({"topic": "t", "on_gap": "x", "until": "y"}, "on_gap: .*'x'.*until: .*'y'"),
        ({"topic": "t", "max_records": 0}, "max_records: input should"),
        ({"topic": "t", "security_protocol": "SASL_SLL"}, "security_protocol = 'SASL_SLL'"),
        ({"topic": "t", "security_protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"topic": "t", "topik": "t"}, "topik: unknown key; did you mean topic"),
        ({"topic": "t", "format": "protobuf"}, "format 'protobuf'"),
    ],
)
def test_settings_name_the_mistake(settings, message):
    with pytest.raises(ConfigError, match=message):
        kafka.make(settings, SCHEMA)


def test_missing_crc32c_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(python_client, "find_spec", lambda name: None)
    python_client._warn_without_crc32c.cache_clear()
    with caplog.at_level(logging.WARNING):
        python_client._warn_without_crc32c()
        python_client._warn_without_crc32c()
    assert caplog.text.count("crc32c is not installed") == 1
    python_client._warn_without_crc32c.cache_clear()
