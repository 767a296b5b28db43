"""Public names that are loaded on first use, so that importing a package stays light."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["exports"]


def exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names live in its modules.

    Args:
        package: The package's `__name__`.
        homes: Public name -> the module within the package that defines it.

    Example:
        >>> load, names = exports("streamsketch.privacy", {"rho_from_epsilon": "accountant"})
        >>> names(), load("rho_from_epsilon").__name__
        (['rho_from_epsilon'], 'rho_from_epsilon')
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return load, lambda: sorted(homes)
