"""The audit passes the releaser and finds every mutant: a mutant that passes fails this file."""

import numpy as np
import pytest

from benchmarks.privacy_mutants import CORRECT, MUTANTS, RELEASES, examine
from streamsketch.privacy.factorization import unbounded

RUNS = 200

# The tests that find a mutant with certainty, even with so few runs; others may find it too.
EXPECTED = {
    "sensitivity 1 instead of sqrt(m)": {"mu", "variance"},
    "forgotten ||C||": {"variance"},
    "fresh one-shot noise per snapshot": {"correlation"},
    "same noise reused": {"correlation"},
    "prefix replayed after a crash": {"refused"},
    "window counted twice": {"variance"},
    "rows of a user not limited": {"mu"},
    "count exact": {"variance"},
    "norm of a row without its cells": {"mu", "variance"},
    "cells with half of the noise": {"variance"},
}


@pytest.mark.parametrize("name", CORRECT)
def test_the_correct_releaser_passes(name):
    verdict = examine(name, RUNS)
    assert verdict.failures == ()
    # without an end, the first releases alone show a part of what all of them may
    c = unbounded()
    shown = (
        np.linalg.norm(c.coefficients(RELEASES)) / c.column_norm(None)
        if "unbounded" in name
        else 1.0
    )
    assert verdict.mu == pytest.approx(shown, abs=6 * verdict.mu_error)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_fails(name):
    found = set(examine(name, RUNS).failures)
    assert found >= EXPECTED[name]
