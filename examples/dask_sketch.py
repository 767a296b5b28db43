"""The same sketch with Dask: one partial sketch a task, added up in a tree.

    python -m examples.dask_sketch [FILE.parquet ...]

Sums are integers, so the result equals that of one pass, to the last bit.
"""

import sys
from pathlib import Path

import dask
import pyarrow.parquet as pq

from streamsketch import Schema, Sketcher
from streamsketch.sketch import Sketch

DATA = Path(__file__).resolve().parent.parent / "data" / "adult.parquet"


@dask.delayed
def partial(path: str, group: int, schema: Schema) -> Sketch:
    """The sketch of one row group."""
    sketcher = Sketcher(schema, frequencies=256)
    sketcher.learn_many(pq.ParquetFile(path).read_row_group(group))
    return sketcher.sketch


add = dask.delayed(Sketch.merge)


def main(paths: list[str]) -> Sketch:
    """Sketch the files."""
    schema = Schema.propose(pq.read_table(paths[0]))
    parts = [
        partial(path, group, schema)
        for path in paths
        for group in range(pq.ParquetFile(path).num_row_groups)
    ]
    while len(parts) > 1:
        parts = [add(*pair) if len(pair) == 2 else pair[0] for pair in zip_pairs(parts)]
    return parts[0].compute(scheduler="threads")


def zip_pairs(items: list) -> list[list]:
    """Neighbours, two by two."""
    return [items[i : i + 2] for i in range(0, len(items), 2)]


if __name__ == "__main__":
    print(main(sys.argv[1:] or [str(DATA)]).count, "rows")
