"""Files as a stream: Parquet, CSV, JSON lines, Arrow IPC; one file, a folder, a glob or a list."""

from streamsketch_consumers.files.source import FileSource, make

__all__ = ["FileSource", "make"]
