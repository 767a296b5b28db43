"""Random kills and restarts: never two different releases for one index, never a refund.

A process loops: read rows, save sums with their position, release by the path that `consume` takes
(`ingest.publish`). It is killed at a random point, the disk holding whatever was written by then, and
starts again. Files are written whole or not at all, so a disk in memory will do.
"""

import random
import secrets
from dataclasses import replace

import numpy as np
import pytest

from streamsketch.errors import BudgetError, PrivacyError
from streamsketch.features import FeatureMap
from streamsketch.ingest.audit import Rehearsal
from streamsketch.ingest.publish import Schedule, release_now
from streamsketch.privacy import Ledger, Releaser
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.store import Store

FM = FeatureMap.from_frequencies(np.array([[1.0, 2.5]]))
SCHEMA = Schema.vectors(1, -1, 1)
ROW = FM.sum(np.array([[0.4]], np.float32))
RELEASES = 4


class Killed(BaseException):
    """The process is gone."""


class Disk(Rehearsal):
    """A disk in memory: each write is whole, and the kill may come before or after it."""

    def __init__(self):
        super().__init__(FM)
        self.store = Store(f"memory://interleaved-{secrets.token_hex(8)}")
        self.fuse = 10**9
        self.rows = 0
        self.spent = []
        put = self.store.snapshots.put
        self.published = []
        self.refused = False

        def watched(data, number=None):
            self.step()
            snapshot = Snapshot.from_bytes(data)
            self.published.append(((number, snapshot.release.index), snapshot.id))
            put(data, number)
            self.step()

        self.store.snapshots.put = watched

    def step(self):
        self.fuse -= 1
        if self.fuse < 0:
            raise Killed

    def save_release(self, arrays, body):
        self.step()
        super().save_release(arrays, body)
        self.spent.append(Ledger.from_dict(body["releaser"]["ledger"], "stream").spent)
        self.step()


def work(disk, randomness, kind):
    """Rows are saved, then released: by the path that `consume` takes."""
    disk.rows += randomness.randrange(3)
    disk.step()
    disk.now, disk.number = (disk.rows * ROW, disk.rows), disk.number + 1
    disk.step()

    def make():
        return kind(FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5, "releases": RELEASES})

    release_now(disk, disk.store, make, Schedule(keep=None))


def run(seed, kind=Releaser):
    """One life of a stream with up to four kills; returns its disk."""
    randomness = random.Random(seed)
    disk = Disk()
    kills = randomness.randrange(1, 5)
    while True:
        disk.fuse = randomness.randrange(14) if kills > 0 else 10**9
        kills -= 1
        saved_rows = disk.rows
        try:
            while True:
                work(disk, randomness, kind)
                saved_rows = disk.rows
        except Killed:
            disk.rows = max(saved_rows, disk.now[1])
        except PrivacyError as error:  # the budget is spent; anything else is a refusal
            disk.refused = not isinstance(error, BudgetError)
            disk.store.fs.rm(disk.store.root, recursive=True)
            return disk


def violations(disk):
    by_number, by_index = {}, {}
    for (number, index), data in disk.published:
        by_number.setdefault(number, set()).add(data)
        by_index.setdefault(index, set()).add(data)
    found = ["refused"] if disk.refused else []
    if any(len(versions) > 1 for versions in [*by_number.values(), *by_index.values()]):
        found.append("two releases for one index")
    if sorted(by_number) != list(range(RELEASES)) or sorted(by_index) != sorted(by_number):
        found.append("an index is missing or beyond the budget")
    if any(b < a for a, b in zip(disk.spent, disk.spent[1:], strict=False)):
        found.append("a refund")
    if any(spent != 0.5 for spent in disk.spent):
        found.append("spent is not the budget")
    return found


def test_five_hundred_interleavings():  # ten thousand: see docs/reliability.md
    for seed in range(500):
        assert not violations(run(seed)), f"seed {seed}"


class SavesLate(Releaser):
    """A mutant: its state never holds the last release."""

    def release(self, *args):
        self._before = super().packed()
        return super().release(*args)

    def packed(self):
        return self._before


class Refunds(Releaser):
    """A mutant: a restart begins a new ledger."""

    def restore(self, arrays, body):
        super().restore(arrays, body)
        self.state = replace(self.state, index=0, released=0, ledger=Ledger(self.stream))


@pytest.mark.parametrize("kind", [SavesLate, Refunds])
def test_mutants_are_found(kind):
    assert any(violations(run(seed, kind)) for seed in range(50))
