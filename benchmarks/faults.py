"""Exactly once over Kafka and Flight, at length: many kills, then `==` on the sums.

    python -m benchmarks.faults --kills 1000 --brokers 100 --freezes 10 --messages 600000
    python -m benchmarks.faults --flight --kills 1000
    python -m benchmarks.faults --storm 600 --partitions 16 --assignment cooperative

Real processes of the real pipeline read a stream; at random moments one of them is killed (SIGKILL)
and started again, frozen for longer than its session, joins or leaves, or the broker itself is
killed and started again. Over Flight the sketching process, which is the server, and its clients
are killed in turn. Lost and doubled rows would both show in the exact integer sums.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults import KafkaRun, Outcome
from tests.flight_faults import FlightRun

RESULTS = Path(__file__).parent / "results"
LIMIT = 6 * 3600.0
FAULTS = {
    "kills": "kill",
    "freezes": "freeze",
    "brokers": "broker",
    "joins": "join",
    "leaves": "leave",
}


def storm(seconds: float, seed: int) -> Iterator[str]:
    """Joins and leaves at random, and now and then a death, for so long."""
    rng, end = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        yield rng.choices(["join", "leave", "kill"], [9, 9, 2])[0]


def disturb(given: argparse.Namespace) -> Outcome:
    """One run; the kinds of faults are shuffled."""
    faults = [kind for name, kind in FAULTS.items() for _ in range(getattr(given, name))]
    random.Random(given.seed).shuffle(faults)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        bar = progress.add_task("faults", total=given.storm or len(faults))

        def tell(so_far: Outcome) -> None:
            done = so_far.seconds if given.storm else sum(so_far.faults.values())
            text = ", ".join(f"{n} {kind}" for kind, n in so_far.faults.items())
            progress.update(bar, completed=done, description=text)
            if not console.is_terminal and sum(so_far.faults.values()) % 50 == 0:
                sys.stderr.write(f"{so_far.seconds:.0f} s: {text}\n")

        if given.flight:
            clients = FlightRun(Path(folder), given.members, given.messages // 50 // given.members)
            return clients.run_disturbed(
                given.kills, given.rest, seed=given.seed, limit=LIMIT, tell=tell
            )
        run = KafkaRun(Path(folder), given.messages, given.partitions, given.seed)
        try:
            return run.run_disturbed(
                storm(given.storm, given.seed) if given.storm else faults,
                given.members,
                given.rest,
                (0.0, given.pause),
                seed=given.seed,
                limit=LIMIT,
                tell=tell,
                assignment=given.assignment,
                max_records=given.records,
                client=given.client,
            )
        finally:
            run.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in FAULTS:
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--flight", action="store_true", help="--kills over Flight, not Kafka")
    parser.add_argument("--storm", type=float, default=0.0, help="seconds of joins and leaves")
    parser.add_argument("--assignment", default="range")
    parser.add_argument("--client", default="kafka-python", help="or confluent")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--name", default="faults", help="of the result file")
    parser.add_argument("--members", type=int, default=2, help="members, or clients of Flight")
    parser.add_argument("--messages", type=int, default=60_000, help="or rows over Flight")
    parser.add_argument("--rest", type=float, default=0.05, help="seconds a member waits a chunk")
    parser.add_argument("--records", type=int, default=50, help="most records of a chunk")
    parser.add_argument("--pause", type=float, default=0.5, help="most seconds before a fault")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcome = disturb(given)
    table = Table("fault", "times")
    for fault, times in outcome.faults.items():
        table.add_row(fault, str(times))
    table.add_row("while the stream was being read", str(outcome.while_running))
    table.add_row("after rows were saved since the fault before", str(outcome.advanced))
    table.add_row("members that ended by themselves", str(len(outcome.ended)))
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
    if not (outcome.exact and outcome.dead_exact):
        sys.exit(1)


if __name__ == "__main__":
    main()
