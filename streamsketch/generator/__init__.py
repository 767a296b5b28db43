"""Generators fitted to a released sketch, of tables or networks, and the checkpoints they live in.

Names are loaded on first use: what may be asked of a training (`options`) needs no torch.

>>> from streamsketch.generator import OBJECTIVES
>>> [name for name, entry in OBJECTIVES.items() if entry.requires == "sketch"]
['sketch']
"""

from typing import TYPE_CHECKING

from streamsketch.lazy import exports

if TYPE_CHECKING:
    from streamsketch.generator.autoregressive import Autoregressive as Autoregressive
    from streamsketch.generator.decoder import Decoder as Decoder
    from streamsketch.generator.fitting import Progress as Progress
    from streamsketch.generator.fitting import fit as fit
    from streamsketch.generator.generator import Generator as Generator
    from streamsketch.generator.networks import NETWORKS as NETWORKS
    from streamsketch.generator.neural import NetworkGenerator as NetworkGenerator
    from streamsketch.generator.objectives import OBJECTIVES as OBJECTIVES
    from streamsketch.generator.options import NetworkConfig as NetworkConfig
    from streamsketch.generator.options import TrainingConfig as TrainingConfig

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

__getattr__, __dir__ = exports(
    __name__,
    {
        "Autoregressive": "autoregressive",
        "Decoder": "decoder",
        "Generator": "generator",
        "NETWORKS": "networks",
        "NetworkConfig": "options",
        "NetworkGenerator": "neural",
        "OBJECTIVES": "objectives",
        "Progress": "fitting",
        "TrainingConfig": "options",
        "fit": "fitting",
    },
)
