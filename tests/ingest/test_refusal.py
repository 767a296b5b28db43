"""No row stops its consumer: whatever it holds, it is learned or written down, and the rows beside it count."""

import json
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamsketch_consumers.dead_letter import FileDeadLetters, read_file

from streamsketch import Schema, Store
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import Chunk
from streamsketch.ingest.windows import Windows
from streamsketch.privacy.clipping import UserLimits
from streamsketch.privacy.release import Releaser
from streamsketch.schema import Column
from testing.sources import BareSource

FAR = 2**62
HOSTILE = {
    "timestamp[us]": pa.array([FAR, -FAR, 2**63 - 1, -(2**63)], pa.timestamp("us")),
    "timestamp[s]": pa.array([FAR, -FAR, -62_167_219_200, 253_402_300_800], pa.timestamp("s")),
    "zone": pa.array([FAR, 0, 10**15, -(10**17)], pa.timestamp("us", "Mars/Olympus")),
    "date64": pa.array([FAR, -FAR, 0, 2**50], pa.int64()).cast(pa.date64(), safe=False),
    "date32": pa.array([2**31 - 1, -(2**31), 0, 10**7], pa.int32()).cast(pa.date32()),
    "int64": pa.array([FAR, -FAR, 2**63 - 1, -(2**63)]),
    "uint64": pa.array([2**64 - 1, 2**63, 0, 1], pa.uint64()),
    "float": pa.array([1e308, -1e308, float("nan"), float("inf")]),
    "duration": pa.array([FAR, -FAR, 2**63 - 1, 0], pa.duration("s")),
    "view": pa.array(["a", "b", "\0", "\ud7ff" * 9]).cast(pa.string_view()),
    "binary": pa.array([b"\xff", b"", b"\0" * 99, b"a"]),
    "struct": pa.array([{"a": 1}, {"a": None}, {"a": FAR}, {}]),
    "times in a struct": pa.StructArray.from_arrays(
        [pa.array([FAR] * 4, pa.timestamp("us"))], names=["t"]
    ),
    "list": pa.array([[FAR], [], [1, 2], None], pa.list_(pa.timestamp("s"))),
    "decimal": pa.array([1, 2, 3, 4]).cast(pa.decimal128(38)),
    "time": pa.array([0, 1, 2, 86_399], pa.int32()).cast(pa.time32("s")),
    "null": pa.nulls(4),
    "not UTF-8": pa.array([b"\xff\xfe", b"a", b"\xc3", b"b"]).view(pa.string()),
    "not UTF-8 by code": pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 0, 1], pa.int8()), pa.array([b"\xff", b"a"]).view(pa.string())
    ),
    "not UTF-8 in a view": pa.array([b"\xff\xfe" * 20, b"a", b"b", b"\xc3"])
    .cast(pa.binary_view())
    .view(pa.string_view()),
}
COLUMNS = {
    "x": Column("x", "numeric", low=0, high=1000),
    "c": Column("c", "categorical", "string", values=("a", "b")),
    "o": Column("o", "categorical", "string", values=("a", "b"), other="b"),
    "l": Column("l", "label", "string", values=("a", "b")),
    "t": Column("t", "timestamp", "timestamp[us]", low="2020-01-01", high="2021-01-01"),
    "who": Column("who", "user_id", "string"),
    "id": Column("id", "record_id", "string"),
    "at": Column("at", "event_time", "timestamp[us]"),
    "v": Column("v", "vector", "fixed_size_list<float>[2]", low=0, high=1),
    "b": Column("b", "boolean", "bool"),
}
SCHEMA = Schema(list(COLUMNS.values()))
FM = FeatureMap.from_spec(Spec("gaussian", SCHEMA.d, 8, schema_hash=SCHEMA.hash))
ROWS = 4


def good(n=ROWS):
    """Rows that nothing is wrong with."""
    return {
        "x": pa.array(np.arange(n) * 1.0),
        "c": pa.array(["a"] * n),
        "o": pa.array(["b"] * n),
        "l": pa.array(["b"] * n),
        "t": pa.array([1_590_000_000_000_000] * n, pa.timestamp("us")),
        "who": pa.array([f"u{i}" for i in range(n)]),
        "id": pa.array([f"r{i}" for i in range(n)]),
        "at": pa.array([1_590_000_000_000_000] * n, pa.timestamp("us")),
        "v": pa.array([[0.5, 0.5]] * n, pa.list_(pa.float32(), 2)),
        "b": pa.array([True] * n),
    }


class Batches(BareSource):
    """A few batches, one after the other."""

    def __init__(self, batches):
        self.batches, self.next = batches, 0

    def open(self, owner):
        self.next = (owner.claim("rows") or {"chunk": 0})["chunk"]

    def poll(self, timeout):
        if self.next == len(self.batches):
            self.finished = True
            return
        self.next += 1
        yield Chunk("rows", {"chunk": self.next}, self.batches[self.next - 1], (), {"row": 0})


def learn(folder, batches, rows=10**6):
    """The whole way, twice: started again it must not come to anything it has not seen."""
    for _ in range(2):
        store = Store(folder)
        state = State(store.state_dir, FM)
        one = Ingest(
            Batches(batches), SCHEMA, FM, state, store, lambda: Releaser(FM, SCHEMA),
            FileDeadLetters(folder / "dead.jsonl"), Schedule(0.0, None),
            windows=Windows("at", 3600), record_ids=1000, limits=UserLimits(rows=rows),
        )  # fmt: skip
        one.run(threading.Event())
    part = state.parts()[0]
    return part, read_file(folder / "dead.jsonl")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_are_learned_or_written_down_in_every_column(tmp_path, kind):
    fine = pa.record_batch(good())
    batches = [fine]
    for name in COLUMNS:
        own = pa.array([f"{name}{i}" for i in range(ROWS)])
        batches.append(pa.record_batch({**good(), "id": own, name: HOSTILE[kind]}))
    part, letters = learn(tmp_path, [*batches, fine])
    assert part.position == {"chunk": 2 + len(COLUMNS)}
    assert part.learned.count + part.dead + part.duplicates == ROWS * (2 + len(COLUMNS))
    assert part.learned.count >= ROWS and part.duplicates >= ROWS
    assert len(letters) == part.dead
    for letter in letters:
        assert letter.reason and json.loads(letter.raw).keys() == COLUMNS.keys()


def test_in_a_batch_only_the_row_that_is_not_text_is_refused(tmp_path):
    for name in ("c", "l", "who", "id"):
        texts = [b"a", b"\xff\xfe", b"b", b"\xc3("]
        batch = pa.record_batch({**good(), name: pa.array(texts).view(pa.string())})
        part, letters = learn(tmp_path / name, [batch])
        assert part.learned.count == 2, name
        assert [d.reason for d in letters] == [f"column {name!r}: the text is not UTF-8"] * 2
        assert [d.where["row"] for d in letters] == [1, 3]
        assert json.loads(letters[0].raw)[name] == r"\xff\xfe"


def test_a_row_at_which_reading_fails_stands_alone(tmp_path, monkeypatch):
    """What nobody foresaw: here an encoder that fails at one value."""
    encode = Schema.encode

    def fails(self, batch):
        if 2.0 in batch.column("x").to_pylist():
            raise OverflowError("date value out of range")
        return encode(self, batch)

    monkeypatch.setattr(Schema, "encode", fails)
    part, letters = learn(tmp_path, [pa.record_batch(good())])
    assert part.learned.count == 3
    assert [(d.where["row"], d.reason) for d in letters] == [
        (2, "it cannot be read (OverflowError)")
    ]


def test_rows_beyond_a_users_limit_are_counted_and_not_written_down(tmp_path):
    rows = good(6)
    rows["who"] = pa.array(["a", "a", "b", "a", "b", "b"])
    part, letters = learn(tmp_path, [pa.record_batch(rows)], rows=2)
    assert (part.learned.count, part.dead, letters) == (4, 2, [])


def test_a_duplicate_or_late_row_does_not_use_up_its_users_limit(tmp_path):
    rows = good(6)
    rows["who"] = pa.array(["a"] * 6)
    rows["id"] = pa.array(["1", "1", "1", "1", "2", "3"])
    part, _ = learn(tmp_path, [pa.record_batch(rows)], rows=2)
    assert (part.learned.count, part.duplicates, part.dead) == (2, 3, 1)


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=8),
    st.binary(max_size=8), st.lists(st.integers(-9, 9), max_size=2), st.dates(), st.datetimes(),
)  # fmt: skip


def arrays(n):
    """An array of any type that takes such values."""
    return st.lists(values, min_size=n, max_size=n).map(_array)


def _array(found):
    try:
        return pa.array(found)
    except (pa.ArrowException, OverflowError, ValueError):
        return pa.array([None if v is None else str(v).encode("utf-8", "replace") for v in found])


@given(st.sampled_from(sorted(COLUMNS)), arrays(ROWS))
@settings(max_examples=60, deadline=None)
def test_any_array_in_any_column(tmp_path_factory, name, column):
    batch = pa.record_batch({**good(), name: column})
    part, letters = learn(tmp_path_factory.mktemp("any"), [batch])
    assert part.learned.count + part.dead + part.duplicates == ROWS and len(letters) == part.dead
