"""A Spark driver killed (SIGKILL, with its virtual machine and workers) again and again in one stream.

    python -m benchmarks.spark_kills --kills 50

Files of rows are one micro-batch each. Every driver is killed at a random moment after it has added a
batch, or while it starts; the last one reads to the end. Then the sums are compared with one pass.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from testing.spark_job import expected, kill, make, saved, start

RESULTS = Path(__file__).parent / "results" / "spark_kills.json"


def main() -> None:
    """Run it and write down what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--rows", type=int, default=500, help="rows of a file")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which nothing is killed")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments = random.Random(asked.seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = make(Path(folder), asked.files, asked.rows, seed=asked.seed)
        killed = {"starting": 0, "adding batches": 0}
        end = begun + 60 * asked.minutes
        while sum(killed.values()) < asked.kills and time.monotonic() < end:
            before = saved(pipeline)[0]
            job = start(Path(folder))
            starting = moments.random() < 0.1
            if starting:
                time.sleep(moments.uniform(0.5, 3.0))
            else:
                while saved(pipeline)[0] == before and job.poll() is None:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0.0, 1.5))
            if job.poll() is not None:
                raise RuntimeError((Path(folder) / "job.log").read_text()[-2000:])
            kill(job)
            killed["starting" if starting else "adding batches"] += 1
            print(f"{sum(killed.values())} kills, batch {saved(pipeline)[0]}", flush=True)
        at_last_kill = saved(pipeline)[0]
        job = start(Path(folder))
        code = job.wait()
        batch, dead, total = saved(pipeline)
        refused, sums = expected(pipeline)
    found = {
        "kills": killed,
        "files": asked.files,
        "rows": asked.files * asked.rows,
        "refused": refused,
        "batches_before_the_last_kill": at_last_kill + 1,
        "code": code,
        # fewer than files: where a driver dies between listing a file and planning its batch, Spark
        # puts that file into the next one
        "batches": batch + 1,
        "identical": bool(dead == refused and np.array_equal(total, sums)),
        "seconds": round(time.monotonic() - begun),
    }
    print(found)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
