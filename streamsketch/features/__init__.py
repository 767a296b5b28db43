"""The operator: feature maps, frequency laws, and the kernels that sum features.

>>> from streamsketch.features import FeatureMap
>>> FeatureMap.from_frequencies([[0.0]]).width
2
"""

from streamsketch.features.build import MAPS, build
from streamsketch.features.map import ONE, FeatureMap, Map
from streamsketch.features.spec import Spec

__all__ = ["MAPS", "ONE", "FeatureMap", "Map", "Spec", "build"]
