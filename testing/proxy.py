"""A network that can be cut: a TCP proxy on the loopback."""

import contextlib
import socket
import threading


class Proxy:
    """Passes bytes on to a port of this machine until it is cut.

    Attributes:
        port: Where it listens.
        to: Where it passes bytes on to.
    """

    def __init__(self, to: int = 0) -> None:
        self.to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flowing = threading.Event()
        self._flowing.set()
        self._severed = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def sever(self) -> None:
        """Every connection breaks, and new ones are refused at once, until `heal`."""
        self._severed = True
        for end in list(self._open):
            _close(end)

    def silence(self) -> None:
        """Connections stay, new ones are taken, and not a byte gets through, until `heal`."""
        self._flowing.clear()

    def heal(self) -> None:
        """Bytes pass again, those that were held back as well."""
        self._severed = False
        self._flowing.set()

    def close(self) -> None:
        """Stop."""
        self.heal()
        self.sever()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._severed:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._flowing.wait()
                other.sendall(data)
        for end in (one, other):
            _close(end)
            self._open.discard(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
