"""The broker in a process of its own, to be killed and started again."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], limit: float = 20.0) -> None:
    """Return when something listens there; raises when the process ended or time is up."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the broker ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port} after {limit} s")


class BrokerProcess:
    """``python -m testing.broker FOLDER PORT``; every start uses the same port.

    Args:
        folder: Of its log.
        advertised: The port that clients are told, such as that of a proxy; its own by default.
    """

    def __init__(self, folder: Path, advertised: int = 0) -> None:
        self._folder = folder
        self.port = free_port()
        self._advertised = advertised
        self.bootstrap = f"127.0.0.1:{advertised or self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "testing.broker", str(self._folder), str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--until-eof", "--advertised", str(self._advertised)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None

    close = kill
