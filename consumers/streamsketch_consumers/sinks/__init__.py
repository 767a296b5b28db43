"""Where generated rows go: Parquet, Arrow, CSV and JSON lines files, or standard output."""

from streamsketch_consumers.sinks.files import FileSink, make, make_stdout

__all__ = ["FileSink", "make", "make_stdout"]
