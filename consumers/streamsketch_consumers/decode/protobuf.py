"""Protobuf messages of types that are known at run time only, as mappings of the columns."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from streamsketch.errors import ConfigError

__all__ = ["Reader", "files", "read_message"]

Reader: TypeAlias = Callable[[bytes], dict[str, Any]]

LEVELS = 16  # of types within types
WRAPPERS = {
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String")
}
TIMESTAMP = "google.protobuf.Timestamp"
KNOWN = {  # files that a schema may import without a reference
    **{
        f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2"
        for name in ("any", "descriptor", "duration", "empty", "field_mask", "struct", "timestamp")
    },
    "google/protobuf/wrappers.proto": "google.protobuf.wrappers_pb2",
    "confluent/meta.proto": "confluent_kafka.schema_registry.confluent.meta_pb2",
    "confluent/type/decimal.proto": "confluent_kafka.schema_registry.confluent.type.decimal_pb2",
}


def files(
    serialized: Sequence[tuple[str, bytes]],
    types: Mapping[str, pa.DataType],
    declared: frozenset[str] | None = None,
) -> Callable[[tuple[int, ...]], Reader]:
    """The readers of a schema's message types.

    Args:
        serialized: Name and FileDescriptorProto of each file, what is imported before what
            imports it; the last one is the schema.
        types: The columns.
        declared: The only fields that a message type may have; None for any.

    Returns:
        From the indexes of a message type (in the file, then in its parent) to its reader.

    Raises:
        ConfigError: protobuf is not installed.
        ValueError: The files are none, or lack what they import.
    """
    try:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto
        from google.protobuf.descriptor_pool import DescriptorPool
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ConfigError(
            "format 'protobuf' needs protobuf; install it with pip install 'streamsketch[registry]'"
        ) from None
    pool = DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        for name in file.dependency:
            if name not in added and name in KNOWN:
                known = FileDescriptorProto()
                importlib.import_module(KNOWN[name]).DESCRIPTOR.CopyToProto(known)
                add(known)
        pool.Add(file)
        added.add(file.name)

    try:
        for name, data in serialized:
            file = FileDescriptorProto.FromString(data)
            file.name = name or "the schema.proto"
            add(file)
        root = pool.FindFileByName(file.name)
    except (DecodeError, TypeError, KeyError, ValueError) as e:
        raise ValueError(f"not a Protobuf schema that can be used ({e})") from None
    readers: dict[tuple[int, ...], Reader] = {}
    order = [message.name for message in file.message_type]

    def reader(indexes: tuple[int, ...]) -> Reader:
        if indexes not in readers:
            if not indexes or indexes[0] >= len(order):
                raise ValueError(f"its schema has no message type number {list(indexes)}")
            found = root.message_types_by_name[order[indexes[0]]]
            for i in indexes[1:]:
                if i >= len(found.nested_types):
                    raise ValueError(f"its schema has no message type number {list(indexes)}")
                found = found.nested_types[i]
            if declared is not None and (others := set(found.fields_by_name) - declared):
                raise ValueError(f"field {min(others)!r} is not declared")
            readers[indexes] = _reader(found, types)
        return readers[indexes]

    return reader


def _reader(message: Any, types: Mapping[str, pa.DataType]) -> Reader:
    """From bytes to the columns that the message type has; absent fields are left out."""
    from google.protobuf.message_factory import GetMessageClass
    from google.protobuf.unknown_fields import UnknownFieldSet

    make = GetMessageClass(message).FromString
    always: list[tuple[str, Callable[[Any], Any] | None]] = []
    maybe: list[tuple[str, Callable[[Any], Any] | None]] = []
    for name, kind in types.items():
        field = message.fields_by_name.get(name)
        if field is not None:
            (maybe if field.has_presence else always).append((name, _conversion(field, kind)))

    def read(data: bytes) -> dict[str, Any]:
        found = make(data)
        if len(UnknownFieldSet(found)):
            raise ValueError("it has fields that its schema does not have")
        row = {n: getattr(found, n) if c is None else c(getattr(found, n)) for n, c in always}
        for name, convert in maybe:
            if found.HasField(name):
                value = getattr(found, name)
                row[name] = value if convert is None else convert(value)
        return row

    return read


def _conversion(field: Any, kind: pa.DataType) -> Callable[[Any], Any] | None:
    """From a field's value to that of a column, None where they are the same."""
    if field.is_repeated:
        raise ValueError(f"its field {field.name!r} is repeated, not one value")
    if field.enum_type is not None:
        if pa.types.is_integer(kind):
            return None
        return lambda number: _name(field, number)
    if field.message_type is None:
        return None
    name = field.message_type.full_name
    if name == TIMESTAMP:
        return lambda value: value.ToDatetime()
    if name in WRAPPERS:
        return lambda value: value.value
    raise ValueError(f"its field {field.name!r} is of type {name}, not one value")


def _name(field: Any, number: int) -> str:
    found = field.enum_type.values_by_number.get(number)
    if found is None:
        raise ValueError(f"field {field.name!r} is {number}, which its enum does not have")
    return str(found.name)


def read_message(
    reader: Callable[[tuple[int, ...]], Reader], value: bytes, start: int
) -> dict[str, Any]:
    """The row of a message.

    Args:
        reader: From indexes to readers.
        value: The message: from `start` on the indexes of its type, then the type's bytes.
        start: Length of what stands before.

    Raises:
        ValueError: It has no such type.
    """
    if value[start : start + 1] == b"\0":  # short for the first type
        return reader((0,))(value[start + 1 :])
    count, at = _varint(value, start)
    if not 0 < count <= LEVELS:
        raise ValueError(f"{count} indexes of its message type")
    indexes = []
    for _ in range(count):
        index, at = _varint(value, at)
        if index < 0:
            raise ValueError(f"index {index} of its message type")
        indexes.append(index)
    return reader(tuple(indexes))(value[at:])


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag number of at most 5 bytes, and the place after it.

    >>> _varint(bytes([0x0C, 0x80, 0x02]), 0), _varint(bytes([0x0C, 0x80, 0x02]), 1)
    ((6, 1), (128, 3))
    """
    number = 0
    for i in range(5):
        if at + i >= len(value):
            raise ValueError("it ends within the indexes of its message type")
        byte = value[at + i]
        number |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + i + 1
    raise ValueError("an index of its message type is longer than 5 bytes")
