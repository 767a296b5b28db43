"""Event-time windows of real flights, with the real command killed at random moments.

    python -m benchmarks.window_faults --kills 12

An undisturbed `streamsketch consume` and one that is killed (SIGKILL) again and again, mostly while windows
close, must release the same windows: counts and sums are `==`.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from streamsketch.snapshot import Snapshot
from streamsketch.storage.store import Store

DATA = Path(__file__).parents[1] / "data" / "nycflights13.parquet"
PIPELINE = """
[source]
type = "files"
path = {data}
batch_rows = 1000
{pace}
[schema.distance]
kind = "numeric"
low = 0
high = 5000
[schema.dep_delay]
kind = "numeric"
low = -60
high = 600
nulls = "indicator"
[schema.time_hour]
kind = "event_time"
type = "timestamp[ns, tz=UTC]"
[windows]
width = 604800
lateness = 86400
[snapshots]
save_seconds = 0.2
keep = 1000
[sketch]
frequencies = 256
memory = "tumbling"
[store]
path = {store}
"""


def pipeline(folder: Path, name: str, pace: str = "") -> Path:
    path = folder / f"{name}.toml"
    store = json.dumps(str(folder / name))
    path.write_text(PIPELINE.format(data=json.dumps(str(DATA)), store=store, pace=pace))
    return path


def released(folder: Path) -> dict[str, tuple[float, list[int]]]:
    """Start of each window -> count and sum in units of 2^-16; each window is there once."""
    family, found = Store(folder).snapshots, {}
    for name in family.names():
        snapshot = Snapshot.from_bytes(family.read(name), name)
        start = snapshot.span["window"]["start"]
        assert start not in found, f"window {start} was released twice"
        total = np.rint(snapshot.mean * 2**16 * snapshot.count).astype(np.int64)
        found[start] = (snapshot.count, total.tolist())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, kills = random.Random(given.seed), 0
    command = [sys.executable, "-m", "streamsketch", "consume"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calm = pipeline(folder, "calm")
        subprocess.run([*command, calm], check=True, capture_output=True)
        killed = pipeline(folder, "killed", f"rate = {given.rate}")
        family = Store(folder / "killed").snapshots
        while True:
            run = subprocess.Popen([*command, killed], stderr=subprocess.DEVNULL)
            target = len(family.names()) + rng.randrange(1, 4)
            while run.poll() is None and len(family.names()) < target:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            if run.poll() is not None or kills >= given.kills:
                run.wait()
                break
            run.kill()
            run.wait()
            kills += 1
        expected, found = released(folder / "calm"), released(folder / "killed")
    rows = int(sum(count for count, _ in expected.values()))
    result = {"kills": kills, "windows": len(expected), "rows": rows, "equal": found == expected}
    print(json.dumps(result))
    if found != expected:
        sys.exit(1)


if __name__ == "__main__":
    main()
