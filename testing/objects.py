"""An S3 server that runs here: moto's, one request at a time, so that its conditions are kept.

Its check of a condition and its write are two steps: with a thread for each request two writers could
pass the same check, which no real store allows.
"""

import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from testing.broker.process import free_port, wait_for_port

ROOT = Path(__file__).parent.parent
BUCKET = "bucket"


class ObjectServer:
    """``python -m testing.objects PORT [careless]``, with one bucket.

    Args:
        careless: It takes every write, whatever its condition says.
    """

    def __init__(self, careless: bool = False) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "testing.objects", str(self.port)]
        self._process = subprocess.Popen(
            [*command, *(["careless"] if careless else [])],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)
        urlopen(Request(f"{self.endpoint}/{BUCKET}", method="PUT"), timeout=10).close()

    @property
    def environment(self) -> dict[str, str]:
        """What clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }

    def close(self) -> None:
        """Stop it; what it held is gone."""
        self._process.kill()
        self._process.communicate()


def careless(app: Any) -> Any:
    """A server that does not look at the conditions of a write."""

    def call(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
                environ.pop(name, None)
        found: Iterable[bytes] = app(environ, start)
        return found

    return call


def main(port: str, *how: str) -> None:
    """Serve until standard input ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app: Any = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", int(port), careless(app) if how else app, threaded=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
