"""Sketch a stream once, learn a generator from the sketch alone, sample without repeating.

The public names are loaded on first use, so that `import streamsketch` stays light:

>>> import streamsketch
>>> sorted(streamsketch.__all__)[:5]
['FeatureMap', 'Generator', 'Sampler', 'Schema', 'Sketch']
"""

from typing import TYPE_CHECKING

from streamsketch._version import __version__
from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch.features import FeatureMap as FeatureMap
    from streamsketch.features import Spec as Spec
    from streamsketch.generator import Generator as Generator
    from streamsketch.generator import fit as fit
    from streamsketch.sampler import Sampler as Sampler
    from streamsketch.schema import Schema as Schema
    from streamsketch.sketch import Sketch as Sketch
    from streamsketch.sketcher import Sketcher as Sketcher
    from streamsketch.snapshot import Snapshot as Snapshot
    from streamsketch.storage.store import Store as Store

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

__getattr__, __dir__ = exports(
    __name__,
    {
        "FeatureMap": "features",
        "Generator": "generator",
        "Sampler": "sampler",
        "Schema": "schema",
        "Sketch": "sketch",
        "Sketcher": "sketcher",
        "Snapshot": "snapshot",
        "Spec": "features",
        "Store": "storage.store",
        "fit": "generator",
    },
)
