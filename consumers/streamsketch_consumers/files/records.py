"""The bytes of text files, decompressed, in UTF-8 and cut into records.

Lines are cut a buffer at a time: a loop over single lines cost more than parsing them.
"""

import bz2
import codecs
import gzip
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["odd_quotes", "open_text", "records"]

RAW = 4096  # bytes of a bad row that its dead letter keeps when the row is over-long
BUFFER = 1 << 18


def open_text(path: Path, encoding: str = "utf-8") -> io.BufferedReader:
    """The bytes of a text file in UTF-8, decompressed."""
    raw = _open(path)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return raw
    return io.BufferedReader(_Recoded(raw, encoding), BUFFER)


class _Recoded(io.RawIOBase):
    """A stream in another encoding as UTF-8; bytes that are not of it stay, and are not UTF-8."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self._held = b""

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        while not self._held:
            block = self._raw.read(1 << 16)
            text = self._decoder.decode(block, final=not block)
            self._held = text.encode("utf-8", "surrogateescape")
            if not block:
                break
        n = min(len(buffer), len(self._held))
        buffer[:n] = self._held[:n]
        self._held = self._held[n:]
        return n

    def close(self) -> None:
        """Close the file too."""
        self._raw.close()
        super().close()


def _open(path: Path) -> io.BufferedReader:
    if path.suffix.lower() == ".gz":  # unlike Arrow's, it gives what comes before a cut
        return cast(io.BufferedReader, gzip.open(path))
    if path.suffix.lower() == ".bz2":
        return cast(io.BufferedReader, bz2.open(path))
    return io.BufferedReader(pa.input_stream(str(path), compression="detect"), BUFFER)


def records(
    stream: io.BufferedReader, limit: int, quoted: bool
) -> Iterator[tuple[list[bytes], bool]]:
    """Lines, or records of several lines where quoted values may hold line breaks.

    Args:
        stream: What `open_text` opened.
        limit: Bytes of a record, its line break included.
        quoted: Whether quoted values may hold line breaks.

    Yields:
        Records one after the other, at least one, and whether they are whole: of an over-long one only
        the beginning is kept.
    """
    while ahead := stream.peek(1):
        lines = io.BytesIO(ahead[: ahead.rfind(b"\n") + 1]).readlines()
        if lines and quoted and b'"' in ahead:
            lines = _joined(lines, limit)
        if not lines:  # a record goes on beyond what was read ahead
            line, whole = _next(stream, limit, quoted)
            yield [line if whole else line[:RAW]], whole
            continue
        stream.read(sum(map(len, lines)))
        if max(map(len, lines)) <= limit:
            yield lines, True
            continue
        for whole, some in groupby(lines, lambda line: len(line) <= limit):
            yield [line if whole else line[: min(limit, RAW)] for line in some], whole


def odd_quotes(lines: Sequence[bytes]) -> NDArray[np.bool_]:
    """Which of some lines, at least one and none empty, hold an odd number of quotes."""
    quotes = np.frombuffer(b"".join(lines), np.uint8) == ord('"')
    ends = np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))
    counts = np.add.reduceat(quotes.view(np.uint8), np.append(0, ends[:-1]))
    odd: NDArray[np.bool_] = counts % 2 == 1
    return odd


def _joined(lines: list[bytes], limit: int) -> list[bytes]:
    """Records of these lines: joined while a quote is open; left out where the last one still is."""
    odd = odd_quotes(lines)
    if not odd.any():
        return lines
    found: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for line, ends in zip(lines, odd.tolist(), strict=True):
        if not held and not ends:
            found.append(line)
            continue
        held.append(line)
        size += len(line)
        if (len(held) > 1 and ends) or size >= limit:
            found.append(b"".join(held))
            held, size = [], 0
    return found


def _next(stream: io.BufferedReader, limit: int, quoted: bool) -> tuple[bytes, bool]:
    """The next record, read line by line, and whether it is whole; nothing over the limit is kept."""
    line = stream.readline(limit)
    parts, size, quotes = [line], len(line), line.count(b'"')
    while quoted and quotes % 2 and size < limit and (more := stream.readline(limit - size)):
        parts.append(more)
        size += len(more)
        quotes += more.count(b'"')
    line = b"".join(parts)
    if size < limit or line.endswith(b"\n"):
        return line, True
    rest = line
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(limit)
    return line, False
