"""A critic of rows made of two sketches: an adversarial regulariser that sees no row.

Lunz, Öktem and Schönlieb (2018) train a network to tell real images from naive reconstructions and
take it as the regulariser of an inverse problem. In the space of the sketch's kernel the best such
critic has a closed form, the witness of the maximum mean discrepancy (Gretton et al. 2012): the
difference of the two mean features.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from streamsketch.decode.space import Space
from streamsketch.decode.target import Target
from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.features.kernels.loss import features
from streamsketch.snapshot import Snapshot

__all__ = ["critic"]


def critic(real: Snapshot, other: Snapshot) -> Callable[[Tensor], Tensor]:
    """How much a row looks like those of `other` rather than those of `real`.

    Args:
        real: A released snapshot of rows as they should be.
        other: One of what they should not be, such as naive reconstructions; the same operator.

    Returns:
        A differentiable function of rows (n, d), in the units that `recover` uses, to (n,): on
        average over the rows of `other` one more than over the rows of `real`.

    Raises:
        SpecMismatchError: The snapshots were made by different operators.
        ConfigError: They hold the same mean.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> def released(x):
        ...     s = Sketcher(Schema.vectors(1, -1, 1), frequencies=16)
        ...     s.learn_many(torch.full((100, 1), x).numpy())
        ...     return s.release()
        >>> judge = critic(released(0.5), released(-0.5))
        >>> bool(judge(torch.tensor([[-0.5]])) > judge(torch.tensor([[0.5]])))
        True
    """
    if real.spec.fingerprint != other.spec.fingerprint:
        raise SpecMismatchError.of("make a critic", real.spec.fingerprint, other.spec.fingerprint)
    good, bad = Target.from_snapshot(real), Target.from_snapshot(other)
    gap = torch.as_tensor(bad.z - good.z)
    length = float((gap.abs() ** 2).sum())
    if length == 0.0:
        raise ConfigError("the two snapshots hold the same mean: there is nothing to tell apart")
    direction = torch.cat([gap.real, gap.imag]).float() / length
    omega = torch.tensor(good.omega, dtype=torch.float32)
    space = Space.of(real.schema, good.d)
    center, scale = (torch.as_tensor(a, dtype=torch.float32) for a in (space.center, space.scale))

    def judge(rows: Tensor) -> Tensor:
        value: Tensor = features((rows - center) / scale, omega) @ direction
        return value

    return judge
