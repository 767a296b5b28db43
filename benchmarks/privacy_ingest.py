"""The audit of releases through the whole ingest path: rows in, snapshots in a store out.

    python -m benchmarks.privacy_ingest [--pairs 10000] [--releases 16] [--frequencies 16]

A pair is one stream with a canary row in its first window, and one where that row cannot be used. Each stream is read
by `ingest.loop.Ingest`: admitted, summed, saved with its position to a state folder, released by rows read, and
published to a store on disk; the last release is that of the end. The verdict looks at published files only.
"""

import argparse
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamsketch.features import FeatureMap
from streamsketch.ingest.audit import Cut, Verdict, audit
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy import Releaser
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.store import Store
from testing.sources import BareSource

SCHEMA = Schema.vectors(2, -1, 1)
ROWS = 6  # read before a release
RHO = 0.5
FAST = "/dev/shm"  # a disk in memory: fsync costs nothing


class Windows(BareSource):
    """One chunk of rows for each release."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.batches, self.next = batches, 0

    def open(self, owner: Any) -> None:
        owner.claim("rows")

    def poll(self, timeout: float) -> Any:
        batch = self.batches[self.next]
        self.next += 1
        self.finished = self.next == len(self.batches)
        yield Chunk("rows", {"row": self.next}, batch, (), {"row": self.next - 1})


def windows(releases: int) -> list[np.ndarray]:
    """The rows of each window; the last one is too short to be released before the end."""
    rng = np.random.default_rng(1)
    sizes = [ROWS] * (releases - 1) + [ROWS - 1]
    return [rng.uniform(-1, 1, (size, 2)) for size in sizes]


def cuts_of(fm: FeatureMap, rows: list[np.ndarray]) -> list[Cut]:
    """Cumulative sums and counts of the rows that can be used."""
    total, count, found = np.zeros(fm.width, np.int64), 0, []
    for window in rows:
        usable = window[np.isfinite(window).all(axis=1)]
        total, count = total + fm.sum(SCHEMA.encode_array(usable)), count + len(usable)
        found.append((total, count))
    return found


def examine(mechanism: str, releases: int, frequencies: int, pairs: int) -> Verdict:
    """Audit one mechanism."""
    fm = FeatureMap.from_frequencies(np.random.default_rng(0).normal(size=(2, frequencies)))
    present, absent = windows(releases), windows(releases)
    absent[0][0] = np.nan  # the canary's place stays empty
    batches = {
        cuts_of(fm, rows)[0][1]: [pa.record_batch({"x0": w[:, 0], "x1": w[:, 1]}) for w in rows]
        for rows in (present, absent)
    }
    schedule = Schedule(save_seconds=3600, release_seconds=None, release_rows=ROWS, keep=None)
    if releases == 1:
        schedule = Schedule(save_seconds=3600, release_seconds=None, release_rows=None, keep=None)

    def drive(make: Callable[[], Releaser], cuts: Sequence[Cut]) -> list[Snapshot]:
        with tempfile.TemporaryDirectory(dir=FAST if Path(FAST).is_dir() else None) as folder:
            store = Store(folder)
            source = Windows(batches[cuts[0][1]])
            state = State(store.state_dir, fm)
            Ingest(source, SCHEMA, fm, state, store, make, None, schedule).run(threading.Event())
            names = store.snapshots.names()
            return [Snapshot.from_bytes(store.snapshots.read(name), name) for name in names]

    def make() -> Releaser:
        settings = {"rho": RHO, "releases": releases}
        return Releaser(fm, SCHEMA, mechanism=mechanism, settings=settings)

    row = present[0][:1]
    canary = (fm.sum(SCHEMA.encode_array(row)), 1)
    without, with_canary = cuts_of(fm, absent), cuts_of(fm, present)
    return audit(make, without, canary, with_canary=with_canary, runs=pairs, drive=drive)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--pairs", type=int, default=10_000)
    p.add_argument("--releases", type=int, default=16)
    p.add_argument("--frequencies", type=int, default=16)
    p.add_argument("--mechanism", choices=["gaussian", "toeplitz"], action="append")
    a = p.parse_args()
    logging.disable(logging.ERROR)  # each stream tells of its refused canary
    results = Path(__file__).parent / "results"
    for mechanism in a.mechanism or ["gaussian", "toeplitz"]:
        releases = 1 if mechanism == "gaussian" else a.releases
        begun = time.process_time()
        v = examine(mechanism, releases, a.frequencies, a.pairs)
        row = {
            "mechanism": mechanism, "releases": releases, "frequencies": a.frequencies, "pairs": a.pairs,
            "mu": v.mu, "mu_error": v.mu_error, "promised": v.promised, "variance_z": v.variance_z,
            "correlation_z": v.correlation_z, "off_lattice": v.off_lattice, "failures": list(v.failures),
            "cpu_s": time.process_time() - begun,
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        (results / f"privacy_ingest_{mechanism}.json").write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
