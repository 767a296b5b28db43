"""Settings of a source or sink: a mapping from pipeline.toml into a checked frozen dataclass."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from streamsketch.errors import ConfigError

__all__ = ["parse"]

T = TypeVar("T")


def parse(kind: type[T], settings: Mapping[str, Any], who: str) -> T:
    """Build the dataclass `kind` from `settings`, naming every mistake at once.

    Args:
        kind: A dataclass annotated with str, int, float, bool, list[str] and unions of them.
        settings: Keys and values as read from TOML.
        who: What the settings belong to, for the messages, such as `source "files"`.

    Raises:
        ConfigError: An unknown or missing key, or a value of the wrong type.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Pace:
    ...     rate: float = 0.0
    >>> parse(Pace, {"rate": 3}, "source")
    Pace(rate=3)
    >>> parse(Pace, {"rat": 3}, "source")
    Traceback (most recent call last):
    streamsketch.errors.ConfigError: source: 'rat' is not a setting; use rate
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    mistakes = []
    for name, value in settings.items():
        if name not in known:
            mistakes.append(f"{name!r} is not a setting; use {', '.join(known)}")
        elif not _fits(value, hints[name]):
            mistakes.append(f"{name} = {value!r} must be {_describe(hints[name])}")
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in settings:
            mistakes.append(f"{name!r} is missing; set it ({_describe(hints[name])})")
    if mistakes:
        raise ConfigError(f"{who}: " + "; ".join(mistakes))
    return kind(**settings)


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(h) for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is list:
        return f"a list of {_describe(get_args(hint)[0])}"
    return names.get(hint, str(hint))
