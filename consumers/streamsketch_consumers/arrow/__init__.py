"""An Arrow IPC stream from standard input, a named pipe or a TCP socket."""

from streamsketch_consumers.arrow.source import ArrowSource, make

__all__ = ["ArrowSource", "make"]
