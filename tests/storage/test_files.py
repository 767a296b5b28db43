"""The file format: round trips, damage is detected at every byte, writes are atomic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamsketch.errors import DamagedFileError, StoreError
from streamsketch.storage.files import digest, pack, read_file, unpack, write_atomic

ARRAYS = {"a": np.arange(5), "b": np.array([[0.5, -1.0]]), "empty": np.zeros((0, 3), np.int64)}
BODY = {"text": "ü", "list": [1, None, True], "nested": {"x": 1.5}}


def test_round_trip_keeps_types_shapes_and_body():
    arrays, body = unpack(pack("note", ARRAYS, BODY), "note")
    assert body == BODY
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert (arrays[name] == array).all()
    assert digest("note", arrays, body) == digest("note", ARRAYS, BODY)


def test_every_truncation_and_every_flipped_byte_is_detected():
    data = pack("note", ARRAYS, BODY)
    for cut in range(len(data)):
        with pytest.raises(DamagedFileError):
            unpack(data[:cut], "note")
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x41
        try:
            arrays, body = unpack(bytes(flipped), "note")
        except DamagedFileError:
            continue
        # a flip in padding changes nothing that is read
        assert body == BODY and all((arrays[k] == ARRAYS[k]).all() for k in ARRAYS)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_noise_is_refused_not_crashed_on(data):
    with pytest.raises(DamagedFileError):
        unpack(data, "note")


def test_another_kind_and_a_newer_format_are_named():
    with pytest.raises(DamagedFileError, match="holds a note, not a snapshot"):
        unpack(pack("note", {}, {}), "snapshot")
    newer = pack("note", {}, {}).replace(b'"format":"1"', b'"format":"9"')
    with pytest.raises(DamagedFileError, match="newer"):
        unpack(newer, "note")


def test_no_pickle_in_an_object_array():
    with pytest.raises(Exception, match="dtype|object"):  # safetensors itself refuses
        pack("note", {"a": np.array([object()])}, {})


def test_writing_replaces_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "deep" / "f"
    write_atomic(path, b"one", mode=0o600)
    write_atomic(path, b"two", mode=0o600)
    assert read_file(path) == b"two" and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["f"]


def test_a_full_disk_keeps_the_old_content_and_says_so(tmp_path):
    import resource
    import signal

    path = tmp_path / "f"
    write_atomic(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(StoreError, match="unchanged"):
            write_atomic(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_file(path) == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        read_file(tmp_path / "nowhere")
