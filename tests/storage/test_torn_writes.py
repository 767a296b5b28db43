"""Torn writes at every byte of a resume file, a release state, a snapshot and a checkpoint.

What a start reads is the old content, or the new, or it is refused by name: never a mixture.
"""

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from streamsketch import FeatureMap, Generator, Schema, Sketcher, Snapshot, Spec, Store
from streamsketch.errors import DamagedFileError, StoreError
from streamsketch.generator import NetworkConfig
from streamsketch.ingest.parts import State
from streamsketch.storage.files import digest, unpack

SCHEMA = Schema.vectors(1, -1, 1)
FM = FeatureMap.from_spec(Spec("gaussian", 1, 2))


@dataclass
class File:
    """A file that is about to be written again, or, in a store, for the first time.

    Attributes:
        path: Where it is.
        old: The bytes of what is read before; in a store, those of the file before.
        write: Writes the new content.
        read: What a start takes up, whole, to be compared.
        refuses: Whether a damaged file stops the start; a store passes to the file before.
    """

    path: Path
    old: bytes
    write: Callable[[], object]
    read: Callable[[], object]
    refuses: bool


def resume(folder):
    state = State(folder, FM)
    part = state.claim("p")
    (path,) = folder.rglob("*.safetensors")
    part.sketch.update(FM, np.array([[0.3]], np.float32))
    part.position = {"offset": 1}

    def read():
        (found,) = State(folder, FM).parts()
        return found.position, found.sketch.count, found.sketch.total.tolist(), found.epoch

    return File(path, path.read_bytes(), lambda: state.save(part), read, True)


def release(folder):
    state = State(folder, FM)
    body = {"rows": 0, "positions": {}, "releaser": {}}
    none = np.zeros(0, np.uint8)
    state.save_release({"a": np.arange(2), "pending": none}, {"number": 1, **body})
    path = folder / "release.safetensors"

    def read():
        arrays, body = State(folder, FM).load_release()
        return arrays["a"].tolist(), body

    def write():
        state.save_release({"a": np.arange(2) + 5, "pending": none}, {"number": 2, **body})

    return File(path, path.read_bytes(), write, read, True)


def numbered(folder, kind, parse, old, new):
    family = getattr(Store(folder), f"{kind}s")
    family.put(old)

    @cache  # of what is sound: it is read thousands of times
    def content(data):
        # equal files may order their header differently
        return digest(kind, *unpack(parse(data, "").to_bytes(), kind))

    def read():
        return getattr(Store(folder), f"{kind}s").newest(lambda data, name: content(data))[1]

    path = Path(family.path(f"{kind}-00000001.safetensors"))
    return File(path, old, lambda: family.put(new, 1), read, False)


def snapshot(folder):
    made = []
    for rows in (3, 4):
        sketcher = Sketcher(SCHEMA, frequencies=1)
        sketcher.learn_many(np.linspace(-1, 1, rows)[:, None])
        made.append(sketcher.release().to_bytes())
    return numbered(folder, "snapshot", Snapshot.from_bytes, *made)


def checkpoint(folder):
    config = NetworkConfig("mlp", latent=1, width=1, depth=1)
    made = [Generator.create(SCHEMA, config=config, seed=seed).to_bytes() for seed in (0, 1)]
    return numbered(folder, "checkpoint", Generator.from_bytes, *made)


@pytest.fixture(params=[resume, release, snapshot, checkpoint], ids=lambda make: make.__name__)
def file(request, tmp_path):
    return request.param(tmp_path)


def contents(file):
    """What a start reads before and after the write, and the new bytes; the file is put back."""
    before = file.read()
    file.write()
    after, new = file.read(), file.path.read_bytes()
    assert before != after
    if file.refuses:
        file.path.write_bytes(file.old)
    else:
        file.path.unlink()
    return before, after, new


def test_torn_at_every_byte(file):
    """Cut short, filled up with zeros, or with what was there before; a disk that lied."""
    before, after, new = contents(file)
    found = {"old": 0, "new": 0, "refused": 0}
    for cut in range(len(new) + 1):
        for torn in (
            new[:cut],
            new[:cut] + bytes(len(new) - cut),
            new[:cut] + file.old[cut:],
            file.old[:cut] + new[cut:],
        ):
            file.path.write_bytes(torn)
            try:
                seen = file.read()
            except DamagedFileError as e:
                assert file.refuses and str(file.path) in str(e)
                found["refused"] += 1
                continue
            assert seen in (before, after), f"a mixture after {cut} bytes"
            found["new" if seen == after else "old"] += 1
    assert found["new"] >= 4 and found["refused" if file.refuses else "old"] > 3 * len(new)


def test_a_disk_that_refuses_at_any_byte_keeps_the_old_content(file):
    """The kernel writes so many bytes of the file and not one more (a limit on its size)."""
    before, after, new = contents(file)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room in range(len(new)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
            with pytest.raises(StoreError, match="unchanged"):
                file.write()
            assert file.read() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(file.path.parent.glob(".*"))
    file.write()
    assert file.read() == after


def die_writing(file, room):
    """A process that the kernel kills when so many bytes of the file are written."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        file.write()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXFSZ


def test_a_process_that_dies_at_any_byte_of_a_write_leaves_the_old_content(file, request):
    before, after, new = contents(file)
    die_writing(file, len(new) // 2)
    (leftover,) = file.path.parent.glob(".*")
    assert leftover.stat().st_size == len(new) // 2 and file.read() == before
    for written in range(len(new) + 1):
        leftover.write_bytes(new[:written])
        assert file.read() == before
    if "resume" in request.node.callspec.id:
        State(file.path.parent.parent, FM).claim("p")  # the next owner cleans up
        assert not leftover.exists()
        return
    if "release" in request.node.callspec.id:
        with State(file.path.parent, FM).releasing():
            assert not leftover.exists()
    file.write()
    assert file.read() == after and not leftover.exists()
