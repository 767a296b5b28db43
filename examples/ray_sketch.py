"""The same sketch with Ray: one partial sketch a task, merged by the driver.

python -m examples.ray_sketch [FILE.parquet ...]
"""

import sys
from functools import reduce
from pathlib import Path

import pyarrow.parquet as pq
import ray

from streamsketch import Schema, Sketcher
from streamsketch.sketch import Sketch

DATA = Path(__file__).resolve().parent.parent / "data" / "adult.parquet"


@ray.remote
def partial(path: str, group: int, schema: Schema) -> bytes:
    """The sketch of one row group, with its checksum."""
    sketcher = Sketcher(schema, frequencies=256)
    sketcher.learn_many(pq.ParquetFile(path).read_row_group(group))
    return sketcher.sketch.to_bytes()


def main(paths: list[str]) -> Sketch:
    """Sketch the files."""
    schema = Schema.propose(pq.read_table(paths[0]))
    parts = [
        partial.remote(path, group, schema)
        for path in paths
        for group in range(pq.ParquetFile(path).num_row_groups)
    ]
    return reduce(Sketch.merge, (Sketch.from_bytes(data) for data in ray.get(parts)))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    print(main(sys.argv[1:] or [str(DATA)]).count, "rows")
