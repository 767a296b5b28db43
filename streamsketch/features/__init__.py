"""The operator: feature maps, frequency laws, and the kernels that sum features.

>>> from streamsketch.features import FeatureMap
>>> FeatureMap.from_frequencies([[0.0]]).width
2
"""

from streamsketch.features.map import MAPS, ONE, FeatureMap, Map, build
from streamsketch.features.spec import Spec

__all__ = ["MAPS", "ONE", "FeatureMap", "Map", "Spec", "build"]
