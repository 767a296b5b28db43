"""A million damaged messages: every one is accounted for, and how fast.

    python -m benchmarks.fuzz_decode [--messages 1000000] [--registry]

With `--registry` the messages name their schemas in a registry, of which ids are damaged as well.
Each format gets its share. Messages are good ones with bits flipped, bytes cut, doubled, or put
in, and plain noise; what still decodes counts as good. A crash of the interpreter, a lost message,
or one both good and bad would end the run. Speed is compared with that of undamaged messages.
"""

import argparse
import base64
import io
import json
import os
import platform
import resource
import struct
import time
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from rich.console import Console
from rich.table import Table
from streamsketch_consumers.decode import FORMATS, Decoder, Options, RegistrySettings, decoder

from streamsketch.schema import Schema
from testing.registry import RegistryServer

RESULTS = Path(__file__).parent / "results"
D, BLOCK = 5, 5000
SCHEMA = Schema.vectors(D, -4, 4)
NAMES = [f"x{j}" for j in range(D)]
AVRO = {"type": "record", "name": "Row", "fields": [{"name": n, "type": "double"} for n in NAMES]}


def good(form: str, rng: np.random.Generator) -> bytes:
    """One undamaged message."""
    row = rng.standard_normal(D)
    record = dict(zip(NAMES, row.tolist(), strict=True))
    if form in ("json", "ndjson"):
        return json.dumps(record).encode()
    if form == "csv":
        return ",".join(map(repr, row.tolist())).encode()
    if form == "raw-f32":
        return row.astype("<f4").tobytes()
    sink = io.BytesIO()
    if form == "avro":
        fastavro.schemaless_writer(sink, AVRO, record)
    else:
        batch = pa.record_batch({n: rng.standard_normal(20) for n in NAMES})
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return sink.getvalue()


def with_header(form: str, number: int, rng: np.random.Generator) -> bytes:
    """One undamaged message that names a schema."""
    head = struct.pack(">BI", 0, number)
    if form != "protobuf":
        return head + good(form, rng)
    fields = (struct.pack("<Bd", 8 * j + 9, x) for j, x in enumerate(rng.standard_normal(D)))
    return head + b"\0" + b"".join(fields)  # the first type; numbers 1, 2, ... of 8 bytes each


def schemas(server: RegistryServer) -> dict[str, int]:
    """The id of a schema for each format."""
    fields = "".join(
        f'field {{ name: "{n}" number: {j + 1} label: LABEL_OPTIONAL type: TYPE_DOUBLE }}'
        for j, n in enumerate(NAMES)
    )
    text = f'name: "row.proto" syntax: "proto3" message_type {{ name: "Row" {fields} }}'
    proto = text_format.Parse(text, FileDescriptorProto()).SerializeToString()
    given = {
        "avro": {"schema": json.dumps(AVRO)},
        "json": {"schemaType": "JSON", "schema": "{}"},
        "protobuf": {"schemaType": "PROTOBUF", "schema": base64.b64encode(proto).decode()},
    }
    return {form: server.register(form, schema) for form, schema in given.items()}


def damaged(message: bytes, rng: np.random.Generator) -> bytes:
    """The message, damaged in one of five ways."""
    data = bytearray(message)
    at = int(rng.integers(len(data)))
    way = rng.integers(5)
    if way == 0:
        for place in rng.integers(len(data), size=1 + int(rng.integers(4))):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del data[at:]
    elif way == 2:
        data[at:at] = data[: int(rng.integers(1, len(data) + 1))]
    elif way == 3:
        data[at:at] = rng.bytes(1 + int(rng.integers(8)))
    else:
        data[:] = rng.bytes(int(rng.integers(1, 60)))
    return bytes(data)


def run(decode: Decoder, values: list[bytes | None]) -> tuple[int, float]:
    """Messages that were bad, and CPU seconds; every message is good, or bad with a reason."""
    bad_count, start = 0, time.process_time()
    spent = 0.0
    for i in range(0, len(values), BLOCK):
        block = values[i : i + BLOCK]
        start = time.process_time()
        rows, bad = decode(block)
        spent += time.process_time() - start
        seen = np.zeros(len(block), bool)
        for part in rows:
            part.batch.validate(full=True)
            seen[part.origin] = True
        wrong = {b.message for b in bad}
        assert all(b.reason for b in bad)
        seen[list(wrong)] = True
        assert seen.all(), "a message disappeared"
        bad_count += len(wrong)
    return bad_count, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--registry", action="store_true")
    given = parser.parse_args()
    server = RegistryServer() if given.registry else None
    numbers = schemas(server) if server else {}
    forms = list(numbers) if server else list(FORMATS)
    registry = RegistrySettings(server.url) if server else None
    count = given.messages // len(forms)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    table = Table("format", "messages", "bad", "good/s (CPU)", "damaged/s (CPU)", "ratio")
    for form in forms:
        options = Options(avro_schema="" if server else json.dumps(AVRO), registry=registry)
        decode = decoder(form, SCHEMA, options)
        whole: list[bytes | None] = [
            with_header(form, numbers[form], rng) if server else good(form, rng)
            for _ in range(min(count, 20_000))
        ]
        run(decode, whole[:100])  # imports
        _, clean = run(decode, whole)
        bad = spent = 0.0
        for start in range(0, count, 20_000):
            size = min(20_000, count - start)
            values: list[bytes | None] = [damaged(whole[i] or b"", rng) for i in range(size)]
            wrong, seconds = run(decode, values)
            bad, spent = bad + wrong, spent + seconds
        speeds = len(whole) / clean, count / spent
        found[form] = {"messages": count, "bad": int(bad), "good_per_s": speeds[0]}
        found[form] |= {"damaged_per_s": speeds[1], "ratio": speeds[1] / speeds[0]}
        table.add_row(
            form,
            f"{count:,}",
            f"{int(bad):,}",
            f"{speeds[0]:,.0f}",
            f"{speeds[1]:,.0f}",
            f"{speeds[1] / speeds[0]:.2f}",
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print(table)
    Console().print(f"peak memory {peak:.0f} MiB")
    results = {"formats": found, "peak_MiB": peak, "cores": os.cpu_count()}
    (RESULTS / f"fuzz_{'registry' if server else 'decode'}.json").write_text(
        json.dumps(results | {"machine": platform.machine()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
