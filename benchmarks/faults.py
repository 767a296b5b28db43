"""Exactly once over Kafka, at length: many kills, then `==` on the sums.

    python -m benchmarks.faults --kills 30 --freezes 3 --brokers 3
    python -m benchmarks.faults --kills 10 --joins 25 --leaves 25 --partitions 16 --name storm

Real processes of the real pipeline read a topic; at random moments one of them is killed (SIGKILL)
and started again, frozen for longer than its session, one joins or leaves, or the broker itself is
killed and started again. Lost and doubled rows would both show in the exact integer sums.
"""

import argparse
import json
import os
import platform
import random
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import KafkaRun, Outcome

RESULTS = Path(__file__).parent / "results"
FAULTS = {
    "kills": "kill",
    "freezes": "freeze",
    "brokers": "broker",
    "joins": "join",
    "leaves": "leave",
}


def disturb(given: argparse.Namespace) -> Outcome:
    """One run; the kinds of faults are shuffled."""
    faults = [kind for name, kind in FAULTS.items() for _ in range(getattr(given, name))]
    random.Random(given.seed).shuffle(faults)
    with tempfile.TemporaryDirectory() as folder:
        run = KafkaRun(Path(folder), given.messages, given.partitions, given.seed)
        try:
            return run.run_disturbed(
                faults,
                given.members,
                given.rest,
                seed=given.seed,
                limit=3600,
                assignment=given.assignment,
            )
        finally:
            run.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in FAULTS:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--assignment", default="range")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--name", default="faults", help="of the result file")
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--rest", type=float, default=0.05, help="seconds a member waits a chunk")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcome = disturb(given)
    table = Table("fault", "times")
    for fault, times in outcome.faults.items():
        table.add_row(fault, str(times))
    table.add_row("while the stream was being read", str(outcome.while_running))
    Console().print(table)
    lost = outcome.rows_expected - outcome.rows_found
    Console().print(
        f"{outcome.rows_found} of {outcome.rows_expected} rows ({lost} missing), sums "
        f"{'==' if outcome.exact else '!='}, dead letters {'all' if outcome.dead_exact else 'NOT all'}"
        f" there, {outcome.seconds:.0f} s"
    )
    machine = {"cores": os.cpu_count(), "machine": platform.machine()}
    results = {"settings": vars(given), "outcome": asdict(outcome), **machine}
    (RESULTS / f"{given.name}.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
