"""The privacy audit at length: factors, the audit table, a black-box audit, kills.

    python -m benchmarks.privacy_audit [--runs 3000] [--kills 50]

1. Noise of the mechanisms against naive composition and the binary tree.
2. The audit of `streamsketch.ingest.audit` on the correct releaser and on every mutant.
3. A one-run black-box audit (Steinke, Nasr, Jagielski 2023): many canaries, one release, guesses.
   It finds gross mistakes only; it knows nothing of the mechanism.
4. Real processes of the real command, killed with SIGKILL at random and started again: no index
   may ever show two releases, and the ledger may only grow.
"""

import argparse
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.privacy_mutants import CORRECT, MUTANTS, _quieter, examine
from streamsketch.privacy import Releaser, epsilon_from_rho, noise_multiplier
from streamsketch.privacy.ledger import LedgerCopy
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.store import Store

HERE = Path(__file__).parent


def factors() -> list[dict[str, Any]]:
    found = []
    for t in (10, 100, 1000):
        nodes = max(k.bit_count() for k in range(1, t + 1))
        found.append(
            {
                "releases": t,
                "naive": math.sqrt(t),
                "tree": math.sqrt((math.floor(math.log2(t)) + 1) * nodes),
                "toeplitz": noise_multiplier("toeplitz", releases=t),
                "blt": noise_multiplier("blt", releases=t),
                "std at rho = 0.5, m = 1000": noise_multiplier("toeplitz", releases=t) * 1000**0.5,
            }
        )
    return found


def audit_table(runs: int) -> list[dict[str, Any]]:
    found = []
    for name in {**CORRECT, **MUTANTS}:
        begun = time.process_time()
        v = examine(name, runs)
        found.append(
            {
                "releaser": name,
                "mu": v.mu,
                "mu_error": v.mu_error,
                "promised": v.promised,
                "variance_z": v.variance_z,
                "correlation_z": v.correlation_z,
                "versions": v.versions,
                "found": ", ".join(v.failures),
                "ok": v.passed == (name in CORRECT),
                "cpu_s": time.process_time() - begun,
            }
        )
    return found


def one_run_epsilon(scores: np.ndarray, present: np.ndarray, delta: float) -> float:
    """Largest epsilon that one run refutes at 95 %: theorem 5.2 of Steinke et al. 2023."""
    from scipy.stats import binom

    order = np.argsort(scores)
    n = len(scores)
    guesses = n // 5
    ends = np.concatenate([order[:guesses], order[-guesses:]])
    guessed = np.arange(2 * guesses) >= guesses
    right = int((present[ends] == guessed).sum())
    low, high = 0.0, 20.0
    for _ in range(40):
        epsilon = 0.5 * (low + high)
        q = 1.0 / (1.0 + math.exp(-epsilon))
        p = binom.sf(right - 1, 2 * guesses, q)
        tail = np.cumsum(binom.pmf(right - np.arange(1, right + 1), 2 * guesses, q))
        p += delta * 2 * n * float(np.max(tail / np.arange(1, right + 1)))
        low, high = (epsilon, high) if p < 0.05 else (low, epsilon)
    return low


def one_run(make: Callable[[Any, Schema], Releaser], seed: int, canaries: int = 1000) -> float:
    """Audit one release with canaries that are in the stream or not, by a coin each."""
    from streamsketch.features import FeatureMap

    rng = np.random.default_rng(seed)
    fm = FeatureMap.from_frequencies(rng.normal(size=(8, 20_000)) * 3.0)
    schema = Schema.vectors(8, -10, 10)
    x = rng.normal(size=(canaries, 8)).astype(np.float32)
    present = rng.random(canaries) < 0.5
    snapshot = make(fm, schema).release(fm.sum(x[present]), int(present.sum()))
    total = snapshot.mean * max(snapshot.count, snapshot.release.notes.get("count_floor", 0.0))
    return one_run_epsilon(fm.features(x) @ total, present, 1e-5)


def black_box(repeats: int = 5) -> list[dict[str, Any]]:
    def weaker(by: float) -> Callable[[Any, Schema], Releaser]:
        def make(fm: Any, schema: Schema) -> Releaser:
            releaser = Releaser(
                fm, schema, mechanism="gaussian", settings={"rho": 0.5, "releases": 1}
            )
            _quieter(releaser, by)
            return releaser

        return make

    claim = epsilon_from_rho(0.5, 1e-5)
    variants = {
        "correct": 1.0,
        "4 times too little noise": 4.0,
        "noise / sqrt(m)": math.sqrt(20_000),
    }
    found = []
    for name, by in variants.items():
        bounds = [one_run(weaker(by), seed) for seed in range(repeats)]
        refuted = float(np.median(bounds)) > claim
        found.append({"releaser": name, "epsilon at least": float(np.median(bounds)),
                      "promised": claim, "refuted": refuted})  # fmt: skip
    return found


PIPELINE = """
[source]
type = "files"
path = "rows.parquet"
rate = 40000
batch_rows = 500
[schema.x0]
kind = "numeric"
low = -1
high = 1
[schema.x1]
kind = "numeric"
low = -1
high = 1
[sketch]
frequencies = 200
[privacy]
mechanism = "toeplitz"
epsilon = 1.0
releases = 400
[snapshots]
rows = 4000
save_seconds = 0.05
keep = 1000
[store]
path = "store"
"""


def kills(count: int, seed: int = 0) -> dict[str, Any]:
    """Run `streamsketch consume`, kill it, start it again; look at the store after each death."""
    from streamsketch.privacy.ledger import Ledger

    randomness = random.Random(seed)
    seen: dict[str, str] = {}
    changed, spent, entries, lived = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(seed)
        x = rng.uniform(-1, 1, (3_000_000, 2))
        pq.write_table(pa.table({"x0": x[:, 0], "x1": x[:, 1]}), Path(folder) / "rows.parquet")
        (Path(folder) / "p.toml").write_text(PIPELINE)
        store = Store(Path(folder) / "store")
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", "from streamsketch.cli import main; main()", "consume", "p.toml"],
                cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            before = len(store.snapshots.names())
            begun = time.monotonic()
            while len(store.snapshots.names()) <= before + 1 and time.monotonic() - begun < 30:
                if process.poll() is not None:
                    break
                time.sleep(0.02)
            time.sleep(randomness.uniform(0.0, 0.25))
            process.send_signal(signal.SIGKILL)
            lived += process.wait() == -signal.SIGKILL
            for name in store.snapshots.names():
                found = Snapshot.from_bytes(store.snapshots.read(name), name)
                if seen.setdefault(name, found.id) != found.id:
                    changed.append(name)
            text = LedgerCopy(store).text()
            lines = [json.loads(line) for line in text.split("\n")[:-1]]
            Ledger("stream", entries=lines).verify()
            entries.append(len(lines))
            spent.append(lines[-1]["spent"] if lines else 0.0)
        released = [e for e in lines if e["kind"] == "release"]
        ids = {(e["epoch"], e["index"]): e["release"] for e in released}
    return {
        "kills": count,
        "killed while running": lived,
        "releases": len(released),
        "snapshots seen": len(seen),
        "indices released twice": len(released) - len(ids),
        "snapshots that changed": len(changed),
        "published but not in the ledger": len(set(seen.values()) - set(ids.values())),
        "spent went down": sum(b < a for a, b in zip(spent, spent[1:], strict=False)),
        "ledger got shorter": sum(b < a for a, b in zip(entries, entries[1:], strict=False)),
    }


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--runs", type=int, default=3000)
    p.add_argument("--kills", type=int, default=50)
    a = p.parse_args()
    console = Console(width=150)

    def show(title: str, rows: list[dict[str, Any]]) -> None:
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
        console.print(table)

    result: dict[str, Any] = {"factors": factors()}
    show("Worst noise of any release, in units of sensitivity / sqrt(2 rho)", result["factors"])
    result["audit"] = audit_table(a.runs)
    show(f"Audit, {a.runs} runs with and without a canary", result["audit"])
    result["black box"] = black_box()
    show("One-run black-box audit (weak: gross mistakes only)", result["black box"])
    if a.kills:
        result["kills"] = kills(a.kills)
        show(
            "kill -9 on the real command", [{"what": k, "": v} for k, v in result["kills"].items()]
        )
    out = HERE / "results" / "privacy_audit.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
