"""The audit of dependencies: what is found fails, and what was not looked at is no success."""

import runpy
from pathlib import Path

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "audit.py"))
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "torch", "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD], 0, "1 packages audited, 0 known"),
        ([GOOD, SKIPPED], 3, "not audited: torch"),
        ([GOOD, GOOD, SKIPPED], 0, "not audited: torch"),
        ([GOOD, BAD, SKIPPED], 1, "bad 2: PYSEC-1, fixed in 3"),
        ([SKIPPED], 3, "0 packages audited"),
        ([], 3, "0 packages audited"),
    ],
)
def test_verdict_of_a_report(packages, status, said):
    found = AUDIT["verdict"]({"dependencies": packages})
    assert found.status == status and any(said in line for line in found.lines)
