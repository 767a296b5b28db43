"""Two processes train what one does: the same weights up to float32 sums in another order."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamsketch import Schema, Sketcher, Snapshot, fit
from streamsketch.errors import ConfigError
from streamsketch.generator.arguments import check_ranks
from streamsketch.generator.ranks import Alone

PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
from streamsketch import Snapshot, fit

torch.set_num_threads(1)
path, url, rank, size, steps = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
dist.init_process_group("gloo", init_method=url, rank=rank, world_size=size)
made = fit(Snapshot.load(path), steps=steps, seed=3, device="cpu", config={"batch": 512})
print(json.dumps([made.sample_encoded(20, seed=1).tolist(), made.metrics["steps"]]))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.3, (3000, 2)).clip(-1, 1)
    s = Sketcher(Schema.vectors(2, -1, 1), frequencies=512)
    s.learn_many(rows)
    path = tmp_path_factory.mktemp("ranks") / "snapshot.safetensors"
    s.release().save(path)
    return path


def train_together(path: Path, size: int, steps: int) -> list[list]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM]
            + [str(path), url, str(rank), str(size), str(steps)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=200)[0] for process in running]
    assert [process.returncode for process in running] == [0] * size
    return [json.loads(text.splitlines()[-1]) for text in said]


def test_two_processes_train_what_one_does(snapshot: Path) -> None:
    alone = fit(
        Snapshot.load(snapshot), steps=50, seed=3, device="cpu", config={"batch": 512}
    ).sample_encoded(20, seed=1)
    (first, steps), (second, _) = train_together(snapshot, 2, 50)
    assert steps == 50
    assert first == second
    assert np.abs(np.array(first) - alone).max() < 1e-5


def test_a_mean_of_ranks_that_is_not_taken_is_seen(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: half of the batch alone trains something else."""
    whole = fit(Snapshot.load(snapshot), steps=50, seed=3, device="cpu", config={"batch": 512})
    monkeypatch.setattr(Alone, "share", lambda self, rows: rows[::2])
    half = fit(Snapshot.load(snapshot), steps=50, seed=3, device="cpu", config={"batch": 512})
    gap = half.sample_encoded(20, seed=1) - whole.sample_encoded(20, seed=1)
    assert np.abs(gap).max() > 1e-4


def test_what_cannot_be_shared_is_refused(snapshot: Path) -> None:
    with pytest.raises(ConfigError, match="train it in one process"):
        check_ranks(Snapshot.load(snapshot), "stein", 64, 2)
    with pytest.raises(ConfigError, match="multiple of the 3"):
        check_ranks(Snapshot.load(snapshot), "sketch", 64, 3)
