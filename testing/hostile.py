"""Rows that a stream should not hold, in every format, for tests and benchmarks of the whole way."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from streamsketch_consumers.kafka.chunks import Messages
from streamsketch_consumers.kafka.client import Partition, Record, Records
from streamsketch_consumers.kafka.settings import KafkaSettings

from streamsketch.ingest.streams import Chunk, Ownership, Position
from streamsketch.schema import Column, Schema
from testing.sources import BareSource

FAR = 2**62
NOW = 1_590_000_000
SCHEMA = Schema(
    [
        Column("x", "numeric", low=0, high=1000),
        Column("c", "categorical", "string", values=("a", "b")),
        Column("l", "label", "string", values=("a", "b")),
        Column("t", "timestamp", "timestamp[us]", low="2020-01-01", high="2021-01-01"),
        Column("who", "user_id", "string"),
        Column("id", "record_id", "string"),
        Column("at", "event_time", "timestamp[us]"),
        Column("b", "boolean", "bool"),
    ]
)
AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "x", "type": "double"},
        {"name": "c", "type": "string"},
        {"name": "l", "type": "string"},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "who", "type": "string"},
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "b", "type": "boolean"},
    ],
}
TEXTS = [
    "0000-01-01", "9999-12-31T23:59:59-14:00", "10000-01-01", "2020-02-30", "-1", "", "\0", "NaN",
    "1e999", "\ud800", "\ufeffa", "\u202e", "=cmd|' /C calc'!A0", "'; drop table", "\x1b[2J", "A" * 5000,
    "2020-05-05T00:00:00 Mars/Olympus", "\ud7ff" * 40, "true", "null", "0x1p-3", "１２",
]  # fmt: skip
VALUES = [
    None, True, FAR, -FAR, 2**63, -(2**63) - 1, 10**40, 1e308, -1e308, float("nan"), float("inf"),
    [], {}, [[1]], {"a": {"b": 1}}, 0, -0.0, 5e-324, *TEXTS,
]  # fmt: skip
FORMATS = ("json", "ndjson", "csv", "arrow", "avro")
FILES = ("jsonl", "csv", "parquet", "arrow")


def good(i: int) -> dict[str, Any]:
    """A row that nothing is wrong with."""
    return {
        "x": float(i % 1000),
        "c": "ab"[i % 2],
        "l": "ba"[i % 2],
        "t": NOW * 10**6,
        "who": f"u{i % 50}",
        "id": f"r{i}",
        "at": NOW * 10**6,
        "b": i % 3 == 0,
    }


def bad(i: int, rng: random.Random) -> dict[str, Any]:
    """A row with one to three hostile values."""
    row = good(i)
    for name in rng.sample(sorted(row), rng.randint(1, 3)):
        if rng.random() < 0.1:
            del row[name]
        else:
            row[name] = rng.choice(VALUES)
    return row


def message(form: str, row: dict[str, Any], rng: random.Random) -> bytes:
    """A message that holds the row as far as the format can, at times damaged."""
    if form in ("json", "ndjson"):
        data = json.dumps(row).encode("utf-8", "surrogatepass")
    elif form == "csv":
        data = ",".join(_cell(row.get(c.name)) for c in SCHEMA.columns).encode("utf-8", "replace")
    elif form == "arrow":
        sink = io.BytesIO()
        batch = pa.RecordBatch.from_arrays([array([v]) for v in row.values()], names=list(row))
        with pa.ipc.new_stream(sink, batch.schema) as out:
            out.write_batch(batch)
        data = sink.getvalue()
    else:
        sink = io.BytesIO()
        try:
            fastavro.schemaless_writer(sink, AVRO, row)
            data = sink.getvalue()
        except Exception:
            data = json.dumps(row).encode("utf-8", "replace")
    if rng.random() < 0.05 and data:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(3) + data[at + 1 :]
    return data


def array(values: list[Any]) -> pa.Array:
    """An Arrow array of whatever type takes the values; of texts, at times, that is not UTF-8."""
    kinds = (None, pa.timestamp("us"), pa.timestamp("s", "Mars/Olympus"), pa.string())
    for kind in kinds:
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError, ValueError, UnicodeError):
            continue
    raw = [None if v is None else repr(v).encode("utf-8", "replace") + b"\xff" for v in values]
    return pa.array(raw, pa.binary()).view(pa.string())


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text


def write_file(form: str, path: Path, rows: list[dict[str, Any]], rng: random.Random) -> None:
    """A file of the rows; the columns of Parquet and Arrow are of the types that took most values."""
    if form == "jsonl":
        path.write_bytes(
            b"\n".join(message("json", r, rng).replace(b"\n", b" ") for r in rows) + b"\n"
        )
        return
    if form == "csv":
        head = ",".join(c.name for c in SCHEMA.columns).encode()
        lines = (message("csv", r, rng).replace(b"\n", b" ") for r in rows)
        path.write_bytes(b"\n".join([head, *lines]) + b"\n")
        return
    table = pa.table(
        {
            "x": pa.array([_float(r.get("x")) for r in rows]),
            "c": _bytes("c", rows).view(pa.string()),
            "l": _bytes("l", rows).view(pa.string()),
            "t": pa.array([_long(r.get("t")) for r in rows]).cast(pa.timestamp("us")),
            "who": _bytes("who", rows).view(pa.string()),
            "id": _bytes("id", rows).view(pa.string()),
            "at": pa.array([_long(r.get("at")) for r in rows]).cast(pa.timestamp("us", "UTC")),
            "b": pa.array([r.get("b") if isinstance(r.get("b"), bool) else None for r in rows]),
        }
    )
    if form == "parquet":
        pq.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table, 1000)


def _bytes(name: str, rows: list[dict[str, Any]]) -> pa.Array:
    texts = (r.get(name) for r in rows)
    return pa.array(
        [
            None
            if v is None
            else v.encode("utf-8", "surrogatepass")  # a lone surrogate is no UTF-8
            if isinstance(v, str)
            else b"\xff" + repr(v).encode()
            for v in texts
        ],
        pa.binary(),
    )


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _long(value: Any) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


class HostileMessages(BareSource):
    """Messages of one format as the Kafka source hands them out.

    Args:
        form: The format.
        rows: How many; every `each`-th one is good.
        seed: Of the rows.
        each: See `rows`.
        block: Messages of a chunk.
    """

    def __init__(
        self, form: str, rows: int, seed: int = 0, each: int = 10, block: int = 1000
    ) -> None:
        self.form, self.rows, self.each, self.block = form, rows, each, block
        self.rng = random.Random(seed)
        self.finished = False
        settings = KafkaSettings(topic="t", format=form, avro_schema=json.dumps(AVRO))
        self._messages = Messages(settings, SCHEMA)
        self._position: Position = {"offset": 0}

    def open(self, owner: Ownership) -> None:
        """From the saved position."""
        self._position = owner.claim("kafka:t:0") or self._position

    def poll(self, timeout: float) -> Iterator[Chunk]:
        """The next block."""
        begin = int(self._position["offset"])
        if begin >= self.rows:
            self.finished = True
            return
        numbers = range(begin, min(begin + self.block, self.rows))
        values: list[bytes | None] = [
            message(self.form, good(i) if i % self.each == 0 else bad(i, self.rng), self.rng)
            for i in numbers
        ]
        records = Records(Partition("t", 0), values, numbers, lambda i: Record(i, 0, None, ()))
        for chunk in self._messages.chunks(records, self._position):
            self._position = chunk.position
            yield chunk
