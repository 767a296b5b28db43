"""From a table of keys to a checked value: the one way in for pipeline files, keywords and plugins.

What a table may say is a frozen dataclass: its annotations are the types, with bounds of
`annotated_types` where there are any, and its `__post_init__` refuses what contradicts. The
dataclass belongs to the room that works with it; this module only reads the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache, update_wrapper
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    get_args,
    get_type_hints,
)

import numpy as np
from annotated_types import Ge

from streamsketch.errors import ConfigError, StreamSketchError

__all__ = [
    "Factory",
    "Positive",
    "checked",
    "key",
    "placed",
    "read",
    "resolve",
    "rest",
    "tables_of",
    "takes",
    "unknown_key",
]

Positive = Annotated[int, Ge(1)]

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


def key(default: Any = MISSING, *, location: bool = False, pipeline: Any = None) -> Any:
    """A field of a table that is more than a type and a default.

    Args:
        default: The default; a key without one is required.
        location: The value names a file or files: in a pipeline file, as seen from its folder.
        pipeline: The default in a pipeline file, where it is another one. `{store}`, `{dead}` and
            `{member}` in it are filled in by `placed`.
    """
    return field(default=default, metadata={"location": location, "pipeline": pipeline})


def rest() -> Any:
    """A field that takes all further keys of its table, as they are: they are another's settings."""
    return field(default_factory=dict, metadata={"rest": True})


def checked(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """The value that a table describes.

    Args:
        kind: A frozen dataclass.
        table: Keys and values, as TOML, JSON or keywords hold them.
        where: What the table belongs to, for the message.

    Raises:
        ConfigError: All of its mistakes: unknown and missing keys, wrong values.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Pace:
    ...     rate: float = 0.0
    >>> checked(Pace, {"rate": 3}, "source")
    Pace(rate=3)
    >>> checked(Pace, {"rat": 3}, "source")
    Traceback (most recent call last):
    streamsketch.errors.ConfigError: source: rat: unknown key; did you mean rate?
    """
    mistakes: list[str] = []
    value = read(kind, table, "", mistakes)
    if value is None:
        raise ConfigError(f"{where}: {'; '.join(mistakes)}")
    return value


def read(
    kind: type[T],
    table: object,
    where: str,
    mistakes: list[str],
    folder: Path | None = None,
    whole: bool = True,
    **given: Any,
) -> T | None:
    """The value that a table describes, or None and what is wrong with it, each key's mistake apart.

    Args:
        kind: A frozen dataclass.
        table: The table.
        where: What stands before a key in a message, such as `source.`.
        mistakes: Mistakes are added to it.
        folder: Folder of the pipeline file; None where the table is not from one.
        whole: Whether a key without a default must be there; else None without a mistake.
        given: Fields that are no keys of the table.
    """
    if not isinstance(table, Mapping):
        mistakes.append(f"{where.strip('.: ')}: must be a table of keys (found {table!r})")
        return None
    own = {f.name: f for f in fields(kind) if f.name not in given}  # type: ignore[arg-type]
    further = next((name for name, f in own.items() if f.metadata.get("rest")), None)
    known = {name: f for name, f in own.items() if name != further}
    values, told = dict(given), list[str]()
    for name in table:
        if name in known:
            values[name] = _value(kind, known[name], table[name], f"{where}{name}", told, folder)
        elif further is None:
            told.append(f"{where}{name}: {unknown_key(name, list(known))}")
    if further is not None:
        values[further] = {name: value for name, value in table.items() if name not in known}
    missing = _defaults(known, table, values, folder is not None)
    told += [f"{where}{name}: the key is missing" for name in missing if whole]
    mistakes += told
    return None if told or missing else _made(kind, values, where.strip(".: "), mistakes)


def placed(settings: T, **places: str) -> T:
    """Settings whose defaults of a pipeline file are filled in, such as `{store}/samples.parquet`."""
    if not is_dataclass(settings):
        return settings
    changes = {}
    for f in fields(settings):
        default = f.metadata.get("pipeline")
        if isinstance(default, str) and getattr(settings, f.name) == default:
            changes[f.name] = default.format_map(places)
    return replace(settings, **changes)  # type: ignore[type-var]


def resolve(path: str, folder: Path) -> str:
    """A path or URL as seen from the folder of a pipeline file.

    >>> resolve("s3://b/x", Path("/etc")), resolve("in/*.csv", Path("/etc"))
    ('s3://b/x', '/etc/in/*.csv')
    """
    return path if "://" in path or path == "-" else str(folder / path)


class Factory(Generic[T, P, R]):
    """What makes a source or sink of its settings, given checked or as a table.

    Attributes:
        settings: The dataclass of its settings.
        who: What it is, for the messages.
    """

    def __init__(self, make: Callable[Concatenate[T, P], R], settings: type[T], who: str) -> None:
        self._make, self.settings, self.who = make, settings, who
        update_wrapper(self, make)

    def __call__(
        self, settings: T | Mapping[str, Any], /, *args: P.args, **keywords: P.kwargs
    ) -> R:
        """Make it. Raises ConfigError as `checked` where the settings are a table."""
        if isinstance(settings, Mapping):
            settings = checked(self.settings, settings, self.who)
        return self._make(settings, *args, **keywords)


def takes(
    settings: type[T], who: str
) -> Callable[[Callable[Concatenate[T, P], R]], Factory[T, P, R]]:
    """Declare the settings of a factory, so that a pipeline file is checked before anything starts.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Pace:
    ...     rate: float = 0.0
    >>> @takes(Pace, "source 'clock'")
    ... def make(settings: Pace) -> str:
    ...     return f"{settings.rate} rows/s"
    >>> make({"rate": 2})
    '2 rows/s'
    """
    return lambda make: Factory(make, settings, who)


def _defaults(
    known: Mapping[str, "Field[Any]"],
    table: Mapping[str, Any],
    values: dict[str, Any],
    pipeline: bool,
) -> list[str]:
    """Fill in what a pipeline file has by default; returns the keys that must be there and are not."""
    missing = []
    for name, one in known.items():
        if name in table:
            continue
        if pipeline and one.metadata.get("pipeline") is not None:
            values[name] = one.metadata["pipeline"]
        elif one.default is MISSING and one.default_factory is MISSING:
            missing.append(name)
    return missing


def _made(kind: type[T], values: dict[str, Any], who: str, mistakes: list[str]) -> T | None:
    """The value, if its keys do not contradict each other."""
    try:
        return kind(**values)
    except StreamSketchError as e:
        mistakes.append(f"{who}: {str(e).removeprefix(f'{who}: ')}" if who else str(e))
        return None


def _value(
    kind: type,
    one: "Field[Any]",
    value: Any,
    where: str,
    mistakes: list[str],
    folder: Path | None,
) -> Any:
    """The value of one key, by the type of its field."""
    inner = tables_of(kind)[one.name]
    if inner is not None and (isinstance(value, Mapping) or _hints(kind)[one.name] is inner):
        return read(inner, value, f"{where}.", mistakes, folder)
    from pydantic import ValidationError

    # kept as given: what is written as 1 is hashed as 1, also where 1.0 would do
    found = _plain(value)
    try:
        _adapters(kind)[one.name].validate_python(found)
    except ValidationError as e:
        mistakes.append(_said(e.errors(), where, shown=one.repr))
        return None
    if folder is not None and one.metadata.get("location") and found:
        many = isinstance(found, tuple)
        found = tuple(resolve(p, folder) for p in found) if many else resolve(found, folder)
    return found


@cache
def _adapters(kind: type) -> dict[str, Any]:
    """What checks each field: strictly, since a table says of every value what it is."""
    from pydantic import ConfigDict, TypeAdapter

    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    return {
        name: TypeAdapter(hint, config=strict)
        for name, hint in _hints(kind).items()
        if not is_dataclass(hint)
    }


@cache
def tables_of(kind: type) -> dict[str, Any]:
    """The dataclass that each field of a dataclass may hold; None where it holds a plain value."""
    return {
        name: next((h for h in (hint, *get_args(hint)) if is_dataclass(h)), None)
        for name, hint in _hints(kind).items()
    }


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _plain(value: Any) -> Any:
    """Lists as tuples, as frozen values hold them, and numbers of numpy as Python's."""
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def unknown_key(name: str, known: Sequence[str]) -> str:
    """What is said of a key that is not known."""
    near = get_close_matches(name, known, 1)
    return (
        f"unknown key; did you mean {near[0]}?"
        if near
        else f"unknown key; known are {', '.join(known)}"
    )


def _said(errors: list[Any], where: str, shown: bool) -> str:
    """One sentence for one key: where in a list it is, each way it could be right, what it is."""
    at = ".".join(str(part) for part in errors[0]["loc"] if isinstance(part, int))
    texts = [e["msg"].removeprefix("Value error, ") for e in errors]
    said = ", or ".join(dict.fromkeys(text[0].lower() + text[1:] for text in texts))
    found = f" (found {errors[0]['input']!r})" if shown else ""
    return f"{where}{f'.{at}' if at else ''}: {said}{found}"
