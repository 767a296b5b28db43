"""Progress of processes: live lines on a terminal, now and then a plain line elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from streamsketch.cli.console import err, say
from streamsketch.cli.figures import figures, line

if TYPE_CHECKING:
    from streamsketch.run.status import Line

PLAIN_SECONDS = 10.0
STOPPING = "stopping: saving..."


@contextmanager
def lines_shown(
    stop: threading.Event | None = None,
) -> "Iterator[Callable[[Sequence[Line]], None]]":
    """Show a line for each process, replacing the last ones.

    Args:
        stop: When it is set, it is said at once that all is being saved.

    Yields:
        A function that takes the lines. Off a terminal it writes them every ten seconds, and
        once more at the end.
    """
    console = err()
    if console.is_terminal:
        from rich.live import Live
        from rich.text import Text

        with Live(console=console, refresh_per_second=4) as live:

            def update(lines: "Sequence[Line]") -> None:
                texts = [line(one, console.width) for one in lines]
                live.update(Text("\n".join(texts), no_wrap=True, overflow="ellipsis"))

            with _told_at_once(stop, lambda: console.print(STOPPING)):
                yield update
        return
    last: list[str] = []
    shown: list[str] = []
    written = 0.0

    def show(lines: "Sequence[Line]") -> None:
        nonlocal last, shown, written
        last = [line(one) for one in lines]
        if last != shown and time.monotonic() - written >= PLAIN_SECONDS:
            shown, written = last, time.monotonic()
            say("\n".join(last))

    try:
        with _told_at_once(stop, lambda: say(STOPPING)):
            yield show
    finally:
        if last and last != shown:
            say("\n".join(last))


def _told_at_once(
    stop: threading.Event | None, tell: Callable[[], None]
) -> AbstractContextManager[None]:
    """Tell when the event is set; not from the signal's handler, which may write to nothing."""
    if stop is None:
        return nullcontext()

    def wait(over: threading.Event) -> None:
        while not over.is_set():
            if stop.wait(0.1):
                tell()
                return

    return _beside(wait)


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Do some work in a thread of its own; its event is set when the block is over."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


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
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(message, total=1.0, text="")
        yield lambda done, text: progress.update(task, completed=done, text=text)


@contextmanager
def status_shown(
    state: Path, names: Sequence[str], stop: threading.Event | None = None
) -> Iterator[None]:
    """Show what processes write in their status files while the block runs.

    Args:
        state: The state folder of the store.
        names: The processes, such as "consumer-0".
        stop: When it is set, it is said at once that all is being saved.
    """
    from streamsketch.run.status import Line, read_all

    with lines_shown(stop) as show:
        before = read_all(state)  # of the run before this one

        def watch(over: threading.Event) -> None:
            while True:
                last = over.wait(0.5)
                said = read_all(state)
                fresh = [n for n in names if n in said and said[n] != before.get(n)]
                fresh = [n for n in fresh if figures(said[n])]
                if fresh:
                    show([Line(name, "running", said[name]) for name in fresh])
                if last:
                    return

        with _beside(watch):
            yield
