"""Figures for Prometheus: names in base units, each with its help and its type."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["metrics_text"]

# key of a process's status -> name, help, whether it only grows, factor to the base unit
PROCESS = {
    "rows": ("rows", "Rows learned since the process started.", True),
    "saves": ("saves", "Times that the process saved its sums.", True),
    "releases": ("releases", "Snapshots that the process released.", True),
    "late": ("late_rows", "Rows that came after their window had closed.", True),
    "duplicates": ("duplicate_rows", "Rows left out because their id was counted before.", True),
    "alarms": ("drift_alarms", "Drift alarms since the process started.", True),
    "drift": (
        "drift_statistic",
        "Drift statistic of the part that is nearest to an alarm.",
        False,
    ),
    "drift_threshold": ("drift_threshold", "Drift statistic that raises an alarm.", False),
    "open_windows": ("open_windows", "Windows of event time that are open.", False),
    "save_s": ("save_duration_seconds", "How long the last save took.", False),
    "release_s": ("release_duration_seconds", "How long the last release took.", False),
    "loss": ("training_loss", "Loss of the training that runs.", False),
    "parts": ("parts", "Parts of the source that the process holds.", False),
}
SNAPSHOT = {
    "rows": ("snapshot_rows", "Rows that the newest snapshot covers, as released."),
    "moved": ("snapshot_distance", "Squared distance of the newest snapshot from the one before."),
    "times": ("snapshot_distance_ratio", "That distance over what chance alone would give."),
    "time": ("snapshot_created_timestamp_seconds", "When the newest snapshot was made."),
    "epsilon": ("privacy_epsilon", "Epsilon of the whole epoch of releases."),
}
CHECKPOINT = {
    "heldout": ("heldout_distance", "Held-out distance of the newest generator."),
    "floor": ("heldout_floor", "Held-out distance of a perfect generator."),
}


def metrics_text(facts: dict[str, Any]) -> bytes:
    """Facts in the text format of Prometheus.

    >>> facts = {"snapshots_in_all": 2, "checkpoints_in_all": 0, "snapshots": [], "bytes": {},
    ...          "checkpoints": [], "privacy": None, "processes": []}
    >>> print(metrics_text(facts).decode(), end="")
    # HELP streamsketch_snapshots Snapshots in the store.
    # TYPE streamsketch_snapshots gauge
    streamsketch_snapshots 2.0
    # HELP streamsketch_checkpoints Checkpoints in the store.
    # TYPE streamsketch_checkpoints gauge
    streamsketch_checkpoints 0.0
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(facts))
    return generate_latest(registry)


class _Collected:
    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def collect(self) -> Iterator[Metric]:
        """All families that have a value."""
        facts = self.facts
        yield _gauge("snapshots", "Snapshots in the store.", facts["snapshots_in_all"])
        yield _gauge("checkpoints", "Checkpoints in the store.", facts["checkpoints_in_all"])
        for kind, names in (("snapshots", SNAPSHOT), ("checkpoints", CHECKPOINT)):
            newest: dict[str, Any] = next((f for f in facts[kind] if "damaged" not in f), {})
            for key, (name, help) in names.items():
                if isinstance(newest.get(key), int | float):
                    yield _gauge(name, help, newest[key])
        yield from _budget(facts["privacy"])
        yield from _labelled(
            "store_bytes", "Bytes of a folder of the store.", "folder", facts["bytes"]
        )
        processes = facts["processes"]
        up = {p["name"]: float(p["alive"]) for p in processes}
        yield from _labelled("process_up", "Whether the process runs.", "process", up)
        seen = {p["name"]: p["time"] for p in processes}
        text = "When the process last told its figures."
        yield from _labelled("process_seen_timestamp_seconds", text, "process", seen)
        for key, (name, help, grows) in PROCESS.items():
            values = {p["name"]: p[key] for p in processes if isinstance(p.get(key), int | float)}
            yield from _labelled(name, help, "process", values, grows)
        yield from _lag(processes)
        yield from _reasons(processes)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(f"streamsketch_{name}", help, value)


def _labelled(
    name: str, help: str, label: str, values: dict[str, Any], grows: bool = False
) -> Iterator[Metric]:
    if not values:
        return
    kind = CounterMetricFamily if grows else GaugeMetricFamily
    family = kind(f"streamsketch_{name}", help, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], value)
    yield family


def _budget(budget: dict[str, Any] | None) -> Iterator[Metric]:
    if budget is None:
        return
    yield _gauge("privacy_releases_left", "Releases left of the privacy budget.", budget["left"])
    yield _gauge(
        "privacy_budget_spent_ratio", "Share of the planned releases made.", budget["share"]
    )
    if "ends" in budget:
        text = "When the budget is spent, at the pace so far."
        yield _gauge("privacy_budget_ends_timestamp_seconds", text, budget["ends"])


def _lag(processes: list[dict[str, Any]]) -> Iterator[Metric]:
    rows = GaugeMetricFamily(
        "streamsketch_lag_rows", "Rows that wait to be read.", labels=["process", "part"]
    )
    seconds = GaugeMetricFamily(
        "streamsketch_lag_seconds", "Age of the oldest row that waits.", labels=["process", "part"]
    )
    for p in processes:
        for part, (behind, age) in (p.get("lags") or {}).items():
            rows.add_metric([p["name"], part], behind)
            seconds.add_metric([p["name"], part], age)
    if rows.samples:
        yield rows
        yield seconds


def _reasons(processes: list[dict[str, Any]]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "streamsketch_dead_letters", "Rows refused, by reason.", labels=["process", "reason"]
    )
    for p in processes:
        reasons = dict(p.get("reasons") or {})
        if "dead" in p:
            reasons["other"] = p["dead"] - sum(reasons.values())
        for reason, count in reasons.items():
            family.add_metric([p["name"], reason], count)
    if family.samples:
        yield family
