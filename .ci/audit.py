"""Known vulnerabilities of the packages that are installed: ``python .ci/audit.py``.

Asks the services that pip-audit knows, one after the other, until one of them has looked at the
packages. Ends with 0 when nothing was found, 1 when something was, and 3 when most were not looked
at: pip-audit itself calls packages that its service does not know "skipped", and ends with 0.
"""

import json
import subprocess
import sys
from typing import Any, NamedTuple

SERVICES = ("pypi", "osv")
CLEAN, VULNERABLE, NOT_DONE = 0, 1, 3
IGNORED: dict[str, str] = {}  # id of a vulnerability: why it does not concern us


class Verdict(NamedTuple):
    """What came of an audit.

    Attributes:
        status: The exit status.
        lines: What to say.
    """

    status: int
    lines: list[str]


def verdict(report: dict[str, Any]) -> Verdict:
    """What a report of pip-audit says.

    Args:
        report: Its JSON output.
    """
    looked_at = [d for d in report["dependencies"] if "skip_reason" not in d]
    skipped = [d["name"] for d in report["dependencies"] if "skip_reason" in d]
    found = [
        f"{d['name']} {d['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'none'}"
        for d in looked_at
        for v in d["vulns"]
        if v["id"] not in IGNORED
    ]
    lines = [f"{len(looked_at)} packages audited, {len(found)} known vulnerabilities", *found]
    if skipped:
        lines.append(f"not audited: {', '.join(skipped)}")
    if found:
        return Verdict(VULNERABLE, lines)
    return Verdict(CLEAN if len(looked_at) > len(skipped) else NOT_DONE, lines)


def ask(service: str) -> Verdict:
    """The installed packages, by one service."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--skip-editable", "--vulnerability-service", service, "--timeout", "15"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return verdict(json.loads(done.stdout))
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:]
        return Verdict(NOT_DONE, [f"{service} could not be asked", *last])


def main() -> int:
    """Ask until somebody knows."""
    for service in SERVICES:
        status, lines = ask(service)
        print(f"audit by {service}:", *lines, sep="\n  ")
        if status != NOT_DONE:
            return status
    print(
        "NOT AUDITED: no service that knows vulnerabilities answers; run `make audit` where one does"
    )
    return NOT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
