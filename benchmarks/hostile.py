"""A million hostile rows the whole way: decoded, judged, written down, saved; none may stop the consumer.

    python -m benchmarks.hostile [--rows 1000000]

Of ten rows nine hold values that do not belong (times beyond the calendar, numbers beyond 64 bits,
text that is not UTF-8, nested values, damaged bytes), in each message format and each file format.
Every row must be learned, a dead letter, a duplicate, or over its user's limit; the good ones in
between must be learned. A stop, or a row that is nowhere, ends the benchmark with an error.
"""

import argparse
import json
import random
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from streamsketch_consumers import files
from streamsketch_consumers.dead_letter import FileDeadLetters

from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.windows import Windows
from streamsketch.privacy.clipping import UserLimits
from streamsketch.privacy.release import Releaser
from streamsketch.storage.store import Store
from testing.hostile import FILES, FORMATS, SCHEMA, HostileMessages, bad, good, write_file

RESULTS = Path(__file__).parent / "results"
FM = FeatureMap.from_spec(Spec("gaussian", SCHEMA.d, 16, schema_hash=SCHEMA.hash))


def consume(folder: Path, source: Any, rows: int) -> dict[str, int]:
    """Run a source to its end; what became of its rows."""
    store = Store(folder / "store")
    state = State(store.state_dir, FM)
    letters = FileDeadLetters(folder / "dead.jsonl", max_bytes=16 << 20, keep=1)
    run = Ingest(
        source, SCHEMA, FM, state, store, lambda: Releaser(FM, SCHEMA, memory="tumbling"), letters,
        Schedule(0.2, None), windows=Windows("at", 3600, max_jump=3600), record_ids=10_000,
        limits=UserLimits(rows=10**9),
    )  # fmt: skip
    run.run(threading.Event())
    (part,) = state.parts()
    found = {"learned": part.learned.count, "dead": part.dead, "duplicates": part.duplicates}
    # one message may hold several lines
    assert sum(found.values()) >= rows, f"of {rows} rows only {found}"
    assert part.learned.count >= rows // 10, f"good rows were lost: {found}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows // (len(FORMATS) + len(FILES))
    found: dict[str, Any] = {}
    for form in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            found[f"messages: {form}"] = consume(Path(folder), HostileMessages(form, rows), rows)
            found[f"messages: {form}"]["cpu_s"] = round(time.process_time() - begin)
    for form in FILES:
        with tempfile.TemporaryDirectory() as name:
            folder, rng = Path(name), random.Random(1)
            (folder / "in").mkdir()
            made = [good(i) if i % 10 == 0 else bad(i, rng) for i in range(rows)]
            write_file(form, folder / f"in/a.{form}", made, rng)
            del made
            begin = time.process_time()
            source = files.make({"path": str(folder / "in")}, SCHEMA)
            found[f"file: {form}"] = consume(folder, source, rows)
            found[f"file: {form}"]["cpu_s"] = round(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Console().print({"rows each": rows, "stops": 0, "peak_MiB": round(peak), **found})
    result = {"rows_each": rows, "stops": 0, "peak_MiB": peak, "found": found}
    (RESULTS / "hostile.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
