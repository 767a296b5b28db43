"""Records in an object store: conditional writes alone keep owners apart; stores without are refused."""

import subprocess
import sys

import numpy as np
import pytest

from streamsketch.errors import ConfigError, FencedError, StoreError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import release_now
from streamsketch.privacy.release import Releaser
from streamsketch.run.config import parse
from streamsketch.schema import Schema
from streamsketch.storage.objects import ObjectRecords
from streamsketch.storage.store import Store

pytest.importorskip("obstore", reason="obstore is not installed")
pytest.importorskip("moto.server", reason="moto is not installed")

from testing.objects import BUCKET, ObjectServer

SCHEMA = Schema.vectors(1, 0, 1)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))


@pytest.fixture(scope="module")
def server():
    running = ObjectServer()
    yield running
    running.close()


@pytest.fixture
def url(server, monkeypatch, request):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/secret/{request.node.name}"


def state(folder, url):
    return State(folder, FM, ObjectRecords(url))


def learn(part, value=0.1):
    part.sketch.update(FM, np.array([[value]], np.float32))
    part.position = {"offset": part.sketch.count}


def test_a_claim_fences_the_former_owner(url, tmp_path):
    here, there = state(tmp_path / "a", url), state(tmp_path / "b", url)
    old = here.claim("p")
    learn(old)
    here.save(old)
    new = there.claim("p")
    assert new.position == {"offset": 1} and new.sketch.count == 1 and new.epoch == old.epoch + 1
    with pytest.raises(FencedError, match="taken over"):
        here.save(old)
    learn(new)
    there.save(new)
    assert here.cut()[0].count == 2 and here.cut()[0].total.tolist() == new.sketch.total.tolist()


def test_a_claim_between_reading_and_writing_is_seen(url, tmp_path, monkeypatch):
    """The zombie froze after it had read the part's epoch, and before it wrote."""
    here, there = state(tmp_path / "a", url), state(tmp_path / "b", url)
    old = here.claim("p")
    learn(old)
    write = here.records._write

    def late(name, data, version):
        monkeypatch.setattr(here.records, "_write", write)
        there.claim("p")
        return write(name, data, version)

    monkeypatch.setattr(here.records, "_write", late)
    with pytest.raises(FencedError, match="taken over"):
        here.save(old)
    assert there.cut()[0].count == 0


def test_two_that_claim_at_once_do_not_both_own_the_part(url, tmp_path, monkeypatch):
    """Both would write the same bytes: an epoch higher, nothing else."""
    here, there = state(tmp_path / "a", url), state(tmp_path / "b", url)
    write, theirs = here.records._write, []

    def late(name, data, version):
        monkeypatch.setattr(here.records, "_write", write)
        theirs.append(there.claim("p"))
        return write(name, data, version)

    monkeypatch.setattr(here.records, "_write", late)
    mine = here.claim("p")
    assert (theirs[0].epoch, mine.epoch) == (1, 2)
    with pytest.raises(FencedError):
        there.save(theirs[0])
    here.save(mine)


def test_a_write_whose_answer_was_lost_is_no_other_process(url):
    records = ObjectRecords(url)
    records.put("release.safetensors", b"one", None)
    _, version = records.read("release.safetensors")
    records.put("release.safetensors", b"two", version)
    records.put("release.safetensors", b"two", version)  # asked again, by the client itself
    with pytest.raises(FencedError, match="another process"):
        records.put("release.safetensors", b"three", version)


@pytest.mark.parametrize("mechanism", ["none", "toeplitz"])
def test_of_two_hosts_that_release_at_once_one_is_refused(url, tmp_path, mechanism):
    here, there = state(tmp_path / "a", url), state(tmp_path / "b", url)
    store = Store(tmp_path / "store")
    part = here.claim("p")
    learn(part)
    here.save(part)
    privacy = {"rho": 0.5, "releases": 9} if mechanism == "toeplitz" else {}

    def fresh():
        return Releaser(FM, SCHEMA, stream="s", mechanism=mechanism, settings=privacy)

    first = release_now(here, store, fresh)
    cut, rivals = here.cut, []

    def slow():
        here.cut = cut  # a release by the other host comes between
        learn(part, 0.7)
        here.save(part)
        rivals.append(release_now(there, store, fresh))
        return cut()

    here.cut = slow
    assert release_now(here, store, fresh) is None
    assert first is not None and len(store.snapshots.names()) == 2
    assert rivals[0].id in store.snapshots.read("snapshot-00000001.safetensors").decode("latin1")
    learn(part, 0.3)
    here.save(part)
    assert release_now(there, store, fresh) is not None and len(store.snapshots.names()) == 3
    rows = [0.1, 0.7, 0.3]
    if mechanism == "none":
        assert here.cut()[0].total.tolist() == FM.sum(np.array(rows, np.float32)[:, None]).tolist()


def test_a_copied_state_is_another(url, tmp_path):
    records = ObjectRecords(url)
    mine = records.identity(fresh=True)
    assert records.identity(fresh=False) == mine == records.identity(fresh=True)
    copy = ObjectRecords(f"{url}-copy")
    copy.put("identity", records.read("identity")[0], None)
    made = copy.identity(fresh=False)
    assert made.split("-")[-1] == mine.split("-")[-1]  # the same content
    # servers tell times to the second: only here may both be of the same one


def test_a_store_that_ignores_conditions_is_refused(monkeypatch):
    running = ObjectServer(careless=True)
    try:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match="could overwrite each other's sums"):
            ObjectRecords(f"s3://{BUCKET}/state")
    finally:
        running.close()


def test_what_is_no_object_store_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no object store"):
        ObjectRecords(f"file://{tmp_path}")
    with pytest.raises(ConfigError, match="is no object store"):
        ObjectRecords("https://example.org/x")


def test_a_server_that_is_gone_is_told(monkeypatch, tmp_path):
    running = ObjectServer()
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    here = state(tmp_path, f"s3://{BUCKET}/gone")
    part = here.claim("p")
    monkeypatch.setattr("streamsketch.storage.objects.RETRY", {"max_retries": 0})
    here.records = ObjectRecords(f"s3://{BUCKET}/gone")
    running.close()
    with pytest.raises(StoreError, match=f"cannot read s3://{BUCKET}/gone/parts/p"):
        here.save(part)


def test_what_needs_one_machine_is_refused(url, tmp_path):
    here = state(tmp_path, url)
    with pytest.raises(ConfigError, match="through Kafka"):
        here.claim("files", exclusive=True)
    with pytest.raises(ConfigError, match=r"\[windows\]"), here.closing():
        pass
    with pytest.raises(ConfigError, match="mistakes") as e:
        parse(
            {
                "source": {"type": "files"},
                "store": {"path": "x", "shared": url},
                "privacy": {
                    "mechanism": "toeplitz", "rho": 0.5, "releases": 3, "unit": "user",
                    "rows": 1,
                },
                "windows": {"time": "t", "width": 60, "watermark": "clock"},
                "schema": {"t": {"kind": "numeric", "low": 0, "high": 1}},
            },
            tmp_path,
        )  # fmt: skip
    for key in ("windows: a window", "privacy.unit", "store.shared"):
        assert key in str(e.value)


def test_a_numbered_file_behind_a_url_is_never_replaced(url, tmp_path):
    """Two writers of the same number: the second is told, or takes the next one."""
    one, two = Store(f"{url}/published", tmp_path), Store(f"{url}/published", tmp_path)
    assert one.snapshots.put(b"a", 0) == two.snapshots.put(b"a", 0)
    with pytest.raises(StoreError, match="never replaced"):
        two.snapshots.put(b"b", 0)
    two.snapshots.names = lambda: []  # it listed before the first wrote
    names = iter([[], one.snapshots.names()])
    two.snapshots.names = lambda: next(names)
    assert two.snapshots.put(b"b") == "snapshot-00000001.safetensors"
    assert [one.snapshots.read(n) for n in one.snapshots.names()] == [b"a", b"b"]
    assert one.snapshots.retain(max_age=-5.0) == ["snapshot-00000000.safetensors"]


def test_the_client_is_loaded_late():
    code = "import streamsketch.storage.store, sys; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
