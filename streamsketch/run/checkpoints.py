"""Where a trained generator goes: into the store with its mark, but never over a better one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamsketch.storage.files import unpack
from streamsketch.storage.store import Store
from streamsketch.verdict import verdict

if TYPE_CHECKING:
    from streamsketch.generator import Generator

__all__ = ["Put", "put"]


@dataclass(frozen=True)
class Put:
    """What became of a generator.

    Attributes:
        name: Of its checkpoint; None where it was not kept.
        good: Whether its rows may be used.
        said: The verdict in words, and why it was not kept.
    """

    name: str | None
    good: bool
    said: str


def put(store: Store, generator: "Generator", keep: int | None) -> Put:
    """Put a generator into the store as its newest checkpoint, and remove old ones.

    A generator that is of no use is kept, with the mark in its metrics, only where the newest
    checkpoint is no better: whoever samples draws from the newest.

    Args:
        store: The store.
        generator: The generator.
        keep: How many checkpoints stay.
    """
    good, said = verdict(generator.metrics)
    better = None if good else _better(store)
    if better is not None:
        return Put(None, good, f"{said}; it is not kept, {better} is better and stays the newest")
    name = store.checkpoints.put(generator.to_bytes())
    store.checkpoints.retain(keep)
    return Put(name, good, said)


def _better(store: Store) -> str | None:
    """The newest sound checkpoint, if its rows may be used."""
    newest = store.checkpoints.newest(lambda data, name: unpack(data, "checkpoint", name)[1])
    if newest is None:
        return None
    metrics = newest[1].get("metrics")
    good = verdict(metrics if isinstance(metrics, dict) else {})[0]
    return newest[0] if good else None
