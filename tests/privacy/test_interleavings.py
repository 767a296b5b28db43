"""Random kills and restarts: never two different releases for one index, never a refund.

A process loops: read rows, save sums with their position, release, save the release state,
publish. It is killed at a random point, the disk holding whatever was written by then, and
starts again. Files are written atomically, so a disk is a dictionary of whole files.
"""

import random

import numpy as np
import pytest

from streamsketch.errors import BudgetError
from streamsketch.features import FeatureMap
from streamsketch.privacy import Releaser
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot

FM = FeatureMap.from_frequencies(np.array([[1.0, 2.5]]))
SCHEMA = Schema.vectors(1, -1, 1)
ROW = FM.sum(np.array([[0.4]], np.float32))
RELEASES = 4


class Killed(BaseException):
    """The process is gone."""


class Process:
    """One stream's process on a disk; `fuse` counts down to the kill."""

    def __init__(self, disk, fuse, kind=Releaser):
        self.disk, self.fuse = disk, fuse
        self.releaser = kind(
            FM, SCHEMA, mechanism="toeplitz", settings={"rho": 0.5, "releases": RELEASES}
        )
        saved = disk.get("release")
        if saved is not None:
            self.releaser.restore(*saved)
            pending = self.releaser.unpublished()
            if pending is not None:
                self.publish(self.releaser.released - 1, pending)
        self.rows = disk.get("rows", 0)

    def step(self):
        self.fuse -= 1
        if self.fuse < 0:
            raise Killed

    def publish(self, number, data):
        self.step()
        self.disk["published"].append((number, Snapshot.from_bytes(data).id))

    def work(self, randomness):
        self.rows += randomness.randrange(3)
        self.step()
        self.disk["rows"] = self.rows
        self.step()
        snapshot = self.releaser.release(self.rows * ROW, self.rows)
        self.step()
        self.disk["release"] = self.releaser.state()
        self.disk["spent"].append(self.releaser.ledger.spent)
        self.step()
        self.publish(self.releaser.released - 1, snapshot.to_bytes())


def run(seed, kind=Releaser):
    """One life of a stream with up to four kills; returns its disk."""
    randomness = random.Random(seed)
    disk = {"published": [], "spent": []}
    kills = randomness.randrange(1, 5)
    while True:
        fuse = randomness.randrange(14) if kills else 10**9
        kills -= 1
        try:
            process = Process(disk, fuse, kind)
            while True:
                process.work(randomness)
        except Killed:
            continue
        except BudgetError:
            return disk


def violations(disk):
    by_number = {}
    for number, data in disk["published"]:
        by_number.setdefault(number, set()).add(data)
    found = []
    if any(len(versions) > 1 for versions in by_number.values()):
        found.append("two releases for one index")
    if sorted(by_number) != list(range(RELEASES)):
        found.append("an index is missing or beyond the budget")
    if any(b < a for a, b in zip(disk["spent"], disk["spent"][1:], strict=False)):
        found.append("a refund")
    if any(spent != 0.5 for spent in disk["spent"]):
        found.append("spent is not the budget")
    return found


def test_ten_thousand_interleavings():
    for seed in range(10_000):
        assert not violations(run(seed)), f"seed {seed}"


class SavesLate(Releaser):
    """A mutant: its state never holds the last release."""

    def release(self, *args):
        self._before = super().state()
        return super().release(*args)

    def state(self):
        return self._before


class Refunds(Releaser):
    """A mutant: a restart begins a new ledger."""

    def restore(self, arrays, body):
        super().restore(arrays, body)
        self.index = self.released = 0
        self.ledger = type(self.ledger)(self.stream)


@pytest.mark.parametrize("kind", [SavesLate, Refunds])
def test_mutants_are_found(kind):
    assert any(violations(run(seed, kind)) for seed in range(50))
