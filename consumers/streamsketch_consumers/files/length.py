"""How many rows files hold: exactly where they say so, about where their bytes tell it."""

from pathlib import Path

import pyarrow as pa

from streamsketch_consumers.files.formats import COMPRESSED, FORMATS

__all__ = ["rows_in"]

LOOKED_INTO = 64  # files; those beyond are taken to have as many rows a byte
SAMPLE = 1 << 16  # bytes


def rows_in(paths: dict[str, Path], kinds: dict[str, str | None]) -> dict[str, int] | None:
    """Rows of each file, by name; None where that cannot be known without reading them.

    Args:
        paths: The files, by name.
        kinds: Their formats.
    """
    found: dict[str, int] = {}
    seen = counted = 0  # bytes and rows of the files that were looked into
    for name, path in paths.items():
        try:
            size = path.stat().st_size
            if len(found) < LOOKED_INTO:
                rows = _rows(path, kinds[name], size)
                if rows is None:
                    return None
                seen += size
                counted += rows
            else:
                rows = round(size * counted / max(seen, 1))
        except (OSError, pa.ArrowException):
            return None  # whoever reads it says what is wrong
        found[name] = rows
    return found


def _rows(path: Path, kind: str | None, size: int) -> int | None:
    if size == 0:
        return 0
    head = FORMATS[kind].head if kind in FORMATS else None
    if head is not None:
        return head(path)[1]
    if kind not in FORMATS or path.suffix in COMPRESSED:
        return None
    with path.open("rb") as file:
        sample = file.read(SAMPLE)
    return max(1, round(sample.count(b"\n") * size / len(sample)))
