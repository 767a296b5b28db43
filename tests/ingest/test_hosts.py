"""Consumers of several hosts: local disks of their own, one Kafka group, the state in an object store."""

import threading

import pytest

from testing.faults import KafkaRun

pytest.importorskip("obstore", reason="obstore is not installed")
pytest.importorskip("moto.server", reason="moto is not installed")

from testing.objects import ObjectServer


@pytest.fixture
def run(tmp_path, monkeypatch):
    server, runs = ObjectServer(), []
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)

    def make(messages, **settings):
        runs.append(KafkaRun(tmp_path / str(len(runs)), messages, objects=server, **settings))
        return runs[-1]

    yield make
    for each in runs:
        each.close()
    server.close()


@pytest.mark.slow
def test_killed_and_frozen_hosts_lose_nothing_and_double_nothing(run):
    """Kills, a zombie that wakes up, partitions that move: the sums are those of all rows at once."""
    disturbed = run(12_000)
    outcome = disturbed.run_disturbed(
        ["kill", "join", "freeze", "kill", "leave", "kill"], rest=0.2, pause=(0.0, 0.3), limit=120
    )
    assert outcome.exact and outcome.dead_exact and not outcome.ended, outcome
    assert outcome.while_running >= 4, "the run was over before it was disturbed"
    hosts = {path.name for path in disturbed.folder.glob("host-*")}
    assert hosts == {"host-0", "host-1"}
    assert not list(disturbed.folder.rglob("*.safetensors")), "sums lie on a host's disk"


def test_one_host_reads_what_another_left(run):
    from testing.kafka_member import ingest

    here = run(1500, partitions=2)
    stop = threading.Event()
    first = ingest(here.folder / "a", here.settings(), 0.05, "a", here.shared)
    inner = first.save

    def some(last=False):
        saved = inner(last)
        if here.read() > 300:
            stop.set()
        return saved

    first.save = some
    first.run(stop)
    assert 300 < here.read() < 1500
    assert here.run_undisturbed().exact
