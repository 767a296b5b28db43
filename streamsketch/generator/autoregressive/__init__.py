"""The generator of tables: an autoregressive softmax model, fitted to counts of cells."""

from streamsketch.generator.autoregressive.model import Autoregressive

__all__ = ["Autoregressive"]
