"""Send rows to `streamsketch consume` over Arrow Flight, each counted exactly once.

    python -m examples.flight_client grpc://127.0.0.1:8815 rows.parquet

Kill it, or the server, and start it again: it goes on with the first batch that is not durable.
"""

import os
import sys

import pyarrow.parquet as pq
from streamsketch_consumers.flight import FlightWriter


def main(location: str, path: str) -> None:
    token = os.environ.get("STREAMSKETCH_TOKEN")
    with FlightWriter(location, client=f"file {path}", token=token) as writer:
        writer.write_all(pq.ParquetFile(path).iter_batches(10_000))
        print(f"{writer.position} batches are durable")


if __name__ == "__main__":
    main(*sys.argv[1:])
