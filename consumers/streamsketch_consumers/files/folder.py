"""Which files a path stands for, in order, and which of them are complete."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path

from streamsketch.errors import ConfigError, SourceError
from streamsketch_consumers.files.formats import COMPRESSED, SUFFIXES, format_of

__all__ = ["Files"]

log = logging.getLogger(__name__)

UNFINISHED = (".tmp", ".part", ".partial", ".inprogress")


class Files:
    """The files of a path: a file, a folder with its subfolders, a glob, or a list of files.

    The files of a folder or glob come in the order of their names (plain text order: `10` comes
    before `2`), those of a list in the order of the list. In a folder, files and subfolders whose
    names begin with `.` or `_`, unfinished ones (`.tmp`, `.part`, `.partial`, `.inprogress`) and,
    unless a format is declared, files of another suffix are passed over.

    Args:
        path: What to read.
        any_suffix: Take files of every suffix.
        wall: The wall clock, seconds since 1970.
        monotonic: A clock that never goes back, seconds.

    Attributes:
        root: The folder that names are relative to.
        fixed: The path names its files one by one, so that all of them must exist.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        any_suffix: bool = False,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fixed = False
        self._wall, self._monotonic = wall, monotonic
        self._looked = False
        self._any_suffix = any_suffix
        self._sizes: dict[str, tuple[int, int, float]] = {}
        self._unnamed: set[Path] = set()
        self._list: Callable[[], list[str]]
        if not isinstance(path, str):
            self._init_list(path)
        elif _is_glob(path) and not Path(path).exists():
            self._init_glob(path)
        elif Path(path).is_dir():
            self.root = Path(path)
            self._list = lambda: self._relative(self.root.rglob("*"))
        elif Path(path).is_file():
            self._init_list([path])
        else:
            raise SourceError(
                f"there is no file or folder {path!r}; correct path, or create it first"
            )

    def now(self) -> list[str]:
        """Names of the files that are there, in order."""
        return self._list()

    def complete(self, settle_seconds: float, known: Set[str] = frozenset()) -> list[str]:
        """Names of the files that are complete, in order, without the `known`.

        A file is complete when its size and time of writing have not changed between two calls at
        least `settle_seconds` apart. A file that this process finds at its first look is complete
        at once if it was last written that long before; later the wall clock may have jumped, and
        is not asked.
        """
        first, self._looked = not self._looked, True
        done = []
        for name in self.now():
            if name in known:
                self._sizes.pop(name, None)
                continue
            try:
                stat = (self.root / name).stat()
            except OSError:
                continue  # gone since it was listed
            size, written, since = self._sizes.get(name, (-1, -1, 0.0))
            if (size, written) != (stat.st_size, stat.st_mtime_ns):
                since = self._monotonic()
                if first:
                    since -= max(0.0, self._wall() - stat.st_mtime)
                self._sizes[name] = (stat.st_size, stat.st_mtime_ns, since)
            if self._monotonic() - since >= settle_seconds:
                done.append(name)
        return done

    def _init_list(self, paths: Sequence[str]) -> None:
        if not paths:
            raise ConfigError("path is an empty list; name at least one file")
        files = [Path(p).absolute() for p in paths]
        real = [p.resolve() for p in files]
        if len(set(real)) < len(files):
            twice = next(p for p, r in zip(files, real, strict=True) if real.count(r) > 1)
            raise ConfigError(
                f"path names {str(twice)!r} twice, which would count its rows twice; name it once"
            )
        for p in files:
            if not _is_text(str(p)):
                raise SourceError(f"the name of the file {str(p)!a} is not UTF-8; rename it")
            if not p.is_file():
                raise SourceError(f"there is no file {str(p)!r}; correct path, or create it first")
        self.fixed = True
        self.root = Path(os.path.commonpath([p.parent for p in files]))
        names = [p.relative_to(self.root).as_posix() for p in files]
        self._list = lambda: list(names)

    def _init_glob(self, pattern: str) -> None:
        parts = Path(pattern).parts
        plain = next(i for i, part in enumerate(parts) if _is_glob(part))
        self.root = Path(*parts[:plain]) if plain else Path()
        rest = str(Path(*parts[plain:]))
        self._list = lambda: self._relative(self.root.glob(rest))

    def _relative(self, found: Iterable[Path]) -> list[str]:
        names = (p.relative_to(self.root) for p in found if p.is_file())
        return sorted(n.as_posix() for n in names if self._taken(n))

    def _taken(self, name: Path) -> bool:
        if any(part.startswith((".", "_")) for part in name.parts) or name.suffix in UNFINISHED:
            return False
        if not self._any_suffix and format_of(name.name) is None:
            return False
        if not _is_text(str(name)):  # no reader, log or saved position could name it
            if name not in self._unnamed:
                self._unnamed.add(name)
                log.warning("file %a is passed over: its name is not UTF-8; rename it", str(name))
            return False
        return True

    def none_found(self) -> SourceError:
        """The error for a bounded stream without a file."""
        return SourceError(
            f"there is no file to read in {str(self.root)!r}: names must end in "
            f"{', '.join(SUFFIXES)} (text also "
            f"with {', '.join(COMPRESSED)}) and not begin with '.' or '_'; correct path, set "
            f"format, or set follow "
            "= true to wait for files"
        )


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_glob(text: str) -> bool:
    return any(c in text for c in "*?[")
