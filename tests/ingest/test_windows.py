"""Event-time windows against the slow obvious way: group rows by floor(t / width), drop the late ones.

Rows are out of order, batches, saves, releases, kills and owners are random; sums are `==`.
"""

import tempfile
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch import Schema, Snapshot, Store
from streamsketch.errors import ConfigError, DataError, PrivacyError
from streamsketch.features import FeatureMap, Spec
from streamsketch.features.kernels import ONE
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule, release_windows
from streamsketch.ingest.streams import Chunk
from streamsketch.ingest.windows import LATE, OK, TOO_FAR, Windows, microseconds
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Column
from streamsketch.storage.clock import Clock
from testing.sources import BareSource
from tests.ingest.test_loop import Letters

SCHEMA = Schema([Column("x", "numeric", low=0, high=1000), Column("t", "event_time", "int64")])
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))


def batch_of(rows):
    """rows: (time in seconds, value) pairs."""
    return pa.record_batch(
        {"x": [float(v) for _, v in rows], "t": pa.array([t for t, _ in rows], pa.int64())}
    )


def sum_of(values):
    x = SCHEMA.encode(batch_of([(0, v) for v in values])).x
    return FM.sum(x)


def by_hand(parts, width, lateness):
    """Rows of each window and the late ones of each part, row by row."""
    windows, late = defaultdict(list), []
    for rows in parts:
        watermark = -(10**9)
        for t, value in rows:
            window = t // width
            if (window + 1) * width + lateness <= watermark:
                late.append(value)
            else:
                windows[window].append(value)
            watermark = max(watermark, t)
    return dict(windows), late


class Group(BareSource):
    """The source of one member; what it reads is decided by the test."""

    coordinated = True


class Member:
    """A process that holds some parts."""

    def __init__(self, folder, parts, windows, clock=None, record_ids=None, private=None, **given):
        store = Store(folder)
        self.parts, self.next = parts, {}
        self.letters = []
        self.ingest = Ingest(
            Group(), SCHEMA, FM, State(store.state_dir, FM), store,
            lambda: Releaser(
                FM, SCHEMA, memory="tumbling",
                **({"mechanism": "tumbling", "settings": private} if private else {}),
            ),
            self, Schedule(save_seconds=0, seconds=None, keep=None),
            windows=windows, record_ids=record_ids, clock=clock, **given,
        )  # fmt: skip

    def put(self, dead):
        self.letters += dead

    def flush(self):
        pass

    def claim(self, name):
        position = self.ingest.parts.claim(name)
        self.next[name] = 0 if position is None else position["row"]

    def give(self, name):
        self.ingest.parts.revoke(name)
        self.next.pop(name, None)

    def read(self, name, n):
        if name not in self.ingest.parts:  # taken away, and heard of it when it saved
            return
        low = self.next[name]
        rows = self.parts[name][low : low + n]
        self.next[name] = low + len(rows)
        if rows:
            self.ingest.learn(Chunk(name, {"row": low + len(rows)}, batch_of(rows)))

    def end(self):
        for part in self.ingest.parts.values():
            part.idle, part.dirty = "ended", True
        self.ingest.save(last=True)
        self.ingest.release(wait=True)


def released(folder):
    """Window number in seconds -> (sum, count), each once and in order."""
    family = Store(folder).snapshots
    found, order = {}, []
    for name in family.names():
        snapshot = Snapshot.from_bytes(family.read(name), name)
        start = np.datetime64(snapshot.span["window"]["start"][:-6]).astype("datetime64[s]")
        seconds = int(start.astype(int))
        order.append(seconds)
        total = np.rint(snapshot.mean * ONE * snapshot.count).astype(np.int64)
        found[seconds] = (total, round(snapshot.count))
    assert order == sorted(set(order)), "a window was released twice, or out of order"
    return found


ROWS = st.lists(st.integers(0, 60), max_size=14)
STEP = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 6)),
    st.sampled_from([("save",), ("release",), ("kill",), ("move",), ("save",), ("release",)]),
)


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(ROWS, min_size=1, max_size=3),
    width=st.integers(1, 20),
    lateness=st.integers(0, 15),
    steps=st.lists(STEP, min_size=5, max_size=25),
    eager=st.booleans(),
)
def test_windows_are_those_of_the_obvious_way(times, width, lateness, steps, eager):
    parts = {
        f"p{i}": [(t, 100 * i + j) for j, t in enumerate(rows)] for i, rows in enumerate(times)
    }
    windows = Windows("t", width, lateness, idle_seconds=None, max_open=1000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def start():
            return [Member(folder, parts, windows) for _ in range(2)]

        members, turn = start(), 0
        for part in parts:
            members[0].claim(part)
        for step in steps:
            member = members[turn % 2]
            match step:
                case ("read", i, n) if i < len(parts):
                    member.read(f"p{i}", n)
                    if eager:  # windows close as early as they may
                        member.ingest.save()
                        member.ingest.release()
                case ("save",):
                    member.ingest.save()
                case ("release",):
                    member.ingest.release()
                case ("kill",):  # both die; what was not saved is read again
                    members = start()
                    for part in parts:
                        members[turn % 2].claim(part)
                case ("move",):  # the other takes over, with or without a last save
                    turn += 1
                    for part in parts:
                        members[turn % 2].claim(part)
        last = members[turn % 2]
        for part, rows in parts.items():
            last.read(part, len(rows))
        last.end()
        expected, late = by_hand(parts.values(), width, lateness)
        found = released(folder)
        assert found.keys() == {k * width for k in expected}
        for k, values in expected.items():
            total, count = found[k * width]
            assert count == len(values) and (total == sum_of(values)).all()
        state = State(Store(folder).state_dir, FM)
        assert sum(p.late for p in state.parts()) == len(late)
        assert sum(p.dead for p in state.parts()) == len(late)
        learned, _, rows = state.cut()
        assert rows == sum(len(r) for r in parts.values())
        assert learned.count == rows - len(late)


@settings(max_examples=25, deadline=None)
@given(
    times=st.lists(ROWS, min_size=2, max_size=3),
    steps=st.lists(st.one_of(STEP, st.tuples(st.just("idle"), st.integers(0, 2))), max_size=30),
    max_open=st.integers(2, 4),
)
def test_parts_that_rest_or_lag_lose_no_row_uncounted(times, steps, max_open):
    """Who is late depends on the moment now, but each row is in one release, or counted as late."""
    parts = {
        f"p{i}": [(t, 100 * i + j) for j, t in enumerate(rows)] for i, rows in enumerate(times)
    }
    windows = Windows("t", 7, 0, max_open=max_open)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = [Member(folder, parts, windows) for _ in range(2)]
        owner = {part: members[i % 2] for i, part in enumerate(parts)}
        for part, member in owner.items():
            member.claim(part)
        for step in steps:
            match step:
                case ("read", i, n) if i < len(parts):
                    owner[f"p{i}"].read(f"p{i}", min(n, max_open))
                case ("save",):
                    members[len(steps) % 2].ingest.save()
                case ("release",):
                    members[0].ingest.release()
                    members[1].ingest.save()
                case ("idle", i) if i < len(parts):
                    part = owner[f"p{i}"].ingest.parts[f"p{i}"]
                    part.idle, part.dirty = "idle", True
                case ("kill",):
                    members = [Member(folder, parts, windows) for _ in range(2)]
                    owner = {part: members[i % 2] for i, part in enumerate(parts)}
                    for part, member in owner.items():
                        member.claim(part)
            for member in members:
                for part in member.ingest.parts.values():
                    assert len(part.windows) <= 2 * max_open
        for part, rows in parts.items():
            while owner[part].next[part] < len(rows):
                owner[part].read(part, max_open)
        for member in members + members:
            member.end()
        state = State(Store(folder).state_dir, FM)
        found = released(folder)
        late = sum(p.late for p in state.parts())
        assert sum(count for _, count in found.values()) + late == sum(map(len, parts.values()))
        learned = state.cut()[0]
        assert (sum(total for total, _ in found.values()) == learned.total).all()
        for start, (_, count) in found.items():
            inside = [v for rows in parts.values() for t, v in rows if start <= t < start + 7]
            assert count <= len(inside)


class Killed(BaseException):
    """The process is gone."""


def test_killed_at_every_write_each_window_is_released_once(tmp_path, monkeypatch):
    """Saves of parts, of releases and of snapshots are killed before or after they happen, one by one."""
    times = [3, 12, 25, 11, 44, 20]
    parts = {"p0": [(t, j) for j, t in enumerate(times)], "p1": [(t + 2, 50 + t) for t in times]}
    windows = Windows("t", 10, 5, idle_seconds=None)
    expected, late = by_hand(parts.values(), 10, 5)
    assert late  # or the test shows less than it should

    def finish(folder):
        member = Member(folder, parts, windows)
        for part in parts:
            member.claim(part)
        for _ in times:
            for part in parts:
                member.read(part, 1)
            member.ingest.save()
            member.ingest.release()
        member.end()

    for kill_at in range(1, 200):
        folder, calls = tmp_path / str(kill_at), 0

        def deadly(write, kill_at=kill_at):
            def killing(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == (kill_at + 1) // 2 and kill_at % 2:
                    raise Killed
                write(*args, **{**kwargs, "fsync": False})
                if calls == kill_at / 2:
                    raise Killed

            return killing

        with monkeypatch.context() as m:
            import streamsketch.storage.records
            import streamsketch.storage.store

            for module in (streamsketch.storage.records, streamsketch.storage.store):
                m.setattr(module, "write_atomic", deadly(module.write_atomic))
            try:
                finish(folder)
                break
            except Killed:
                finish(folder)
        found = released(folder)
        assert found.keys() == {k * 10 for k in expected}
        for k, values in expected.items():
            assert found[k * 10][1] == len(values)
            assert (found[k * 10][0] == sum_of(values)).all()
    assert kill_at > 40


def test_late_rows_go_to_the_dead_letters_and_do_not_stop_a_strict_run(tmp_path):
    member = Member(tmp_path, {"p": [(5, 0), (25, 1), (9, 2), (24, 3)]}, Windows("t", 10))
    member.claim("p")
    member.read("p", 4)
    (letter,) = member.letters
    assert letter.reason == "late: the window from 1970-01-01T00:00:00+00:00 had closed"
    assert letter.where["row"] == 2 and '"x": 2.0' in letter.raw
    strict = Member(tmp_path / "strict", {"p": [(25, 1), (9, 2)]}, Windows("t", 10))
    strict.ingest.intake.strict = True
    strict.claim("p")
    strict.read("p", 2)
    assert strict.ingest.parts["p"].late == 1


def test_a_row_without_time_is_refused_and_a_stream_without_the_column_too(tmp_path):
    member = Member(tmp_path, {}, Windows("t", 10))
    member.claim("p")
    batch = pa.record_batch({"x": [1.0, 2.0], "t": pa.array([None, 3], pa.int64())})
    member.ingest.learn(Chunk("p", {"row": 2}, batch))
    member.ingest.learn(Chunk("p", {"row": 4}, pa.record_batch({"x": [1.0, 2.0]})))
    member.ingest.learn(Chunk("p", {"row": 5}, pa.record_batch({"x": [1.0], "t": ["noon"]})))
    reasons = [d.reason for d in member.letters]
    assert reasons[0] == "column 't': no event time" and "no single column 't'" in reasons[1]
    assert "must be a timestamp" in reasons[3] and len(reasons) == 4
    assert member.ingest.state.cut()[0].count == 0 and member.ingest.parts["p"].learned.count == 1


class Ticking(Group):
    """A source of chunks by name; each poll takes a second of the test's clock."""

    def __init__(self, chunks, parts, ticks):
        self.chunks, self.parts, self.ticks, self.finished = list(chunks), parts, ticks, False

    def open(self, owner):
        for part in self.parts:
            owner.claim(part)

    def poll(self, timeout):
        self.ticks[0] += 1.0
        if not self.chunks:
            self.finished = True
            return
        chunk = self.chunks.pop(0)
        if chunk is not None:
            yield chunk


def run(folder, chunks, parts, windows, **more):
    ticks = [0.0]
    store = Store(folder)
    ingest = Ingest(
        Ticking(chunks, parts, ticks), SCHEMA, FM, State(store.state_dir, FM), store,
        lambda: Releaser(FM, SCHEMA, memory="tumbling"),
        schedule=Schedule(save_seconds=0, seconds=None), windows=windows,
        clock=Clock(lambda: 0.0, lambda: ticks[0]), **more,
    )  # fmt: skip
    made, inner = [], ingest.release

    def release(wait=False, last=False):
        before = ingest.progress.releases
        out = inner(wait)
        made.extend([ticks[0]] * (ingest.progress.releases - before))
        return out

    ingest.release = release
    ingest.run(threading.Event())
    return ingest, made, ticks


def chunk(part, rows, at):
    return Chunk(part, {"row": at}, batch_of(rows))


def test_an_idle_part_is_waited_for_until_it_is_idle(tmp_path):
    chunks = [chunk("a", [(1, 1), (25, 2)], 2), chunk("b", [(3, 3)], 1), *[None] * 8]
    chunks += [chunk("a", [(26, 4)], 3), chunk("b", [(4, 5), (27, 6)], 3)]
    letters = Letters()
    ingest, made, _ = run(
        tmp_path, chunks, ["a", "b"], Windows("t", 10, idle_seconds=5), dead_letters=letters
    )
    assert [d.reason[:5] for d in letters.put_] == ["late:"]
    # window 0 is released when b has been silent for 5 s; then b's row of it is late
    assert made[0] == 7.0 and ingest.parts["b"].late == 1
    found = released(tmp_path)
    assert {k: n for k, (_, n) in found.items()} == {0: 2, 20: 3}
    chunks = [chunk("a", [(1, 1), (25, 2)], 2), chunk("b", [(3, 3)], 1), *[None] * 8]
    waits, made, _ = run(
        tmp_path / "waits", chunks, ["a", "b"], Windows("t", 10, idle_seconds=None)
    )
    assert made == [11.0, 11.0]  # at the end of the stream


def test_a_process_that_stood_still_does_not_take_its_parts_for_idle(tmp_path):
    ingest, _, ticks = run(tmp_path, [], ["a"], Windows("t", 10, idle_seconds=5))
    ingest.parts.claim("a")
    ticks[0] += 3600
    ingest.idleness.look(ingest.parts, dict)
    assert not ingest.parts["a"].idle
    for _ in range(5):
        ticks[0] += 1
        ingest.idleness.look(ingest.parts, dict)
    assert ingest.parts["a"].idle == "idle"


def test_the_end_of_a_stream_may_keep_its_windows_open_for_more(tmp_path):
    keep = Windows("t", 10, at_end="keep")
    run(tmp_path, [chunk("a", [(1, 1), (12, 2)], 2)], ["a"], keep)
    assert released(tmp_path).keys() == {0}
    run(tmp_path, [chunk("a", [(13, 3)], 3)], ["a"], Windows("t", 10))
    assert {k: n for k, (_, n) in released(tmp_path).items()} == {0: 1, 10: 2}


def test_rows_of_more_windows_in_a_chunk_than_may_be_open_are_refused_and_nothing_else(tmp_path):
    """A bound never ends a run; rows that were refused make no other row late."""
    rows = [(t, t) for t in (0, 10, 20, 30, 40, 9000, 41, 12)]
    member = Member(tmp_path, {"p": rows}, Windows("t", 10, lateness=30, max_open=5))
    member.claim("p")
    member.read("p", 8)
    part = member.ingest.parts["p"]
    assert part.position == {"row": 8} and part.watermark == 41_000_000 and part.dead == 1
    assert {k: s.count for k, s in part.windows.items()} == {0: 1, 1: 2, 2: 1, 3: 1, 4: 2}
    assert "max_open = 5 windows of 10 s" in member.letters[0].reason


def test_such_rows_stop_a_strict_run_with_nothing_learned(tmp_path):
    rows = {"p": [(t, t) for t in range(0, 60, 10)]}
    member = Member(tmp_path, rows, Windows("t", 10, max_open=5), on_error="fail")
    member.claim("p")
    with pytest.raises(DataError, match="max_open = 5 windows of 10 s"):
        member.read("p", 6)
    part = member.ingest.parts["p"]
    assert part.position is None and part.watermark is None and not part.windows


def test_a_time_far_ahead_does_not_make_the_others_late():
    windows = Windows("t", 10, max_jump=100)
    times = np.array([5, 10**9, 7, 104, 10**9, 9], np.int64) * 1_000_000
    index, verdict, mark = windows.place(times, None, None)
    assert verdict.tolist() == [OK, TOO_FAR, OK, OK, TOO_FAR, LATE] and mark == 104_000_000
    assert index.tolist()[::2] == [0, 0, 10**8]
    assert Windows("t", 10).place(times, None, None)[1].tolist() == [0, 0, 1, 1, 0, 1]


def test_batches_do_not_matter_to_who_is_late():
    rng = np.random.default_rng(0)
    times = (rng.integers(0, 80, 200) + np.arange(200)) * 1_000_000
    times[[40, 90]] += 10**9
    windows = Windows("t", 10, 20, max_jump=150)
    whole = windows.place(times, None, 3)
    verdicts, mark = [], None
    for part in np.split(times, [1, 2, 50, 51, 120]):
        _, verdict, mark = windows.place(part, mark, 3)
        verdicts += verdict.tolist()
    assert verdicts == whole[1].tolist() and mark == whole[2] and {0, 1, 2} == set(verdicts)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([0, 1_500], pa.timestamp("ms")), [0, 1_500_000]),
        (pa.array([-1, 1_999], pa.timestamp("ns")), [-1, 1]),
        (pa.array([-1.5, float("nan"), float("inf"), None]), [-1_500_000, None, None, None]),
        (pa.array([1], pa.date32()), [86_400_000_000]),
        (pa.array([2, 2**62], pa.int64()), [2_000_000, None]),
        (pa.array([7], pa.timestamp("us", tz="Europe/Berlin")), [7]),
    ],
)
def test_times_of_every_type_are_whole_microseconds(values, expected):
    times, bad = microseconds(values, "t")
    found = [None if b else t for t, b in zip(times.tolist(), bad.tolist(), strict=True)]
    assert found == expected and times.dtype == np.int64


def test_windows_that_cannot_be_are_refused():
    for wrong, says in [
        ({"width": 0}, "width"),
        ({"width": 1, "lateness": -1}, "lateness"),
        ({"width": 1, "lateness": 100}, "max_open = 100, but 102 are open"),
    ]:
        with pytest.raises(ConfigError, match=says):
            Windows("t", **wrong)


# --- by the clock, and private


def by_clock(now, **more):
    return Windows("t", 10, watermark="clock", **more), Clock(lambda: now[0], lambda: now[0])


def test_by_the_clock_every_window_has_its_turn_and_no_row_moves_another(tmp_path):
    now = [100.0]
    windows, clock = by_clock(now, max_open=4)
    rows = [(99, 1), (101, 2), (139, 3), (140, 4), (10**6, 5)]
    member = Member(tmp_path, {"p": rows}, windows, clock, private={"rho": 0.5, "releases": 20})
    member.ingest.releases.begin()
    member.claim("p")
    member.read("p", 5)
    reasons = [d.reason for d in member.letters]
    assert "late: the window from 1970-01-01T00:01:30" in reasons[0] and len(reasons) == 3
    assert "too far ahead of the clock" in reasons[1] and "too far ahead" in reasons[2]
    member.ingest.save()
    assert member.ingest.release() is None and not member.ingest.releases.due(member.ingest.parts)
    now[0] = 131.0
    assert member.ingest.releases.due(member.ingest.parts)
    member.ingest.release()
    assert list(released_spans(tmp_path)) == ["00:01:40", "00:01:50", "00:02:00"]
    now[0] = 10_000.0  # after a long rest: only windows that may hold rows have their turn
    member.ingest.release()
    assert len(Store(tmp_path).snapshots.names()) == 7
    assert member.ingest.state.closed() == 1000


def released_spans(folder):
    family = Store(folder).snapshots
    for name in family.names():
        snapshot = Snapshot.from_bytes(family.read(name), name)
        assert snapshot.span.keys() == {"window"}  # and no position
        yield snapshot.span["window"]["start"][11:19]


def test_one_row_changes_one_window_of_a_private_stream_and_no_timing(tmp_path):
    """The exact panes handed to the mechanism, with and without each row in turn."""
    rows = [(100, 1), (108, 2), (127, 3), (103, 4), (131, 5), (124, 6)]

    def panes(folder, rows):
        now, seen = [100.0], []
        windows, clock = by_clock(now, max_open=5)
        member = Member(folder, {"p": rows}, windows, clock, private={"rho": 0.5, "releases": 9})
        inner = member.ingest.releases.new_releaser

        def new_releaser():
            releaser = inner()
            release = releaser.release

            def spying(total, count, span=None):
                pane = (total - releaser.seen, count - releaser.seen_count)
                seen.append((span["window"]["start"], pane[0], pane[1]))
                return release(total, count, span)

            releaser.release = spying
            return releaser

        member.ingest.releases.new_releaser = new_releaser
        member.ingest.releases.begin()
        member.claim("p")
        for _ in range(6):
            member.read("p", 1)
            now[0] += 6
            member.ingest.save()
            member.ingest.release()
        now[0] += 20
        member.ingest.release()
        return seen

    whole = panes(tmp_path / "all", rows)
    assert sum(count for *_, count in whole) == 4 and len(whole) == 5  # two of them are late
    for i in range(len(rows)):
        # absent: its place in the stream stays empty
        absent = [*rows[:i], (-1, 0), *rows[i + 1 :]]
        other = panes(tmp_path / str(i), absent)
        assert [w for w, *_ in other] == [w for w, *_ in whole]
        changed = [
            (np.linalg.norm(a - b) / ONE, abs(n - k))
            for (_, a, n), (_, b, k) in zip(whole, other, strict=True)
            if n != k or (a != b).any()
        ]
        assert len(changed) <= 1
        assert all(norm <= FM.norm_bound and n == 1 for norm, n in changed)


def test_windows_by_the_rows_are_refused_with_a_mechanism(tmp_path):
    member = Member(tmp_path, {"p": [(1, 1), (30, 2)]}, Windows("t", 10), private={"rho": 0.5})
    member.claim("p")
    member.read("p", 2)
    member.ingest.save()
    with pytest.raises(PrivacyError, match='watermark = "clock"'):
        member.ingest.release()


def test_a_spent_budget_closes_windows_unreleased_and_consuming_goes_on(tmp_path, caplog):
    now = [100.0]
    windows, clock = by_clock(now, max_open=4)
    member = Member(tmp_path, {"p": [(t, 1) for t in range(100, 200, 2)]}, windows, clock)
    settings = {"rho": 0.5, "releases": 2}
    member.ingest.releases.new_releaser = lambda: Releaser(
        FM, SCHEMA, mechanism="toeplitz", settings=settings
    )
    member.ingest.releases.begin()
    member.claim("p")
    for _ in range(10):
        member.read("p", 5)
        now[0] += 10
        member.ingest.save()
        member.ingest.release()
    assert len(Store(tmp_path).snapshots.names()) == 2 and "is spent" in caplog.text
    assert caplog.text.count("is spent") == 1
    part = member.ingest.parts["p"]
    assert part.late == 0 and len(part.windows) <= 2
    assert member.ingest.state.cut()[0].count == 50


def test_a_clock_that_is_behind_what_is_closed_is_told(tmp_path, caplog):
    windows, _ = by_clock([0.0])
    state = State(Store(tmp_path).state_dir, FM)
    state.begin(10**6)
    member = Member(tmp_path, {}, windows, Clock(lambda: 0.0, lambda: 0.0))
    member.ingest.releases.begin()
    assert "correct the clock" in caplog.text


def test_memories_combine_windows_as_they_combine_releases(tmp_path):
    member = Member(tmp_path, {"p": [(t, t) for t in (1, 12, 25, 38, 59)]}, Windows("t", 10))
    member.ingest.releases.new_releaser = lambda: Releaser(FM, SCHEMA, memory="sliding:2")
    member.claim("p")
    for _ in range(5):
        member.read("p", 1)
        member.ingest.save()
        member.ingest.release()
    member.end()
    family = Store(tmp_path).snapshots
    counts = [Snapshot.from_bytes(family.read(n), n).count for n in family.names()]
    assert counts == [1, 2, 2, 2, 2]
    assert (
        release_windows(
            member.ingest.state,
            Store(tmp_path),
            member.ingest.releases.new_releaser,
            Windows("t", 10),
            0.0,
        )
        == []
    )


def test_a_window_is_open_until_its_lateness_has_passed_and_no_longer(tmp_path):
    rows = [(5, 0), (14, 1), (6, 2), (15, 3), (7, 4)]
    member = Member(tmp_path, {"p": rows}, Windows("t", 10, 5))
    member.claim("p")
    counts = []
    for _ in rows:
        member.read("p", 1)
        member.ingest.save()
        member.ingest.release()
        counts.append({k: n for k, (_, n) in released(tmp_path).items()})
    assert counts == [{}, {}, {}, {0: 2}, {0: 2}] and member.ingest.parts["p"].late == 1


def test_an_alarm_resets_the_memory_after_the_next_window(tmp_path):
    times = (1, 12, 25, 38, 59)
    member = Member(tmp_path, {"p": [(t, t) for t in times]}, Windows("t", 10))
    member.ingest.releases.new_releaser = lambda: Releaser(FM, SCHEMA)
    member.claim("p")
    for t in times:
        member.read("p", 1)
        if t == 25:  # before window 1 is released
            (member.ingest.state.folder / "release.request").write_text("reset")
        member.ingest.save()
        member.ingest.release()
    member.end()
    family = Store(tmp_path).snapshots
    counts = [Snapshot.from_bytes(family.read(n), n).count for n in family.names()]
    assert counts == [1, 2, 1, 2, 3]


def test_a_pipeline_file_from_rows_to_inspect(tmp_path):
    import pyarrow.parquet as pq

    from streamsketch.run.config import load
    from streamsketch.run.consume import run_ingest
    from streamsketch.run.facts import facts_of
    from streamsketch.run.status import read_all
    from streamsketch.run.worker import make_source

    hours = np.array([0, 0, 1, 0, 3, 1, 2, 3])
    at = pa.array(hours * 3_600_000 + 1_700_006_400_000, pa.timestamp("ms"))
    table = pa.table({"x": np.linspace(0, 1, 8), "at": at, "id": list("abcdefga")})
    pq.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "p.toml").write_text("""
[source]
path = "rows.parquet"
[schema.x]
kind = "numeric"
low = 0
high = 1
[schema.at]
kind = "event_time"
type = "timestamp[ms]"
[schema.id]
kind = "record_id"
type = "string"
[windows]
width = 3600
lateness = 3600
[dedup]
[sketch]
frequencies = 8
memory = "tumbling"
[store]
path = "run"
""")
    pipeline = load(tmp_path / "p.toml")
    run_ingest(pipeline, make_source(pipeline), threading.Event())
    facts = facts_of(Store(tmp_path / "run"))
    assert [(s["window"], s["rows"]) for s in reversed(facts["snapshots"])] == [
        ("2023-11-15T00:00 .. 2023-11-15T01:00", 3),
        ("2023-11-15T01:00 .. 2023-11-15T02:00", 1),
        ("2023-11-15T02:00 .. 2023-11-15T03:00", 1),
        ("2023-11-15T03:00 .. 2023-11-15T04:00", 1),
    ]
    said = read_all(tmp_path / "run" / "state")["consumer-0"]
    assert (said["duplicates"], said["late"], said["dead"], said["open_windows"]) == (1, 1, 1, 0)


def test_a_part_far_behind_is_not_waited_for_beyond_the_windows_that_may_be_open(tmp_path):
    parts = {"slow": [(1, 0), (35, 1), (88, 2)], "fast": [(t, t) for t in range(5, 100, 10)]}
    member = Member(tmp_path, parts, Windows("t", 10, idle_seconds=None, max_open=3))
    for part in parts:
        member.claim(part)
    member.read("slow", 1)
    for _ in parts["fast"]:
        member.read("fast", 1)
        member.ingest.save()
        member.ingest.release()
        assert len(member.ingest.parts["fast"].windows) <= 4  # one is released, and not yet folded
    assert list(released(tmp_path)) == [0, 10, 20, 30, 40, 50, 60]
    member.read("slow", 2)
    assert member.ingest.parts["slow"].late == 1
    member.end()
    assert released(tmp_path)[80][1] == 2 and released(tmp_path)[0][1] == 2


def test_a_private_release_tells_its_window_and_no_position():
    releaser = Releaser(FM, SCHEMA, mechanism="tumbling", settings={"rho": 0.5})
    total = np.zeros(2 * FM.spec.m, np.int64)
    snapshot = releaser.release(total, 0, {"parts": {"p": {"row": 7}}, "window": {"start": "a"}})
    assert snapshot.span == {"window": {"start": "a"}}


def test_numbers_count_the_unit_that_is_declared_and_seconds_end_with_the_calendar():
    stamps = pa.array([1_700_000_000_000, None])
    times, bad = microseconds(stamps, "t", pa.timestamp("ms"))
    assert times.tolist() == [1_700_000_000_000_000, 0] and bad.tolist() == [False, True]
    assert microseconds(stamps, "t")[1].tolist() == [True, True]  # the year 55840: another unit
    assert microseconds(stamps.cast(pa.float64()), "t", pa.float64())[1].tolist() == [True, True]
    assert microseconds(pa.array(["2023-11-14T22:13:20Z"]), "t", pa.timestamp("s"))[
        0
    ].tolist() == [1_700_000_000_000_000]
