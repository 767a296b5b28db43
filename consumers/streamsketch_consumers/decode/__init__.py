"""From message values to Arrow batches: whole blocks at a time, bad messages set apart.

A decoder takes a list of message values and gives the good rows as Arrow batches, each row with
the number of the message it came from, and the bad messages with their reasons. Whether a message
is good never depends on its neighbours. No input makes a decoder raise, hang, or take more memory
than the declared limits allow.

| format | a message holds |
|---|---|
| `json` | one JSON object |
| `ndjson` | JSON objects, one a line |
| `csv` | lines of values in the order of the schema's columns, without a header |
| `arrow` | an Arrow IPC stream |
| `raw-f32` | rows of little-endian float32, in the order of the schema's columns |
| `avro` | one record of a declared Avro schema |

With a schema registry, `avro`, `json` and `protobuf` messages name their schema by its id; see
`streamsketch_consumers.decode.registered`. A decoder raises in one case only: a registry that does not answer.
"""

from collections.abc import Callable

from streamsketch.errors import ConfigError
from streamsketch.schema import Schema
from streamsketch_consumers.decode.base import Bad, Decoder, Limits, Options, Rows
from streamsketch_consumers.decode.binary import arrow, raw_f32
from streamsketch_consumers.decode.records import avro
from streamsketch_consumers.decode.registry import RegistrySettings, RegistryUnavailable
from streamsketch_consumers.decode.text import csv, json, ndjson

__all__ = [
    "FORMATS", "Bad", "Decoder", "Limits", "Options", "RegistrySettings", "RegistryUnavailable",
    "Rows", "decoder",
]  # fmt: skip

FORMATS: dict[str, Callable[[Schema, Options], Decoder]] = {
    "json": json,
    "ndjson": ndjson,
    "csv": csv,
    "arrow": arrow,
    "raw-f32": raw_f32,
    "avro": avro,
}


def decoder(format: str, schema: Schema, options: Options | None = None) -> Decoder:
    """The decoder of a format for the schema's columns.

    Args:
        format: A key of `FORMATS`.
        schema: The declared columns; ignored ones are not read.
        options: Limits and the format's own settings.

    Returns:
        A function from message values (bytes, or None for a tombstone) to rows and bad messages;
        with a registry it may raise `RegistryUnavailable`: call it again later, with the same.

    Raises:
        ConfigError: The format is not known, or the schema does not fit it.

    >>> decode = decoder("json", Schema.vectors(2, 0, 1))
    >>> rows, bad = decode([b'{"x0": 0.5, "x1": 1}', b'{"x0": 2', b'{"x0": 0}'])
    >>> rows[0].batch.to_pylist(), rows[0].origin.tolist()
    ([{'x0': 0.5, 'x1': 1.0}], [0])
    >>> [(b.message, b.reason) for b in bad][1]
    (2, "no field 'x1'")
    """
    options = options or Options()
    if options.registry is not None:
        return _limited(_registered(format, schema, options), options.limits)
    if format == "protobuf":
        raise ConfigError("format 'protobuf' needs a schema registry; set registry")
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} is not known; use one of {', '.join(FORMATS)}")
    return _limited(FORMATS[format](schema, options), options.limits)


def _registered(format: str, schema: Schema, options: Options) -> Decoder:
    from streamsketch_consumers.decode.registered import REGISTERED
    from streamsketch_consumers.decode.registry import Registry

    if format not in REGISTERED:
        raise ConfigError(
            f"format {format!r} has no schemas in a registry; use one of {', '.join(REGISTERED)}, "
            "or unset registry"
        )
    assert options.registry is not None
    return REGISTERED[format](schema, options, Registry(options.registry))


def _limited(decode: Decoder, limits: Limits) -> Decoder:
    """The decoder with empty and oversized messages set apart before it sees them."""

    def limited(values: list[bytes | None]) -> tuple[list[Rows], list[Bad]]:
        if all(value and len(value) <= limits.message_bytes for value in values):
            return decode(values)
        problems = [_problem(value, limits.message_bytes) for value in values]
        bad = [Bad(i, problem) for i, problem in enumerate(problems) if problem]
        kept = [i for i, problem in enumerate(problems) if not problem]
        rows, others = decode([values[i] for i in kept])
        rows = [row.moved(kept) for row in rows]
        return rows, sorted([*bad, *(b.moved(kept) for b in others)], key=lambda b: b.message)

    return limited


def _problem(value: bytes | None, limit: int) -> str:
    if not value:
        return "an empty message" if value == b"" else "a message without a value (a tombstone)"
    return (
        f"{len(value)} bytes, more than max_message_bytes = {limit}" if len(value) > limit else ""
    )
