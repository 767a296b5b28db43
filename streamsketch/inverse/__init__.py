"""Inverse problems with a trained generator as the prior.

>>> from streamsketch.inverse import recover
>>> recover.__name__
'recover'
"""

from streamsketch.inverse.critic import critic
from streamsketch.inverse.recover import Recovery, recover, recover_blind

__all__ = ["Recovery", "critic", "recover", "recover_blind"]
