"""Avro records of one declared schema, without a registry."""

import io
import json
from collections.abc import Callable
from typing import Any

from streamsketch.errors import ConfigError
from streamsketch.schema import Schema
from streamsketch_consumers.decode.base import Bad, Decoder, Options, Rows
from streamsketch_consumers.decode.text import fields
from streamsketch_consumers.decode.values import Columns

__all__ = ["avro", "avro_record", "one_by_one"]

FLAT = {
    "null", "boolean", "int", "long", "float", "double", "bytes", "string", "enum", "fixed",
}  # fmt: skip
HEADER = 5  # a zero byte and the id of the schema in a registry, 4 bytes


def avro(schema: Schema, options: Options) -> Decoder:
    """One record a message, of the declared flat schema.

    Arrays, maps and nested records are refused when the decoder is made: a row has none, and a
    few bytes of a message could claim any number of their items.

    Raises:
        ConfigError: fastavro is not installed, or the Avro schema is not one of a flat record.
    """
    try:
        import fastavro
    except ImportError:
        raise ConfigError(
            "format 'avro' needs fastavro; install it with pip install 'streamsketch[avro]'"
        ) from None
    try:
        parsed = fastavro.parse_schema(json.loads(options.avro_schema))
    except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
        raise ConfigError(
            f"avro_schema is not an Avro schema ({type(e).__name__}: {e}); give the writer's "
            "schema as JSON"
        ) from None
    _check_flat(parsed)
    columns = fields(schema, options)

    def read(value: bytes) -> Any:
        if options.confluent_header and (value[:1] != b"\0" or len(value) < HEADER):
            raise ValueError("it does not begin with the 5 bytes of a schema registry")
        return avro_record(value, HEADER if options.confluent_header else 0, parsed)

    return one_by_one(read, columns, "not a record of the Avro schema")


def avro_record(value: bytes, start: int, parsed: Any) -> Any:
    """The one Avro record of a parsed schema that a message holds from a byte on.

    Raises:
        ValueError: Something follows it; fastavro's own errors where it is none.
    """
    import fastavro

    stream = io.BytesIO(value)
    stream.seek(start)
    record = fastavro.schemaless_reader(stream, parsed, None)
    if stream.tell() != len(value):
        raise ValueError(f"{len(value) - stream.tell()} bytes follow the record")
    return record


def one_by_one(
    read: Callable[[bytes], Any],
    columns: Columns,
    problem: str,
    fatal: tuple[type[Exception], ...] = (),
) -> Decoder:
    """A decoder of one record a message.

    Args:
        read: Makes a mapping of a message.
        columns: Builds rows of mappings.
        problem: What a message is that cannot be read.
        fatal: Errors that are not the message's, and pass through.
    """

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        records, kept, bad = [], [], []
        for i, value in enumerate(values):
            try:
                records.append(read(value or b""))
                kept.append(i)
            except fatal:
                raise
            except Exception as e:  # the readers raise what they happen to raise
                bad.append(Bad(i, f"{problem}: {e or type(e).__name__}"))
        rows, others = columns.build(records, kept)
        return rows, sorted([*bad, *others], key=lambda b: b.message)

    return decode


def _check_flat(parsed: Any) -> None:
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise ConfigError("avro_schema must be a record, whose fields are the columns")
    for field in parsed["fields"]:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for branch in branches:
            kind = branch.get("type") if isinstance(branch, dict) else branch
            if kind not in FLAT:
                raise ConfigError(
                    f"avro_schema: field {field['name']!r} is of type {kind!r}; fields must be "
                    f"{', '.join(sorted(FLAT))}, or a union of these"
                )
