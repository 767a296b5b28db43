"""The same rows by every way there is: one pass, Spark, files in any order, hosts over an object store."""

import itertools
import threading
from functools import reduce

import pytest

from streamsketch.sketch import Sketch
from streamsketch.spark.frames import Operator, partials
from testing.faults import KafkaRun, Outcome
from testing.kafka_member import SCHEMA, D, features, ingest

pytest.importorskip("pyspark", reason="pyspark is not installed")
pytest.importorskip("obstore", reason="obstore is not installed")
pytest.importorskip("moto.server", reason="moto is not installed")

from testing.objects import ObjectServer


@pytest.fixture
def run(tmp_path, monkeypatch):
    server = ObjectServer()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    made = KafkaRun(tmp_path / "rows", 1200, partitions=3, objects=server)
    yield made
    made.close()
    server.close()


def test_the_bits_are_those_of_one_pass_whichever_way_the_rows_go(spark, run):
    expected = run.expected().tolist()
    good = [row for i, row in enumerate(run.rows.tolist()) if i not in run.bad]

    frame = spark.createDataFrame(good, ", ".join(f"x{j} double" for j in range(D)))
    operator = Operator.of(SCHEMA, features().spec)
    for count in (1, 2, 4, 7):
        found = partials(frame.repartition(count), operator, merge_tasks=0)
        assert found.sketch.total.tolist() == expected, count

    hosts = [
        ingest(run.folder / name, run.settings(until="end"), name=name, shared=run.shared)
        for name in ("a", "b")
    ]
    threads = [threading.Thread(target=h.run, args=(threading.Event(),)) for h in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(host.progress.rows for host in hosts) >= len(good)  # some may be read again
    assert run.check(Outcome(run.messages)).exact

    files = [part.sketch.to_bytes() for part in hosts[0].state.parts()]
    assert len(files) == 3
    for order in itertools.permutations(files):
        merged = reduce(Sketch.merge, map(Sketch.from_bytes, order))
        assert merged.total.tolist() == expected and merged.count == len(good)
