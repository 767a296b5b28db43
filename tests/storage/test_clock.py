"""Clocks that jump forwards and backwards by years: nothing is lost, released too often, or left undone."""

import os
import threading

import pytest
from streamsketch_consumers.files.folder import Files

from streamsketch import Store
from streamsketch.ingest.loop import Ingest
from streamsketch.ingest.parts import State
from streamsketch.ingest.publish import Schedule
from streamsketch.privacy.release import Releaser
from streamsketch.storage.clock import Clock
from streamsketch.storage.store import Family
from tests.ingest.test_loop import FM, SCHEMA, Scripted

YEAR = 3.2e7


class World:
    """A wall clock that can be set, and a monotonic one."""

    def __init__(self):
        self.wall, self.ticks = 1.7e9, 0.0

    def clock(self):
        return Clock(lambda: self.wall, lambda: self.ticks)

    def sleep(self, seconds):
        self.wall, self.ticks = self.wall + seconds, self.ticks + seconds


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_now_goes_on_evenly(jump):
    world = World()
    clock = world.clock()
    world.wall += jump
    world.sleep(5)
    assert clock.now() == 1.7e9 + 5 and clock.monotonic() == 5


@pytest.mark.parametrize("jump", [-YEAR, 0.0, YEAR])
def test_releases_come_as_often_as_declared(tmp_path, jump, monkeypatch):
    """The release file's time of writing jumps with the system's clock."""
    world, releases = World(), []

    class Slow(Scripted):
        def poll(self, timeout):
            world.sleep(1.0)
            if self.next == 100:
                world.wall += jump
            yield from super().poll(timeout)

    store = Store(tmp_path)
    state = State(store.state_dir, FM)
    write = state.save_release

    def stamped(arrays, body):
        write(arrays, body)
        os.utime(state.folder / "release.safetensors", (world.wall, world.wall))
        releases.append(world.ticks)

    state.save_release = stamped
    Ingest(
        Slow(300, 10), SCHEMA, FM, state, store, lambda: Releaser(FM, SCHEMA),
        schedule=Schedule(save_seconds=1.0, seconds=5.0), clock=world.clock(),
    ).run(threading.Event())  # fmt: skip
    gaps = [b - a for a, b in zip(releases, releases[1:], strict=False)][:-1]
    assert len(releases) >= 5 and all(5 <= gap <= 6 for gap in gaps), releases


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_old_snapshots_are_not_removed_by_a_jump(tmp_path, jump):
    world = World()
    import fsspec

    family = Family(fsspec.filesystem("file"), str(tmp_path), "snapshot", world.clock())

    def put():
        path = family.path(family.put(b"x"))
        os.utime(path, (world.wall, world.wall))

    put()
    world.sleep(10)
    world.wall += jump
    put()
    world.sleep(10)
    put()
    assert family.retain(max_age=60) == []
    world.sleep(100)
    put()
    assert family.retain(max_age=60) == [f"snapshot-{i:08d}.safetensors" for i in range(3)]


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_file_that_is_being_written_is_not_taken_for_complete_by_a_jump(tmp_path, jump):
    world = World()
    (tmp_path / "old.csv").write_text("x\n1\n")
    os.utime(tmp_path / "old.csv", (world.wall - 60, world.wall - 60))
    files = Files(str(tmp_path), wall=lambda: world.wall, monotonic=lambda: world.ticks)
    assert files.complete(2.0) == ["old.csv"]  # it was there before, and is at once complete
    path = tmp_path / "new.csv"
    for size in range(1, 8):
        path.write_text("x\n" * size)
        os.utime(path, (world.wall, world.wall))
        assert files.complete(2.0, {"old.csv"}) == []
        if size == 4:
            world.wall += jump
            assert files.complete(2.0, {"old.csv"}) == []
        world.sleep(1.0)
    world.sleep(1.0)
    assert files.complete(2.0, {"old.csv"}) == ["new.csv"]
