"""Bytes from a pipe or socket: reading that can be stopped, and that refuses absurd lengths."""

import io
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

from streamsketch.errors import ConfigError, DataError, SourceError

__all__ = ["Stopped", "Wire", "address", "connections", "listen"]

TICK = 0.1  # seconds between looks at the stop event
PREFIX = 8  # a message's mark and length


class Stopped(Exception):
    """The reader was asked to stop while it waited."""


class Wire(io.RawIOBase):
    """A file descriptor as the file-like object that Arrow reads from.

    Args:
        fd: Owned: closed with this object.
        stop: When set, a waiting read raises `Stopped`.
        limit: A single read of more bytes raises DataError: a damaged length is refused before
            anything is allocated for it.

    Attributes:
        offset: Bytes read so far.
        last: What the last read returned, unless it was a message's body.
        ended: The other side has closed.
        heard: When bytes came last, by the monotonic clock.
        check_body: Called with a message's metadata and body before Arrow has them.
        before_wait: Called when a read is about to wait.
    """

    def __init__(self, fd: int, stop: threading.Event, limit: int) -> None:
        self._fd = fd
        self.stop = stop
        self.limit = limit
        self._ahead = b""
        self._before = 0
        self._record: bytearray | None = None
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN | select.POLLHUP)
        self.offset = 0
        self.last = b""
        self.ended = False
        self.heard = time.monotonic()
        self.before_wait: Callable[[], object] = lambda: None
        self.check_body: Callable[[bytes, bytearray], None] = lambda metadata, body: None

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only where the stream ends."""
        if size < 0 or size > self.limit:
            raise DataError(
                f"a message of {size} bytes at byte {self.offset} exceeds the limit of "
                f"{self.limit}; "
                "raise max_message_bytes if it is real"
            )
        data = bytearray(size)
        view, got = memoryview(data), min(size, len(self._ahead))
        view[:got] = self._ahead[:got]
        self._ahead = self._ahead[got:]
        while got < size and (n := self._some(view[got:])):
            got += n
        self.offset += got
        view.release()
        del data[got:]
        if len(self.last) > PREFIX and got > PREFIX:  # Arrow reads metadata, and then the body
            self.check_body(self.last, data)
        self.last = bytes(data) if self._before <= PREFIX else b""  # a body is not kept
        self._before = got
        if self._record is not None:
            self._record += data
        return data  # type: ignore[return-value]  # Arrow takes any buffer, and this saves a copy

    def record(self) -> bytearray:
        """Keep what is read from now on, for `again`."""
        self._record = bytearray()
        return self._record

    def again(self, recorded: bytearray) -> None:
        """Let what was read be read once more."""
        self._record = None
        self._ahead = bytes(recorded) + self._ahead
        self.offset -= len(recorded)
        self.last, self._before = b"", 0

    def at_end(self) -> bool:
        """Whether the other side has closed and nothing is left; waits until one is known."""
        if not self._ahead:
            byte = bytearray(1)
            self._ahead = bytes(byte[: self._some(memoryview(byte))])
        return not self._ahead

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._fd)
        super().close()

    def _some(self, into: memoryview) -> int:
        if not self._ready.poll(0):
            self.before_wait()
        while not self._ready.poll(TICK * 1000):
            if self.stop.is_set():
                raise Stopped
        try:
            n = os.readv(self._fd, [into])
        except ConnectionError:
            n = 0
        self.heard = time.monotonic()
        self.ended = n == 0
        return n


def address(url: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`.

    >>> address("tcp://[::1]:9000"), address("tcp://example:1")
    (('::1', 9000), ('example', 1))
    """
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"address {url!r} must look like tcp://host:port; correct path")
    return host.strip("[]"), int(port)


def listen(url: str) -> socket.socket:
    """A socket that listens at `tcp://host:port`.

    Raises:
        SourceError: The address is taken or not this machine's.
    """
    host, port = address(url)
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as e:
        raise SourceError(
            f"cannot listen at {url} ({e.strerror}); free the port or choose another"
        ) from e


def connections(
    path: str,
    server: socket.socket | None,
    keep_open: bool,
    patience: float,
    stop: threading.Event,
) -> Generator[int, None, None]:
    """File descriptors of one stream after the other; only one unless `keep_open`."""
    local = server is None and not path.startswith("tcp://")
    # what a next producer writes before its pipe is opened again is lost if nobody else has it open
    spare = _open(path, stop) if local and keep_open else None
    try:
        while not stop.is_set():
            if server is not None:
                yield _accept(server, stop)
            elif local:
                yield _open(path, stop)
            else:
                yield _connect(path, patience, stop)
            if not keep_open:
                return
    finally:
        if spare is not None:
            os.close(spare)


def _accept(server: socket.socket, stop: threading.Event) -> int:
    server.settimeout(TICK)
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        connection.setblocking(True)
        return connection.detach()
    raise Stopped


def _connect(url: str, patience: float, stop: threading.Event) -> int:
    end, wait = time.monotonic() + patience, TICK
    while True:
        try:
            connection = socket.create_connection(address(url), timeout=5.0)
            connection.setblocking(True)
            return connection.detach()
        except OSError as e:
            if stop.wait(min(wait, max(end - time.monotonic(), 0))):
                raise Stopped from None
            if time.monotonic() >= end:
                raise SourceError(
                    f"cannot connect to {url} within {patience:g} s ({e.strerror or e}); start "
                    f"the "
                    "producer, correct the address, or raise connect_seconds"
                ) from e
            wait = min(2 * wait, 5.0)


def _open(path: str, stop: threading.Event) -> int:
    if path == "-":
        if sys.stdin.isatty():
            raise ConfigError(
                "path = '-' reads standard input, which is a terminal; pipe an Arrow stream into "
                "it"
            )
        return os.dup(sys.stdin.fileno())
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISFIFO(mode):
            return os.open(path, os.O_RDONLY)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # comes back before there is a writer
    except OSError as e:
        raise SourceError(
            f"cannot open {path!r} ({e.strerror}); create it first, or correct path"
        ) from e
    return fd
