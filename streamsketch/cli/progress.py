"""Progress of processes: live lines on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamsketch.cli.console import err, say

PLAIN_SECONDS = 10.0


@contextmanager
def lines_shown() -> Iterator[Callable[[list[str]], None]]:
    """Show status lines, replacing the last ones.

    Yields:
        A function that takes the lines. Off a terminal it writes them every ten seconds, and
        once more at the end.
    """
    console = err()
    if console.is_terminal:
        from rich.live import Live
        from rich.text import Text

        with Live(console=console, refresh_per_second=4) as live:
            yield lambda lines: live.update(
                Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
            )
        return
    last: list[str] = []
    shown: list[str] = []
    written = 0.0

    def show(lines: list[str]) -> None:
        nonlocal last, shown, written
        last = lines
        if lines != shown and time.monotonic() - written >= PLAIN_SECONDS:
            shown, written = lines, time.monotonic()
            say("\n".join(lines))

    try:
        yield show
    finally:
        if last and last != shown:
            say("\n".join(last))


@contextmanager
def bar(message: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar with the time left on a terminal, one plain line elsewhere.

    Yields:
        A function that takes the share done, 0 to 1, and what else to say.
    """
    console = err()
    if not console.is_terminal:
        say(message)
        yield lambda done, text: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(message, total=1.0, text="")
        yield lambda done, text: progress.update(task, completed=done, text=text)


@contextmanager
def status_shown(state: Path, names: Sequence[str]) -> Iterator[None]:
    """Show what processes write in their status files while the block runs.

    Args:
        state: the state folder of the store.
        names: the processes, such as "consumer-0".
    """
    from streamsketch.run.status import read_all

    done = threading.Event()
    with lines_shown() as show:
        before = read_all(state)  # of the run before this one

        def watch() -> None:
            while True:
                last = done.wait(0.5)
                said = read_all(state)
                fresh = [n for n in names if n in said and said[n] != before.get(n)]
                if any(figures(said[name]) for name in fresh):
                    show([f"{name:<12} {figures(said[name])}" for name in fresh])
                if last:
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def figures(said: dict[str, Any]) -> str:
    """What a process says of itself, on one line: rows/s, lag, releases, loss, ..."""
    hidden = ("pid", "phase", "time")
    parts = []
    for key, value in said.items():
        if key not in hidden and value is not None and not isinstance(value, dict):
            text = f"{value:,}" if isinstance(value, int) else value
            text = f"{value:.4g}" if isinstance(value, float) else text
            parts.append(f"{key.replace('_per_s', '/s')} {text}")
    return "  ".join(parts)
