"""Secret state: fencing, locks, torn writes, and interleavings of claims, saves and deaths."""

import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from streamsketch.errors import FencedError, LockedError, SpecMismatchError
from streamsketch.features import FeatureMap
from streamsketch.features.spec import Spec
from streamsketch.ingest.parts import State, _name

FM = FeatureMap.from_spec(Spec("gaussian", 1, 4))


def row(value):
    return np.array([[value]], np.float32)


def test_a_claim_fences_the_former_owner(tmp_path):
    state = State(tmp_path, FM)
    old = state.claim("p")
    old.sketch.update(FM, row(0.1))
    old.position = {"offset": 1}
    state.save(old)
    new = State(tmp_path, FM).claim("p")
    assert new.position == {"offset": 1} and new.sketch.count == 1 and new.epoch == old.epoch + 1
    with pytest.raises(FencedError, match="taken over"):
        state.save(old)


def test_an_exclusive_part_has_one_live_reader(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()

    def hold():
        State(tmp_path, FM).claim("files", exclusive=True)
        ready.set()
        done.wait(20)
        os._exit(0)

    other = context.Process(target=hold)
    other.start()
    assert ready.wait(20)
    with pytest.raises(LockedError, match=f"pid {other.pid}"):
        State(tmp_path, FM).claim("files", exclusive=True)
    other.kill()
    other.join()
    assert (
        State(tmp_path, FM).claim("files", exclusive=True).epoch == 2
    )  # a dead owner holds nothing


def test_state_of_another_operator_is_refused_with_both_fingerprints(tmp_path):
    State(tmp_path, FM).claim("p")
    other = FeatureMap.from_spec(Spec("gaussian", 1, 5))
    with pytest.raises(SpecMismatchError) as e:
        State(tmp_path, other).claim("p")
    assert FM.spec.fingerprint in str(e.value) and other.spec.fingerprint in str(e.value)


def test_state_files_are_readable_by_their_owner_only(tmp_path):
    state = State(tmp_path, FM)
    state.claim("p")
    state.save_release({}, {"number": 0})
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()}
    assert modes == {0o600}


def test_part_names_that_a_file_cannot_hold_stay_distinct(tmp_path):
    state = State(tmp_path, FM)
    for name in ("a/b", "a:b", "a_b", "../../x", "ü" * 200):
        state.claim(name)
    assert {p.part for p in state.parts()} == {"a/b", "a:b", "a_b", "../../x", "ü" * 200}
    assert all(p.parent == tmp_path / "parts" for p in tmp_path.rglob("*.safetensors"))


def test_only_one_process_releases_at_a_time(tmp_path):
    state = State(tmp_path, FM)
    with state.releasing() as mine, State(tmp_path, FM).releasing() as other:
        assert mine and not other
    with State(tmp_path, FM).releasing() as mine:
        assert mine


class Members(RuleBasedStateMachine):
    """Members claim, read, save, die, and come back late; the rows are the integers 0, 1, 2 ..."""

    @initialize()
    def start(self):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.state = State(Path(self.folder.name), FM)
        self.held = {}  # (member, part) -> PartState, also of members that were fenced meanwhile

    @rule(member=st.integers(0, 3), part=st.sampled_from("abc"))
    def claim(self, member, part):
        self.held[member, part] = self.state.claim(part)

    @rule(member=st.integers(0, 3), part=st.sampled_from("abc"), rows=st.integers(1, 4))
    def read(self, member, part, rows):
        held = self.held.get((member, part))
        if held is not None:
            at = (held.position or {"next": 0})["next"]
            held.sketch.update(FM, np.arange(at, at + rows, dtype=np.float32)[:, None])
            held.position = {"next": at + rows}

    @rule(member=st.integers(0, 3), part=st.sampled_from("abc"))
    def save(self, member, part):
        held = self.held.get((member, part))
        if held is not None:
            try:
                self.state.save(held)
            except FencedError:
                del self.held[member, part]

    @rule(member=st.integers(0, 3))
    def die(self, member):
        self.held = {k: v for k, v in self.held.items() if k[0] != member}

    def teardown(self):
        if not hasattr(self, "state"):
            return
        for part in self.state.parts():
            n = (part.position or {"next": 0})["next"]
            expected = FM.sum(np.arange(n, dtype=np.float32)[:, None])
            assert part.sketch.count == n and (part.sketch.total == expected).all()
        self.folder.cleanup()


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_claiming_lists_the_folder_once(tmp_path, monkeypatch):
    state = State(tmp_path, FM)
    for name in ("a", "b"):
        state.claim(name)
        torn = tmp_path / _name(name)
        torn.with_name(f".{torn.name}.x.tmp").write_bytes(b"half")
    listed = []
    inner = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: (listed.append(self), inner(self))[1])
    again = State(tmp_path, FM)
    for name in ("a", "b", "c"):
        again.claim(name)
    assert len(listed) == 1 and not list((tmp_path / "parts").glob(".*.tmp"))
