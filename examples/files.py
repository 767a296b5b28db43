"""A file as a stream, to synthetic rows: the flights that left New York City in 2013.

    python -m examples.files [--rows N] [--out example-out]

Each batch is read once and dropped. The generator is fitted to the released snapshot, the
rows are drawn with a history, and all of it is judged against flights that were never read.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from streamsketch import Sampler, Schema, Sketcher, fit
from streamsketch.evaluate import evaluate
from streamsketch.evaluate.pictures import pictures

DATA = Path(__file__).resolve().parent.parent / "data" / "nycflights13.parquet"
COLUMNS = ["carrier", "origin", "distance", "air_time", "hour", "dep_delay", "arr_delay"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="flights in the stream")
    parser.add_argument("--out", type=Path, default=Path("example-out"))
    given = parser.parse_args()
    table = pq.read_table(DATA, columns=COLUMNS)
    # Every tenth flight is held out; the schema's limits are read off the data, so not private.
    held = table.take(pa.array(range(0, table.num_rows, 10)))
    schema = Schema.propose(table)

    sketcher = Sketcher(schema, frequencies=1024)
    for batch in stream(table, given.rows):
        sketcher.learn_many(batch)
    snapshot = sketcher.release()
    print(f"{snapshot.count:,.0f} flights in a snapshot of {len(snapshot.to_bytes()):,} bytes")

    generator = fit(snapshot)
    print(generator.metrics["verdict"])
    given.out.mkdir(parents=True, exist_ok=True)
    drawn = Sampler(generator).sample(min(5000, given.rows))
    pq.write_table(drawn, given.out / "flights.parquet")
    print(drawn.slice(0, 3).to_pylist())

    found = evaluate(drawn, held, rows=min(5000, given.rows))
    for name in ("pair_tv", "c2st", "energy"):
        row = {kind: round(scores[name], 4) for kind, scores in found.scores.items()}
        print(name, row)
    for name, picture in pictures(drawn, held, found).items():
        (given.out / f"flights-{name}.png").write_bytes(picture)
    print(f"pictures: {given.out / 'flights-columns.png'}, -pairs, -associations, -anchors")


def stream(table: pa.Table, rows: int) -> list[pa.RecordBatch]:
    """The flights that are not held out, in order of time, some thousand at once."""
    rest = pa.array([i for i in range(table.num_rows) if i % 10][:rows])
    batches: list[pa.RecordBatch] = table.take(rest).to_batches(max_chunksize=8192)
    return batches


if __name__ == "__main__":
    main()
