"""The pipeline: order of stages, saves and releases, with a source that can be scripted."""

import json
import threading

import pyarrow as pa
import pytest

from streamsketch import Schema, Snapshot, Store
from streamsketch.errors import ConfigError, DataError, FencedError, StoreError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule, release_now
from streamsketch.ingest.streams import Chunk, Dead
from streamsketch.privacy.release import Releaser

SCHEMA = Schema.vectors(1, 0, 1000)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 8, schema_hash=SCHEMA.hash))


class Crash(Exception):
    """A process that dies here."""


class Scripted:
    """Rows 0..n-1 in one part, in batches, with events in between.

    Args:
        n: Rows in the stream.
        batch: Rows per chunk.
        events: Chunk number -> what happens instead of reading: an exception to raise.
    """

    def __init__(self, n=100, batch=10, events=None, bad=()):
        self.n, self.batch, self.events, self.bad = n, batch, events or {}, set(bad)
        self.finished, self.acked, self.closed, self.chunks = False, [], False, 0

    def open(self, owner):
        self.owner = owner
        self.next = (owner.claim("rows") or {"row": 0})["row"]

    def poll(self, timeout):
        if self.next >= self.n:
            self.finished = True
            return
        self.chunks += 1
        event = self.events.get(self.chunks)
        if event is not None:
            raise event
        rows = range(self.next, min(self.next + self.batch, self.n))
        values = [float("nan") if r in self.bad else float(r) for r in rows]
        where = {"row": self.next}
        self.next += len(rows)
        yield Chunk("rows", {"row": self.next}, pa.record_batch({"x0": values}), (), where)

    def saved(self, positions):
        self.acked += [p["row"] for part, p in positions.items() if part == "rows"]

    def lag(self):
        return {}

    def close(self):
        self.closed = True


class Letters:
    def __init__(self):
        self.put_, self.flushed = [], 0

    def put(self, dead):
        self.put_ += dead

    def flush(self):
        self.flushed = len(self.put_)

    def close(self):
        pass


def ingest(folder, source, letters=None, **schedule):
    store = Store(folder)
    return Ingest(
        source, SCHEMA, FM, State(store.state_dir, FM), store, lambda: Releaser(FM, SCHEMA), letters,
        Schedule(**{"save_seconds": 0.0, "seconds": None, **schedule}),
    )  # fmt: skip


def expected(rows):
    x = SCHEMA.encode(pa.table({"x0": [float(r) for r in rows]})).x
    return FM.sum(x)


def test_a_finished_stream_is_saved_acknowledged_and_released(tmp_path):
    source = Scripted(95, 10)
    run = ingest(tmp_path, source)
    run.run(threading.Event())
    sketch, positions, _ = run.state.cut()
    assert (sketch.total == expected(range(95))).all() and positions == {"rows": {"row": 95}}
    assert source.acked[-1] == 95 and source.closed
    _, snapshot = Store(tmp_path).snapshots.newest(Snapshot.from_bytes)
    assert snapshot.count == 95 and snapshot.span["parts"] == {"rows": {"row": 95}}


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("crash_at", [1, 2, 5, 9])
def test_a_crash_at_any_chunk_loses_and_doubles_nothing(tmp_path, batch, crash_at):
    for at in (crash_at, crash_at + 1, None):
        source = Scripted(60, batch, {} if at is None else {at: Crash()})
        run = ingest(tmp_path, source, save_seconds=0.0 if crash_at % 2 else 1e9)
        try:
            run.run(threading.Event())
        except Crash:
            continue
    assert (run.state.cut()[0].total == expected(range(60))).all()


def test_bad_rows_go_to_the_dead_letters_with_position_before_the_save(tmp_path):
    letters = Letters()
    run = ingest(tmp_path, Scripted(30, 10, bad={4, 17}), letters)
    order = []
    flush, save = letters.flush, run.state.save
    letters.flush = lambda: (order.append("flush"), flush())
    run.state.save = lambda part: (order.append("save"), save(part))
    run.run(threading.Event())
    good = [r for r in range(30) if r not in (4, 17)]
    assert (run.state.cut()[0].total == expected(good)).all()
    assert [d.where["row"] for d in letters.put_] == [4, 17] and "finite" in letters.put_[0].reason
    assert json.loads(letters.put_[0].raw).keys() == {"x0"}
    assert order[:3] == ["flush", "flush", "save"]  # the first one before anything is read
    assert run.state.parts()[0].dead == 2


def test_a_batch_of_another_shape_does_not_stop_the_consumer(tmp_path):
    class Odd(Scripted):
        def poll(self, timeout):
            for chunk in super().poll(timeout):
                if chunk.position["row"] == 20:
                    chunk = Chunk(
                        "rows", chunk.position, pa.record_batch({"y": ["?", "?"]}), (), chunk.where
                    )
                yield chunk

    letters = Letters()
    run = ingest(tmp_path, Odd(40, 10), letters)
    run.run(threading.Event())
    assert len(letters.put_) == 2 and "no single column 'x0'" in letters.put_[0].reason
    assert run.state.cut()[0].count == 30


def test_on_error_fail_stops_at_the_first_bad_row_and_saves_nothing_of_its_chunk(tmp_path):
    run = ingest(tmp_path, Scripted(30, 10, bad={14}))
    run.intake.strict = True
    with pytest.raises(DataError, match="finite"):
        run.run(threading.Event())
    assert run.state.cut()[1] == {"rows": {"row": 10}}


def test_dead_letters_of_the_source_are_counted_too(tmp_path):
    class Broken(Scripted):
        def poll(self, timeout):
            for chunk in super().poll(timeout):
                yield Chunk(
                    chunk.part,
                    chunk.position,
                    chunk.batch,
                    (Dead(b"{", "broken JSON", {"line": 3}),),
                )

    letters = Letters()
    ingest(tmp_path, Broken(20, 10), letters).run(threading.Event())
    assert [d.reason for d in letters.put_] == ["broken JSON"] * 2


def test_snapshots_by_rows_by_request_and_none_when_nothing_is_new(tmp_path):
    run = ingest(tmp_path, Scripted(100, 10), rows=30)
    run.run(threading.Event())
    assert len(Store(tmp_path).snapshots.names()) == 4  # 30, 60, 90 and the end
    assert run.release() is None
    (run.state.folder / "release.request").touch()
    assert (
        run.releases.due(run.parts)
        and run.release(wait=True) is None
        and not run.releases.due(run.parts)
    )


def test_a_release_finished_but_not_published_is_published_as_it_was(tmp_path):
    run = ingest(tmp_path, Scripted(20, 10))
    run.run(threading.Event())
    store = Store(tmp_path)
    name, first = store.snapshots.newest(Snapshot.from_bytes)
    store.fs.rm_file(
        store.snapshots.path(name)
    )  # as if killed between write-ahead and publication
    release_now(run.state, store, run.releases.new_releaser)
    again, second = Store(tmp_path).snapshots.newest(Snapshot.from_bytes)
    assert (again, second.id) == (name, first.id)


def test_a_fenced_part_is_dropped_and_the_others_are_saved(tmp_path):
    run = ingest(tmp_path, Scripted(20, 10))
    run.parts.exclusive = False
    run.source.open(run.parts)
    run.parts.claim("other")
    for chunk in run.source.poll(0):
        run.learn(chunk)
        run.learn(Chunk("other", {"row": 10}, chunk.batch))
    State(run.state.folder, FM).claim("rows")  # another process takes it over
    run.save()
    assert set(run.parts) == {"other"}
    assert {p.part: p.sketch.count for p in run.state.parts()} == {"rows": 0, "other": 10}


def test_where_nothing_gives_parts_away_a_part_that_was_taken_ends_the_run(tmp_path):
    class Robbed(Scripted):
        def poll(self, timeout):
            if self.next == 20:
                State(run.state.folder, FM).claim("rows")  # such as a state folder put back
            yield from super().poll(timeout)

    run = ingest(tmp_path, Robbed(60, 10))
    with pytest.raises(FencedError, match="was taken over"):
        run.run(threading.Event())
    assert run.source.closed and run.state.cut()[0].count == 20


def test_letters_that_cannot_be_written_are_told_before_a_row_is_read(tmp_path):
    class Shut(Letters):
        def flush(self):
            raise ConfigError("topic 'dead' does not exist")

    source = Scripted(10)
    with pytest.raises(ConfigError, match="does not exist"):
        ingest(tmp_path, source, Shut()).run(threading.Event())
    assert source.chunks == 0


def test_a_disk_that_refuses_is_tried_again_and_nothing_is_lost(tmp_path):
    source = Scripted(50, 10)
    run = ingest(tmp_path, source)
    save, fails = run.state.save, [3]

    def flaky(part):
        if fails[0]:
            fails[0] -= 1
            raise StoreError("no space left")
        save(part)

    run.state.save = flaky
    run.run(threading.Event())
    assert (run.state.cut()[0].total == expected(range(50))).all() and source.acked


def test_decayed_and_tumbling_memories_release_panes(tmp_path):
    run = ingest(tmp_path, Scripted(40, 10), rows=10)
    run.releases.new_releaser = lambda: Releaser(FM, SCHEMA, memory="tumbling")
    run.run(threading.Event())
    counts = [
        Snapshot.from_bytes(Store(tmp_path).snapshots.read(n)).count
        for n in Store(tmp_path).snapshots.names()
    ]
    assert sum(counts) == 40 and max(counts) <= 20


def test_stopping_saves_what_was_read(tmp_path):
    stop = threading.Event()

    class Endless(Scripted):
        def poll(self, timeout):
            if self.next >= 30:
                stop.set()
            yield from super().poll(timeout)

    run = ingest(tmp_path, Endless(10**6, 10), save_seconds=1e9)
    run.run(stop)
    saved = run.state.cut()[1]["rows"]["row"]
    assert saved >= 30 and (run.state.cut()[0].total == expected(range(saved))).all()


def test_every_chunk_of_a_poll_is_learned_even_when_a_save_is_due_or_a_stop_comes(tmp_path):
    stop = threading.Event()

    class Burst(Scripted):
        """Hands out several chunks per poll, and has then moved past all of them."""

        def poll(self, timeout):
            chunks = [c for _ in range(4) for c in super(Burst, self).poll(timeout)]
            for k, chunk in enumerate(chunks):
                if chunk.position["row"] > 70 and k == 1:
                    stop.set()
                yield chunk

    run = ingest(tmp_path, Burst(100, 5))
    run.run(stop)
    sketch, positions, _ = run.state.cut()
    assert (sketch.total == expected(range(positions["rows"]["row"]))).all()


def test_a_source_that_cannot_be_opened_is_closed_all_the_same(tmp_path):
    class Shut(Scripted):
        def open(self, owner):
            owner.claim("rows")
            raise Crash

    source = Shut()
    with pytest.raises(Crash):
        ingest(tmp_path, source).run(threading.Event())
    assert source.closed
    assert (
        ingest(tmp_path, Scripted(10)).run(threading.Event()).rows == 10
    )  # the part is free again
