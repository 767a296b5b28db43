"""How fast sketching and a training step are, against peers and against the machine's limit.

    python -m benchmarks.kernels [--quick] [--only sketch,training,...] [--avx2]

Every row is a ratio within one run: contenders take turns, each is timed by CPU seconds of one
thread (OMP_NUM_THREADS=1 unless the row says otherwise), and the least of the rounds counts, since
the machine may be shared. The spread (median over least) is printed beside. pycle and a C++
compiler (for torch.compile) are used where they are installed. With --avx2 our kernels and the peers'
are held to that instruction set, on a machine that has longer vectors. Writes
benchmarks/results/kernels.json (kernels_avx2.json) and the tables in docs/performance.md.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import peak
from benchmarks.kernel_peers import (
    Run,
    compiled,
    complex_loss,
    eager,
    numpy_blocks,
    plain_loss,
    pycle_sketch,
    sklearn_blocks,
    take_turns,
    torch_blocks,
)
from streamsketch.features import FeatureMap
from streamsketch.features.kernels.loss import sketch_loss
from streamsketch.features.spec import Spec

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "performance.md"
Rows = list[dict[str, Any]]


def sketching(rounds: int, quick: bool) -> Rows:
    """Rows a second of each contender on the same data."""
    found = []
    for d, m, n in ((2, 1024, 1 << 16), (10, 1024, 1 << 16), (64, 1024, 1 << 15)):
        rng = np.random.default_rng(d)
        omega = rng.standard_normal((d, m)) * 3
        x = rng.uniform(-1, 1, (n, d)).astype(np.float32)
        fm = FeatureMap.from_frequencies(omega)
        runs: dict[str, tuple[Run | None, int]] = {
            "streamsketch": (fm.sum, n),
            "torch eager": (torch_blocks(omega, eager), n // 8),
            "torch.compile": (compiled(omega, x), n // 8),
            "numpy float32": (numpy_blocks(omega), n // 8),
            "RBFSampler + mean": (sklearn_blocks(omega), n // 32),
            "pycle 1.2": (pycle_sketch(omega), n // 32),
        }
        calls = {
            name: (lambda run=run, rows=x[:count]: run(rows))
            for name, (run, count) in runs.items()
            if run is not None
        }
        spent = take_turns(calls, rounds)
        limit = peak.limit(d)
        ours = n * m / spent["streamsketch"][0]
        for name, (seconds, spread) in spent.items():
            rate = runs[name][1] * m / seconds
            found.append(
                {
                    "d": d, "m": m, "what": name, "million rows/s": rate / m / 1e6,
                    "Gpairs/s": rate / 1e9, "of the limit": rate / limit,
                    "ours is faster by": ours / rate, "spread": spread,
                }
            )  # fmt: skip
    return found


def structured(rounds: int, quick: bool) -> Rows:
    """Structured laws against dense frequencies and against torch, one core."""
    found = []
    cases = [("hadamard", 64, 1024), ("hadamard", 256, 4096), ("hadamard", 784, 4096)]
    cases += [("harmonic", 2, 1024), ("harmonic", 10, 1024), ("harmonic", 64, 1024)]
    for law, d, m in cases:
        n = max(1024, (1 << 26) // (m * d))
        x = np.random.default_rng(0).uniform(-1, 1, (n, d)).astype(np.float32)
        fm = FeatureMap.from_spec(Spec(law, d, m))
        plain = torch_blocks(fm.omega, eager)
        spent = take_turns(
            {
                law: lambda fm=fm, x=x, law=law: fm.sum(x, backend=law),
                "dense": lambda fm=fm, x=x: fm.sum(x, backend="cpu"),
                "torch": lambda run=plain, x=x: run(x),
            },
            rounds,
        )
        best = {name: s[0] for name, s in spent.items()}
        found.append(
            {
                "law": law, "d": d, "m": m, "Gpairs/s": n * m / best[law] / 1e9,
                "dense Gpairs/s": n * m / best["dense"] / 1e9,
                "over our dense": best["dense"] / best[law],
                "over torch dense": best["torch"] / best[law], "spread": spent[law][1],
            }
        )  # fmt: skip
    return found


def training(rounds: int, quick: bool) -> Rows:
    """Loss and gradient of a batch, one thread."""
    torch.set_num_threads(1)
    found = []
    cases = [
        (1000, 2, 10_000),
        (1000, 10, 4096),
        (1000, 32, 4096),
        (1000, 64, 4096),
        (1000, 140, 4096),
    ]
    cases += [(500, 140, 1024), (100, 140, 1024), (500, 784, 1024), (8192, 140, 4096)]
    for n, d, m in cases:
        g = torch.Generator().manual_seed(d)
        omega = torch.randn(d, m, generator=g)
        z = torch.rand(2 * m, generator=g) - 0.5
        y = (torch.rand(n, d, generator=g) * 2 - 1).requires_grad_()
        losses = {"fused": sketch_loss, "cos/sin": plain_loss, "complex": complex_loss}
        spent = take_turns(
            {
                name: lambda f=f, y=y, omega=omega, z=z: torch.autograd.grad(f(y, omega, z), y)
                for name, f in losses.items()
            },
            rounds,
        )
        best = {name: s[0] for name, s in spent.items()}
        found.append(
            {
                "n_b": n, "d": d, "m": m, "fused ms": 1e3 * best["fused"],
                "over cos/sin autograd": best["cos/sin"] / best["fused"],
                "over complex autograd": best["complex"] / best["fused"],
                "spread": spent["fused"][1],
            }
        )  # fmt: skip
    return found


def curves(rounds: int, quick: bool) -> Rows:
    """Speed over d, m, n and threads; against the limit."""
    found = []

    def add(what: str, d: int, m: int, n: int) -> None:
        rng = np.random.default_rng(0)
        fm = FeatureMap.from_frequencies(rng.standard_normal((d, m)))
        x = rng.uniform(-1, 1, (n, d)).astype(np.float32)
        seconds, spread = take_turns({"": lambda: fm.sum(x)}, rounds)[""]
        rate = n * m / seconds
        found.append(
            {
                "over": what, "d": d, "m": m, "n": n, "Gpairs/s": rate / 1e9,
                "of the limit": rate / peak.limit(d), "spread": spread,
            }
        )  # fmt: skip

    for d in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        add("d", d, 1024, max(1024, (1 << 21) // (d + 16)))
    for m in (64, 256, 1024, 4096, 16384, 65536):
        add("m", 10, m, max(1024, (1 << 26) // m))
    for n in (1, 16, 256, 4096, 65536, 1 << 20):
        add("n", 10, 1024, n)
    return found


def threads(rounds: int, quick: bool) -> Rows:
    """One and two threads: wall clock (a busy machine shows) and CPU time (work lost to threading)."""
    rng = np.random.default_rng(0)
    fm = FeatureMap.from_frequencies(rng.standard_normal((10, 1024)))
    x = rng.uniform(-1, 1, (1 << 18, 10)).astype(np.float32)
    walls: dict[int, list[float]] = {1: [], 2: []}
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3 * rounds):
        for count in walls:
            os.environ["OMP_NUM_THREADS"] = str(count)
            wall, cpu = time.perf_counter(), time.process_time()
            fm.sum(x)
            walls[count].append(time.perf_counter() - wall)
            spent[count].append(time.process_time() - cpu)
    os.environ["OMP_NUM_THREADS"] = "1"
    pairs = len(x) * 1024 / 1e9
    return [
        {
            "threads": count,
            "Gpairs/s, wall": pairs / min(walls[count]),
            "Gpairs/s, CPU": pairs / min(spent[count]),
        }
        for count in walls
    ]


STREAM = """
import sys, numpy as np
from streamsketch.features import FeatureMap
from streamsketch.sketch import Sketch
rng = np.random.default_rng(0)
fm = FeatureMap.from_frequencies(rng.standard_normal((10, 256)))
sketch = Sketch.zero(fm)
left = int(float(sys.argv[1]))
while left:
    n = min(left, 1 << 16)
    sketch.update(fm, rng.random((n, 10), dtype=np.float32))
    left -= n
"""
PEAK = """
print(next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024)
"""


def memory(rounds: int, quick: bool) -> Rows:
    """Peak memory of a process that sketches a generated stream of 10 columns, m = 256."""

    def peak_of(program: str, *arguments: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", program + PEAK, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    own = peak_of("")
    found = []
    for n in (1e4, 1e6, 1e7) if quick else (1e4, 1e6, 1e7, 1e8):
        found.append(
            {"rows": f"{n:.0e}", "MB over the interpreter": peak_of(STREAM, str(n)) - own}
        )
    return found


def start_up(rounds: int, quick: bool) -> Rows:
    """CPU seconds of short processes, children included; compiled anew where it says so."""

    def spent(command: list[str], anew: bool) -> float:
        times = []
        for _ in range(rounds):
            folder = tempfile.mkdtemp() if anew else ""
            env = os.environ | ({"NUMBA_CACHE_DIR": folder} if anew else {})
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=env, capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
            shutil.rmtree(folder, ignore_errors=True)
        return min(times)

    first = (
        "import numpy as np; from streamsketch.features import FeatureMap as F; "
        "F.from_frequencies(np.ones((2, 8))).sum(np.ones((3, 2)))"
    )
    table = (
        "from streamsketch import Schema, Sketcher; "
        f"s = Sketcher(Schema.from_toml({str(HERE / 'adult_schema.toml')!r})); "
    )
    row = "s.learn_one({c.name: c.values[0] if c.values else c.low for c in s.schema.columns})"
    every = (
        "from streamsketch.features.kernels import cpu\nfor name in cpu.HOMES: cpu.kernel(name)"
    )
    codes = {
        "python -c pass": "pass",
        "import streamsketch": "import streamsketch",
        "Sketcher of a table (Adult)": table,
        "its first row": table + row,
        "its first row, compiled": table + row,
        "a first sum of points": first,
        "a first sum of points, compiled": first,
        "all kernels of sums and steps": every,
        "all kernels of sums and steps, compiled": every,
    }
    commands = {name: [sys.executable, "-c", code] for name, code in codes.items()}
    commands["streamsketch --help"] = [sys.executable, "-m", "streamsketch", "--help"]
    return [
        {"what": name, "CPU s": spent(command, "compiled" in name)}
        for name, command in commands.items()
    ]


def harmonic_quality(rounds: int, quick: bool) -> Rows:
    """Error of the estimated MMD at equal time: harmonic and Hadamard laws against independent ones.

    Two classes of real data (scikit-learn's own), scaled into [-1, 1]. The independent law has
    exactly the same radii, so all three estimate the same MMD; the variance over seeds at equal m
    and the speed give the gain at equal time.
    """
    from sklearn.datasets import load_breast_cancer, load_digits, load_iris

    found = []
    for name, load in (
        ("iris", load_iris),
        ("cancer", load_breast_cancer),
        ("digits", load_digits),
    ):
        data = load()
        x = 2 * (data.data - data.data.min(0)) / np.maximum(np.ptp(data.data, axis=0), 1e-9) - 1
        a, b = (x[data.target == k].astype(np.float32) for k in (0, 1))
        d, m, seeds = x.shape[1], 512, 60 if quick else 200
        laws = ("multiscale_harmonic", "multiscale_hadamard")
        for law in laws if d >= 16 else laws[:1]:
            estimates: dict[str, list[float]] = {law: [], "independent": []}
            for seed in range(seeds):
                omega = FeatureMap.from_spec(Spec(law, d, m, seed=seed)).omega
                rng = np.random.default_rng(seed + 10_000)
                u = rng.standard_normal(omega.shape)
                radii = np.linalg.norm(omega, axis=0)
                if "harmonic" in law:  # radii drawn apart, from the same distribution
                    others = FeatureMap.from_spec(Spec(law, d, 8 * m, seed=seed + 1)).omega
                    radii = rng.permutation(np.linalg.norm(others, axis=0))[:m]
                for key, w in (
                    (law, omega),
                    ("independent", u / np.linalg.norm(u, axis=0) * radii),
                ):
                    fm = FeatureMap.from_frequencies(w)
                    gap = fm.sum(a) / len(a) - fm.sum(b) / len(b)
                    estimates[key].append(float((gap**2).sum() / m / 2**32))
            fm, kernel = FeatureMap.from_spec(Spec(law, d, 4096)), law.removeprefix("multiscale_")
            rows = np.resize(x, (4096, d)).astype(np.float32)
            spent = take_turns(
                {
                    "law": lambda fm=fm, rows=rows, kernel=kernel: fm.sum(rows, backend=kernel),
                    "dense": lambda fm=fm, rows=rows: fm.sum(rows, backend="cpu"),
                },
                rounds,
            )
            variance = np.var(estimates["independent"]) / np.var(estimates[law])
            speed = spent["dense"][0] / spent["law"][0]
            found.append(
                {
                    "law": law, "data": name, "d": d,
                    "mean MMD^2": float(np.mean(estimates[law])),
                    "independent": float(np.mean(estimates["independent"])),
                    "variance gain, equal m": float(variance), "speed": speed,
                    "gain at equal time": float(variance * speed),
                }
            )  # fmt: skip
    return found


SECTIONS: dict[str, Callable[[int, bool], Rows]] = {
    "sketch": sketching,
    "structured": structured,
    "training": training,
    "curves": curves,
    "threads": threads,
    "memory": memory,
    "start-up": start_up,
    "laws": harmonic_quality,
}


def cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def markdown(rows: Rows) -> str:
    """A table, one line a row."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(row[key]) for key in head) + " |" for row in rows]
    return "\n".join(lines)


def write_docs(results: dict[str, Any]) -> None:
    """Replace the text between the markers of each section in docs/performance.md."""
    text = DOCS.read_text()
    machine = results["machine"]
    said = (
        f"{machine['processor']}, {machine['cores']} cores, shared; "
        f"{machine['multiply-adds'] / 1e9:.0f} thousand million float32 multiply-adds a second and "
        f"core and {machine['copies'] / 1e9:.0f} GB/s copied, both measured; {machine['date']}."
    )
    suffix = " avx2" if held_to_avx2() else ""
    for name, body in [
        ("machine" + suffix, said),
        *((k + suffix, markdown(v)) for k, v in results["tables"].items()),
    ]:
        start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if start in text:
            head, rest = text.split(start)
            text = f"{head}{start}\n{body}\n{end}{rest.split(end)[1]}"
    DOCS.write_text(text)


def held_to_avx2() -> bool:
    return os.environ.get("NUMBA_CPU_NAME") == "haswell"


def hold_to_avx2() -> None:
    """Start again with everything that multiplies told to use AVX2 alone."""
    held = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+popcnt,+lzcnt",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }
    os.execve(
        sys.executable,
        [sys.executable, "-m", "benchmarks.kernels", *sys.argv[1:]],
        os.environ | held,
    )


def main() -> None:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 1e7 rows at most")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--avx2", action="store_true", help="hold everybody to AVX2")
    options = parser.parse_args()
    if options.avx2 and not held_to_avx2():
        hold_to_avx2()
    torch.set_num_threads(1)
    rounds = 3 if options.quick else 7
    path = HERE / "results" / ("kernels_avx2.json" if options.avx2 else "kernels.json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"tables": {}}
    results["machine"] = {
        "processor": peak.model(),
        "cores": os.cpu_count(),
        "multiply-adds": peak.multiply_adds(),
        "copies": peak.copies(),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg(),
    }
    console = Console()
    for name in options.only.split(","):
        rows = SECTIONS[name](rounds, options.quick)
        results["tables"][name] = rows
        table = Table(*rows[0], title=f"{name}: {SECTIONS[name].__doc__}".split("\n")[0])
        for row in rows:
            table.add_row(*(cell(v) for v in row.values()))
        console.print(table)
        path.write_text(json.dumps(results, indent=1))
        write_docs(results)


if __name__ == "__main__":
    main()
