"""Read Parquet and Arrow IPC: parts before the wanted row are passed over, not decoded."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamsketch_consumers.columns import select, sound
from streamsketch_consumers.files.pieces import (
    DAMAGE,
    PART_BYTES,
    FileFault,
    Piece,
    Wanted,
    damaged,
    reached,
    whole,
)

__all__ = ["arrow_head", "parquet_head", "read_arrow", "read_parquet"]


def parquet_head(path: Path) -> tuple[pa.Schema, int | None]:
    """Columns and number of rows of a Parquet file."""
    with pq.ParquetFile(path) as file:
        return file.schema_arrow, file.metadata.num_rows


def arrow_head(path: Path) -> tuple[pa.Schema, int | None]:
    """Columns of an Arrow IPC file or stream, and the rows of a file."""
    with pa.OSFile(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source).schema, None
        return reader.schema, int(reader.count_rows())


def read_parquet(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of a Parquet file; row groups before the wanted row are not read."""
    row = start
    try:
        schema = pq.read_schema(path)
        wanted.check(schema, f"file {name!r}")
        texts = _texts(schema, wanted)  # as codes: a text that a million rows share is held once
        with pq.ParquetFile(path, buffer_size=1 << 20, read_dictionary=texts) as file:
            reached(file.metadata.num_rows, start, name)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum([0, *sizes])
            first = int(np.searchsorted(ends, start, side="right")) - 1  # whole groups are skipped
            if first >= len(sizes):
                return
            skip = start - int(ends[first])
            groups = list(range(first, len(sizes)))
            batches = file.iter_batches(
                wanted.batch_rows,
                row_groups=groups,
                columns=[n for n in wanted.names if n in file.schema_arrow.names],
                use_threads=False,
            )
            for batch in batches:
                passed = min(skip, batch.num_rows)
                skip -= passed
                for part in _unpacked(batch.slice(passed)):
                    piece = whole(select(part, wanted.names, wanted.types), row)
                    row = piece.next_row
                    yield piece
    except DAMAGE as e:
        raise FileFault(damaged("Parquet", name, row, e), row) from e


def _texts(schema: pa.Schema, wanted: Wanted) -> list[str]:
    """The wanted columns of a Parquet file that hold text or bytes."""
    is_ = pa.types
    kinds = (is_.is_string, is_.is_large_string, is_.is_binary, is_.is_large_binary)
    return [
        n
        for n in wanted.names
        if n in schema.names
        and schema.names.count(n) == 1
        and any(f(schema.field(n).type) for f in kinds)
    ]


def _unpacked(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch with its codes spelled out, in parts that take no more than `PART_BYTES` so."""
    codes = [i for i, kind in enumerate(batch.schema.types) if pa.types.is_dictionary(kind)]
    size = np.zeros(batch.num_rows, np.int64)
    for i in codes:
        column = batch.column(i)
        lengths = pc.fill_null(pc.binary_length(column.dictionary).take(column.indices), 0)
        size += lengths.to_numpy(zero_copy_only=False)
    start, ends = 0, np.cumsum(size)
    while start < batch.num_rows:
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PART_BYTES, side="right")))
        part = batch.slice(start, stop - start)
        for i in codes:
            part = part.set_column(i, batch.schema.names[i], part.column(i).dictionary_decode())
        yield part
        start = stop


def read_arrow(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    """The rows of an Arrow IPC file or stream, whichever it holds."""
    with path.open("rb") as file:
        random_access = file.read(6) == b"ARROW1"
        if file.seek(0) == 0 and file.read(4) == b"FEA1":
            raise FileFault(
                f"file {name!r} is of the old Feather version 1; write it as version 2", 0
            )
    if random_access:
        yield from _arrow_file(path, start, wanted, name)
    else:
        yield from _arrow_stream(path, start, wanted, name)


def _arrow_file(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    row = 0
    try:
        with pa.OSFile(str(path)) as source:  # no memory map: a file cut while read would kill us
            reader = _projected(pa.ipc.open_file, source, wanted, name)
            first, row = _seek_batch(source, start) if start else (0, 0)
            for i in range(first, reader.num_record_batches):
                # offsets of altered bytes could point anywhere
                batch = sound(select(reader.get_batch(i), wanted.names, wanted.types))
                yield from _slices(batch, row, start, wanted.batch_rows)
                row += batch.num_rows
            reached(row, start, name)
    except DAMAGE as e:
        raise FileFault(damaged("Arrow", name, max(row, start), e), max(row, start)) from e


def _seek_batch(source: pa.NativeFile, start: int) -> tuple[int, int]:
    """Number of the batch that holds row `start`, and the row it begins at."""
    source.seek(0)
    lengths = pa.ipc.open_file(  # one column is enough to learn a batch's length
        source, options=pa.ipc.IpcReadOptions(included_fields=[0], use_threads=False)
    )
    row = 0
    for i in range(lengths.num_record_batches):
        n = lengths.get_batch(i).num_rows
        if row + n > start:
            return i, row
        row += n
    return lengths.num_record_batches, row


def _arrow_stream(path: Path, start: int, wanted: Wanted, name: str) -> Iterator[Piece]:
    row = 0
    try:
        with pa.OSFile(str(path)) as source:
            for whole in _projected(pa.ipc.open_stream, source, wanted, name):
                batch = sound(select(whole, wanted.names, wanted.types))
                yield from _slices(batch, row, start, wanted.batch_rows)
                row += batch.num_rows
            reached(row, start, name)
    except DAMAGE as e:
        reached(row, start, name)
        raise FileFault(damaged("Arrow", name, row, e), row) from e


def _projected(
    opener: Callable[..., Any], source: pa.NativeFile, wanted: Wanted, name: str
) -> Any:
    """An IPC reader of the wanted columns only."""
    schema = opener(source).schema
    wanted.check(schema, f"file {name!r}")
    source.seek(0)
    fields = [schema.get_field_index(n) for n in wanted.names if n in schema.names]
    return opener(source, options=pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False))


def _slices(batch: pa.RecordBatch, row: int, start: int, batch_rows: int) -> Iterator[Piece]:
    """Pieces of at most `batch_rows` rows of a batch that begins at `row`, from row `start` on."""
    for begin in range(max(start - row, 0), batch.num_rows, batch_rows):
        yield whole(batch.slice(begin, batch_rows), row + begin)
