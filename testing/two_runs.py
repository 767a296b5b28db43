"""Two `streamsketch run`s on the store of a disturbed stream: one works, the other must be refused."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamsketch.run.status import read_all
from testing.kafka_member import D, M

__all__ = ["pipeline_file", "two_runs"]

START_SECONDS = 60.0  # to import all there is, on a busy machine
READ_SECONDS = 20.0  # in which the first run's consumer may get a partition to read


def pipeline_file(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The pipeline that the members of `testing.kafka_member` work on, as a file."""
    source = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
    columns = "".join(
        f'[schema.x{j}]\nkind = "numeric"\ntype = "double"\nlow = 0\nhigh = 1\n' for j in range(D)
    )
    path = folder / "pipeline.toml"
    path.write_text(
        f'[source]\ntype = "kafka"\n{source}[sketch]\nlaw = "gaussian"\nfrequencies = {M}\n'
        "[snapshots]\nseconds = 2.0\nsave_seconds = 0.2\n[trainer]\nseconds = 0.5\n"
        '[sampler]\nrows = 10\n[dead_letters]\npath = "dead-run.jsonl"\n'
        f'[store]\npath = "."\n{columns}'
    )
    return path


def two_runs(pipeline: Path, cruel: bool) -> bool:
    """Start a run and a second one beside it; returns whether the second was refused.

    Args:
        pipeline: The pipeline file.
        cruel: End the first by SIGKILL of its supervisor alone; its children must end with it.
    """
    state = pipeline.parent / "state"
    command = [sys.executable, "-m", "streamsketch", "run", str(pipeline)]
    said = (pipeline.parent / "first.log").open("ab")
    first = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        end = time.monotonic() + START_SECONDS
        while not _holds(state / "run.lock", first.pid):
            if first.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the first run did not start (exit code {first.poll()})")
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
        end = time.monotonic() + READ_SECONDS
        while not _reads(state) and time.monotonic() < end:
            time.sleep(0.1)
        return (
            second.returncode == 1
            and f"held by another process (pid {first.pid})" in second.stderr
            and first.poll() is None
        )
    finally:
        (first.kill if cruel else first.terminate)()
        first.wait(60)
        said.close()


def _holds(lock: Path, pid: int) -> bool:
    try:
        return lock.read_text() == str(pid)
    except FileNotFoundError:
        return False


def _reads(state: Path) -> bool:
    return any(one.get("rows") for one in read_all(state).values())
