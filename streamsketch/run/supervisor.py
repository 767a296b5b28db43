"""`streamsketch run`: consumers, trainer and sampler as processes, kept alive and ended cleanly."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamsketch.errors import StreamSketchError
from streamsketch.run.signals import SUPERVISED
from streamsketch.run.status import Line, read_all
from streamsketch.storage.files import private, secret_folder
from streamsketch.storage.locks import hold

__all__ = ["Child", "Supervisor", "finish", "finished"]

log = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0  # a process that ran this long starts again without delay
GIVE_UP = 20  # restarts in a row
END_SECONDS = 20.0  # a process asked to end is killed after this
QUICK_SECONDS = 2.0  # as above, for one that has nothing to save: what it made lies in whole files


@dataclass
class Child:
    """One process of the pipeline.

    Attributes:
        name: As in its status file.
        argv: Its command.
        follows: Names of the processes that feed it: when these have ended by themselves, it is
            expected to finish what is left and end too.
        saves: Whether it has something to save when it is asked to end.
    """

    name: str
    argv: Sequence[str]
    follows: tuple[str, ...] = ()
    saves: bool = True
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    restarts: int = 0
    next_start: float = 0.0
    done: bool = False
    last_error: str = ""
    log_path: Path | None = field(default=None)


class Supervisor:
    """Starts processes, restarts crashed ones, and ends all of them.

    Args:
        children: What to run.
        state_dir: Where the processes keep their status and logs.
    """

    def __init__(self, children: Sequence[Child], state_dir: Path) -> None:
        self.children = {c.name: c for c in children}
        self.state_dir = state_dir
        self.logs = state_dir / "logs"

    def run(
        self, stop: threading.Event, show: Callable[[list[Line]], None] = lambda lines: None
    ) -> int:
        """Run until every process has ended by itself, or `stop` is set.

        Args:
            stop: Set by a signal handler; all processes are then asked to end.
            show: Receives a line for each process, about twice a second.

        Returns:
            Exit code: 0, or that of a process that cannot succeed (a wrong configuration).

        Raises:
            LockedError: Another run works on this state folder; nothing was started.
        """
        lock = hold(self.state_dir / "run.lock", f"the state folder {self.state_dir}")
        try:
            secret_folder(self.logs)
            # marks of an earlier run; nobody else can be running now
            for old in secret_folder(self.state_dir / "finished").iterdir():
                old.unlink(missing_ok=True)
            return self._run(stop, show)
        finally:
            os.close(lock)

    def _run(self, stop: threading.Event, show: Callable[[list[Line]], None]) -> int:
        code = 0
        try:
            while not stop.is_set() and not all(c.done for c in self.children.values()):
                for child in self.children.values():
                    code = max(code, self._tend(child))
                show(self.lines())
                if code:
                    break
                stop.wait(0.5)
        finally:
            self._end()
            show(self.lines())
        return code

    def lines(self) -> list[Line]:
        """One line per process: what it last said of itself."""
        said = read_all(self.state_dir)
        return [_line(c, said.get(c.name, {})) for c in self.children.values()]

    def _tend(self, child: Child) -> int:
        """Look after one process; returns an exit code where going on makes no sense."""
        if child.done:
            return 0
        now = time.monotonic()
        if child.process is None:
            if now >= child.next_start:
                self._start(child)
            return 0
        code = child.process.poll()
        if code is None:
            return 0
        _let_go(child.process)
        child.process = None
        if code == 0:
            child.done = True
            finish(self.state_dir, child.name)
            return 0
        child.last_error = _last_line(child.log_path)
        if code == 2:
            log.error("%s cannot run: %s", child.name, child.last_error)
            child.done = True
            return 2
        if now - child.started > STEADY_SECONDS:
            child.restarts = 0
        wait = BACKOFF_SECONDS[min(child.restarts, len(BACKOFF_SECONDS) - 1)]
        child.restarts += 1
        if child.restarts > GIVE_UP:
            log.error(
                "%s ended %d times in a row, the last time with %s; giving up",
                child.name,
                GIVE_UP,
                child.last_error,
            )
            return 1
        child.next_start = now + wait
        log.warning(
            "%s ended with code %d (%s); starting it again in %g s",
            child.name,
            code,
            child.last_error,
            wait,
        )
        return 0

    def _start(self, child: Child) -> None:
        child.log_path = self.logs / f"{child.name}.log"
        with open(child.log_path, "ab", opener=private) as out:
            child.process = subprocess.Popen(
                child.argv,
                stdin=subprocess.PIPE,  # ends when this process does, however it ends
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, SUPERVISED: "1"},
            )
        child.started = time.monotonic()

    def _end(self) -> None:
        running = [c for c in self.children.values() if c.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        asked = time.monotonic()
        for child in sorted(running, key=lambda c: c.saves):
            assert child.process is not None
            seconds = END_SECONDS if child.saves else QUICK_SECONDS
            try:
                child.process.wait(max(asked + seconds - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                if child.saves:
                    log.warning(
                        "%s did not end within %g s and is killed; its saved state is sound",
                        child.name,
                        seconds,
                    )
                child.process.kill()
                child.process.wait()
            _let_go(child.process)


def _let_go(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()


def finish(state_dir: Path, name: str) -> None:
    """Note that a process has ended by itself, having done all there was to do."""
    (secret_folder(state_dir / "finished") / name).touch(mode=0o600)


def finished(state_dir: Path, names: Sequence[str]) -> bool:
    """Whether all these processes have ended by themselves: nothing more will come of them."""
    return bool(names) and all((state_dir / "finished" / name).exists() for name in names)


def children_of(pipeline_file: str, members: int, sample: bool) -> list[Child]:
    """The processes of a pipeline file."""
    worker = [sys.executable, "-m", "streamsketch.run.worker"]
    consumers = [f"consumer-{i}" for i in range(members)]
    children = [
        Child(name, [*worker, "consume", pipeline_file, str(i)])
        for i, name in enumerate(consumers)
    ]
    children.append(
        Child(
            "trainer", [*worker, "train", pipeline_file, *consumers], tuple(consumers), saves=False
        )
    )
    if sample:
        children.append(
            Child(
                "sampler", [*worker, "sample", pipeline_file, "trainer"], ("trainer",), saves=False
            )
        )
    return children


def _line(child: Child, said: Mapping[str, Any]) -> Line:
    if child.done:
        return Line(child.name, "done", said)
    if child.process is None:
        waits = f"waiting ({child.last_error})" if child.last_error else "waiting"
        return Line(child.name, waits, {})
    # what an earlier process of this name has left says nothing of this one
    own = said.get("pid") == child.process.pid
    return Line(child.name, "running" if own else "starting", said if own else {})


def _last_line(path: Path | None) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines() if path is not None else []
    except OSError as e:
        raise StreamSketchError(f"cannot read {path}: {e.strerror}") from None
    return lines[-1][:300] if lines else "no message"
