"""A file replay that is killed at random moments ends with the sums of one that was left alone.

`STREAMSKETCH_TEST_KILLS` sets how many kills (5 if not set).
"""

import os
import random
import signal
import threading
import time

import numpy as np
import pytest
from streamsketch_consumers.dead_letter import read_file

from streamsketch.errors import LockedError
from testing import forks
from testing.ingest_worker import alarms, ingest, run, saved
from tests.consumers.test_files import BAD_CSV, BAD_JSON, SCHEMA, WRITERS, rows, spoil

KILLS = int(os.environ.get("STREAMSKETCH_TEST_KILLS", "5"))
ROWS = 3000


def write_folder(folder):
    """A file of each format, bad rows in those that can hold them; the number of bad rows."""
    folder.mkdir()
    bad = 0
    for k, (suffix, write) in enumerate(WRITERS.values()):
        path = folder / f"{k}{suffix}"
        write(rows(ROWS, k * ROWS), path, 500)
        for lines in (BAD_CSV,) if suffix == ".csv" else (BAD_JSON,) if suffix == ".jsonl" else ():
            spoil(path, lines.values(), range(100, 100 + 150 * len(lines), 150))
            bad += len(lines)
    return bad


def undisturbed(folder, path, batch_rows):
    settings = {"path": str(path), "batch_rows": batch_rows}
    ingest(folder, "streamsketch_consumers.files", settings, SCHEMA, drift=True).run(
        threading.Event()
    )
    return saved(folder, SCHEMA)[0]


def start(tmp_path, settings, drift=False):
    job = {
        "folder": str(tmp_path / "killed"),
        "module": "streamsketch_consumers.files",
        "settings": settings,
        "schema": SCHEMA.to_dict(),
        "drift": drift,
    }
    return forks.start(tmp_path / "processes.log", run, job)


def ended(process, seconds=60):
    """The exit code, once the process has ended."""
    process.join(seconds)
    return process.exitcode


def count(tmp_path):
    return saved(tmp_path / "killed", SCHEMA)[0].count if (tmp_path / "killed").exists() else 0


def test_killed_at_random_moments(tmp_path):
    bad = write_folder(tmp_path / "data")
    expected = undisturbed(tmp_path / "a", tmp_path / "data", 8192)
    other = undisturbed(tmp_path / "b", tmp_path / "data", 257)
    assert expected.count == other.count == ROWS * len(WRITERS)
    np.testing.assert_array_equal(expected.total, other.total)
    assert alarms(tmp_path / "a") == alarms(tmp_path / "b")
    assert len(alarms(tmp_path / "a")) >= 10

    rng, kills, reached = random.Random(7), 0, []
    while True:
        # slow enough to be hit in mid-file, another batch size each time
        share = ROWS * len(WRITERS) / (KILLS + 1)
        settings = {
            "path": str(tmp_path / "data"),
            "batch_rows": rng.choice([1, 97, 1000, 8192]),
            "rate": 2 * share,
        }
        process = start(tmp_path, settings if kills < KILLS else {**settings, "rate": 1e9}, True)
        target = count(tmp_path) + rng.randrange(1, int(share) // 2)
        while kills < KILLS and process.is_alive() and count(tmp_path) < target:
            time.sleep(0.02)
        if kills == KILLS:
            assert ended(process) == 0
            break
        time.sleep(rng.uniform(0, 0.05))
        assert forks.kill(process), "the replay ended before it was killed often enough"
        kills += 1
        reached.append(count(tmp_path))
    assert len(set(reached)) == KILLS and 0 < reached[0] < reached[-1] < expected.count
    total, positions = saved(tmp_path / "killed", SCHEMA)[:2]
    assert total.count == expected.count
    np.testing.assert_array_equal(total.total, expected.total)
    names = sorted(p.name for p in (tmp_path / "data").iterdir())
    assert (positions["files"]["file"], positions["files"]["row"]) == (names[-1], ROWS)
    assert list(positions["files"]["read"].values()) == [
        {n: positions["files"]["read"][str(tmp_path / "data")][n] for n in names}
    ]
    assert alarms(tmp_path / "killed") == alarms(tmp_path / "a")
    letters = {
        (d.where["file"], d.where["row"]) for d in read_file(tmp_path / "killed/dead.jsonl")
    }
    assert len(letters) == bad


def test_stopped_by_a_signal_and_started_again(tmp_path):
    write_folder(tmp_path / "data")
    expected = undisturbed(tmp_path / "a", tmp_path / "data", 8192)
    settings = {"path": str(tmp_path / "data"), "batch_rows": 50}
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(tmp_path, {**settings, "rate": 20_000.0})
        before = count(tmp_path)
        while count(tmp_path) < before + 1000:
            time.sleep(0.02)
        os.kill(process.pid, number)
        assert ended(process) == 0
    assert ended(start(tmp_path, settings)) == 0
    total = saved(tmp_path / "killed", SCHEMA)[0]
    assert total.count == expected.count
    np.testing.assert_array_equal(total.total, expected.total)


def test_two_readers_of_one_store(tmp_path):
    write_folder(tmp_path / "data")
    settings = {"path": str(tmp_path / "data"), "rate": 1000.0}
    first = ingest(tmp_path / "a", "streamsketch_consumers.files", settings, SCHEMA)
    stop = threading.Event()
    thread = threading.Thread(target=first.run, args=(stop,))
    thread.start()
    try:
        while "files" not in first.parts:
            time.sleep(0.01)
        second = ingest(tmp_path / "a", "streamsketch_consumers.files", settings, SCHEMA)
        with pytest.raises(LockedError, match="held by another process"):
            second.run(threading.Event())
        second.letters.close()
    finally:
        stop.set()
        thread.join(20)
