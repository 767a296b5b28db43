"""Real processes that start in milliseconds: forks of one that has imported everything.

A `kill -9` hits a process of its own, with its own memory, files and sockets. Only the time to
import and to load compiled kernels is saved, so that a thousand kills take minutes.
"""

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["testing.warm"])


def start(log: Path, target: Callable[..., None], *args: Any) -> BaseProcess:
    """Run `target(*args)` in a process of its own; what it says is appended to the file `log`."""
    process = CONTEXT.Process(target=_run, args=(log, target, *args), daemon=True)
    process.start()
    return process


def stop(process: BaseProcess, seconds: float = 30.0) -> None:
    """SIGTERM, then wait for its end: a clean one, unless it had not begun to listen to signals."""
    process.terminate()
    process.join(seconds)
    if process.exitcode not in (0, -signal.SIGTERM):
        raise RuntimeError(f"pid {process.pid} was asked to end: {process.exitcode}")


def kill(process: BaseProcess) -> bool:
    """SIGKILL; whether that is what ended it."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _run(log: Path, target: Callable[..., None], *args: Any) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
    target(*args)
