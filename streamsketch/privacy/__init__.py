"""The privacy boundary: raw sums come in, released snapshots go out.

Names are loaded on first use.

>>> from streamsketch.privacy import noise_multiplier
>>> round(noise_multiplier("toeplitz", releases=1000), 3)
3.265
"""

from typing import TYPE_CHECKING

from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch.privacy.accountant import epsilon_from_rho as epsilon_from_rho
    from streamsketch.privacy.accountant import rho_from_epsilon as rho_from_epsilon
    from streamsketch.privacy.ledger import Ledger as Ledger
    from streamsketch.privacy.mechanisms import MECHANISMS as MECHANISMS
    from streamsketch.privacy.mechanisms import Plan as Plan
    from streamsketch.privacy.mechanisms import noise_multiplier as noise_multiplier
    from streamsketch.privacy.queries import Budget as Budget
    from streamsketch.privacy.queries import private_bounds as private_bounds
    from streamsketch.privacy.queries import private_histogram as private_histogram
    from streamsketch.privacy.queries import private_scale as private_scale
    from streamsketch.privacy.release import Releaser as Releaser
    from streamsketch.privacy.report import explain as explain
    from streamsketch.privacy.settings import Settings as Settings

__all__ = [
    "Budget",
    "MECHANISMS",
    "Ledger",
    "Plan",
    "Releaser",
    "Settings",
    "epsilon_from_rho",
    "explain",
    "noise_multiplier",
    "private_bounds",
    "private_histogram",
    "private_scale",
    "rho_from_epsilon",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Budget": "queries",
        "Ledger": "ledger",
        "MECHANISMS": "mechanisms",
        "Plan": "mechanisms",
        "Releaser": "release",
        "Settings": "settings",
        "epsilon_from_rho": "accountant",
        "explain": "report",
        "noise_multiplier": "mechanisms",
        "private_bounds": "queries",
        "private_histogram": "queries",
        "private_scale": "queries",
        "rho_from_epsilon": "accountant",
    },
)
