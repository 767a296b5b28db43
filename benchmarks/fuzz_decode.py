"""A million damaged messages: every one is accounted for, and how fast.

    python -m benchmarks.fuzz_decode [--messages 1000000]

Each format gets its share. Messages are good ones with bits flipped, bytes cut, doubled, or put
in, and plain noise; what still decodes counts as good. A crash of the interpreter, a lost message,
or one both good and bad would end the run. Speed is compared with that of undamaged messages.
"""

import argparse
import io
import json
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from consumers.decode import FORMATS, Decoder, Options, decoder
from streamsketch.schema import Schema

RESULTS = Path(__file__).parent / "results" / "fuzz_decode.json"
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
    count = parser.parse_args().messages // len(FORMATS)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    table = Table("format", "messages", "bad", "good/s (CPU)", "damaged/s (CPU)", "ratio")
    for form in FORMATS:
        decode = decoder(form, SCHEMA, Options(avro_schema=json.dumps(AVRO)))
        whole: list[bytes | None] = [good(form, rng) for _ in range(min(count, 20_000))]
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
    RESULTS.write_text(json.dumps(results | {"machine": platform.machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
