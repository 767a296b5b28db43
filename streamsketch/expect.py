"""Arguments of the wrong kind, told in a sentence that names what was given and what to give."""

from typing import Any

from streamsketch.errors import ConfigError

__all__ = ["expect", "whole"]


def expect(value: Any, kind: type | tuple[type, ...], what: str, remedy: str) -> None:
    """Refuse a value of another kind.

    Args:
        value: What was given.
        kind: What it must be an instance of.
        what: What takes it, and as what: "fit takes a Snapshot".
        remedy: How to come by one.

    Raises:
        ConfigError: It is something else.

    >>> expect("g.safetensors", int, "Sampler takes a generator", "load it first")
    Traceback (most recent call last):
        ...
    streamsketch.errors.ConfigError: Sampler takes a generator, not a str ('g.safetensors'); load it first
    """
    if not isinstance(value, kind):
        shown = f" ({value[:60]!r})" if isinstance(value, str) else ""
        raise ConfigError(f"{what}, not a {type(value).__name__}{shown}; {remedy}")


def whole(value: Any, name: str, least: int = 0) -> int:
    """A whole number, 0 or more; numpy's will do.

    Raises:
        ConfigError: It is none, or less than `least`.

    >>> whole("1024", "frequencies")
    Traceback (most recent call last):
        ...
    streamsketch.errors.ConfigError: frequencies = '1024' must be a whole number, at least 0
    """
    try:
        index = value.__index__()
    except (AttributeError, TypeError):
        index = None
    if index is None or isinstance(value, bool) or index < least:
        raise ConfigError(f"{name} = {value!r} must be a whole number, at least {least}")
    return int(index)
