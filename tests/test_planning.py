"""The page of numbers says what the script computed, and the plan holds for a small stream."""

import json

import pytest

from benchmarks.planning import DOCS, RESULTS, Speeds, Stream, check, plan, written


def test_the_page_is_what_was_computed():
    results = json.loads(RESULTS.read_text())
    speeds = Speeds(**results["speeds"])
    assert results["plan"] == pytest.approx(plan(Stream(), speeds))
    page = DOCS.read_text()
    assert written(page, results) == page


def test_the_plan_holds_for_a_small_stream():
    found = check(Stream(50, 9, 1e6, columns=3, frequencies=64), Speeds(1e-6, 1e-6, 1e-4, 500.0))
    for name, (planned, real) in found.items():
        if name.endswith("bits"):
            assert real == 0, name
        elif name == "state of all parts, bytes":
            assert real == pytest.approx(planned, rel=0.1), name
