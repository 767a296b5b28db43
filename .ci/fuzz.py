"""Ask the HTTP API of `serve` what its own description allows, and what it forbids (schemathesis).

    python .ci/fuzz.py

Every answer must be one that the description names, for the reason that it names. `/events` never ends and is
left out. The exit code is that of schemathesis.
"""

import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pyarrow as pa
import uvicorn

from streamsketch import Schema, Sketcher, Store, fit
from streamsketch.dashboard import make_app
from streamsketch.dashboard.server import config

EXAMPLES = 40  # of each request
SEED = 1


def small_store(folder: str) -> Store:
    """A store with a snapshot and a checkpoint."""
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=300), "kind": rng.choice(["a", "b"], 300)})
    sketcher = Sketcher(Schema.propose(table, label="kind"), frequencies=32)
    sketcher.learn_many(table)
    store = Store(folder)
    store.snapshots.put(sketcher.release().to_bytes())
    store.checkpoints.put(fit(sketcher.release()).to_bytes())
    return store


def main() -> int:
    """Serve, ask, and say how it went."""
    with tempfile.TemporaryDirectory() as folder:
        server = uvicorn.Server(config(make_app(small_store(folder), most=200)))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json",
            # what a label or a condition may be the store knows, not the description
            "--checks", "all", "--exclude-checks", "positive_data_acceptance",
            "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--exclude-path", "/events",
            "--request-timeout", "20", "--no-color",
        ]  # fmt: skip
        try:
            return subprocess.run(command, cwd=folder, check=False).returncode
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
