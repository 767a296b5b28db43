"""Rows one by one beside rows all at once: CPU seconds, so as many rows a second.

python -m benchmarks.row_by_row
"""

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from streamsketch import Schema, Sketcher

ROWS, D, M, ROUNDS = 50_000, 10, 1024, 5


def least(run: Callable[[], object]) -> float:
    """Least CPU seconds of a call."""
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Print rows a second of both, and their ratio."""
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, D))
    names = [f"x{j}" for j in range(D)]
    rows = [dict(zip(names, row, strict=True)) for row in x.tolist()]
    table = pa.table(dict(zip(names, x.T, strict=True)))
    sketcher = Sketcher(Schema.vectors(D, -1, 1), frequencies=M)

    def one_by_one() -> None:
        for row in rows:
            sketcher.learn_one(row)
        _ = sketcher.sketch

    one_by_one()  # compiles
    one, many = least(one_by_one), least(lambda: sketcher.learn_many(table))
    print(
        f"learn_one {ROWS / one:,.0f} rows/s, learn_many {ROWS / many:,.0f}: {one / many:.1f} times"
    )


if __name__ == "__main__":
    main()
