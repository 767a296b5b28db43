"""All files of a path, read piece by piece as the file source reads them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamsketch.errors import ConfigError, DataError, SourceError
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import Dialect
from streamsketch_consumers.files.folder import Files
from streamsketch_consumers.files.formats import (
    FORMATS,
    SUFFIXES,
    format_of,
    partition,
    read_pieces,
)
from streamsketch_consumers.files.pieces import FileFault, Piece, Wanted

__all__ = ["EveryFile"]


class EveryFile:
    """The files of a path, of one format."""

    def __init__(self, path: str, asked: dict[str, Any]) -> None:
        try:
            files = Files(path, any_suffix="format" in asked)
        except SourceError:
            raise ConfigError(
                f"There is no file {path!r}; give a Parquet, CSV, JSON-lines or Arrow file, or a folder"
            ) from None
        self.root, names = files.root, files.now()
        self.asked = asked
        kinds = Counter(asked.get("format") or format_of(name) or "" for name in names)
        if not names or set(kinds) <= {""}:
            raise ConfigError(
                f"Cannot tell the format of {path!r}: names must end in one of {', '.join(SUFFIXES)}; "
                "rename it, or name the format"
            )
        self.kind = kinds.most_common(1)[0][0]
        if self.kind not in FORMATS:
            raise ConfigError(f"format {self.kind!r} is not one of {', '.join(FORMATS)}")
        self.names = [n for n in names if (asked.get("format") or format_of(n)) == self.kind]
        self.paths = [self.root / n for n in self.names]
        self.path = path
        self.notes: list[str] = []
        if len(self.names) < len(names):
            suffix = Counter(Path(n).suffix for n in self.names).most_common(1)[0][0]
            self.path = str(Path(path) / "**" / f"*{suffix}")
            self.notes.append(
                f"{path!r} holds files of several formats; the {len(self.names)} of {self.kind} are read."
            )
        self.rows = 0

    def partitions(self) -> list[str]:
        """Names of the columns that folders stand for."""
        return list(dict.fromkeys(key for name in self.names for key in partition(name)))

    def pieces(
        self, readings: dict[str, Reading], settings: Mapping[str, Any]
    ) -> Iterator[tuple[Piece, list[str]]]:
        """The rows of all files with the names of the columns that their file has.

        Raises:
            DataError: A file cannot be read.
        """
        for name, path in zip(self.names, self.paths, strict=True):
            there: list[str] = list(partition(name))

            def note(found: pa.Schema, where: str, there: list[str] = there) -> None:
                there.extend(found.names)

            wanted = Wanted(
                readings,
                check=note,
                delimiter=settings.get("delimiter", ","),
                header=settings.get("header", True),
                null_values=tuple(settings.get("null_values", ("",))),
                newlines_in_values=settings.get("newlines_in_values", False),
                encoding=settings.get("encoding", "utf-8"),
                dialect=Dialect(
                    settings.get("decimal", "."),
                    settings.get("thousands", ""),
                    tuple(settings.get("null_numbers", ())),
                ),
            )
            try:
                for piece in read_pieces(path, self.kind, 0, wanted, name):
                    yield piece, there or list(readings)
            except FileFault as e:
                raise DataError(f"Cannot read {str(path)!r} as {self.kind}: {e}") from e
