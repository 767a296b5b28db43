"""From fetched Kafka messages to chunks, with the place of every row and dead letter."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from streamsketch.ingest.streams import Chunk, Dead, Position
from streamsketch.schema import Column, Schema
from streamsketch_consumers.decode import Bad, Rows, decoder
from streamsketch_consumers.kafka.client import Partition, Records
from streamsketch_consumers.kafka.settings import KafkaSettings
from streamsketch_consumers.kafka.witness import advanced

__all__ = ["Messages", "blocks", "part_name"]

BLOCK_BYTES = 8 << 20  # messages decoded at once
RAW_BYTES = 1 << 20  # kept of a bad message that is larger


class Messages:
    """Decodes blocks of messages of one partition.

    Args:
        settings: Format and limits.
        schema: The declared columns.
    """

    def __init__(self, settings: KafkaSettings, schema: Schema) -> None:
        self._stamped = settings.timestamp_column
        in_values = schema
        if self._stamped is not None:
            in_values = Schema(
                [
                    Column(c.name, "ignore", c.type) if self._stamped in c.keys else c
                    for c in schema.columns
                    if c.name != self._stamped
                ]
            )
        self._decode = decoder(settings.format, in_values, settings.decoding())

    def chunks(self, records: Records, before: Position) -> list[Chunk]:
        """One chunk per run of rows of the same Arrow schema; the last one ends the block.

        Args:
            records: Messages of one partition.
            before: The position before them.
        """
        rows, bad = self._decode(records.values)
        found = []
        for i, run in enumerate(rows):
            stop = len(records) if i == len(rows) - 1 else int(run.origin[-1]) + 1
            here = [b for b in bad if b.message < stop]
            bad = bad[len(here) :]
            found.append(self._chunk(records, stop, before, run, here))
        return found or [self._chunk(records, len(records), before, None, bad)]

    def _chunk(
        self,
        records: Records,
        stop: int,
        before: Position,
        run: Rows | None,
        bad: Sequence[Bad],
    ) -> Chunk:
        name = part_name(records.at)
        position = advanced(before, records, stop - 1)
        dead = tuple(_dead(records, b) for b in bad)
        if run is None:
            return Chunk(name, position, dead=dead)
        batch = run.batch
        if self._stamped is not None:
            stamps = pa.array([records[i].timestamp for i in run.origin], pa.timestamp("ms"))
            batch = batch.append_column(self._stamped, stamps)
        where = {**records.at._asdict(), "rows": _RowPlaces(records, run)}
        return Chunk(name, position, batch, dead, where)


class _RowPlaces:
    """The place of each row of a chunk, made when a refused row asks for it."""

    def __init__(self, records: Records, run: Rows) -> None:
        self._records = records
        self._run = run

    def __getitem__(self, row: int) -> dict[str, Any]:
        return _place(self._records, int(self._run.origin[row]))


def blocks(records: Records) -> Iterator[Records]:
    """The records in runs of at most `BLOCK_BYTES` of values, one record at the least."""
    start = size = 0
    for i, value in enumerate(records.values):
        length = len(value or b"")
        if size and size + length > BLOCK_BYTES:
            yield records.part(start, i)
            start, size = i, 0
        size += length
    yield records.part(start, len(records)) if start else records


def part_name(at: Partition) -> str:
    """The partition's name as a part of the stream, `kafka:<topic>:<partition>`."""
    return f"kafka:{at.topic}:{at.partition}"


def _dead(records: Records, bad: Bad) -> Dead:
    raw = records.values[bad.message] or b"" if bad.raw is None else bad.raw
    where = _place(records, bad.message)
    if bad.line is not None:
        where["line"] = bad.line
    if len(raw) > RAW_BYTES:
        where["bytes"] = len(raw)
        raw = raw[:RAW_BYTES]
    return Dead(bytes(raw), bad.reason, where)


def _place(records: Records, i: int) -> dict[str, Any]:
    """Where a message stands, with what came along with its value."""
    record = records[i]
    where: dict[str, Any] = {**records.at._asdict(), "offset": record.offset}
    if record.key is not None:
        where["key"] = _text(record.key)
    if record.headers:
        where["headers"] = {name: _text(value or b"") for name, value in record.headers}
    return where


def _text(data: bytes) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        return "hex:" + bytes(data).hex()
