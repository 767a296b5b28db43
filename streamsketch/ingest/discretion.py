"""What a source may say while a privacy mechanism is on: what happened, but no number and no value.

Sources, and the libraries below them, tell of rows and offsets in their messages: that is what helps
without a mechanism, and what must not be public with one. While a private stream is read, the
messages of all loggers but the library's own lose what was filled into them and all digits; so do
the errors. The whole text goes to `details.log` in the secret state folder.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamsketch.errors import DataError, SchemaError, SourceError

__all__ = ["discreet", "told"]

OWN = "streamsketch."  # these loggers are read through: they tell nothing of rows
FILLED = re.compile(r"%(\(\w+\))?[-+ #0-9.*]*[a-zA-Z]")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
MOST_BYTES = 16 << 20  # of whole texts


def told(template: str) -> str:
    """A message without what was filled into it, without digits and without what stands in quotes.

    >>> told("%d rows of %r were read before (limit 30)")
    '... rows of ... were read before (limit #)'
    """
    return re.sub(r"\d+", "#", QUOTED.sub("'...'", FILLED.sub("...", template)))


@contextmanager
def discreet(folder: Path) -> Iterator[None]:
    """While this holds, sources' messages and errors tell nothing of rows.

    Args:
        folder: The secret state folder, for the whole texts.

    Raises:
        SourceError, DataError, SchemaError: As they come, without numbers.
    """
    details = _Details(folder / "details.log")
    _record.begin(details)
    try:
        yield
    except (SourceError, DataError, SchemaError) as e:
        details.add(str(e))
        kind = next(k for k in (SourceError, SchemaError, DataError) if isinstance(e, k))
        raise kind(
            f"{told(str(e))} (values are withheld, as a privacy mechanism is on; the whole text is in "
            f"{details.path})"
        ) from None
    finally:
        _record.end(details)


class _Record:
    """Makes the records of the log while private streams are read; there may be several at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: list[_Details] = []
        self._inner: Callable[..., logging.LogRecord] = logging.LogRecord

    def begin(self, details: "_Details") -> None:
        """One more is read."""
        with self._lock:
            if not self._reading:
                self._inner = logging.getLogRecordFactory()
                logging.setLogRecordFactory(self)
            self._reading = [*self._reading, details]

    def end(self, details: "_Details") -> None:
        """One less; after the last one all is as it was."""
        with self._lock:
            self._reading = [d for d in self._reading if d is not details]
            if not self._reading:
                logging.setLogRecordFactory(self._inner)

    def __call__(self, name: str, *more: Any, **kept: Any) -> logging.LogRecord:
        """A record that tells nothing of rows."""
        made = self._inner(name, *more, **kept)
        if not name.startswith(OWN):
            for details in self._reading:
                details.add(made.getMessage())
            made.msg, made.args = told(str(made.msg)), ()
            made.exc_info = made.exc_text = made.stack_info = None
        return made


_record = _Record()


class _Details:
    """Whole texts, for the owner of the state folder only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch(mode=0o600)

    def add(self, text: str) -> None:
        """Write one down; what the disk refuses is lost."""
        try:
            if self.path.stat().st_size > MOST_BYTES:
                return
            with self.path.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text!r}\n")
        except OSError:
            pass
