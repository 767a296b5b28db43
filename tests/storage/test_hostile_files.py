"""A checksum is no validation: files whose bytes are whole and whose values are not are refused by name."""

import hashlib
import json
import struct

import numpy as np
import pytest

from streamsketch.errors import DamagedFileError, DataError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.parts import State
from streamsketch.schema import Schema
from streamsketch.sketch import MOST_ROWS, Sketch
from streamsketch.sketcher import Sketcher
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import pack, unpack
from streamsketch.storage.store import Store

SCHEMA = Schema.vectors(2, low=0, high=1)
FEATURES = FeatureMap.from_spec(Spec("gaussian", 2, 8, schema_hash=SCHEMA.hash))
WIDTH = FEATURES.width
ZERO = np.zeros(WIDTH, np.int64)


def sketch(arrays, count):
    return pack("sketch", arrays, {"spec": FEATURES.spec.to_dict(), "count": count})


@pytest.mark.parametrize(
    ("total", "count"),
    [
        (ZERO, -5),
        (ZERO, 2**70),
        (ZERO, "x"),
        (ZERO, [1]),
        (ZERO, True),
        (ZERO, 1.0),
        (ZERO[:3], 5),
        (ZERO[:1], 5),
        (ZERO.reshape(2, -1), 5),
        (ZERO.astype(float), 5),
        (ZERO + 2**62, 1),
        (np.full(WIDTH, -(2**63)), MOST_ROWS),
    ],
)
def test_a_sketch_that_no_rows_make_is_refused(total, count):
    with pytest.raises(DamagedFileError):
        Sketch.from_bytes(sketch({"total": total}, count))


def test_sums_that_would_wrap_are_refused_and_the_largest_are_not():
    largest = Sketch.from_bytes(sketch({"total": ZERO + 65536 * MOST_ROWS}, MOST_ROWS))
    assert largest.mean()[0] == 1.0
    one = Sketch.from_bytes(sketch({"total": ZERO + 65536}, 1))
    with pytest.raises(DataError, match="overflow"):
        largest.merge(one)
    with pytest.raises(DataError, match="overflow"):
        largest.update(FEATURES, np.zeros((1, 2), np.float32))


def snapshot(arrays=None, **change):
    made = Snapshot(np.zeros(WIDTH), 5, FEATURES.spec, SCHEMA)
    held, body = made._content()
    body = {k: v for k, v in {**body, **change}.items() if v is not ...}
    return pack("snapshot", held if arrays is None else arrays, body)


@pytest.mark.parametrize(
    "data",
    [
        snapshot({"mean": np.full(WIDTH, np.nan)}),
        snapshot({"mean": np.zeros(3)}),
        snapshot({"mean": np.full(WIDTH, 1e300)}),
        snapshot({"mean": np.zeros(WIDTH), "omega": np.zeros(3)}),
        snapshot({}),
        snapshot(count=-7),
        snapshot(count="7"),
        snapshot(release={"zz": 1}),
        snapshot(release={"mechanism": 3}),
        snapshot(release={"rho": -1.0}),
        snapshot(spec=...),
        snapshot(schema=5),
        snapshot(schema=[["x"]]),
        snapshot(span=[]),
    ],
)
def test_a_snapshot_that_does_not_fit_together_is_refused(data):
    with pytest.raises(DamagedFileError, match="the data is damaged"):
        Snapshot.from_bytes(data)


def forged(text, kind="snapshot"):
    checksum = hashlib.sha256(f"1\0{kind}\0{text}".encode()).hexdigest()
    meta = {"format": "1", "kind": kind, "body": text, "sha256": checksum}
    header = json.dumps({"__metadata__": meta}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "{nope", "[1]", "5", ""])
def test_a_body_that_is_no_table_is_refused(text):
    with pytest.raises(DamagedFileError):
        unpack(forged(text), "snapshot")


def test_the_newest_sound_file_is_used_where_a_newer_one_is_whole_but_wrong(tmp_path, caplog):
    family = Store(tmp_path).snapshots
    family.put(snapshot())
    family.put(snapshot(spec=...))
    name, found = family.newest(Snapshot.from_bytes)
    assert name == "snapshot-00000000.safetensors" and found.count == 5
    assert "'spec' is missing" in caplog.text


@pytest.mark.parametrize(
    "change", [{"count": -1}, {"epoch": "1"}, {"windows": [[1, 2]]}, {"dead": -1}]
)
def test_a_part_that_does_not_fit_together_is_refused(tmp_path, change):
    state = State(tmp_path, FEATURES)
    part = state.claim("rows")
    path = next((state.folder / "parts").glob("*.safetensors"))
    arrays, body = part.state()
    path.write_bytes(pack("resume", arrays, {**body, **change}))
    with pytest.raises(DamagedFileError, match="is damaged"):
        state.claim("rows")


def private_snapshot():
    settings = {"epsilon": 1.0, "delta": 1e-5, "releases": 1}
    sketcher = Sketcher(SCHEMA, 2, mechanism="gaussian", privacy=settings)
    sketcher.learn_many(np.full((4, SCHEMA.d), 0.5))
    return sketcher.release()


def fields_of(value, path=()):
    """Paths of all fields of a body."""
    held = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in held:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from fields_of(inner, (*path, key))


GONE = object()
ABSURD = [-1, 0, -5.0, 1e308, 2**70, "", "x", None, [], {}, True, [1, 1, 1], GONE]


def test_one_absurd_field_under_a_right_checksum_is_refused_or_can_be_used():
    """Each field of a private snapshot: an error of ours, or a value that holds through its uses."""
    arrays, body = private_snapshot()._content()
    refused = 0
    for path in fields_of(body):
        for value in ABSURD:
            changed = json.loads(json.dumps(body))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if value is GONE:
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
            try:
                read = Snapshot.from_bytes(pack("snapshot", arrays, changed))
            except DamagedFileError:
                refused += 1
                continue
            assert Snapshot.from_bytes(read.to_bytes()).id == read.id
            assert read.release.private and read.release.rho > 0, path
            assert repr(read) and list(read.release.notes.get("origins", ())) is not None
    assert refused > 200


@pytest.mark.parametrize(
    "change",
    [
        {"adjacency": "nearly"},
        {"unit": ""},
        {"unit": "household"},
        {"rho": 0.0},
        {"mechanism": "none"},
        {"notes": {"origins": 5}},
        {"notes": {"noise": ["discrete"]}},
    ],
)
def test_promises_that_contradict_themselves_are_refused(change):
    arrays, body = private_snapshot()._content()
    body["release"] |= change
    with pytest.raises(DamagedFileError, match="the data is damaged: release"):
        Snapshot.from_bytes(pack("snapshot", arrays, body))


def test_a_promise_that_is_left_out_is_not_taken_for_none():
    arrays, body = private_snapshot()._content()
    body["release"] = {}
    with pytest.raises(DamagedFileError, match=r"release.adjacency is missing"):
        Snapshot.from_bytes(pack("snapshot", arrays, body))
