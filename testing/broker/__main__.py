"""``python -m testing.broker FOLDER PORT``: serve until killed."""

import argparse
import sys
import threading
from pathlib import Path

from testing.broker.server import Broker


def main() -> None:
    """Read the arguments, serve."""
    parser = argparse.ArgumentParser(description="A persistent Kafka-protocol broker for tests.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--auto-create", action="store_true")
    parser.add_argument("--advertised", type=int, default=0, help="the port that clients are told")
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input does: with its parent"
    )
    given = parser.parse_args()
    broker = Broker(
        given.folder, given.port, given.partitions, given.auto_create, given.advertised
    )
    sys.stdout.write(broker.bootstrap + "\n")
    sys.stdout.flush()
    if given.until_eof:
        sys.stdin.read()
    else:
        threading.Event().wait()


main()
