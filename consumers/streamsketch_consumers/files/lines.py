"""Read CSV and JSON lines: blocks at once, row by row only around a bad row.

Values are read as those of messages are (`streamsketch_consumers.decode`). A block of CSV lines is
cut into text at once. When the parser refuses it, lines that look wrong are parsed alone and the
rest is halved until the bad rows stand alone: every row is judged by the same parser whatever rows
are beside it, so that the outcome does not depend on the batch size.
"""

import codecs
import csv
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from streamsketch.arrays import I64
from streamsketch.errors import SchemaError, SourceError
from streamsketch.ingest.streams import Dead
from streamsketch_consumers.decode.csv_values import typed
from streamsketch_consumers.decode.text import objects
from streamsketch_consumers.decode.values import Columns
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted
from streamsketch_consumers.files.records import odd_quotes, open_text, records
from streamsketch_consumers.uncancelled import uncancelled

__all__ = ["read_csv", "read_jsonl"]

Judge = Callable[[list[bytes]], tuple[I64, pa.RecordBatch, list[tuple[int, str]]]]
Parse = Callable[[Sequence[bytes]], pa.Table]
Run = tuple[Sequence[int], pa.Table]  # numbers of lines of a block, and their rows as text
_IN_ROW = re.compile(r" in row \d+$| Row #\d+:")
_OPEN_QUOTE = "the line leaves a quote open; set newlines_in_values if values hold line breaks"

#: What a disk, or bytes that are not what the file's name says, raise.
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error)


def read_jsonl(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a file of JSON objects, one per line; blank lines are counted, but no rows."""
    yield from _read(path, start, wanted, name, _json_judge(wanted), header=False)


def read_csv(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a CSV file; the header is not counted, blank lines are."""
    if wanted.delimiter == "," and ".tsv" in (s.lower() for s in path.suffixes[-2:]):
        wanted = replace(wanted, delimiter="\t")
    for column, kind in wanted.types.items():
        if pa.types.is_nested(kind):
            raise SchemaError(
                f"file {name!r} is CSV, which cannot hold column {column!r} of type {kind}; use "
                f"Parquet, Arrow or "
                "JSON lines"
            )
    names = wanted.names
    if wanted.header:
        names = _header(path, wanted, name)
        text = pa.schema([(n, wanted.types.get(n, pa.string())) for n in names])
        wanted.check(text, f"file {name!r}")
        # the parser refuses two columns of one name, also where neither is wanted
        times = Counter(names)
        names = [n if times[n] == 1 else f"{n} ({i})" for i, n in enumerate(names)]
    yield from _read(path, start, wanted, name, _csv_judge(wanted, names), header=wanted.header)


def _read(
    path: Path,
    start: int,
    wanted: Wanted,
    name: str,
    judge: Judge,
    *,
    header: bool,
) -> Iterator[Piece]:
    row = -1 if header else 0
    block: list[bytes] = []
    rows: list[int] = []
    dead: list[Dead] = []
    try:
        with open_text(path, wanted.encoding) as stream:
            for lines, whole in records(stream, wanted.max_row_bytes, wanted.newlines_in_values):
                if row == 0 and not header:
                    lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
                while lines:
                    room = wanted.batch_rows - len(block) - len(dead)
                    some, lines = lines[:room], lines[room:]
                    first = max(start - row, 0)
                    new = range(row + first, row + len(some))
                    if not whole:
                        dead += map(
                            partial(_too_long, name=name, wanted=wanted), some[first:], new
                        )
                    elif any(map(bytes.isspace, some)):
                        kept = [i for i in new if not some[i - row].isspace()]
                        block += [some[i - row] for i in kept]
                        rows += kept
                    else:
                        block += some[first:]
                        rows += new
                    row += len(some)
                    if len(block) + len(dead) >= wanted.batch_rows:
                        yield _piece(block, rows, row, dead, wanted, name, judge)
                        block, rows, dead = [], [], []
    except UNREADABLE as e:
        if block or dead:
            yield _piece(block, rows, row, dead, wanted, name, judge)
        raise _unreadable(name, max(row, 0), e) from e
    if row < start:
        raise SourceError(
            f"file {name!r} has {max(row, 0)} rows, but the saved position is row {start}: the "
            f"file was replaced "
            "or cut after it was read; put the old file back, or start from an empty store"
        )
    if block or dead or row > start:
        yield _piece(block, rows, row, dead, wanted, name, judge)


def _too_long(line: bytes, row: int, name: str, wanted: Wanted) -> Dead:
    reason = (
        f"the row is longer than {wanted.max_row_bytes} bytes; raise max_row_bytes if such rows "
        f"are real, or look "
        "for a missing line break or an open quote"
    )
    return Dead(line, reason, {"file": name, "row": row})


def _piece(
    block: list[bytes],
    rows: list[int],
    next_row: int,
    dead: list[Dead],
    wanted: Wanted,
    name: str,
    judge: Judge,
) -> Piece:
    which, batch, bad = judge(block)
    refused = [Dead(block[i], reason, {"file": name, "row": rows[i]}) for i, reason in bad]
    together = sorted([*dead, *refused], key=lambda d: d.where["row"])
    return Piece(batch, np.array(rows, np.int64)[which], next_row, tuple(together))


def empty(types: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """No row of these columns."""
    return pa.RecordBatch.from_pylist([], pa.schema(list(types.items())))


def _json_judge(wanted: Wanted) -> Judge:
    columns = Columns(wanted.readings, "null", wanted.declared, wanted.unwrap)

    def judge(block: list[bytes]) -> tuple[I64, pa.RecordBatch, list[tuple[int, str]]]:
        rows, bad = objects(columns, block, range(len(block)))
        reasons = [(b.message, b.reason) for b in bad]
        if not rows:
            return np.zeros(0, np.int64), empty(wanted.types), reasons
        return rows[0].origin, rows[0].batch, reasons

    return judge


def _csv_judge(wanted: Wanted, names: list[str]) -> Judge:
    parse = _csv_parser(wanted, names)

    def judge(block: list[bytes]) -> tuple[I64, pa.RecordBatch, list[tuple[int, str]]]:
        good: list[Run] = []
        bad: list[tuple[int, str]] = []
        _judge(block, range(len(block)), parse, good, bad)
        if not good:
            return np.zeros(0, np.int64), empty(wanted.types), bad
        which = np.concatenate([np.asarray(run, np.int64) for run, _ in good])
        table = good[0][1] if len(good) == 1 else pa.concat_tables([part for _, part in good])
        if (np.diff(which) < 0).any():
            order = np.argsort(which)
            table, which = table.take(pa.array(order)), which[order]
        rows, wrong = typed(table, wanted.readings, wanted.dialect)
        bad += [(int(which[b.message]), b.reason) for b in wrong]
        if not rows:
            return np.zeros(0, np.int64), empty(wanted.types), bad
        return which[rows[0].origin], rows[0].batch, bad

    return judge


def _judge(
    block: list[bytes],
    which: Sequence[int],
    parse: Parse,
    good: list[Run],
    bad: list[tuple[int, str]],
) -> None:
    """Parse the lines `which` of a block into runs of good rows and reasons of bad ones."""
    apart = _odd(block, which) if len(which) > 1 else set()
    for i in apart:
        _judge(block, [i], parse, good, bad)
    if apart:
        which = [i for i in which if i not in apart]
    if not which:
        return
    try:
        good.append((which, parse([block[i] for i in which])))
    except (pa.ArrowException, UnicodeDecodeError) as e:
        if len(which) == 1:
            bad.append((which[0], _IN_ROW.sub("", str(e).splitlines()[0])[:300]))
            return
        middle = len(which) // 2
        _judge(block, which[:middle], parse, good, bad)
        _judge(block, which[middle:], parse, good, bad)


def _csv_parser(wanted: Wanted, names: list[str]) -> Parse:
    convert = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(wanted.names, pa.string()),
        include_columns=wanted.names,
        include_missing_columns=True,  # the header was checked
        null_values=list(wanted.null_values),
        strings_can_be_null=True,
    )
    options = pa_csv.ParseOptions(
        delimiter=wanted.delimiter,
        newlines_in_values=wanted.newlines_in_values,
        ignore_empty_lines=False,
    )

    def parse(lines: Sequence[bytes]) -> pa.Table:
        rows = len(lines)
        if rows == 1:
            _check_alone(lines[0], wanted.newlines_in_values)
        lines = _closed(lines)
        data = b"".join(lines)
        read = pa_csv.ReadOptions(
            use_threads=False, column_names=names, block_size=max(len(data) + 1, 64)
        )
        try:
            table = uncancelled(
                lambda: pa_csv.read_csv(pa.BufferReader(data), read, options, convert)
            )
        except pa.ArrowInvalid as e:
            raise pa.ArrowInvalid(_named(str(e), names, rows)) from None
        if table.num_rows != len(lines):
            raise pa.ArrowInvalid(_OPEN_QUOTE)
        table.validate(full=True)  # of text, that it is UTF-8
        return table.slice(0, rows)

    return parse


def _odd(block: list[bytes], which: Sequence[int]) -> set[int]:
    """Those of the lines `which` that may be read otherwise beside others."""
    lines = [block[i] for i in which]
    data = b"".join(lines)
    ends = b"\r" not in data or (
        data.count(b"\n") <= len(lines) and data.count(b"\r") == data.count(b"\r\n")
    )
    if not ends or codecs.BOM_UTF8 in data:
        odd = [_odd_csv(line) for line in lines]
    elif b'"' in data:
        odd = odd_quotes(lines).tolist()
    else:
        return set()
    return set(compress(which, odd))


def _odd_csv(line: bytes) -> bool:
    if line.startswith(codecs.BOM_UTF8):
        return True
    if b"\r" in line and b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        return True
    return b'"' in line and line.count(b'"') % 2 == 1


def _check_alone(line: bytes, newlines_in_values: bool) -> None:
    """Refuse a line that would be read otherwise beside others."""
    if line.startswith(codecs.BOM_UTF8):
        raise pa.ArrowInvalid("the line begins with a byte order mark; only a file may")
    if not newlines_in_values and b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        raise pa.ArrowInvalid("the line holds a carriage return; end lines with \\n or \\r\\n")
    if newlines_in_values and line.count(b'"') % 2:
        raise pa.ArrowInvalid(_OPEN_QUOTE)


def _closed(lines: Sequence[bytes]) -> Sequence[bytes]:
    """The lines, the last one twice if it holds quotes.

    A quote that is left open swallows the next line, which shows in the number of rows; without a
    next line it would go unseen.
    """
    if b'"' not in lines[-1]:
        return lines
    last = lines[-1].removesuffix(b"\n") + b"\n"
    return [*lines[:-1], last, last]


def _named(message: str, names: list[str], lines: int) -> str:
    """Put the column's name for its number in a parser's message about one line."""
    if lines > 1:
        return message
    for i in range(len(names) - 1, -1, -1):
        message = message.replace(f"CSV column #{i}:", f"column {names[i]!r}:")
    return message


def _unreadable(name: str, row: int, error: Exception) -> FileFault:
    return FileFault(
        f"file {name!r} cannot be read from row {row} on ({error}); replace it and run again, or "
        "set on_error to skip or dlq to pass over the rest of it",
        row,
    )


def _header(path: Path, wanted: Wanted, name: str) -> list[str]:
    try:
        with open_text(path, wanted.encoding) as stream:
            (line, *_), whole = next(
                records(stream, wanted.max_row_bytes, wanted.newlines_in_values), ([b""], True)
            )
    except UNREADABLE as e:
        raise _unreadable(name, 0, e) from e
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise FileFault(
            f"the header of file {name!r} is not {wanted.encoding} text ({e}); set encoding to what it is",
            0,
        ) from e
    if not whole or not text.strip():
        raise FileFault(
            f"file {name!r} does not begin with a line of column names; add one, or set header = "
            f"false",
            0,
        )
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=wanted.delimiter))
