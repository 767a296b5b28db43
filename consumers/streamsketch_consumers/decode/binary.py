"""Binary formats: Arrow IPC streams and plain float32 rows."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DataError, SchemaError
from streamsketch.schema import Schema
from streamsketch.schema.columns import arrow_type
from streamsketch_consumers.columns import check_columns, select, text_types, wanted
from streamsketch_consumers.decode.base import Bad, Decoder, Limits, Options, Rows

__all__ = ["BodyLimit", "arrow", "raw_f32"]

RECORD_BATCH, DICTIONARY_BATCH = 3, 2  # of the union MessageHeader in Arrow's Message.fbs


def arrow(schema: Schema, options: Options) -> Decoder:
    """An Arrow IPC stream a message; all rows of a message are good, or it is bad."""
    names = wanted(schema, options.event_time)
    types = text_types(schema, options.event_time)
    declared = {c.name: arrow_type(c.type) for c in schema.columns if c.categorical}
    accepted: list[pa.Schema] = []

    def read(value: bytes) -> list[pa.RecordBatch]:
        check_size(value, options.limits)
        with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
            if not accepted or not accepted[0].equals(reader.schema):
                check_columns(
                    schema, reader.schema, "the message", options.event_time, options.missing,
                    options.extra,
                )  # fmt: skip
                accepted[:] = [reader.schema]
            batches = [select(batch, names, types) for batch in reader if batch.num_rows]
        for batch in batches:
            batch.validate(full=True)
        return [_categories(batch, declared) for batch in batches]

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        bad: list[Bad] = []
        runs = _Runs()
        for i, value in enumerate(values):
            try:
                batches = read(value or b"")
            except (pa.ArrowException, SchemaError, ValueError, OSError, MemoryError) as e:
                bad.append(Bad(i, f"not a readable Arrow stream: {e}"))
                continue
            if not batches:
                bad.append(Bad(i, "an Arrow stream without rows"))
            for batch in batches:
                runs.add(batch, i)
        return runs.finish(), bad

    return decode


class _Runs:
    """Joins batches of the same Arrow schema that follow each other."""

    def __init__(self) -> None:
        self._done: list[Rows] = []
        self._batches: list[pa.RecordBatch] = []
        self._origin: list[int] = []

    def add(self, batch: pa.RecordBatch, message: int) -> None:
        """Put a batch at the end."""
        if self._batches and not self._batches[0].schema.equals(batch.schema):
            self._close()
        self._batches.append(batch)
        self._origin.append(message)

    def _close(self) -> None:
        if not self._batches:
            return
        counts = [batch.num_rows for batch in self._batches]
        origin = np.repeat(np.asarray(self._origin, np.int64), counts)
        whole = pa.concat_batches(self._batches) if len(counts) > 1 else self._batches[0]
        self._done.append(Rows(whole, origin))
        self._batches, self._origin = [], []

    def finish(self) -> list[Rows]:
        """All runs."""
        self._close()
        return self._done


def _categories(batch: pa.RecordBatch, declared: dict[str, pa.DataType]) -> pa.RecordBatch:
    """The batch with plain columns of the declared type for categories.

    Dictionaries differ from message to message and cannot be joined; a value that the declared
    type cannot hold is found here, where the message can still be set apart.
    """
    for i, field in enumerate(batch.schema):
        kind = declared.get(field.name)
        column = batch.column(i)
        if pa.types.is_dictionary(field.type):
            column = column.dictionary_decode()
        if kind is not None and column.type != kind:
            column = column.cast(kind)
        if column.type != field.type:
            batch = batch.set_column(i, field.name, column)
    return batch


def check_size(value: bytes, limits: Limits) -> None:
    """Refuse an IPC stream that says it holds more than the limits, before decoding it.

    Raises:
        ValueError: Too many rows, or too many bytes after decompression.
        ArrowException, OSError: Not an IPC stream.
    """
    rows = size = 0
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(value)):
        batch = _record_batch(message.metadata.to_pybytes())
        if batch is None:
            continue
        rows += batch.int64(0)
        size += sum(_decoded(batch, message.body))
        if rows > limits.rows:
            raise ValueError(f"{rows} rows, more than max_rows = {limits.rows}")
        if size > limits.decoded_bytes:
            raise ValueError(
                f"{size} bytes after decompression, more than max_decoded_bytes = "
                f"{limits.decoded_bytes}"
            )


class BodyLimit:
    """Refuses a message whose columns that are read would be too large after decompression.

    Args:
        types: The columns' types.
        read: Numbers of those that are read.
        most: Bytes.

    Raises:
        DataError: When called with the metadata and the body of such a message.
    """

    def __init__(self, types: list[pa.DataType], read: set[int], most: int) -> None:
        counts = [_buffers(kind) for kind in types]
        self._most = most
        self._wanted: list[bool] | None = None
        if None not in counts:  # else which buffer is whose is not known, and all count
            self._wanted = [i in read for i, count in enumerate(counts) for _ in range(count or 0)]

    def __call__(self, metadata: bytes, body: Any) -> None:
        """Check one message."""
        try:
            batch = _record_batch(metadata)
            sizes = [] if batch is None else list(_decoded(batch, body))
        except (struct.error, IndexError, ValueError) as e:
            raise DataError(f"a message is damaged ({e})") from None
        wanted = self._wanted
        if wanted is None or len(wanted) != len(sizes):
            wanted = [True] * len(sizes)
        size = sum(n for n, mine in zip(sizes, wanted, strict=True) if mine)
        if size > self._most:
            raise DataError(
                f"a message of {size} bytes after decompression exceeds the limit of {self._most}; "
                "raise max_message_bytes if it is real"
            )


def _buffers(kind: pa.DataType) -> int | None:
    """How many buffers a column has in a message; None where that depends on the message."""
    is_ = pa.types
    if is_.is_null(kind):
        return 0
    if is_.is_string_view(kind) or is_.is_binary_view(kind) or is_.is_union(kind):
        return None
    if is_.is_dictionary(kind):
        return 2
    if is_.is_nested(kind):
        inner = [_buffers(kind.field(i).type) for i in range(kind.num_fields)]
        own = 1 if is_.is_struct(kind) or is_.is_fixed_size_list(kind) else 2
        return None if None in inner else own + sum(n or 0 for n in inner)
    variable = (is_.is_string, is_.is_large_string, is_.is_binary, is_.is_large_binary)
    return 3 if any(f(kind) for f in variable) else 2


def _record_batch(metadata: bytes) -> "_Table | None":
    """The RecordBatch table of a message (of Message.fbs), also of a dictionary."""
    message = _Table(metadata, struct.unpack_from("<I", metadata)[0])
    kind = message.uint8(1)
    if kind == RECORD_BATCH:
        return message.table(2)
    return message.table(2).table(1) if kind == DICTIONARY_BATCH else None


def _decoded(batch: "_Table", body: pa.Buffer) -> Iterator[int]:
    """The size of each buffer after decompression: its first 8 bytes say it, -1 for as it is."""
    compressed = batch.has(3)
    data = memoryview(body) if body is not None else memoryview(b"")
    for offset, length in batch.pairs(2):
        if not compressed or length == 0:
            yield length
            continue
        if offset < 0 or offset + 8 > len(data):
            raise ValueError("a buffer lies outside of the message")
        said = struct.unpack_from("<q", data, offset)[0]
        if said < -1:
            raise ValueError(f"a buffer of {said} bytes")
        yield length if said == -1 else said


class _Table:
    """A table of a flatbuffer that pyarrow has verified: enough to read a batch's sizes."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def _field(self, number: int) -> int:
        """Place of a field, 0 where it is absent."""
        table = self._at - int(struct.unpack_from("<i", self._data, self._at)[0])
        entry = 4 + 2 * number
        if entry >= struct.unpack_from("<H", self._data, table)[0]:
            return 0
        offset = int(struct.unpack_from("<H", self._data, table + entry)[0])
        return self._at + offset if offset else 0

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return self._field(number) != 0

    def uint8(self, number: int) -> int:
        """A byte, 0 by default."""
        at = self._field(number)
        return self._data[at] if at else 0

    def int64(self, number: int) -> int:
        """A long, 0 by default."""
        at = self._field(number)
        return int(struct.unpack_from("<q", self._data, at)[0]) if at else 0

    def table(self, number: int) -> "_Table":
        """A table within."""
        at = self._field(number)
        return _Table(self._data, at + int(struct.unpack_from("<I", self._data, at)[0]))

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """A vector of structs of two longs."""
        at = self._field(number)
        if not at:
            return
        start = at + int(struct.unpack_from("<I", self._data, at)[0])
        for i in range(int(struct.unpack_from("<I", self._data, start)[0])):
            yield struct.unpack_from("<qq", self._data, start + 4 + 16 * i)


def raw_f32(schema: Schema, options: Options) -> Decoder:
    """Rows of little-endian float32: all columns are numeric, or there is one vector."""
    columns = [c for c in schema.columns if c.read]
    vector = len(columns) == 1 and columns[0].kind == "vector"
    if not vector and any(c.kind != "numeric" for c in columns):
        raise ConfigError(
            "format 'raw-f32' needs a schema of numeric columns or of one vector column; declare "
            "the others ignored, or send Arrow messages"
        )
    names = [c.name for c in columns]
    width = arrow_type(columns[0].type).list_size if vector else len(columns)
    size = 4 * width  # bytes of a row

    def arrays(points: NDArray[np.float32]) -> list[pa.Array]:
        if vector:
            return [pa.FixedSizeListArray.from_arrays(pa.array(points), width)]
        return [pa.array(column) for column in np.ascontiguousarray(points.reshape(-1, width).T)]

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        kept: list[int] = []
        whole: list[bytes] = []
        bad: list[Bad] = []
        for i, value in enumerate(values):
            if value and len(value) % size == 0:
                kept.append(i)
                whole.append(value)
            else:
                bad.append(Bad(i, f"{len(value or b'')} bytes are not rows of {width} float32"))
        if not kept:
            return [], bad
        points = np.frombuffer(b"".join(whole), "<f4")
        origin = np.repeat(np.asarray(kept, np.int64), [len(value) // size for value in whole])
        return [Rows(pa.RecordBatch.from_arrays(arrays(points), names=names), origin)], bad

    return decode
