"""Locks: one helper, and what stands on it: numbered files, private folders."""

import multiprocessing as mp
import os
import stat

import pytest

from streamsketch.errors import LockedError, StoreError
from streamsketch.storage.files import secret_folder
from streamsketch.storage.locks import hold
from streamsketch.storage.store import Store


def test_a_held_lock_names_its_holder_and_is_free_when_the_handle_is_closed(tmp_path):
    handle = hold(tmp_path / "deep" / "run.lock", "the folder")
    with pytest.raises(LockedError, match=rf"the folder is held by .* \(pid {os.getpid()}\)"):
        hold(tmp_path / "deep" / "run.lock", "the folder")
    os.close(handle)
    os.close(hold(tmp_path / "deep" / "run.lock", "the folder"))


def _put(folder, byte, names):
    family = Store(folder).checkpoints
    names.put([family.put(bytes([byte]) * 50_000) for _ in range(20)])


def test_two_processes_that_put_lose_and_replace_nothing(tmp_path):
    fork = mp.get_context("fork")
    names = fork.Queue()
    putters = [fork.Process(target=_put, args=(tmp_path, byte, names)) for byte in (1, 2)]
    for p in putters:
        p.start()
    returned = [n for _ in putters for n in names.get(timeout=60)]
    for p in putters:
        p.join()
    found = Store(tmp_path).checkpoints
    assert sorted(returned) == found.names() and len(set(returned)) == 40
    assert sorted(found.read(n)[0] for n in found.names()) == [1] * 20 + [2] * 20


def test_a_number_is_never_replaced(tmp_path):
    family = Store(tmp_path).snapshots
    family.put(b"first", 3)
    assert family.put(b"first", 3) == "snapshot-00000003.safetensors"
    with pytest.raises(StoreError, match="never replaced"):
        family.put(b"second", 3)
    assert family.read("snapshot-00000003.safetensors") == b"first"


def test_a_state_folder_is_made_private_also_where_it_was_there(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    assert stat.S_IMODE(secret_folder(folder).stat().st_mode) == 0o700
    assert stat.S_IMODE(Store(tmp_path).state_dir.stat().st_mode) == 0o700
