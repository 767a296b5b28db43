"""Record batches of absurd sizes: one of 10^7 rows, and 10^6 of one row. Is memory bounded?

    python -m benchmarks.batches

Each case runs in a process of its own: an Arrow file, a pipe's Arrow stream, a Flight client. Said are
rows a second of processor time, the largest resident memory, and that memory less that of the same
run over a hundredth of the rows. The rows read are counted in the saved sums.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Schema
from streamsketch.storage.store import Store

SCHEMA = Schema.vectors(4, -1, 1)
SOURCES = ("files", "arrow", "flight")


def write(path: Path, batches: int, rows: int) -> None:
    """An Arrow stream of that many batches of that many rows."""
    columns = [pa.array(np.zeros(rows, np.float32))] * SCHEMA.d
    batch = pa.record_batch(columns, names=list(SCHEMA.names))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as out:
        for _ in range(batches):
            out.write_batch(batch)


def ingest(folder: Path, source: object) -> Ingest:
    features = FeatureMap.from_spec(Spec("gaussian", SCHEMA.d, 64, schema_hash=SCHEMA.hash))
    return Ingest(
        source, SCHEMA, features, State(folder / "state", features), Store(folder / "store"),  # type: ignore[arg-type]
        lambda: Releaser(features, SCHEMA), schedule=Schedule(seconds=None),
    )  # fmt: skip


def read(kind: str, path: Path, folder: Path) -> int:
    """Run one source to its end; rows in the saved sums."""
    from streamsketch_consumers import arrow, files, flight

    stop = threading.Event()
    if kind == "flight":
        source = flight.make({"port": 0}, SCHEMA)
        run = ingest(folder, source)
        ended = threading.Thread(target=run.run, args=(stop,))
        ended.start()
        while source.port == 0:
            time.sleep(0.01)
        client = [
            sys.executable,
            "-m",
            "benchmarks.batches",
            "--send",
            str(path),
            str(source.port),
        ]
        subprocess.run(client, check=True)
        stop.set()
        ended.join()
    elif kind == "arrow":
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        run = ingest(folder, arrow.make({"path": str(pipe)}, SCHEMA))
        producer = subprocess.Popen(["cp", str(path), str(pipe)])
        run.run(stop)
        producer.wait()
    else:
        run = ingest(folder, files.make({"path": str(path)}, SCHEMA))
        run.run(stop)
    return run.state.cut()[0].count


def send(path: str, port: str) -> None:
    """The Flight client, in a process of its own."""
    from streamsketch_consumers.flight import FlightWriter

    with (
        FlightWriter(f"grpc://127.0.0.1:{port}", client="one") as writer,
        pa.ipc.open_stream(pa.OSFile(path)) as reader,
    ):
        for batch in reader:
            writer.write(batch)


def case(kind: str, batches: int, rows: int) -> dict[str, float]:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.arrows"
        write(path, batches, rows)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.batches", "--read", kind, str(path), name],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    said: dict[str, float] = json.loads(done.stdout)
    assert said.pop("rows") == batches * rows
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", nargs=3)
    parser.add_argument("--send", nargs=2)
    parser.add_argument("--only", choices=SOURCES)
    given = parser.parse_args()
    if given.send:
        send(*given.send)
        return
    if given.read:
        kind, path, folder = given.read
        began = time.process_time()
        rows = read(kind, Path(path), Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.process_time() - began
        print(json.dumps({"rows": rows, "MiB": round(peak), "cpu_s": round(seconds, 2)}))
        return
    results = {}
    for kind in [given.only] if given.only else SOURCES:
        for batches, rows in ((1, 10**7), (10**6, 1)):
            small = case(kind, max(1, batches // 100), max(1, rows // 100))
            large = case(kind, batches, rows)
            name = f"{kind}: {batches} x {rows}"
            results[name] = {**large, "MiB_more": large["MiB"] - small["MiB"]}
            print(name, results[name], flush=True)
    target = Path(__file__).parent / "results" / "batches.json"
    target.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
