"""The output of a generator: raw numbers to encoded rows, column by column as the schema says.

Raw outputs have the layout of encoded rows. A number becomes tanh, a circle a normalised pair, a
category is drawn from its softmax (by the Gumbel trick) with the straight-through gradient of the
probabilities themselves (Bengio, Leonard, Courville 2013): the gradient of a relaxed draw (Gumbel
softmax) was measured to be noisier and to learn worse at every temperature. A column with a state
(an atom, a null) takes the value 0 unless its state is regular, as the schema encodes it.

Categories are drawn with noise of their own, which no latent knows. So that columns still agree
(a city and its state), what is drawn for a column is linked to the raw outputs of the columns
after it: raw_k + sum_(j < k) U_kj y_j, with learned U.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from streamsketch.schema.columns import Block

__all__ = ["Head"]

TINY = 1e-20
GAIN = 3.0  # on the logits: sure choices are reached by smaller, that is faster, weights


@dataclass(frozen=True)
class _Group:
    """Neighbouring coordinates that are activated together: a column, or a run of plain numbers."""

    blocks: tuple[Block, ...]
    start: int
    stop: int

    @property
    def choices(self) -> list[Block]:
        return [b for b in self.blocks if b.kind in ("onehot", "state")]


class Head(nn.Module):
    """Activates raw outputs (n, d) to encoded rows (n, d).

    Args:
        blocks: The schema's layout.
        bounded: Whether numbers are kept in [-1, 1] by tanh; otherwise they pass unchanged.
        label: The label's block, of a conditional generator.

    Attributes:
        columns: The coordinates of each column, or run of plain numbers.
        drawn: The one-hot coordinates of each column that is drawn.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        bounded: bool = True,
        label: Block | None = None,
    ) -> None:
        super().__init__()
        self.bounded, self.label = bounded, label
        self.d = sum(b.width for b in blocks)
        self.groups = _groups(blocks)
        drawn = [b for g in self.groups for b in g.choices if b != label]
        self.columns = [slice(g.start, g.stop) for g in self.groups]
        self.drawn = [b.slice for b in drawn]
        self.slots = sum(b.width for b in drawn)
        self.links: nn.ParameterList | None = None
        if len(drawn) > 1 or (drawn and len(self.groups) > 1):
            self.links = nn.ParameterList(
                [torch.zeros(g.stop - g.start, self.d - g.stop) for g in self.groups[:-1]]
            )

    def noise(self, n: int, rng: torch.Generator, device: torch.device) -> Tensor:
        """Gumbel noise (n, number of category slots) for the categories' draws."""
        u = torch.rand((n, self.slots), generator=rng, device=rng.device)
        return -torch.log(-torch.log(u + TINY) + TINY).to(device)

    def forward(self, raw: Tensor, noise: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Encoded rows (n, d).

        Args:
            raw: (n, d) outputs of a network.
            noise: Gumbel noise: categories are drawn, one-hot, with the gradient of their
                probabilities. None: categories are their probabilities (nothing is drawn).
            labels: (n,) codes of the label, of a conditional generator.
        """
        rows: list[Tensor] = []
        used = 0
        for k, group in enumerate(self.groups):
            width = group.stop - group.start
            if self.label in group.blocks and labels is not None:
                y = nn.functional.one_hot(labels, width).to(raw.dtype)
            else:
                slots = sum(b.width for b in group.choices)
                part = None if noise is None else noise[:, used : used + slots]
                y = self._activate(group, raw[:, :width], part)
                used += slots
            rows.append(y)
            raw = raw[:, width:]
            if self.links is not None and k < len(self.links):
                raw = raw + y @ self.links[k]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def _activate(self, group: _Group, raw: Tensor, noise: Tensor | None) -> Tensor:
        state = next((b for b in group.blocks if b.kind == "state"), None)
        chosen = None if state is None else self._choose(raw, state, group, noise)
        parts: list[Tensor] = []
        for b in group.blocks:
            y = raw[:, b.start - group.start : b.start - group.start + b.width]
            if b.kind == "state" and chosen is not None:
                parts.append(chosen)
                continue
            if b.kind == "onehot":
                parts.append(self._choose(raw, b, group, noise))
                continue
            if b.kind == "circle":
                y = y / torch.sqrt((y * y).sum(1, keepdim=True) + 1e-12)
            elif self.bounded:
                y = torch.tanh(y)
            parts.append(y if chosen is None else y * chosen[:, :1])
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _choose(self, raw: Tensor, block: Block, group: _Group, noise: Tensor | None) -> Tensor:
        """The drawn category of a block; a group has one block of categories at most."""
        logits = raw[:, block.start - group.start : block.start - group.start + block.width]
        chances = torch.softmax(GAIN * logits, 1)
        if noise is None:
            return chances
        index = (GAIN * logits.detach() + noise).argmax(1, keepdim=True)
        drawn = torch.zeros_like(chances).scatter_(1, index, 1.0)
        return drawn + (chances - chances.detach())


def _groups(blocks: Sequence[Block]) -> list[_Group]:
    """The layout by column, with neighbouring plain numbers joined to one block."""
    columns: dict[str, list[Block]] = {}
    for b in blocks:
        columns.setdefault(b.column, []).append(b)
    groups: list[_Group] = []
    for own in columns.values():
        first, stop = own[0], own[-1].start + own[-1].width
        plain = len(own) == 1 and first.kind == "numeric"
        last = groups[-1].blocks[-1] if groups else None
        if plain and last is not None and len(groups[-1].blocks) == 1 and last.kind == "numeric":
            joined = Block(last.column, "numeric", last.start, stop - last.start)
            groups[-1] = _Group((joined,), joined.start, stop)
        else:
            groups.append(_Group(tuple(own), first.start, stop))
    return groups
