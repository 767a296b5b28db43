"""The model card of a generator: what it learned, under which promise, how, and where it ends."""

from collections.abc import Mapping
from typing import Any

from streamsketch.privacy.report import explain
from streamsketch.snapshot import Snapshot

__all__ = ["model_card"]

TRAINING = ("objective", "steps", "seconds", "heldout", "floor", "stopped")


def model_card(
    snapshot: Snapshot | None, metrics: Mapping[str, Any], verdict: str
) -> dict[str, dict[str, str]]:
    """Facts by chapter, from what is published: the data, the sketch, privacy, training, limits.

    Args:
        snapshot: What it was trained on, if that is known.
        metrics: What training measured.
        verdict: Whether it is any good, in words.
    """
    card: dict[str, dict[str, str]] = {}
    if snapshot is not None:
        release, spec = snapshot.release, snapshot.spec
        window = snapshot.span.get("window")
        span = (
            f"{window.get('start')} to {window.get('end')}" if isinstance(window, Mapping) else ""
        )
        card["data"] = {
            "stream": release.stream,
            "rows": f"{snapshot.count:,.0f}" + (" (with noise)" if release.private else ""),
            "memory": release.memory,
            **({"window": span} if span else {}),
            "released": snapshot.created[:19],
            "columns": ", ".join(snapshot.schema.names),
        }
        card["sketch"] = {
            "law": spec.law, "frequencies": f"{spec.m:,}", "seed": str(spec.seed),
            "cells": f"{len(snapshot.cells):,}" if snapshot.cells is not None else "none",
            "operator": spec.fingerprint, "snapshot": snapshot.id,
        }  # fmt: skip
        card["privacy"] = {"promise": explain(snapshot)}
    known = {key: metrics[key] for key in TRAINING if metrics.get(key) is not None}
    shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in known.items()}
    card["training"] = {"verdict": verdict, **shown}
    card["limits"] = {
        "values": "every value lies within the limits that the schema declares; values beyond were clipped or refused",
        "dependence": "what no pair of columns (nor a counted triple) shows is not learned; see the scores above",
        "use": "rows are drawn from a model: they say nothing of any one person, and rare groups are badly known",
    }
    return card
