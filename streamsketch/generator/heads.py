"""The output of a generator: raw numbers to encoded rows, block by block as the schema says.

Raw outputs have the layout of encoded rows. A number becomes tanh, a category a straight-through
Gumbel softmax (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017), a circle a normalised pair; a
column with a state (an atom, a null) takes the value 0 unless its state is regular, as the
schema encodes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamsketch.schema.columns import Block

__all__ = ["Head"]

TINY = 1e-20


@dataclass(frozen=True)
class _Part:
    """Neighbouring coordinates that are activated together; `state` is their column's state block."""

    kind: str
    start: int
    stop: int
    state: Block | None = None


class Head:
    """Activates raw outputs (n, d) to encoded rows (n, d). It has no weights.

    Args:
        blocks: The schema's layout.
        tau: Temperature of the relaxed categories.
        bounded: Whether numbers are kept in [-1, 1] by tanh; otherwise they pass unchanged.
        label: The label's block, where the generator is told the label.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tau: float = 0.5,
        bounded: bool = True,
        label: Block | None = None,
    ) -> None:
        self.tau, self.bounded, self.label = tau, bounded, label
        self.d = sum(b.width for b in blocks)
        states = {b.column: b for b in blocks if b.kind == "state"}
        self.choices = [b for b in blocks if b.kind in ("onehot", "state") and b != label]
        self.parts = _parts(blocks, states)
        self.categorical = [i for b in self.choices for i in range(b.start, b.start + b.width)]

    def noise(self, n: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """Gumbel noise (n, number of category slots) for the categories' draws."""
        u = torch.rand((n, len(self.categorical)), generator=rng, device=rng.device)
        return -torch.log(-torch.log(u + TINY) + TINY).to(device)

    def __call__(self, raw: Tensor, noise: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Encoded rows (n, d).

        Args:
            raw: (n, d) outputs of a network.
            noise: Gumbel noise: categories are drawn, one-hot, with the relaxed gradient. None:
                categories are their probabilities (smooth, nothing is drawn).
            labels: (n,) codes of the label, where the generator is told it.
        """
        chosen: dict[int, Tensor] = {}
        at = 0
        for block in self.choices:
            logits = raw[:, block.slice]
            if noise is None:
                chosen[block.start] = torch.softmax(logits, 1)
            else:
                relaxed = torch.softmax((logits + noise[:, at : at + block.width]) / self.tau, 1)
                chosen[block.start] = _harden(relaxed)
            at += block.width
        if self.label is not None and labels is not None:
            one_hot = torch.nn.functional.one_hot(labels, self.label.width)
            chosen[self.label.start] = one_hot.to(raw.dtype)
        return torch.cat([self._part(p, raw, chosen) for p in self.parts], 1)

    def _part(self, part: _Part, raw: Tensor, chosen: dict[int, Tensor]) -> Tensor:
        if part.start in chosen:
            return chosen[part.start]
        y = raw[:, part.start : part.stop]
        if part.kind == "circle":
            y = y / torch.sqrt((y * y).sum(1, keepdim=True) + 1e-12)
        elif self.bounded:
            y = torch.tanh(y)
        if part.state is not None:
            y = y * chosen[part.state.start][:, :1]
        return y


def _harden(relaxed: Tensor) -> Tensor:
    """One-hot of the largest entry, with the gradient of `relaxed`."""
    index = relaxed.argmax(1, keepdim=True)
    hard = torch.zeros_like(relaxed).scatter_(1, index, 1.0)
    return hard + (relaxed - relaxed.detach())


def _parts(blocks: Sequence[Block], states: dict[str, Block]) -> list[_Part]:
    """The layout with neighbouring plain numbers joined."""
    parts: list[_Part] = []
    for b in blocks:
        state = states.get(b.column) if b.kind in ("numeric", "circle") else None
        last = parts[-1] if parts else None
        plain = b.kind == "numeric" and state is None
        if plain and last is not None and last.kind == "numeric" and last.state is None:
            parts[-1] = _Part("numeric", last.start, b.start + b.width)
        else:
            parts.append(_Part(b.kind, b.start, b.start + b.width, state))
    return parts
