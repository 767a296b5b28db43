"""A consumer's rows a second with the live page open and five readers, beside without.

    python -m benchmarks.page_open [PAIRS]

One `consume` and one `serve` run all the time, as processes. In turns nobody looks, then a client loads the
page and five read its figures as they change. Rows are those of the consumer's own status, by the clock
and by its processor time: on a machine with other work only the latter says anything. What a pair of turns
says is one ratio; the median of all is printed with the quarter and three quarters of them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from streamsketch import Schema

ROWS, D, M = 4_000_000, 4, 65_536
TURN, READERS = 4.0, 5
RUN = [sys.executable, "-m", "streamsketch"]


def pipeline(folder: Path) -> Path:
    """A file that takes minutes to read, and its pipeline."""
    rng = np.random.default_rng(0)
    table = pa.table({f"x{j}": rng.uniform(-1, 1, ROWS).astype(np.float32) for j in range(D)})
    pq.write_table(table, folder / "rows.parquet")
    schema = Schema.vectors(D, -1, 1).to_dict()
    tables = {
        "source": {"type": "files", "path": "rows.parquet", "batch_rows": 1000},
        "sketch": {"frequencies": M},
        "snapshots": {"seconds": 5.0},
        "store": {"path": "store"},
        "schema": schema,
    }
    (folder / "p.toml").write_text(tomli_w.dumps(tables))
    return folder / "p.toml"


def read(url: str, stop: threading.Event) -> None:
    """Read the figures as they change."""
    with suppress(OSError), urlopen(f"{url}/events", timeout=30) as stream:
        while not stop.is_set():
            stream.readline()


class Consumer:
    """The consumer that is watched.

    Args:
        process: It.
        status: Its status file.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", status: Path) -> None:
        self.process, self.status = process, status

    def seen(self) -> tuple[float, int, float]:
        """Time, rows and processor seconds, just after it has said something new."""
        before = self._said()
        while (now := self._said()) is None or now == before:
            time.sleep(0.005)
        return *now, cpu(self.process.pid)

    def _said(self) -> tuple[float, int] | None:
        try:
            figures = json.loads(self.status.read_text())
            return figures["time"], figures["rows"]
        except (OSError, ValueError, KeyError):
            return None

    def rates(self) -> tuple[float, float]:
        """Rows a second, and rows a processor second, over one turn."""
        t0, n0, c0 = self.seen()
        time.sleep(TURN)
        t1, n1, c1 = self.seen()
        return (n1 - n0) / (t1 - t0), (n1 - n0) / (c1 - c0)


def cpu(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watched(consumer: Consumer, url: str) -> tuple[float, float]:
    """The rates while the page is open and read."""
    stop = threading.Event()
    readers = [threading.Thread(target=read, args=(url, stop)) for _ in range(READERS)]
    for one in readers:
        one.start()
    for path in ("/", "/static/page.js", "/history", "/marginals"):
        urlopen(url + path, timeout=60).read()
    try:
        return consumer.rates()
    finally:
        stop.set()
        for one in readers:
            one.join()


def main() -> None:
    """Print the ratios."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        quiet = {"stderr": subprocess.DEVNULL}
        process = subprocess.Popen([*RUN, "consume", str(pipeline(folder))], **quiet)
        consumer = Consumer(process, folder / "store/state/status/consumer-0.json")
        consumer.rates()
        page = subprocess.Popen(
            [*RUN, "serve", str(folder / "store"), "--port", str(port)], **quiet
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.2)
            watched(consumer, url)  # loads what is loaded once
            measure(consumer, url, pairs, page.pid)
        finally:
            page.terminate()
            process.terminate()
            page.wait()
            process.wait()


def measure(consumer: Consumer, url: str, pairs: int, page: int) -> None:
    """Turns in alternating order, and what they say together."""
    began, used = time.monotonic(), cpu(page)
    found = []
    for k in range(pairs):
        turns = [consumer.rates, lambda: watched(consumer, url)]
        done = [one() for one in (turns if k % 2 == 0 else turns[::-1])]
        alone, seen = done if k % 2 == 0 else done[::-1]
        found.append([seen[i] / alone[i] for i in range(2)])
        print(
            f"watched : alone {found[-1][0]:.3f} by the clock, {found[-1][1]:.3f} by processor time",
            flush=True,
        )
    for name, ratios in zip(("the clock", "processor time"), np.array(found).T, strict=True):
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"by {name}: {middle:.3f} (half of the pairs between {low:.3f} and {high:.3f})")
    share = (cpu(page) - used) / (time.monotonic() - began)
    print(f"the page's process takes {share:.1%} of a core, at the lowest priority")


if __name__ == "__main__":
    main()
