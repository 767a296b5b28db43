"""Mechanism, memory and settings that fit each other, from what a user wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamsketch.errors import ConfigError
from streamsketch.privacy.mechanisms import lookup
from streamsketch.privacy.settings import Settings
from streamsketch.tables import checked

__all__ = ["resolve"]


def resolve(
    mechanism: str, memory: str, settings: Settings | Mapping[str, Any] | None
) -> tuple[Settings | None, str]:
    """Settings and memory that agree with the mechanism and with each other.

    Args:
        mechanism: A name in `MECHANISMS`.
        memory: What a release stands for; "landmark" gives way to the mechanism's own.
        settings: Privacy settings, or their values.

    Returns:
        The settings (None without privacy) and the memory's text.

    Raises:
        ConfigError: If they contradict each other.

    >>> resolve("decayed", "decayed:0.5", {"rho": 0.5})[1]
    'decayed:0.5'
    """
    found = lookup(mechanism)
    if found.encoder is None:
        if settings:
            raise ConfigError(
                'mechanism is "none" but privacy settings are given, and nothing would keep them; '
                'choose a mechanism, for example "toeplitz", or remove the settings.'
            )
        return None, memory
    if settings is None:
        raise ConfigError(
            f'mechanism "{mechanism}" needs privacy settings; set epsilon and delta (or rho) and '
            "releases."
        )
    s = settings if isinstance(settings, Settings) else _settings(settings, mechanism)
    name, _, number = memory.partition(":")
    if name == "landmark" != found.memory:
        name = str(found.memory)
    if name != found.memory:
        raise ConfigError(
            f'mechanism "{mechanism}" protects a {found.memory} memory but memory is {memory!r}; '
            f'set memory = "{found.memory}" or choose the mechanism of the memory.'
        )
    if name == "decayed":
        s = replace(s, decay=float(number)) if number else s
        return s, f"decayed:{s.decay}"
    if name == "sliding":
        s = replace(s, panes=int(number)) if number else s
        return s, f"sliding:{s.panes}"
    return s, name


def _settings(values: Mapping[str, Any], mechanism: str) -> Settings:
    given = dict(values)
    weight = given.pop("w_max", 1.0)  # of the time when rows could carry weights
    if weight != 1.0:
        raise ConfigError(f"w_max is {weight!r} but rows carry no weights; remove it.")
    if lookup(mechanism).endless and given.get("releases", "endless") == "endless":
        given["releases"] = None
    if mechanism == "gaussian":
        given.setdefault("releases", 1)
    return checked(Settings, given, "privacy")
