"""Sketch a stream once, learn a generator from the sketch alone, sample without repeating.

The public names are loaded on first use, so that `import streamsketch` stays light:

>>> import streamsketch
>>> sorted(streamsketch.__all__)[:5]
['FeatureMap', 'Generator', 'Sampler', 'Schema', 'Sketch']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamsketch._version import __version__

if TYPE_CHECKING:
    from streamsketch.features import FeatureMap as FeatureMap
    from streamsketch.generator import Generator as Generator
    from streamsketch.generator import fit as fit
    from streamsketch.sampler import Sampler as Sampler
    from streamsketch.schema import Schema as Schema
    from streamsketch.sketch import Sketch as Sketch
    from streamsketch.sketcher import Sketcher as Sketcher
    from streamsketch.snapshot import Snapshot as Snapshot
    from streamsketch.spec import Spec as Spec
    from streamsketch.store import Store as Store

_HOMES = {
    "FeatureMap": "features",
    "Generator": "generator",
    "Sampler": "sampler",
    "Schema": "schema",
    "Sketch": "sketch",
    "Sketcher": "sketcher",
    "Snapshot": "snapshot",
    "Spec": "spec",
    "Store": "store",
    "fit": "generator",
}

__all__ = [
    "FeatureMap",
    "Generator",
    "Sampler",
    "Schema",
    "Sketch",
    "Sketcher",
    "Snapshot",
    "Spec",
    "Store",
    "__version__",
    "fit",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"streamsketch.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'streamsketch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
