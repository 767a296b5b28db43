"""Exactly once over Kafka and Flight, at length: many kills, then `==` on the sums.

    python -m benchmarks.faults --kills 1000 --brokers 100 --freezes 10 --runs 12 --streams 6
    python -m benchmarks.faults --flight --kills 1000
    python -m benchmarks.faults --storm 600 --partitions 16 --assignment cooperative

Real processes of the real pipeline read a stream; at random moments one of them is killed (SIGKILL)
and started again, frozen for longer than its session, joins or leaves, or the broker itself is
killed and started again; or two whole `streamsketch run`s are started on the store beside the
members, of which the second must be refused. Over Flight the sketching process, which is the server, and its clients
are killed in turn. Lost and doubled rows would both show in the exact integer sums.

Most of the time goes into waiting for the group to notice a death: `--streams` divides the faults
over so many streams at a time, each with its own broker, members and sums.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Empty
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from testing.faults import KafkaRun, Outcome
from testing.flight_faults import FlightRun

RESULTS = Path(__file__).parent / "results"
LIMIT = 6 * 3600.0
FAULTS = {
    "kills": "kill",
    "freezes": "freeze",
    "brokers": "broker",
    "joins": "join",
    "leaves": "leave",
    "runs": "runs",
}


def storm(seconds: float, seed: int) -> Iterator[str]:
    """Joins and leaves at random, and now and then a death, for so long."""
    rng, end = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        yield rng.choices(["join", "leave", "kill"], [9, 9, 2])[0]


def disturb(given: argparse.Namespace, stream: int, told: Any) -> Outcome:
    """One stream; the kinds of faults are shuffled."""
    faults = [
        kind
        for name, kind in FAULTS.items()
        for _ in range(share(getattr(given, name), given, stream))
    ]
    seed = given.seed + stream
    random.Random(seed).shuffle(faults)

    def tell(so_far: Outcome) -> None:
        told.put((stream, dict(so_far.faults), so_far.seconds))

    messages = share(given.messages, given, stream)
    with tempfile.TemporaryDirectory() as folder:
        if given.flight:
            flight = FlightRun(Path(folder), given.members, messages // 50 // given.members)
            return flight.run_disturbed(len(faults), given.rest, seed=seed, limit=LIMIT, tell=tell)
        run = KafkaRun(Path(folder), messages, given.partitions, seed)
        try:
            return run.run_disturbed(
                storm(given.storm, seed) if given.storm else faults,
                given.members,
                given.rest,
                (0.0, given.pause),
                seed=seed,
                limit=LIMIT,
                tell=tell,
                assignment=given.assignment,
                max_records=given.records,
                client=given.client,
            )
        finally:
            run.close()


def share(whole: int, given: argparse.Namespace, stream: int) -> int:
    """What falls to one of the streams."""
    return whole // given.streams + (stream < whole % given.streams)


def disturb_all(given: argparse.Namespace) -> list[Outcome]:
    """All streams at a time, each in a process of its own; shows how far they are."""
    context = multiprocessing.get_context("spawn")
    console = Console(stderr=True)
    counts: dict[int, Counter[str]] = {}
    whole = given.storm or sum(getattr(given, name) for name in FAULTS)
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(given.streams, context) as pool,
        Progress(console=console) as progress,
    ):
        told: Any = manager.Queue()
        runs = [pool.submit(disturb, given, stream, told) for stream in range(given.streams)]
        bar, shown = progress.add_task("faults", total=whole), 0
        while not all(run.done() for run in runs):
            try:
                stream, faults, seconds = told.get(timeout=1.0)
            except Empty:
                continue
            counts[stream] = Counter(faults)
            now = sum(counts.values(), Counter())
            text = ", ".join(f"{n} {kind}" for kind, n in now.items())
            done = seconds if given.storm else now.total()
            progress.update(bar, completed=done, description=text)
            if not console.is_terminal and now.total() >= shown + 25:
                shown = now.total()
                sys.stderr.write(f"{seconds:.0f} s: {text}\n")
        return [run.result() for run in runs]


def together(outcomes: list[Outcome]) -> Outcome:
    """Counts added up; exact where all are."""
    return Outcome(
        messages=sum(o.messages for o in outcomes),
        rows_expected=sum(o.rows_expected for o in outcomes),
        rows_found=sum(o.rows_found for o in outcomes),
        exact=all(o.exact for o in outcomes),
        dead_exact=all(o.dead_exact for o in outcomes),
        faults=dict(sum((Counter(o.faults) for o in outcomes), Counter())),
        while_running=sum(o.while_running for o in outcomes),
        advanced=sum(o.advanced for o in outcomes),
        refused=sum(o.refused for o in outcomes),
        ended=[words for o in outcomes for words in o.ended],
        seconds=max(o.seconds for o in outcomes),
    )


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
    parser.add_argument("--streams", type=int, default=1, help="at a time")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcomes = disturb_all(given)
    outcome = together(outcomes)
    table = Table("fault", "times")
    for fault, times in outcome.faults.items():
        table.add_row(fault, str(times))
    table.add_row("while the stream was being read", str(outcome.while_running))
    table.add_row("after rows were saved since the fault before", str(outcome.advanced))
    table.add_row("second runs on one store, refused", str(outcome.refused))
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
    if given.streams > 1:
        results["streams"] = [asdict(each) for each in outcomes]
    (RESULTS / f"{given.name}.json").write_text(json.dumps(results, indent=1) + "\n")
    refused = outcome.refused == outcome.faults.get("runs", 0)
    if not (outcome.exact and outcome.dead_exact and refused):
        sys.exit(1)


if __name__ == "__main__":
    main()
