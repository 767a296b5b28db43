"""What the Kafka tests share: topics, messages, and an owner that keeps positions."""

import threading
import time
import uuid
from dataclasses import dataclass, field

import orjson
from kafka import KafkaAdminClient, KafkaProducer
from streamsketch_consumers.kafka import KafkaSource
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.schema import Schema
from testing.tansu import SESSION_TIMEOUT_MS

SCHEMA = Schema.vectors(1, 0, 10**9)
CLIENT = "kafka-python"  # of the sources that are made; tests run with each


def new_topic(bootstrap, partitions=4, name=None):
    name = name or f"t{uuid.uuid4().hex[:10]}"
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics({name: {"num_partitions": partitions, "replication_factor": 1}})
    admin.close()
    return name


def produce(bootstrap, topic, messages):
    """Send (partition, value) or (partition, value, key, headers), and wait for the broker."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    futures = []
    for partition, value, *more in messages:
        key, headers = more or (None, [])
        futures.append(producer.send(topic, value, key, headers, partition=partition))
    producer.flush(timeout=20)
    for future in futures:
        future.get(5)
    producer.close()


def numbers(low, high, partitions=4):
    """One JSON row a number, dealt over the partitions."""
    return [(i % partitions, orjson.dumps({"x0": i})) for i in range(low, high)]


def source(bootstrap, topic, schema=SCHEMA, **settings):
    settings = {
        "client": CLIENT,
        "group": f"g-{topic}",
        "session_timeout_ms": SESSION_TIMEOUT_MS,
    } | settings
    return KafkaSource(KafkaSettings(bootstrap_servers=bootstrap, topic=topic, **settings), schema)


@dataclass
class Part:
    """A part as the pipeline holds it: what was learned since the claim, and the fence."""

    epoch: int
    position: dict | None
    rows: list = field(default_factory=list)


class Shared:
    """The saved state of all parts, shared by several members: epochs fence former owners."""

    def __init__(self):
        self.lock = threading.Lock()
        self.parts: dict[str, Part] = {}

    def claim(self, part):
        with self.lock:
            saved = self.parts.setdefault(part, Part(0, None))
            saved.epoch += 1
            return Part(saved.epoch, saved.position, list(saved.rows))

    def save(self, name, part):
        with self.lock:
            saved = self.parts[name]
            if saved.epoch == part.epoch:
                saved.position, saved.rows = part.position, list(part.rows)

    def rows(self):
        with self.lock:
            return sorted(row for part in self.parts.values() for row in part.rows)


class Member:
    """One owner: learns chunks, saves to the shared state when asked or when a part goes."""

    def __init__(self, shared):
        self.shared = shared
        self.mine: dict[str, Part] = {}
        self.dead = []
        self.log = []

    def claim(self, part):
        self.mine[part] = self.shared.claim(part)
        self.log.append(("claim", part))
        return self.mine[part].position

    def revoke(self, part):
        self.log.append(("revoke", part))
        if part in self.mine:
            self.shared.save(part, self.mine.pop(part))

    def lose(self, part):
        self.log.append(("lose", part))
        self.mine.pop(part, None)

    def read_before(self):
        return [name for name, part in self.shared.parts.items() if part.position is not None]

    def learn(self, chunk):
        part = self.mine[chunk.part]
        if chunk.batch is not None:
            part.rows += chunk.batch.column(0).to_pylist()
        self.dead += chunk.dead
        part.position = chunk.position

    def save(self):
        for name, part in self.mine.items():
            self.shared.save(name, part)
        return {name: part.position for name, part in self.mine.items() if part.position}


def read(stream, member, until=None, limit=40.0, timeout=0.1):
    """Poll until `until()` holds, or the source is finished; returns the chunks."""
    end = time.monotonic() + limit
    chunks = []
    while not stream.finished and not (until and until()):
        assert time.monotonic() < end, f"still not there after {limit} s"
        for chunk in stream.poll(timeout):
            member.learn(chunk)
            chunks.append(chunk)
        stream.saved(member.save())
    return chunks


def read_all(stream, shared=None):
    """Open a source with until="end", read it to its end, close it; its member."""
    member = Member(shared or Shared())
    stream.open(member)
    try:
        read(stream, member)
    finally:
        stream.close()
    return member
