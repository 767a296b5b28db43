"""What a GPU does with the kernels and the training: one run under ten minutes, JSON out.

    python -m benchmarks.gpu [--out gpu.json] [--seconds 540] [--small]

Sections: `sums` (rows a second of Triton with the best of a few block sizes, torch eager, torch.compile and the
CPU's kernels at d = 10, 64 and 784; whether any split of the rows gives the same bits; how far from the
reference), `steps` (loss and gradient of a batch), `tables` (training a table's generator on each device). Each says
the most memory that it took. A section that fails says why, and the others go on; what does not fit into the
seconds is left out and named. Without a GPU everything runs on the CPU, Triton through its interpreter
(TRITON_INTERPRET=1) where it is installed: `--small` makes that a test of seconds.
"""

import argparse
import itertools
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.kernel_peers import plain_loss
from streamsketch import Schema, Sketcher, fit
from streamsketch.features import FeatureMap
from streamsketch.features.kernels import prepare, reference
from streamsketch.features.kernels.device import TritonSum, turns
from streamsketch.features.kernels.loss import sketch_loss

Record = dict[str, Any]
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
BLOCKS = (
    (128, 64, 4096),
    (64, 64, 4096),
    (128, 128, 8192),
    (256, 32, 4096),
)  # rows, columns, split


def triton_runs() -> bool:
    """Whether the Triton kernels can run here: on a GPU, or through the interpreter."""
    return find_spec("triton") is not None and (CUDA or os.environ.get("TRITON_INTERPRET") == "1")


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The least wall-clock seconds of a call, after one to warm up; waits for the GPU."""

    def once() -> float:
        begun = time.perf_counter()
        call()
        if CUDA:
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    once()
    return min(once() for _ in range(rounds))


@contextmanager
def memory_of(record: Record) -> Iterator[None]:
    """Write down the most GPU memory that was taken, in MB."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    yield
    record["MB"] = torch.cuda.max_memory_allocated() / 1e6 if CUDA else None


def tuned(sums: TritonSum, x: np.ndarray, small: bool) -> tuple[float, tuple[int, int, int]]:
    """Seconds with the best blocks of the kernel, which stay set, and those blocks."""
    from streamsketch.features.kernels import triton_kernels as kernels

    found = {}
    for blocks in BLOCKS[:1] if small else BLOCKS:
        kernels.ROWS, kernels.COLUMNS, kernels.SPLIT = blocks
        found[blocks] = seconds(lambda: sums(x), 1 if small else 3)
    best = min(found, key=lambda b: found[b])
    kernels.ROWS, kernels.COLUMNS, kernels.SPLIT = best
    return found[best], best


def eager(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(2, w.shape[1], device=x.device)
    for rows in x.split(4096):
        phase = rows @ w
        total += torch.stack([phase.cos().sum(dim=0), phase.sin().sum(dim=0)])
    return total


def sums(small: bool) -> list[Record]:
    """The sums of features of rows."""
    found = []
    for d in (3,) if small else (10, 64, 784):
        n, m = (200, 40) if small else ((1 << 24) // (d + 16), 1024)
        rng = np.random.default_rng(d)
        omega, x = rng.standard_normal((d, m)), rng.uniform(-1, 1, (n, d)).astype(np.float32)
        record: Record = {"d": d, "m": m, "n": n}
        with memory_of(record):
            exact = reference.sum_features(x[:200], omega)
            cpu = FeatureMap.from_frequencies(omega)
            record["cpu rows/s"] = n / seconds(lambda fm=cpu, x=x: fm.sum(x), 2)
            w, rows = torch.from_numpy(omega).float().to(DEVICE), torch.from_numpy(x).to(DEVICE)
            record["eager rows/s"] = n / seconds(lambda w=w, rows=rows: eager(rows, w), 3)
            if CUDA:
                compiled = torch.compile(eager)
                record["compile rows/s"] = n / seconds(
                    lambda w=w, rows=rows, run=compiled: run(rows, w), 3
                )
            ways = {"torch": prepare("torch", omega)}
            if triton_runs():
                ways["triton"] = TritonSum(turns(omega))
                took, record["triton blocks"] = tuned(ways["triton"], x, small)
                record["triton rows/s"] = n / took
            for name, way in ways.items():
                split = way(x[:101]) + way(x[101:200])
                record[f"{name} same bits"] = bool((split == way(x[:200])).all())
                apart = np.abs(way(x[:200]) - exact).max() / 200
                record[f"{name} units a row off"] = float(apart)
        found.append(record)
    return found


def steps(small: bool) -> list[Record]:
    """Loss and gradient of a batch."""
    found = []
    cases = [(1000, 10, 4096), (1000, 140, 4096), (8192, 140, 4096), (500, 784, 1024)]
    for n, d, m in [(20, 3, 30)] if small else cases:
        g = torch.Generator().manual_seed(d)
        omega, z = torch.randn(d, m, generator=g), torch.rand(2 * m, generator=g) - 0.5
        y = torch.rand(n, d, generator=g) * 2 - 1
        record: Record = {"n_b": n, "d": d, "m": m}

        def timed(loss: Callable[..., Any], *given: torch.Tensor) -> float:
            rows = given[0].detach().clone().requires_grad_()
            return 1e3 * seconds(lambda: torch.autograd.grad(loss(rows, *given[1:]), rows), 3)

        with memory_of(record):
            on = [part.to(DEVICE) for part in (y, omega, z)]
            record["autograd ms"] = timed(plain_loss, *on)
            record["ours ms"] = timed(sketch_loss, *on)
            if CUDA:
                record["compile ms"] = timed(torch.compile(plain_loss), *on)
            if CUDA and triton_runs():  # on a CPU the compiled kernels take their place
                os.environ["STREAMSKETCH_TRITON"] = "1"
                record["triton ms"] = timed(sketch_loss, *on)
                del os.environ["STREAMSKETCH_TRITON"]
        found.append(record)
    return found


def tables(small: bool) -> list[Record]:
    """Training the generator of a table, and the network of its points."""
    n = 500 if small else 50_000
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=n), rng.choice(["a", "b", "c"], n)
    table = pa.table({"x": x, "y": x + 0.3 * rng.normal(size=n), "c": c})
    sketcher = Sketcher(Schema.propose(table), frequencies=64 if small else 1024)
    sketcher.learn_many(table)
    snapshot = sketcher.release()
    found = []
    budgets: dict[str, Record] = {
        "table": {"seconds": 2.0 if small else 30.0},
        "network": {"steps": 3 if small else 500},
    }
    for device, model in itertools.product(sorted({"cpu", DEVICE.type}), budgets):
        record: Record = {"device": device, "model": model, "rows": n}
        with memory_of(record):
            begun = time.perf_counter()
            made = fit(snapshot, seed=0, device=device, **budgets[model])
            record["seconds"] = time.perf_counter() - begun
        record["metrics"] = {k: v for k, v in made.metrics.items() if isinstance(v, int | float)}
        found.append(record)
    return found


SECTIONS: dict[str, Callable[[bool], list[Record]]] = {
    "sums": sums,
    "steps": steps,
    "tables": tables,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args(arguments)
    results: Record = {
        "device": torch.cuda.get_device_name() if CUDA else platform.machine(),
        "torch": torch.__version__, "triton": triton_runs(),
    }  # fmt: skip
    end = time.monotonic() + given.seconds
    for name, section in SECTIONS.items():
        if time.monotonic() > end:
            results[name] = {"left out": f"the {given.seconds:g} seconds were over"}
        else:
            try:
                results[name] = section(given.small)
            except Exception:  # one section must not cost the figures of the others
                results[name] = {"failed": traceback.format_exc()}
        given.out.write_text(json.dumps(results, indent=1) + "\n")
        print(name, json.dumps(results[name], indent=1), flush=True)


if __name__ == "__main__":
    main()
