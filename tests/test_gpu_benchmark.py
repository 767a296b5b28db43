"""The benchmark for GPUs runs to its end on a CPU, so that it runs the first time where a GPU is."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec


def test_every_section_runs_and_finds_the_same_bits(tmp_path):
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--small", "--out", str(out)],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert results["triton"] == (find_spec("triton") is not None)
    for section in ("sums", "steps", "tables"):
        assert isinstance(results[section], list) and results[section], results[section]
    (sums,) = results["sums"]
    backends = ["torch", "triton"] if results["triton"] else ["torch"]
    for name in backends:
        assert sums[f"{name} same bits"] is True
        assert sums[f"{name} units a row off"] < 1  # truncated to units
    assert {record["model"] for record in results["tables"]} == {"table", "network"}


def test_what_does_not_fit_into_the_time_is_named(tmp_path):
    from benchmarks import gpu

    gpu.main(["--small", "--out", str(tmp_path / "gpu.json"), "--seconds", "-1"])
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert all("left out" in results[name] for name in gpu.SECTIONS)
