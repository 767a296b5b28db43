"""A storm of rebalances, simulated: members of the real pipeline over the real resume files.

The group is played by the test: members join, leave, die, freeze and come back late, partitions
move at once (eager) or one by one (cooperative), the disk refuses. At every moment what is saved
of a partition must be the exact sum of its first rows, and in the end of all of them.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamsketch.errors import StoreError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Schema
from streamsketch.storage.store import Store

SCHEMA = Schema.vectors(1, 0, 1000)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))
PARTS = [f"kafka:t:{i}" for i in range(3)]
ROWS = 12  # of each part

which = st.integers(0, 3)


def values(part, low, high):
    """Rows of a part; no two parts share one."""
    return [float(100 * PARTS.index(part) + i) for i in range(low, high)]


def total(part, offset):
    return FM.sum(SCHEMA.encode(pa.table({"x0": values(part, 0, offset)})).x)


class Group:
    """The source of one member: reads on from what it claimed; `positions` is its own view."""

    coordinated = True
    finished = False

    def __init__(self):
        self.positions = {}

    def saved(self, positions):
        """Nothing is committed."""


class Member:
    """One process."""

    def __init__(self, folder):
        store = Store(folder)
        self.source = Group()
        self.state = State(store.state_dir, FM)
        self.ingest = Ingest(
            self.source, SCHEMA, FM, self.state, store, lambda: Releaser(FM, SCHEMA),
            schedule=Schedule(save_seconds=0, seconds=None),
        )  # fmt: skip
        self.frozen = False

    def assign(self, part):
        position = self.ingest.parts.claim(part)
        self.source.positions[part] = 0 if position is None else position["offset"]

    def give(self, part):
        del self.source.positions[part]
        self.ingest.parts.revoke(part)

    def lose(self):
        for part in list(self.source.positions):
            self.ingest.parts.lose(part)
        self.source.positions.clear()

    def read(self, part, rows):
        low = self.source.positions[part]
        high = min(low + rows, ROWS)
        self.source.positions[part] = high
        batch = pa.record_batch({"x0": values(part, low, high)})
        self.ingest.learn(Chunk(part, {"offset": high}, batch))


class Storm(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.live = {}
        self.offsets = {}
        self.started = 0
        self.join()

    def teardown(self):
        if not hasattr(self, "live"):
            return
        while len(self.awake()) < len(self.live):
            self.thaw(0, 1)
        self.started += 1
        self.live[self.started] = Member(self.path)  # for what nobody holds
        self.rebalance()
        for member in self.live.values():
            for part in member.source.positions:
                member.read(part, ROWS)
            member.ingest.save(last=True)
        sketch, positions, *_ = State(Store(self.path).state_dir, FM).cut()
        assert positions == {part: {"offset": ROWS} for part in PARTS}
        assert (sketch.total == sum(total(part, ROWS) for part in PARTS)).all()
        self.folder.cleanup()

    def awake(self):
        return {n: m for n, m in self.live.items() if not m.frozen}

    def rebalance(self, eager=True):
        """Deal the parts over those who are there; a frozen member is not asked."""
        awake = list(self.awake().values())
        if not awake:
            return
        deal = {part: awake[i % len(awake)] for i, part in enumerate(PARTS)}
        for member in awake:
            for part in list(member.source.positions):
                if eager or deal[part] is not member:
                    member.give(part)
        for part, member in deal.items():
            if part not in member.source.positions:
                member.assign(part)

    def pick(self, which, frozen=False):
        """One of the members that are awake (or frozen)."""
        numbers = [number for number, member in self.live.items() if member.frozen == frozen]
        return numbers[which % len(numbers)]

    @precondition(lambda self: len(self.live) < 4)
    @rule(eager=st.booleans())
    def join(self, eager=True):
        self.started += 1
        self.live[self.started] = Member(self.path)
        self.rebalance(eager)

    @precondition(lambda self: self.awake())
    @rule(which=which)
    def leave(self, which):
        member = self.live.pop(self.pick(which))
        member.ingest.save(last=True)
        self.rebalance()

    @precondition(lambda self: self.live)
    @rule(which=which, eager=st.booleans())
    def die(self, which, eager):
        del self.live[list(self.live)[which % len(self.live)]]
        self.rebalance(eager)

    @precondition(lambda self: len(self.awake()) > 1)
    @rule(which=which, rows=st.integers(0, 8))
    def freeze(self, which, rows):
        """The group gives its parts to the others, who read on."""
        self.live[self.pick(which)].frozen = True
        self.rebalance()
        for member in self.awake().values():
            for part in member.source.positions:
                member.read(part, rows)
            member.ingest.save()

    @precondition(lambda self: len(self.awake()) < len(self.live))
    @rule(which=which, rows=st.integers(1, 3))
    def thaw(self, which, rows):
        """It goes on where it was, saves, and only then hears that it was thrown out."""
        member = self.live[self.pick(which, frozen=True)]
        for _ in range(2):
            for part in list(member.source.positions):
                member.read(part, rows)
            member.ingest.save()
        member.lose()
        member.frozen = False
        self.rebalance()

    @precondition(lambda self: self.awake())
    @rule(which=which, rows=st.integers(1, 5))
    def read(self, which, rows):
        for part in (member := self.live[self.pick(which)]).source.positions:
            member.read(part, rows)

    @precondition(lambda self: self.awake())
    @rule(which=which)
    def save(self, which):
        self.live[self.pick(which)].ingest.save()

    @precondition(lambda self: self.awake())
    @rule(which=which, eager=st.booleans())
    def rebalance_on_a_full_disk(self, which, eager):
        """Partitions move while one member's disk refuses: its rows are read again."""
        member = self.live[self.pick(which)]

        def refuse(part):
            raise StoreError("no space left")

        save, member.state.save = member.state.save, refuse
        member.ingest.save()
        self.rebalance(eager)
        member.state.save = save

    @invariant()
    def saved_sums_are_those_of_the_saved_positions(self):
        if not hasattr(self, "live"):
            return
        for part in State(Store(self.path).state_dir, FM).parts():
            offset = 0 if part.position is None else part.position["offset"]
            # a former owner must not put back what was saved, and maybe released, meanwhile
            assert offset >= self.offsets.get(part.part, 0)
            self.offsets[part.part] = offset
            assert part.sketch.count == offset
            assert np.array_equal(part.sketch.total, total(part.part, offset))


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
