"""The network is cut in mid-stream, the disk is full, stalls, or the store refuses: all rows once."""

import os
import shutil
import subprocess
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from streamsketch_consumers.flight import FlightWriter

from streamsketch import FeatureMap, Schema, Snapshot, Spec, Store
from streamsketch.errors import StoreError
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy.release import Releaser
from testing.broker import BrokerProcess
from testing.kafka_tools import Member, Shared, new_topic, numbers, produce, read, source
from testing.proxy import Proxy
from testing.sources import BareSource
from tests.consumers.test_flight import Running, batches, wait_for

SCHEMA = Schema.vectors(1, 0, 1000)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("cut", ["sever", "silence"])
def test_kafka_cut_off_for_longer_than_a_session(tmp_path, proxy, cut, client):
    if client == "confluent":
        pytest.importorskip("confluent_kafka")
    broker = BrokerProcess(tmp_path, advertised=proxy.port)
    proxy.to = broker.port
    try:
        topic = new_topic(broker.bootstrap, 2)
        produce(broker.bootstrap, topic, numbers(0, 300, 2))
        member = Member(Shared())
        stream = source(
            broker.bootstrap, topic, client=client, max_records=20, fetch_bytes=1000,
            session_timeout_ms=1000,
        )  # fmt: skip
        stream.open(member)
        read(stream, member, lambda: len(member.shared.rows()) >= 60)
        getattr(proxy, cut)()
        end = time.monotonic() + 2.5
        while time.monotonic() < end:  # what was fetched before is still learned
            for chunk in stream.poll(0.1):
                member.learn(chunk)
            member.save()
        proxy.heal()
        produce(broker.bootstrap, topic, numbers(300, 400, 2))
        read(stream, member, lambda: len(member.shared.rows()) >= 400, limit=60)
        stream.close()
        assert member.shared.rows() == list(range(400))
        claims = [part for what, part in member.log if what == "claim"]
        assert len(claims) > 2, "the group did not notice the cut"
    finally:
        broker.close()


@pytest.mark.parametrize("cut", ["sever", "silence"])
def test_flight_cut_off(proxy, cut):
    with Running(queue_bytes=20_000) as server:
        proxy.to = server.source.port
        location = f"grpc://127.0.0.1:{proxy.port}"
        sent = batches(200)

        def produce():
            with FlightWriter(location, "me", unacknowledged_bytes=20_000) as writer:
                writer.write_all(sent)

        thread = threading.Thread(target=produce, daemon=True)
        thread.start()
        wait_for(lambda: len(server.numbers) > 2000, 30)
        getattr(proxy, cut)()
        time.sleep(1.0)
        assert len(server.numbers) < 20_000
        proxy.heal()
        thread.join(60)
        assert server.numbers == list(range(20_000))


class Counting(BareSource):
    """Rows 0, 1, 2, ... in batches of ten; `before` is called before each."""

    def __init__(self, rows, before=lambda at: None):
        self.rows, self.before = rows, before

    def open(self, owner):
        self.next = (owner.claim("rows") or {"row": 0})["row"]

    def poll(self, timeout):
        if self.next >= self.rows:
            self.finished = True
            return
        self.before(self.next)
        low, self.next = self.next, min(self.next + 10, self.rows)
        yield Chunk(
            "rows", {"row": self.next}, pa.record_batch({"x0": np.arange(low, self.next) * 1.0})
        )


def ingest(store, source, **schedule):
    schedule = Schedule(**{"save_seconds": 0.0, "seconds": None, **schedule})
    state = State(store.state_dir, FM)
    return Ingest(source, SCHEMA, FM, state, store, lambda: Releaser(FM, SCHEMA), None, schedule)


def total(rows):
    return FM.sum(SCHEMA.encode(pa.table({"x0": np.arange(rows) * 1.0})).x)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where)]
    if (
        os.geteuid()
        or not shutil.which("mount")
        or subprocess.run(command, check=False).returncode
    ):
        pytest.skip("needs to be allowed to mount a small file system")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_disk_that_is_full_for_a_while(small_disk, caplog):
    filler = small_disk / "filler"

    def before(row):
        if row == 100:
            with pytest.raises(OSError, match="No space left"), filler.open("wb", 0) as f:
                while True:
                    f.write(bytes(4096))
        if row == 200:
            assert state.parts()[0].position["row"] <= 110  # nothing could be saved since
            filler.unlink()

    run = ingest(Store(small_disk), Counting(300, before))
    state = run.state
    run.run(threading.Event())
    assert "No space left" in caplog.text
    sketch, positions, _ = state.cut()
    assert (sketch.total == total(300)).all() and positions == {"rows": {"row": 300}}
    assert not [p for p in small_disk.rglob(".*") if p.suffix == ".tmp"]


def test_a_disk_that_stalls(tmp_path, monkeypatch):
    fsync, stalls = os.fsync, []

    def stall(handle):
        if len(stalls) < 3:
            stalls.append(time.sleep(0.3))
        fsync(handle)

    run = ingest(
        Store(tmp_path), Counting(100, lambda row: monkeypatch.setattr(os, "fsync", stall))
    )
    run.run(threading.Event())
    assert len(stalls) == 3 and (run.state.cut()[0].total == total(100)).all()


def test_a_remote_store_that_refuses_a_snapshot_gets_the_same_one_later(tmp_path, monkeypatch):
    store = Store(f"memory://{tmp_path.name}", state=tmp_path)
    put = store.fs.pipe_file

    def refuse(*args, **kwargs):
        raise OSError("503 slow down")

    monkeypatch.setattr(store.fs, "pipe_file", refuse)
    with pytest.raises(StoreError, match="503"):
        ingest(store, Counting(50)).run(threading.Event())
    kept = State(tmp_path, FM).load_release()[0]["pending"].tobytes()
    monkeypatch.setattr(store.fs, "pipe_file", put)
    run = ingest(store, Counting(80))
    run.run(threading.Event())
    first, last = store.snapshots.names()
    assert store.snapshots.read(first) == kept
    assert [Snapshot.from_bytes(store.snapshots.read(n)).count for n in (first, last)] == [50, 80]
    assert (run.state.cut()[0].total == total(80)).all()
