"""What a person sees of a run: bars, lines that fit, what Ctrl-C says and leaves."""

import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w

from streamsketch import Schema
from streamsketch.cli.figures import line
from streamsketch.run.status import Line

COMMAND = [sys.executable, "-m", "streamsketch"]


@pytest.fixture
def pipeline(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(2):
        table = pa.table({f"x{j}": rng.uniform(-1, 1, 3000) for j in range(2)})
        pq.write_table(table, tmp_path / f"rows-{k}.parquet")
    tables = {
        "source": {"type": "files", "path": "rows-*.parquet", "batch_rows": 500},
        "sketch": {"frequencies": 32},
        "store": {"path": "store"},
        "schema": Schema.vectors(2, -1, 1).to_dict(),
    }
    (tmp_path / "p.toml").write_text(tomli_w.dumps(tables))
    return tmp_path / "p.toml"


def until_it_reads(pipeline):
    status = pipeline.parent / "store" / "state" / "status" / "consumer-0.json"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (
            status.exists()
            and b'"rows": 0' not in (text := status.read_bytes())
            and b"rows" in text
        ):
            return
        time.sleep(0.05)
    pytest.fail("it has read nothing in 60 s")


def test_ctrl_c_says_at_once_that_it_saves_and_the_next_run_tells_what_there_is(pipeline):
    files = [str(pipeline.parent / f"rows-{k}.parquet") for k in range(2)]
    replay = [*COMMAND, "replay", *files, "--pipeline", str(pipeline)]
    process = subprocess.Popen([*replay, "--rate", "1000"], stderr=subprocess.PIPE, text=True)
    until_it_reads(pipeline)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "stopping: saving..." in said
    assert "Traceback" not in said
    done = subprocess.run(replay, capture_output=True, text=True, check=True)
    assert "rows learned, 6,000 in all" in done.stderr


def test_a_bar_with_what_is_left_fits_80_columns(pipeline):
    main, end = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    files = [str(pipeline.parent / f"rows-{k}.parquet") for k in range(2)]
    argv = [*COMMAND, "replay", *files, "--pipeline", str(pipeline), "--rate", "100"]
    process = subprocess.Popen(argv, stderr=end, stdout=subprocess.DEVNULL, env=env)
    os.close(end)
    seen, asked = b"", False
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        seen += part
        if b" left" in seen and "━".encode() in seen and not asked:
            process.send_signal(signal.SIGINT)
            asked = True
    assert process.wait() == 130
    text = seen.decode()
    assert "━" in text and "of 6,000 rows" in text and "left" in text
    assert "100%" not in text.split("6,000 rows")[0]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_fit_and_names_are_whole(width):
    said = {
        "stored": 123_456_789, "left": 987_654, "rows_per_s": 123_456, "dead": 12_345,
        "releases": 1234, "saves": 99_999, "alarms": 7,
    }  # fmt: skip
    one = line(Line("consumer-10", "running", said), width)
    assert one.startswith("consumer-10 ") and len(one) <= width and "…" not in one


def test_a_verdict_is_cut_at_the_end_only():
    words = "held-out distance 670.0 times its floor: poor; train longer ([trainer] seconds)"
    said = {"checkpoint": "checkpoint-00000003.safetensors", "verdict": words}
    one = line(Line("trainer", "running", said), 80)
    assert one.startswith("trainer      checkpoint 3  held-out distance 670.0") and len(one) == 80


def test_training_and_sampling_say_numbers_not_file_names():
    said = {"snapshot": "snapshot-00000012.safetensors", "loss": 0.0123456, "heldout": 0.5,
            "floor": 0.25, "left_s": 75, "start": "warm"}  # fmt: skip
    assert (
        line(Line("trainer", "running", said), 80)
        == "trainer      snapshot 12  1:15 left  loss 0.01235  held-out 0.5 (floor 0.25)"
    )
    private = {"releases": 2, "saves": 5, "parts": 1}
    assert line(Line("consumer-0", "running", private)).split()[1:3] == ["2", "snapshots"]
