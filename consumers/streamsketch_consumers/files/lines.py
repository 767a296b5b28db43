"""Read CSV and JSON lines: blocks at Arrow's speed, row by row only around a bad row.

A block of lines is parsed at once. When the parser refuses it, lines that look wrong are parsed
alone and the rest is halved until the bad rows stand alone: every row is judged by the same parser
whatever rows are beside it, so that the outcome does not depend on the batch size.
"""

import bz2
import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from streamsketch.errors import SchemaError, SourceError
from streamsketch.ingest.streams import Dead
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted
from streamsketch_consumers.uncancelled import uncancelled

__all__ = ["read_csv", "read_jsonl"]

Parse = Callable[[Sequence[bytes]], pa.RecordBatch]
Suspicious = Callable[[bytes], bool]
Run = tuple[list[int], pa.RecordBatch]  # numbers of lines of a block, and their rows
_IN_ROW = re.compile(r" in row \d+$| Row #\d+:")
_NO_OBJECT = "the line does not hold exactly one JSON object"
_OPEN_QUOTE = "the line leaves a quote open; set newlines_in_values if values hold line breaks"
RAW = 4096  # bytes of a bad row that its dead letter keeps when the row is over-long


def read_jsonl(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a file of JSON objects, one per line; blank lines are counted, but no rows."""
    yield from _read(path, start, wanted, name, _json_parser(wanted), _odd_json, header=False)


def read_csv(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a CSV file; the header is not counted, blank lines are."""
    if ".tsv" in (s.lower() for s in path.suffixes[-2:]):
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
    parse = _csv_parser(wanted, names)
    yield from _read(path, start, wanted, name, parse, _odd_csv, header=wanted.header)


def _read(
    path: Path,
    start: int,
    wanted: Wanted,
    name: str,
    parse: Parse,
    odd: Suspicious,
    *,
    header: bool,
) -> Iterator[Piece]:
    row = -1 if header else 0
    block: list[bytes] = []
    rows: list[int] = []
    dead: list[Dead] = []
    try:
        with _open(path) as stream:
            for line, whole in _records(stream, wanted):
                if row == 0 and not header:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if row >= start and not whole:
                    dead.append(_too_long(line, row, name, wanted))
                elif row >= start and line.strip():
                    block.append(line)
                    rows.append(row)
                row += 1
                if len(block) + len(dead) >= wanted.batch_rows:
                    yield _piece(block, rows, row, dead, wanted, name, parse, odd)
                    block, rows, dead = [], [], []
    except (pa.ArrowException, OSError, EOFError, zlib.error) as e:
        if block or dead:
            yield _piece(block, rows, row, dead, wanted, name, parse, odd)
        raise FileFault(
            f"file {name!r} cannot be read from row {max(row, 0)} on ({e}); replace it and run "
            f"again, or set "
            "on_error to skip or dlq to pass over the rest of it",
            max(row, 0),
        ) from e
    if row < start:
        raise SourceError(
            f"file {name!r} has {max(row, 0)} rows, but the saved position is row {start}: the "
            f"file was replaced "
            "or cut after it was read; put the old file back, or start from an empty store"
        )
    if block or dead or row > start:
        yield _piece(block, rows, row, dead, wanted, name, parse, odd)


def _open(path: Path) -> BinaryIO:
    if path.suffix.lower() == ".gz":  # unlike Arrow's, it gives what comes before a cut
        return cast(BinaryIO, gzip.open(path))
    if path.suffix.lower() == ".bz2":
        return cast(BinaryIO, bz2.open(path))
    return io.BufferedReader(pa.input_stream(str(path), compression="detect"), 1 << 18)


def _records(stream: BinaryIO, wanted: Wanted) -> Iterator[tuple[bytes, bool]]:
    """Lines, or records of several lines where quoted values may hold line breaks.

    Yields:
        The bytes and whether they are whole: of an over-long record only the beginning is kept.
    """
    limit, quoted = wanted.max_row_bytes, wanted.newlines_in_values
    while line := stream.readline(limit):
        if quoted:
            while (
                line.count(b'"') % 2
                and len(line) < limit
                and (more := stream.readline(limit - len(line)))
            ):
                line += more
        if len(line) < limit or line.endswith(b"\n"):
            yield line, True
            continue
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(limit)
        yield line[:RAW], False


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
    parse: Parse,
    odd: Suspicious,
) -> Piece:
    good: list[Run] = []
    bad: list[tuple[int, str]] = []
    _judge(block, list(range(len(block))), parse, odd, good, bad)
    refused = [Dead(block[i], reason, {"file": name, "row": rows[i]}) for i, reason in bad]
    together = sorted([*dead, *refused], key=lambda d: d.where["row"])
    if len(good) == 1:
        which, batch = good[0]
    else:
        which = [i for run, _ in good for i in run]
        empty = pa.RecordBatch.from_pylist([], pa.schema(list(wanted.types.items())))
        batch = pa.concat_batches([b for _, b in good] or [empty])
        if which != sorted(which):
            order = np.argsort(which)
            batch, which = batch.take(pa.array(order)), sorted(which)
    return Piece(batch, np.array(rows, np.int64)[which], next_row, tuple(together))


def _judge(
    block: list[bytes],
    which: list[int],
    parse: Parse,
    odd: Suspicious,
    good: list[Run],
    bad: list[tuple[int, str]],
) -> None:
    """Parse the lines `which` of a block into runs of good rows and reasons of bad ones."""
    apart = {i for i in which if odd(block[i])} if len(which) > 1 else set()
    for i in apart:
        _judge(block, [i], parse, odd, good, bad)
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
        _judge(block, which[:middle], parse, odd, good, bad)
        _judge(block, which[middle:], parse, odd, good, bad)


def _json_parser(wanted: Wanted) -> Parse:
    vectors = {n: t for n, t in wanted.types.items() if pa.types.is_fixed_size_list(t)}
    schema = pa.schema(list(wanted.types.items()))
    asked = pa.schema(
        [(n, pa.list_(t.value_type) if n in vectors else t) for n, t in wanted.types.items()]
    )
    options = pa_json.ParseOptions(explicit_schema=asked, unexpected_field_behavior="ignore")

    def parse(lines: Sequence[bytes]) -> pa.RecordBatch:
        if len(lines) == 1 and _odd_json(lines[0]):
            raise pa.ArrowInvalid(_NO_OBJECT)  # the parser dies of a lone `null` (pyarrow 26.0.1)
        if wanted.declared is not None:
            _check_keys(lines, wanted.declared)
        data = b"".join(lines)
        read = pa_json.ReadOptions(use_threads=False, block_size=max(len(data) + 1, 64))
        table = uncancelled(lambda: pa_json.read_json(pa.BufferReader(data), read, options))
        table = table.select(wanted.names)
        if vectors:
            table = table.cast(schema)
        return _one(table, lines, _NO_OBJECT)

    return parse


def _check_keys(lines: Sequence[bytes], names: frozenset[str]) -> None:
    """Refuse lines with keys that are not declared; what is no JSON the parser refuses."""
    import orjson

    for line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        for key in row if isinstance(row, dict) else ():
            if key not in names:
                raise pa.ArrowInvalid(f"field {key!r} is not declared")


def _odd_json(line: bytes) -> bool:
    body = line.strip()
    return not (body.startswith(b"{") and body.endswith(b"}"))


def _csv_parser(wanted: Wanted, names: list[str]) -> Parse:
    convert = pa_csv.ConvertOptions(
        column_types=wanted.types,
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

    def parse(lines: Sequence[bytes]) -> pa.RecordBatch:
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
        return _one(table, lines, _OPEN_QUOTE).slice(0, rows)

    return parse


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


def _one(table: pa.Table, lines: Sequence[bytes], complaint: str) -> pa.RecordBatch:
    """The table as one batch of as many rows as lines, its text valid."""
    if table.num_rows != len(lines):
        raise pa.ArrowInvalid(complaint)
    batch = table.combine_chunks().to_batches()[0]
    batch.validate(full=True)
    return batch


def _named(message: str, names: list[str], lines: int) -> str:
    """Put the column's name for its number in a parser's message about one line."""
    if lines > 1:
        return message
    for i in range(len(names) - 1, -1, -1):
        message = message.replace(f"CSV column #{i}:", f"column {names[i]!r}:")
    return message


def _header(path: Path, wanted: Wanted, name: str) -> list[str]:
    with _open(path) as stream:
        line, whole = next(_records(stream, wanted), (b"", True))
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise FileFault(
            f"the header of file {name!r} is not UTF-8 ({e}); convert the file", 0
        ) from e
    if not whole or not text.strip():
        raise FileFault(
            f"file {name!r} does not begin with a line of column names; add one, or set header = "
            f"false",
            0,
        )
    return next(csv.reader([text], delimiter=wanted.delimiter))
