"""What each process of a pipeline says of itself: one small JSON file, replaced in place."""

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamsketch.errors import LockedError
from streamsketch.run.figures import History
from streamsketch.storage.files import secret_folder, write_atomic

__all__ = ["Line", "Status", "read_all", "rounded"]


@dataclass(frozen=True)
class Line:
    """What there is to say of one process.

    Attributes:
        name: Its name, such as consumer-0.
        phase: `running`, or what it does instead.
        figures: What it says of itself.
    """

    name: str
    phase: str
    figures: Mapping[str, Any]


class Status:
    """The status file of one process.

    Args:
        state_dir: The pipeline's state folder.
        name: Name of the process, such as consumer-0 or trainer.
    """

    def __init__(self, state_dir: Path, name: str) -> None:
        self.path = secret_folder(state_dir / "status") / f"{name}.json"
        self.figures: dict[str, Any] = {}
        self.write({})
        self.history = History(self.path.with_suffix(".history"))

    def write(self, figures: Mapping[str, Any], phase: str = "running") -> None:
        """Replace what is said."""
        self.figures = dict(figures)
        body = {"pid": os.getpid(), "phase": phase, "time": time.time(), **self.figures}
        write_atomic(self.path, json.dumps(body).encode(), mode=0o600, fsync=False)
        if figures:
            self.history.add({"time": body["time"], **self.figures})

    def end(self) -> None:
        """Say that the process has ended by itself."""
        self.write(self.figures, "ended")


def refuse_running(state_dir: Path) -> None:
    """Refuse to go on while a process of the pipeline runs on this machine.

    Raises:
        LockedError: One does.
    """
    for name, said in read_all(state_dir).items():
        if said.get("phase") != "ended" and alive(said.get("pid")):
            raise LockedError(f"{name} is running (pid {said['pid']}); stop it first")


def alive(pid: Any) -> bool:
    """Whether a process of this number runs."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def read_all(state_dir: Path) -> dict[str, dict[str, Any]]:
    """The status of every process, by name; files being written, and what is none, are left out."""
    found = {}
    for path in sorted((state_dir / "status").glob("*.json")):
        try:
            # what JSON does not know (NaN, Infinity) is what it stands for here: no number
            said = json.loads(path.read_text(), parse_constant=lambda _: None)
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and isinstance(said.get("time"), int | float):
            found[path.stem] = said
    return found


def rounded(value: float) -> float | None:
    """Four digits, as a status says them; None where it is no number (yet)."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
