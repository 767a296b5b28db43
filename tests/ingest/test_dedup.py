"""Deduplication by record id: a bounded memory against a list that forgets the oldest."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamsketch import Schema, Store
from streamsketch.errors import ConfigError
from streamsketch.features import FeatureMap, Spec
from streamsketch.ingest.dedup import RecentIds, keys
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.ingest.windows import Windows
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Column

SCHEMA = Schema(
    [
        Column("x", "numeric", low=0, high=1000),
        Column("id", "record_id", "string"),
        Column("t", "event_time", "int64"),
    ]
)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 4, schema_hash=SCHEMA.hash))


class Group:
    coordinated = True
    finished = False

    def saved(self, positions):
        pass


def member(folder, capacity, windows=None, letters=None):
    store = Store(folder)
    return Ingest(
        Group(), SCHEMA, FM, State(store.state_dir, FM), store, lambda: Releaser(FM, SCHEMA),
        letters, Schedule(seconds=None), record_ids=capacity, windows=windows,
    )  # fmt: skip


def batch_of(rows):
    return pa.record_batch(
        {
            "x": pa.array([x for x, _ in rows], pa.float64()),
            "id": pa.array([i for _, i in rows], pa.string()),
            "t": pa.array(range(len(rows)), pa.int64()),
        }
    )


def by_hand(rows, capacity):
    """The rows that count: those whose id is not among the last different ids of rows that counted."""
    kept, recent = [], []
    for x, i in rows:
        if x is None:  # refused by the schema, and not kept in mind: it may come corrected
            continue
        if i in recent:
            recent.remove(i)
        else:
            kept.append(x)
        recent = [*recent, i][-capacity:]
    return kept


@example([(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "a"), (6, "b")], 2, [])
@settings(max_examples=40, deadline=None)
@given(
    stream=st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 999)), st.sampled_from("abcdefg")),
        max_size=30,
    ),
    capacity=st.integers(1, 6),
    steps=st.lists(st.one_of(st.integers(1, 7), st.sampled_from(["save", "kill"])), max_size=15),
)
def test_the_rows_that_count_are_those_of_the_obvious_way(stream, capacity, steps):
    with tempfile.TemporaryDirectory() as name:
        run = member(Path(name), capacity)
        at = (run.parts.claim("p") or {"row": 0})["row"]
        for step in [*steps, 30]:
            if step == "save":
                run.save()
            elif step == "kill":
                run = member(Path(name), capacity)
                at = (run.parts.claim("p") or {"row": 0})["row"]
            else:
                rows = stream[at : at + step]
                at += len(rows)
                run.learn(Chunk("p", {"row": at}, batch_of(rows)))
        run.save(last=True)
        kept = by_hand(stream, capacity)
        sketch, _, rows = run.state.cut()
        assert sketch.count == len(kept) and rows == len(stream)
        expected = FM.sum(SCHEMA.encode(batch_of([(x, "") for x in kept])).x)
        assert (sketch.total == expected).all()
        part = run.parts.get("p") or run.state.parts()[0]
        bad = sum(x is None for x, _ in stream)
        assert part.duplicates == len(stream) - len(kept) - bad and part.dead == bad


def test_a_late_copy_of_a_row_that_counted_is_a_duplicate_and_not_late(tmp_path):
    run = member(tmp_path, 10, Windows("t", 10))
    run.parts.claim("p")
    rows = pa.record_batch(
        {
            "x": [1.0, 2.0, 1.0, 3.0, 3.0],
            "id": ["a", "b", "a", "c", "c"],
            "t": pa.array([5, 25, 5, 6, 30], pa.int64()),
        }
    )
    run.learn(Chunk("p", {"row": 5}, rows))
    part = run.parts["p"]
    # the late row c did not count, so that it counts when it comes with a right time
    assert part.duplicates == 1 and part.late == 1 and part.learned.count == 3
    assert {k: s.count for k, s in part.windows.items()} == {0: 1, 2: 1, 3: 1}


def test_a_row_without_an_id_is_a_dead_letter(tmp_path):
    class Letters(list):
        put = list.extend

        def flush(self):
            pass

    letters = Letters()
    run = member(tmp_path, 10, letters=letters)
    run.parts.claim("p")
    run.learn(Chunk("p", {"row": 2}, batch_of([(1, None), (2, "a")])))
    assert [d.reason for d in letters] == ["column 'id': no record id"]
    assert run.parts["p"].sketch.count == 1


def test_another_capacity_keeps_the_newest_ids(tmp_path):
    run = member(tmp_path, 5)
    run.parts.claim("p")
    run.learn(Chunk("p", {"row": 4}, batch_of([(i, "abcd"[i]) for i in range(4)])))
    run.save()
    run = member(tmp_path, 2)
    run.parts.claim("p")
    run.learn(Chunk("p", {"row": 8}, batch_of([(i, "cdab"[i]) for i in range(4)])))
    assert run.parts["p"].duplicates == 2 and len(run.parts["p"].ids) == 2


def test_ids_of_every_type_and_dictionaries_have_keys_of_their_own():
    found = [
        *keys(pa.array([1, 2])), *keys(pa.array(["1", "2"])), *keys(pa.array([b"1"])),
        *keys(pa.array([1.0])),
    ]  # fmt: skip
    assert len(set(found)) == len(found) and {len(k) for k in found} == {16}
    assert keys(pa.array(["1"]).dictionary_encode()) == keys(pa.array(["1"]))


def test_the_state_is_sixteen_bytes_an_id():
    ids = RecentIds(1000)
    for key in keys(pa.array(range(3000))):
        ids.add(key)
    saved = ids.hashes()
    assert saved.shape == (1000, 16) and saved.dtype == np.uint8
    assert RecentIds(1000, saved).hashes().tolist() == saved.tolist()


def test_without_a_record_id_column_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='kind = "record_id"'):
        Ingest(
            Group(), Schema.vectors(1, 0, 1), FM, State(tmp_path, FM), Store(tmp_path), lambda: None,
            record_ids=5,
        )  # fmt: skip
