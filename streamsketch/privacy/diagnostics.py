"""Two planes of diagnostics: what the operator may see, and what anyone may.

With a mechanism on, exact counts, lags, positions, norms and losses against the raw sketch are as
secret as the rows: an exact count undoes the noise on the released one. What is logged, printed,
served or put into an error is made from the public plane only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamsketch.privacy.release import Releaser
    from streamsketch.snapshot import Snapshot

__all__ = ["PUBLIC", "public", "public_metrics"]

#: Names of metrics that no row can move, or that were released through the mechanism.
PUBLIC = frozenset(
    {
        "budget_left",
        "checkpoints",
        "epoch",
        "epsilon",
        "index",
        "last_release",
        "mechanism",
        "members",
        "memory",
        "noise_std",
        "released",
        "released_count",
        "rho",
        "snapshots",
        "state",
        "stream",
        "uptime",
    }
)


def public(metrics: Mapping[str, Any], *, private: bool) -> dict[str, Any]:
    """Metrics fit for publication: all of them without privacy, else those of the public plane.

    Args:
        metrics: Name to value.
        private: Whether a mechanism is on.

    >>> public({"rows": 12345, "released": 3}, private=True)
    {'released': 3}
    """
    return {k: v for k, v in metrics.items() if not private or k in PUBLIC}


def public_metrics(releaser: Releaser, last: Snapshot | None = None) -> dict[str, Any]:
    """What may be said about a releaser: nothing that rows could move.

    Args:
        releaser: The releaser.
        last: Its last snapshot, for the released count and its noise.
    """
    facts: dict[str, Any] = {
        "stream": releaser.stream,
        "mechanism": releaser.mechanism,
        "memory": releaser.memory_text,
        "released": releaser.released,
        "index": releaser.index,
    }
    if releaser.private:
        facts |= {
            "epoch": releaser.epoch,
            "rho": releaser.ledger.spent,
            "epsilon": releaser.epsilon,
            "budget_left": releaser.left,
        }
    if last is not None:
        facts |= {
            "released_count": last.count,
            "noise_std": last.release.noise_std,
            "last_release": last.created,
        }
    return facts
