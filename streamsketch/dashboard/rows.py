"""Rows of the newest checkpoint, drawn and written chunk by chunk: any number in constant memory."""

import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from streamsketch.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

    from streamsketch.generator import Generator
    from streamsketch.storage.store import Store

__all__ = ["FORMATS", "Format", "Newest", "encoded"]

Format = Literal["json", "jsonl", "csv", "arrow", "parquet"]
CHUNK = 5_000
FORMATS: dict[str, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}


class Newest:
    """The newest checkpoint of a store, loaded again only when there is another one.

    Args:
        store: The store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._name = ""
        self._generator: Generator | None = None
        # One drawing at a time: it uses all cores anyway.
        self._turn = threading.Lock()

    def load(self) -> "tuple[str, Generator]":
        """Its name, and the generator.

        Raises:
            StoreError: There is no checkpoint yet.
        """
        from streamsketch.generator import Generator

        with self._turn:
            names = self._store.checkpoints.names()
            if self._generator is None or names[-1:] != [self._name]:
                newest = self._store.checkpoints.newest(Generator.from_bytes)
                if newest is None:
                    raise StoreError(
                        "the store has no checkpoint yet; train one with `streamsketch train`"
                    )
                self._name, self._generator = newest
            return self._name, self._generator

    def draw(
        self, generator: "Generator", n: int, seed: int, label: str | None, where: Sequence[str]
    ) -> "Iterator[pa.Table]":
        """Independent draws in chunks; the same arguments give the same rows.

        Raises:
            ConfigError: There is no such label, or a condition does not fit.
        """
        from streamsketch.schema.conditions import label_value, parse

        value = label_value(label, generator.schema)
        under = parse(where, generator.schema) if where else None
        first = 0
        while True:
            count = min(CHUNK, n - first)
            chunk = seed if first == 0 else _later(seed, first // CHUNK)
            with self._turn:
                table = generator.sample(count, seed=chunk, label=value, where=under)
            yield table
            first += count
            if first >= n:
                return


def _later(seed: int, chunk: int) -> int:
    return int(np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint64)[0] >> 1)


class _Buffer(io.RawIOBase):
    """Collects what a writer writes until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def encoded(tables: "Iterator[pa.Table]", format: Format) -> Iterator[bytes]:
    """Tables as the bytes of one file of a format."""
    first = next(tables)
    if format in ("json", "jsonl"):
        return _json(first, tables, lines=format == "jsonl")
    return _written(first, tables, _WRITERS[format])


def _json(first: "pa.Table", rest: "Iterator[pa.Table]", lines: bool) -> Iterator[bytes]:
    start, between, end = ("", "\n", "\n") if lines else ("[", ", ", "]")
    empty = first.num_rows == 0
    yield start.encode()
    table: pa.Table | None = first
    begun = False
    while table is not None:
        text = between.join(json.dumps(row, default=str) for row in table.to_pylist())
        yield (between + text if begun else text).encode()
        begun, table = True, next(rest, None)
    yield b"" if lines and empty else end.encode()


class _Writer(Protocol):
    def write_table(self, table: "pa.Table") -> None: ...

    def close(self) -> None: ...


def _written(
    first: "pa.Table",
    rest: "Iterator[pa.Table]",
    make: "Callable[[_Buffer, pa.Schema], _Writer]",
) -> Iterator[bytes]:
    buffer = _Buffer()
    writer = make(buffer, first.schema)
    table: pa.Table | None = first
    while table is not None:
        writer.write_table(table)
        yield buffer.take()
        table = next(rest, None)
    writer.close()
    yield buffer.take()


def _csv(buffer: _Buffer, schema: "pa.Schema") -> Any:
    from pyarrow import csv

    return csv.CSVWriter(buffer, schema)


def _arrow(buffer: _Buffer, schema: "pa.Schema") -> Any:
    import pyarrow as pa

    return pa.ipc.new_stream(buffer, schema)


def _parquet(buffer: _Buffer, schema: "pa.Schema") -> Any:
    from pyarrow import parquet

    return parquet.ParquetWriter(buffer, schema)


_WRITERS: "dict[str, Callable[[_Buffer, pa.Schema], _Writer]]" = {
    "csv": _csv,
    "arrow": _arrow,
    "parquet": _parquet,
}
