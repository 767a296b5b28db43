"""What Grafana and Prometheus ask for is what `/metrics` tells."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from prometheus_client.parser import text_string_to_metric_families

from streamsketch.dashboard.metrics import metrics_text

DOCKER = Path(__file__).parents[2] / "docker"
FACTS = {
    "snapshots_in_all": 2,
    "checkpoints_in_all": 1,
    "snapshots": [{"name": "s", "damaged": "s is damaged"},
                  {"rows": 9, "moved": 0.1, "times": 1.5, "time": 1e9, "epsilon": 1.0}],
    "checkpoints": [{"heldout": 0.2, "floor": 0.1}],
    "privacy": {"left": 3, "share": 0.25, "ends": 2e9},
    "bytes": {"snapshots": 100},
    "processes": [
        {"name": 'a"}\n evil 1', "time": 1.0, "alive": False},
        {"name": "consumer-0", "time": 5.0, "alive": True, "rows": 7, "dead": 5, "saves": 1,
         "releases": 1, "alarms": 1, "drift": 0.5, "drift_threshold": 1.0, "save_s": 0.1,
         "release_s": 0.2, "late": 0, "open_windows": 1, "parts": 1,
         "reasons": {"null": 3}, "lags": {"t-0": [4, 1.5]}},
    ],
}  # fmt: skip


def families():
    return {f.name: f for f in text_string_to_metric_families(metrics_text(FACTS).decode())}


def expressions():
    grafana = json.loads((DOCKER / "grafana.json").read_text())
    found = [target["expr"] for panel in grafana["panels"] for target in panel["targets"]]
    return found + re.findall(r"expr: (.+)", (DOCKER / "rules.yaml").read_text())


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_there_is(expression):
    told = families()
    samples = {s.name: s for f in told.values() for s in f.samples}
    names = re.findall(r"streamsketch_\w+", expression)
    assert names
    for name in names:
        assert name in samples
        family = next(f for f in told.values() if samples[name] in f.samples)
        counted = re.search(rf"(rate|increase)\({name}\[", expression) is not None
        assert counted == (family.type == "counter")  # a rate is of a counter, and only of one
    for label in re.findall(r"by \((\w+)\)", expression):
        assert all(label in samples[name].labels for name in names)


def test_values_and_names():
    told = families()
    dead = {s.labels["reason"]: s.value for s in told["streamsketch_dead_letters"].samples}
    dead_of = [s for s in told["streamsketch_dead_letters"].samples if s.name.endswith("_total")]
    assert dead == {"null": 3, "other": 2}
    assert len(dead_of) == 2
    assert told["streamsketch_lag_seconds"].samples[0].value == 1.5
    assert told["streamsketch_snapshot_rows"].samples[0].value == 9
    ups = {s.labels["process"]: s.value for s in told["streamsketch_process_up"].samples}
    assert ups == {'a"}\n evil 1': 0, "consumer-0": 1}
