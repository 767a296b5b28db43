r"""The sketch-matching loss of rows with drawn coordinates, and its exact gradient by the draws.

A category enters a row as a one-hot vector that was drawn. The derivative of the loss by that
vector says what an infinitely small part of another category would do; what counts is the whole
other category, and where a frequency turns it by more than a radian the two have little in common.
As everything else in the row stays, the loss with slot k in place of the drawn slot c is known in
closed form: the row's feature at frequency j is turned by :math:`e^{i(\omega_{kj} - \omega_{cj})}`.
So the gradient by the probabilities of the slots is exact (the local expectation gradient of
Titsias and Lázaro-Gredilla, 2015), at the price of one more product of matrices.

The row that changes must be left out of the mean that it is compared with: else, being drawn to
its own former place, every category becomes less likely where it was just drawn.

Only frequencies that touch few columns with sharp phases are treated so, where the difference is
worth its price; the others keep the derivative.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Draws", "drawn_loss", "draws"]

FEW = 3  # columns that a frequency may touch to have exact gradients
SHARP = 1.0  # and the least root mean square of a column's phases, in radians
WORTH = 0.1  # of the frequencies must be so, or all keep the derivative


@dataclass(frozen=True)
class Turned:
    """A drawn column at the frequencies that are exact for it.

    Attributes:
        slots: The column's one-hot coordinates.
        at: (k,) which frequencies.
        cos: (slots, k) cosines of the slots' phases.
        sin: (slots, k) sines.
    """

    slots: slice
    at: Tensor
    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class Draws:
    """Frequencies with what the exact gradient needs of them.

    Attributes:
        omega: (d, m) frequencies.
        linear: (d, m), the same with zeros where the gradient is exact.
        turned: The drawn columns.
    """

    omega: Tensor
    linear: Tensor
    turned: tuple[Turned, ...]


def draws(omega: Tensor, columns: Sequence[slice], slots: Sequence[slice]) -> Draws:
    """Prepare frequencies for `drawn_loss`.

    Args:
        omega: (d, m) frequencies.
        columns: The coordinates of each column.
        slots: The one-hot coordinates of each drawn column.

    Example:
        >>> omega = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0]])  # a category, a number
        >>> given = draws(omega, [slice(0, 2), slice(2, 3)], [slice(0, 2)])
        >>> [t.at.tolist() for t in given.turned]
        [[0]]
    """
    few = torch.stack([(omega[c] != 0).any(0) for c in columns]).sum(0) <= FEW
    linear, turned = omega.clone(), []
    for s in slots:
        sharp = omega[s].square().sum(0) > SHARP**2 * (s.stop - s.start)
        at = (few & sharp).nonzero().squeeze(1)
        if len(at):
            linear[s.start : s.stop, at] = 0
            phases = omega[s][:, at]
            turned.append(Turned(s, at, phases.cos(), phases.sin()))
    exact = {int(j) for t in turned for j in t.at}
    if len(exact) < WORTH * omega.shape[1]:
        return Draws(omega, omega, ())
    return Draws(omega, linear, tuple(turned))


def drawn_loss(
    y: Tensor,
    frequencies: Draws,
    target: Tensor,
    weights: Tensor,
    over_ranks: Callable[[Tensor], Tensor] | None = None,
    ranks: int = 1,
) -> Tensor:
    """The unbiased loss of `sketch_loss`, with exact gradients by drawn slots.

    Args:
        y: (n, d) rows, n >= 2, whose drawn slots are one-hot.
        frequencies: Of `draws`.
        target: (2m,) mean features to match, cosines then sines.
        weights: (m,) weight of each frequency.
        over_ranks: Where several processes share a batch: the mean of their mean features.
        ranks: How many share it, evenly.

    Returns:
        The loss, a scalar; the gradient by a drawn slot is the difference that taking it would
        make, up to a constant of the row and column, which no softmax sees.
    """
    share = (over_ranks or torch.clone, ranks)
    loss: Tensor = _Loss.apply(y, frequencies, target, weights, share)  # type: ignore[no-untyped-call]
    return loss


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        given: Draws,
        target: Tensor,
        weights: Tensor,
        share: tuple[Callable[[Tensor], Tensor], int],
    ) -> Tensor:
        over_ranks, ranks = share
        n, m = len(y) * ranks, given.omega.shape[1]
        phase = y @ given.omega
        cos, sin = phase.cos(), phase.sin_()
        mean = over_ranks(torch.stack([cos.mean(0), sin.mean(0)]))
        gap = mean - target.view(2, m)
        own = (1 - mean.square().sum(0)) / (n - 1)
        ctx.save_for_backward(y, cos, sin, gap + mean / (n - 1), weights)
        ctx.given, ctx.rows = given, n
        return ((gap.square().sum(0) - own) * weights).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, cos, sin, gap, weights = ctx.saved_tensors
        n = ctx.rows
        a, b = gap * weights * (2 * grad / n)
        # the loss as a function of a row's phases is the real part of (re + i im), turned
        re, im = (a * cos).addcmul_(b, sin), (a * sin).addcmul_(b, cos, value=-1)
        out = (im @ ctx.given.linear.T).neg_()
        for t in ctx.given.turned:
            w = weights[t.at] * (2 * grad / (n * (n - 1)))
            itself = (t.cos * w) @ t.cos.T + (t.sin * w) @ t.sin.T
            code = y[:, t.slots].argmax(1)
            c, s = t.cos[code], t.sin[code]
            u, v = re[:, t.at], im[:, t.at]
            back, side = (u * c).addcmul_(v, s), (v * c).addcmul_(u, s, value=-1)
            out[:, t.slots] += back @ t.cos.T - side @ t.sin.T - itself[code]
        return out, None, None, None, None
