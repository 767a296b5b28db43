"""Generators fitted to a released sketch, of tables or networks, and the checkpoints they live in.

>>> from streamsketch.generator import OBJECTIVES
>>> [name for name, entry in OBJECTIVES.items() if entry.requires == "sketch"]
['sketch']
"""

from streamsketch.generator.autoregressive import Autoregressive
from streamsketch.generator.decoder import Decoder
from streamsketch.generator.fitting import Progress, fit
from streamsketch.generator.generator import Generator
from streamsketch.generator.networks import NETWORKS, NetworkConfig
from streamsketch.generator.neural import NetworkGenerator
from streamsketch.generator.objectives import OBJECTIVES
from streamsketch.generator.trainer import TrainingConfig

__all__ = [
    "NETWORKS",
    "OBJECTIVES",
    "Decoder",
    "Autoregressive",
    "Generator",
    "NetworkConfig",
    "NetworkGenerator",
    "Progress",
    "TrainingConfig",
    "fit",
]
