"""The formats that generated rows are written in."""

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.errors import DataError

__all__ = ["WRITERS", "Writer"]


class Writer(Protocol):
    """Writes tables of one schema to a file object."""

    def write_table(self, table: pa.Table) -> None:
        """Add rows."""
        ...

    def close(self) -> None:
        """Write the end of the format, leaving the file object open."""
        ...


class _JsonLines:
    """One JSON object per row; times as ISO text."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file

    def write_table(self, table: pa.Table) -> None:
        for batch in _plain(table).to_batches(max_chunksize=4096):
            self._file.writelines(self._lines(batch))

    def close(self) -> None:
        pass

    def _lines(self, batch: pa.RecordBatch) -> Iterator[bytes]:
        for row in batch.to_pylist():
            try:
                yield json.dumps(row, allow_nan=False, default=str).encode() + b"\n"
            except ValueError as e:
                raise DataError(
                    f"the row {row} holds a number that JSON cannot; use parquet or arrow"
                ) from e


class _Csv:
    """CSV with a header."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.csv

        schema = _plain(schema.empty_table()).schema
        self._writer = pyarrow.csv.CSVWriter(file, schema)

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(_plain(table))

    def close(self) -> None:
        self._writer.close()


def _plain(table: pa.Table) -> pa.Table:
    """The table with dictionaries decoded and times as ISO text."""
    for i, field in enumerate(table.schema):
        column = table.column(i)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if pa.types.is_timestamp(column.type):
            column = pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1)
        if column is not table.column(i):
            table = table.set_column(i, field.name, column)
    return table


class _Parquet:
    """Parquet, compressed."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        import pyarrow.parquet

        self._writer = pyarrow.parquet.ParquetWriter(file, schema, compression="zstd")

    def write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        try:
            self._writer.close()
        finally:
            self._writer.is_open = False  # its destructor would try again


WRITERS: dict[str, Callable[[BinaryIO, pa.Schema], Writer]] = {
    "parquet": _Parquet,
    "arrow": pa.ipc.new_file,
    "arrows": pa.ipc.new_stream,
    "csv": _Csv,
    "jsonl": _JsonLines,
}
