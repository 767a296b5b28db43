"""Messages in the wire format of a schema registry: a zero byte, the schema's id, the value.

The columns of the pipeline are the reader's schema. A writer's schema may change in mid-stream:
fields that are not columns are `extra`, a column that is not among its fields is `missing`, and a
field whose values do not fit its column makes those messages bad. What a schema says is never
guessed: a message whose schema is not known, or not of the declared kind, is bad.
"""

import base64
import binascii
import json as jsonlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

from streamsketch.errors import ConfigError, SourceError
from streamsketch.schema import Schema
from streamsketch_consumers.columns import declared, text_types
from streamsketch_consumers.decode.base import Bad, Decoder, Options, Rows
from streamsketch_consumers.decode.protobuf import Reader, files, read_message
from streamsketch_consumers.decode.records import avro_record, one_by_one
from streamsketch_consumers.decode.registry import (
    Registered,
    Registry,
    RegistryUnavailable,
    Schemas,
)
from streamsketch_consumers.decode.text import fields
from streamsketch_consumers.decode.text import json as plain_json

__all__ = ["REGISTERED"]

PROBLEM = "not a message of its schema"
OURS = (RegistryUnavailable, SourceError)
HEADER = struct.Struct(">BI")  # the magic byte, the schema's id


def avro(schema: Schema, options: Options, registry: Registry) -> Decoder:
    """One Avro record a message, written by the schema that the message names."""
    try:
        import fastavro
    except ImportError:
        raise ConfigError(
            "format 'avro' needs fastavro; install it with pip install 'streamsketch[registry]'"
        ) from None

    def build(found: Registered) -> Any:
        try:
            names: dict[str, Any] = {}
            for text in found.references.values():
                fastavro.parse_schema(jsonlib.loads(text), named_schemas=names)
            parsed = fastavro.parse_schema(jsonlib.loads(found.text), named_schemas=names)
        except (TypeError, KeyError, fastavro.schema.SchemaParseException) as e:
            raise ValueError(f"not an Avro schema ({type(e).__name__}: {e})") from None
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            raise ValueError("not a record, whose fields are the columns")
        _width(parsed, names, ())
        return parsed

    schemas = Schemas(registry, "AVRO", build)

    def read(value: bytes) -> Any:
        return avro_record(value, HEADER.size, schemas[_number(value)])

    return one_by_one(read, fields(schema, options), PROBLEM, OURS)


def _width(kind: Any, names: Mapping[str, Any], within: tuple[str, ...]) -> int:
    """Fewest bytes of a value of a type.

    Raises:
        ValueError: A few bytes could claim any number of items, or any depth.
    """
    if isinstance(kind, list):
        return 1 + min(_width(branch, names, within) for branch in kind)
    if isinstance(kind, str) and kind in names:
        kind = names[kind]
    if isinstance(kind, str):
        return 0 if kind == "null" else {"float": 4, "double": 8}.get(kind, 1)
    inner = kind["type"]
    if inner in ("record", "error"):
        if kind["name"] in within:
            raise ValueError(f"type {kind['name']!r} holds itself")
        within = (*within, kind["name"])
        return sum(_width(field["type"], names, within) for field in kind["fields"])
    if inner == "array":
        if _width(kind["items"], names, within) == 0:
            raise ValueError("an array of items that take no bytes")
        return 1
    if inner == "map":
        _width(kind["values"], names, within)
        return 1
    if inner == "fixed":
        return int(kind["size"])
    return 1 if inner == "enum" else _width(inner, names, within)


def protobuf(schema: Schema, options: Options, registry: Registry) -> Decoder:
    """One Protobuf message a message, of the type that its indexes name in the schema."""
    types = text_types(schema, options.event_time)
    names = declared(schema, options.event_time) if options.extra == "refuse" else None

    def build(found: Registered) -> Callable[[tuple[int, ...]], Reader]:
        try:
            serialized = [
                (name, base64.b64decode(text, validate=True))
                for name, text in (*found.references.items(), ("", found.text))
            ]
        except (binascii.Error, ValueError):
            raise SourceError(
                "the schema registry does not give Protobuf schemas in format=serialized; use one "
                "that does (Confluent's from 5.5, Karapace)"
            ) from None
        return files(serialized, types, names)

    schemas = Schemas(registry, "PROTOBUF", build, "serialized")

    def read(value: bytes) -> Any:
        return read_message(schemas[_number(value)], value, HEADER.size)

    return one_by_one(read, fields(schema, options), PROBLEM, OURS)


def json(schema: Schema, options: Options, registry: Registry) -> Decoder:
    """One JSON object a message; the columns say what is valid, the schema's id must be known."""
    decode_plain = plain_json(schema, options)
    schemas = Schemas(registry, "JSON", lambda found: True)

    def decode(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        plain: list[bytes | None] = []
        kept, bad = [], []
        for i, value in enumerate(values):
            try:
                schemas[_number(value or b"")]
            except ValueError as e:
                bad.append(Bad(i, str(e)))
            else:
                plain.append((value or b"")[HEADER.size :])
                kept.append(i)
        rows, others = decode_plain(plain)
        bad += [b.moved(kept) for b in others]
        return [row.moved(kept) for row in rows], sorted(bad, key=lambda b: b.message)

    return decode


REGISTERED: dict[str, Callable[[Schema, Options, Registry], Decoder]] = {
    "avro": avro,
    "protobuf": protobuf,
    "json": json,
}


def _number(value: bytes) -> int:
    """The id of the schema that a message names."""
    if len(value) < HEADER.size or value[0] != 0:
        raise ValueError("it does not begin with the zero byte and id of a schema registry")
    return int(HEADER.unpack_from(value)[1])
