"""Avro records of one declared schema, without a registry."""

import io
import json
from typing import Any

from consumers.decode.base import Bad, Decoder, Options, Rows
from consumers.decode.text import fields
from streamsketch.errors import ConfigError
from streamsketch.schema import Schema

__all__ = ["avro"]

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
        stream = io.BytesIO(value)
        if options.confluent_header:
            if value[:1] != b"\0" or len(value) < HEADER:
                raise ValueError("it does not begin with the 5 bytes of a schema registry")
            stream.seek(HEADER)
        record = fastavro.schemaless_reader(stream, parsed, None)
        if stream.tell() != len(value):
            raise ValueError(f"{len(value) - stream.tell()} bytes follow the record")
        return record

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        records, kept, bad = [], [], []
        for i, value in enumerate(values):
            try:
                records.append(read(value or b""))
                kept.append(i)
            except Exception as e:  # fastavro raises what its readers happen to raise
                bad.append(Bad(i, f"not a record of the Avro schema: {e or type(e).__name__}"))
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
