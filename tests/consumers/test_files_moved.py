"""A position belongs to a file, not to a name: renamed, rotated, replaced, linked, grown and late files."""

import gzip
import json
import os
import shutil
import time

import pytest
from streamsketch_consumers.files import make

from streamsketch import Schema
from streamsketch.errors import ConfigError, SourceError

SCHEMA = Schema.vectors(1, 0, 10_000)


class Owner:
    def __init__(self, position):
        self.position = position

    def claim(self, part):
        return self.position


def write(path, low, high):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{{"x0": {i}}}\n' for i in range(low, high)))


def add(path, low, high):
    with path.open("a") as f:
        f.write("".join(f'{{"x0": {i}}}\n' for i in range(low, high)))


class Run:
    """Runs over the same folder, one after the other, each with the position of the one before."""

    def __init__(self, path, **settings):
        self.settings = {"path": str(path), "batch_rows": 7, **settings}
        self.position, self.rows = None, []

    def open(self, **more):
        self.source = make({**self.settings, **more}, SCHEMA)
        self.source.open(Owner(json.loads(json.dumps(self.position))))
        return self

    def read(self, most=None, seconds=0.6, **more):
        self.open(**more)
        try:
            return self.go_on(most, seconds)
        finally:
            self.source.close()

    def go_on(self, most=None, seconds=0.6):
        """The rows that came."""
        got, end = [], time.monotonic() + seconds
        while not self.source.finished and (most is None or len(got) < most):
            if self.source.settings.follow and time.monotonic() > end:
                break
            for chunk in self.source.poll(0.02):
                self.position = chunk.position
                got += [] if chunk.batch is None else chunk.batch.column("x0").to_pylist()
        self.rows += got
        return got


FOLLOW = {"follow": True, "settle_seconds": 0.1}


@pytest.mark.parametrize("cut", [None, 14])
@pytest.mark.parametrize("settings", [{}, FOLLOW], ids=["bounded", "follow"])
def test_a_file_is_known_under_its_new_name(settings, cut, tmp_path, caplog):
    run = Run(tmp_path / "in", **settings)
    write(tmp_path / "in/m.jsonl", 0, 50)
    run.read(most=cut)
    for name in ("a.jsonl", "z.jsonl"):
        old = next((tmp_path / "in").iterdir())
        old.rename(tmp_path / "in" / name)
        run.read()
        assert run.rows == list(range(50))
    assert "file 'z.jsonl' is what" in caplog.text


def test_a_folder_that_moved_and_another_of_the_same_names(tmp_path):
    run = Run(tmp_path / "day1")
    for k in range(3):
        write(tmp_path / f"day1/{k}.jsonl", 10 * k, 10 * k + 10)
        write(tmp_path / f"day2/{k}.jsonl", 100 + 10 * k, 110 + 10 * k)
    run.read()
    run.read(path=str(tmp_path / "day2"))
    assert run.rows == [*range(30), *range(100, 130)]
    (tmp_path / "day1").rename(tmp_path / "archive")
    assert run.read(path=str(tmp_path / "archive")) == []
    assert run.read(path=str(tmp_path / "day2")) == []


def test_another_folder_is_not_begun_while_a_file_is_unfinished(tmp_path):
    run = Run(tmp_path / "day1")
    write(tmp_path / "day1/a.jsonl", 0, 30)
    write(tmp_path / "day2/a.jsonl", 100, 130)
    run.read(most=7)
    with pytest.raises(SourceError, match=r"read up to row 7 only.*day1' to its end first"):
        run.read(path=str(tmp_path / "day2"))
    run.read()
    run.read(path=str(tmp_path / "day2"))
    assert run.rows == [*range(30), *range(100, 130)]


def test_files_of_equal_content_are_two_files(tmp_path):
    run = Run(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        write(tmp_path / name, 0, 10)
    assert run.read() == [*range(10), *range(10)]
    (tmp_path / "a.jsonl").unlink()
    time.sleep(0.01)
    write(tmp_path / "c.jsonl", 0, 10)
    assert run.read() == list(range(10))


def test_a_late_file_of_an_older_name(tmp_path):
    run = Run(tmp_path)
    write(tmp_path / "b.jsonl", 0, 10)
    run.read()
    write(tmp_path / "a.jsonl", 10, 20)
    assert run.read() == list(range(10, 20)) and run.read() == []


def test_what_was_added_is_read_by_a_run_that_ends(tmp_path):
    run = Run(tmp_path)
    write(tmp_path / "a.jsonl", 0, 10)
    write(tmp_path / "b.jsonl", 10, 20)
    run.read()
    add(tmp_path / "a.jsonl", 20, 25)
    add(tmp_path / "b.jsonl", 25, 30)
    assert run.read() == list(range(20, 30)) and run.read() == []


@pytest.mark.parametrize("size", [5, 10, 30])
def test_another_content_under_the_same_name(size, tmp_path, caplog):
    run = Run(tmp_path)
    write(tmp_path / "a.jsonl", 0, 10)
    run.read()
    time.sleep(0.01)
    write(tmp_path / "a.jsonl", 1000, 1000 + size)
    with pytest.raises(SourceError, match=r"'a\.jsonl' changed after it was read.*was replaced"):
        run.read()
    assert run.read(changed="warn") == [] and "it was replaced" in caplog.text
    assert run.read(changed="read") == list(range(1000, 1000 + size))
    assert run.read() == []


@pytest.mark.parametrize("changed", ["read", "warn", None])
def test_another_content_under_the_name_of_an_unfinished_file(changed, tmp_path):
    run = Run(tmp_path, **({} if changed is None else {"changed": changed}))
    write(tmp_path / "a.jsonl", 0, 100)
    run.read(most=7)
    time.sleep(0.01)
    write(tmp_path / "a.jsonl", 1000, 1100)
    if changed is None:
        with pytest.raises(SourceError, match="was replaced"):
            run.read()
    else:
        assert run.read() == (list(range(1000, 1100)) if changed == "read" else [])


@pytest.mark.parametrize("new", ["a-1.jsonl", "b.jsonl"])
@pytest.mark.parametrize("settings", [{}, FOLLOW], ids=["bounded", "follow"])
@pytest.mark.parametrize("cut", [None, 7])
def test_a_log_that_is_copied_away_and_cut(cut, settings, new, tmp_path):
    """While nothing runs, before and after its end was read."""
    run = Run(tmp_path, **settings)
    write(tmp_path / "a.jsonl", 0, 30)
    run.read(most=cut)
    time.sleep(0.01)
    shutil.copyfile(tmp_path / "a.jsonl", tmp_path / new)
    write(tmp_path / "a.jsonl", 30, 35)
    run.read()
    assert sorted(run.rows) == list(range(35))
    run.read()
    assert len(run.rows) == 35


def test_a_log_that_is_cut_while_it_is_followed(tmp_path):
    run = Run(tmp_path, changed="read", **FOLLOW)
    write(tmp_path / "a.jsonl", 0, 30)
    run.open().go_on(seconds=0.4)
    add(tmp_path / "a.jsonl", 30, 40)
    run.go_on(seconds=0.4)
    time.sleep(0.01)
    shutil.copyfile(tmp_path / "a.jsonl", tmp_path / "a-1.jsonl")
    write(tmp_path / "a.jsonl", 40, 45)
    run.go_on(seconds=0.6)
    run.source.close()
    assert sorted(run.rows) == list(range(45))


def test_links_count_once(tmp_path, caplog):
    write(tmp_path / "in/a.jsonl", 0, 10)
    (tmp_path / "in/b.jsonl").symlink_to("a.jsonl")
    os.link(tmp_path / "in/a.jsonl", tmp_path / "in/c.jsonl")
    for settings in ({}, FOLLOW):
        run = Run(tmp_path / "in", **settings)
        assert run.read() == list(range(10)) and run.read() == []
    assert "'b.jsonl' is the same as 'a.jsonl'" in caplog.text
    with pytest.raises(ConfigError, match="twice"):
        make({"path": [str(tmp_path / "in/a.jsonl"), str(tmp_path / "in/b.jsonl")]}, SCHEMA)


def test_positions_of_before_marks_were_kept(tmp_path):
    for k in range(3):
        write(tmp_path / f"{k}.jsonl", 10 * k, 10 * k + 10)
    run = Run(tmp_path)
    run.position = {"file": "1.jsonl", "row": 5}
    assert run.read() == list(range(15, 30))
    assert set(run.position["read"][str(tmp_path.resolve())]) == {f"{k}.jsonl" for k in range(3)}
    run = Run(tmp_path, **FOLLOW)
    run.position = {"file": "2.jsonl", "row": 10, "done": ["2.jsonl", "0.jsonl"]}
    assert run.read() == list(range(10, 20))


def test_at_any_row(tmp_path):
    """Stopped at every chunk, and each time the file has another name."""
    write(tmp_path / "a.jsonl", 0, 40)
    run = Run(tmp_path, batch_rows=3)
    for k in range(30):
        next(tmp_path.iterdir()).rename(tmp_path / f"{k % 7}-{k}.jsonl")
        run.read(most=1)
    assert run.rows == list(range(40))


@pytest.mark.parametrize("settings", [{}, FOLLOW], ids=["bounded", "follow"])
@pytest.mark.parametrize("rows", [20, 2000])
def test_a_file_that_is_compressed_after_it_was_read(rows, settings, tmp_path, caplog):
    run = Run(tmp_path, **settings)
    write(tmp_path / "a.jsonl", 0, rows)
    write(tmp_path / "b.jsonl", rows, rows + 10)
    run.read(seconds=3.0 if rows > 100 else 0.6)
    for name in ("a.jsonl", "b.jsonl"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
        (tmp_path / name).unlink()
    assert run.read() == [] and "'a.jsonl.gz' is what 'a.jsonl' was" in caplog.text
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(data))
    assert run.read() == list(range(rows, rows + 10))
    assert run.read() == []
