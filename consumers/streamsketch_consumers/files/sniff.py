"""How a text file is written: its encoding, its delimiter, and whether values hold line breaks."""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamsketch_consumers.files.records import open_text

__all__ = ["sniffed"]

BLOCK = 1 << 20
HEAD = 1 << 16
DELIMITERS = ",;\t|"
MOST_LINES = 1000  # of one value
LINES = 50  # that are looked at for the delimiter


def sniffed(paths: Sequence[Path], kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The settings of the file source that these files need beyond the defaults.

    Every byte is looked at once: an accent or a line break in quotes may come late.
    """
    found: dict[str, Any] = {}
    encoding = asked.get("encoding") or _encoding(paths)
    if encoding != "utf-8":
        found["encoding"] = encoding
    if kind != "csv":
        return found
    delimiter = asked.get("delimiter") or _delimiter(paths[0], encoding)
    tab = ".tsv" in (s.lower() for s in paths[0].suffixes[-2:])
    if delimiter != "," and not (tab and delimiter == "\t"):
        found["delimiter"] = delimiter
    if any(_breaks_in_quotes(path, encoding, delimiter) for path in paths):
        found["newlines_in_values"] = True
    return found


def _encoding(paths: Sequence[Path]) -> str:
    for path in paths:
        decoder = codecs.getincrementaldecoder("utf-8")()
        # by an encoding of bytes, so that nothing is decoded yet
        with open_text(path) as stream:
            block = stream.read(BLOCK)
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            try:
                while block:
                    decoder.decode(block)
                    block = stream.read(BLOCK)
            except UnicodeDecodeError:
                return _single_bytes(paths)
    return "utf-8"


def _single_bytes(paths: Sequence[Path]) -> str:
    """Windows' Western European, or ISO's where a byte is none of Windows'."""
    try:
        for path in paths:
            with open_text(path) as stream:
                while block := stream.read(BLOCK):
                    block.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _delimiter(path: Path, encoding: str) -> str:
    """What cuts the first lines into the same number of values, the more the better."""
    if ".tsv" in (s.lower() for s in path.suffixes[-2:]):
        return "\t"
    with open_text(path, encoding) as stream:
        text = stream.read(HEAD).decode("utf-8", "replace")
    scores = {}
    for delimiter in DELIMITERS:
        rows = []
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append(len(row))
            if len(rows) > LINES:
                break
        if len(text) >= HEAD and len(rows) > 1:
            rows.pop()  # it may be cut
        rows = [n for n in rows if n]
        width = rows[0] if rows else 0
        scores[delimiter] = (width > 1) * (
            sum(n == width for n in rows) / max(len(rows), 1),
            width,
        )
    return max(DELIMITERS, key=lambda d: scores[d] or (0.0, 0))


def _breaks_in_quotes(path: Path, encoding: str, delimiter: str) -> bool:
    """Whether quoted values hold line breaks; a quote inside of a value, as in 5" pipe, is none."""
    with open_text(path, encoding) as stream:
        odd = False
        while not odd and (line := stream.readline(BLOCK)):
            odd = line.count(b'"') % 2 == 1
    if not odd:
        return False
    with open_text(path, encoding) as stream:
        lines = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
        reader, before, found = csv.reader(lines, delimiter=delimiter), 0, False
        try:
            for _ in reader:
                spanned, before = reader.line_num - before, reader.line_num
                if spanned > MOST_LINES:
                    return False  # a quote that nobody closed
                found |= spanned > 1
        except csv.Error:
            return False
    return found
