"""With a mechanism on, when a release happens depends on position, clock and schedule alone."""

import shutil
import threading

import numpy as np
import pyarrow as pa
import pytest

from streamsketch.errors import DamagedFileError, PrivacyError
from streamsketch.features import FeatureMap
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule, release_now
from streamsketch.ingest.streams import Chunk
from streamsketch.privacy import Releaser
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.clock import Clock
from streamsketch.storage.store import Store
from testing.sources import BareSource

SCHEMA = Schema.vectors(1, -1, 1)
FM = FeatureMap.from_frequencies(np.array([[1.0, 2.5]]))


class Rows(BareSource):
    """Rows of which one may be unreadable, and moments at which none come."""

    def __init__(self, rows, clock, bad=None, silent=()):
        self.rows, self.bad, self.clock, self.silent = rows, bad, clock, silent

    def open(self, owner):
        self.next = (owner.claim("rows") or {"row": 0})["row"]

    def poll(self, timeout):
        self.clock.seconds += 1.0
        if self.next >= self.rows:
            self.finished = True
            return
        many = [r for r in range(self.next, min(self.next + 10, self.rows))]
        self.next += len(many)
        if self.next in self.silent:
            return  # the rows of this turn are not there at all
        x = [float("nan") if r == self.bad else 0.5 for r in many]
        yield Chunk("rows", {"row": self.next}, pa.record_batch({"x0": x}), (), {"row": many[0]})


class Told(Clock):
    """A clock that the source moves."""

    seconds = 0.0

    def monotonic(self):
        return self.seconds

    def now(self):
        return 1.7e9 + self.seconds


def cuts(tmp_path, name, schedule, mechanism="toeplitz", **source):
    """The moments of the releases of one life of a stream."""
    clock, store = Told(), Store(tmp_path / name)
    moments = []

    def make():
        settings = {"rho": 0.5, "releases": 200} if mechanism != "none" else None
        releaser = Releaser(FM, SCHEMA, mechanism=mechanism, settings=settings)
        release = releaser.release

        def watched(*args):
            moments.append(clock.seconds)
            return release(*args)

        releaser.release = watched
        return releaser

    state = State(store.state_dir, FM)
    ingest = Ingest(
        Rows(200, clock, **source), SCHEMA, FM, state, store, make, None, schedule, clock=clock
    )
    ingest.run(threading.Event())
    return moments


BY_ROWS = Schedule(save_seconds=3600, seconds=None, rows=20, keep=None)
BY_SECONDS = Schedule(save_seconds=0.5, seconds=2.0, keep=None)


@pytest.mark.parametrize("schedule", [BY_ROWS, BY_SECONDS])
@pytest.mark.parametrize("bad", [0, 3, 57, 199])
def test_a_row_that_is_set_apart_moves_no_release(tmp_path, schedule, bad):
    assert cuts(tmp_path, "a", schedule) == cuts(tmp_path, "b", schedule, bad=bad)


def test_a_release_by_the_clock_happens_whether_rows_came_or_not(tmp_path):
    quiet = cuts(tmp_path, "quiet", BY_SECONDS, silent=(50, 60, 70, 80, 90))
    assert quiet == cuts(tmp_path, "busy", BY_SECONDS)
    # without a mechanism nothing is released again
    exact = cuts(tmp_path, "exact", BY_SECONDS, "none", silent=(50, 60, 70, 80, 90))
    assert len(exact) < len(quiet)


def test_the_end_of_a_stream_is_released_once(tmp_path):
    first = cuts(tmp_path, "s", Schedule(0.5, None, None, None))
    assert len(first) == 1 and cuts(tmp_path, "s", Schedule(0.5, None, None, None)) == []


def test_an_alarm_on_raw_rows_asks_for_no_private_release(tmp_path, caplog):
    quiet = cuts(tmp_path, "quiet", BY_SECONDS)
    (Store(tmp_path / "alarmed").state_dir / "release.request").write_text("")
    assert cuts(tmp_path, "alarmed", BY_SECONDS) == quiet
    assert "no budget pays for" in caplog.text


# --- state older than what was published


def one_release(folder, rows, mechanism="toeplitz"):
    store = Store(folder)
    state = State(store.state_dir, FM)
    part = state.claim("rows")
    part.sketch.update(FM, np.zeros((rows, 1)))
    part.position = {"row": part.sketch.count}
    state.save(part)
    settings = {"rho": 0.5, "releases": 20} if mechanism != "none" else None
    return release_now(
        state, store, lambda: Releaser(FM, SCHEMA, mechanism=mechanism, settings=settings)
    )


def released(folder):
    family = Store(folder).snapshots
    return [Snapshot.from_bytes(family.read(name)).id for name in family.names()]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", -5),
        ("number", 2**70),
        ("rows", None),
        ("positions", 3),
        ("releaser", []),
        ("closed", "x"),
    ],
)
def test_a_release_state_of_wrong_values_is_damaged(tmp_path, key, value):
    one_release(tmp_path, 5)
    state = State(Store(tmp_path).state_dir, FM)
    arrays, body = state.load_release()
    state.save_release(arrays, {**body, key: value})
    with pytest.raises(DamagedFileError, match="damaged"):
        state.load_release()


@pytest.mark.parametrize("whole", [True, False])
def test_a_private_state_that_was_put_back_is_refused(tmp_path, whole):
    live, backup = tmp_path / "s", tmp_path / "b"
    one_release(live, 5)
    shutil.copytree(live, backup)
    one_release(live, 5)
    before = released(live)
    part = "" if whole else "state"
    shutil.rmtree(live / part)
    shutil.copytree(backup / part, live / part)
    (live / "ledger.jsonl").unlink()
    with pytest.raises(PrivacyError, match="copied or put back"):
        one_release(live, 5)
    assert released(live) == (before[:1] if whole else before)


def test_a_lost_private_state_beside_its_snapshots_is_refused(tmp_path):
    one_release(tmp_path, 5)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(PrivacyError, match="older than what was published"):
        one_release(tmp_path, 5)


def test_without_a_mechanism_an_older_state_goes_on_above(tmp_path, caplog):
    one_release(tmp_path, 5, "none")
    shutil.copytree(tmp_path / "state", tmp_path / "kept")
    one_release(tmp_path, 5, "none")
    before = released(tmp_path)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "kept").rename(tmp_path / "state")
    one_release(tmp_path, 5, "none")
    assert released(tmp_path)[:2] == before and len(released(tmp_path)) == 3
    assert "going on above it" in caplog.text
