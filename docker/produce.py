"""Write the rows of a Parquet file to the topic "flights", one JSON message each.

python produce.py HOST:PORT FILE
"""

import json
import logging
import sys

import pyarrow.parquet as pq
from kafka import KafkaProducer

COLUMNS = ["carrier", "origin", "distance", "air_time", "hour", "dep_delay", "arr_delay"]


def main(bootstrap: str, file: str) -> None:
    """Produce all rows, spread over the topic's partitions."""
    logging.basicConfig(level=logging.INFO)
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, batch_size=1 << 18)
    for batch in pq.ParquetFile(file).iter_batches(10_000, columns=COLUMNS):
        for row in batch.to_pylist():
            producer.send("flights", json.dumps(row).encode())
    producer.flush()
    producer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
