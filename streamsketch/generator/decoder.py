"""Any torch module as a latent model: what `Sampler` and the inverse problems take.

>>> from torch import nn
>>> decoder = Decoder(nn.Sequential(nn.Linear(2, 64), nn.Sigmoid()), latent_dim=2)
>>> decoder.sample_encoded(3).shape
(3, 64)
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamsketch.decode.space import Space
from streamsketch.errors import ConfigError
from streamsketch.expect import whole
from streamsketch.latent import marked
from streamsketch.schema import Schema
from streamsketch.schema.columns import Column
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import digest

__all__ = ["LAWS", "Decoder"]

CHUNK = 4096  # rows per forward pass; fixed, because draws depend on it

Law = Callable[[Tensor], Tensor]


def uniform(z: Tensor) -> Tensor:
    """Standard normal latents to uniform ones in [-1, 1]."""
    out: Tensor = torch.special.erf(z / 2**0.5)
    return out


LAWS: dict[str, Law] = {"normal": lambda z: z, "uniform": uniform}


class Decoder:
    """A module and the law of its latents, as a model to sample from.

    Whatever the law, it is given as a map of standard normal vectors, so that every method of the
    sampler works in one space: an affine map for a Gaussian fitted to a data set's codes, `uniform`
    for a module that was trained on a box.

    Args:
        module: Maps latents (n, p) to outputs (n, ...), which are flattened; a conditional one
            takes latents and label codes (n,). It is used as it is: put it into `eval()` first.
        latent_dim: Dimension p of the latents.
        law: `normal`, `uniform` (in [-1, 1]), or a function from standard normal vectors (n, p)
            to the latents that the module takes, differentiable.
        schema: The columns of a row, of linear numbers, and a label where it is conditional. By
            default one vector `x` of the outputs in [low, high].
        low: Least value of an output, for the default schema.
        high: Largest value of an output.
        snapshot: A released snapshot of the rows that all outputs together should match, for
            `target="data"`; its schema is used then.
        shares: Chances of the labels of a conditional module, (classes,).

    Raises:
        ConfigError: An unknown law, a module that does not fit the schema, or labels without
            shares.
    """

    def __init__(
        self,
        module: nn.Module,
        latent_dim: int,
        law: str | Law = "normal",
        *,
        schema: Schema | None = None,
        low: float = 0.0,
        high: float = 1.0,
        snapshot: Snapshot | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        if isinstance(law, str) and law not in LAWS:
            raise ConfigError(
                f"law = {law!r} is unknown; choose one of {', '.join(LAWS)}, or give a function"
            )
        self.module, self._latent_dim, self.snapshot = module, latent_dim, snapshot
        self.law: Law = LAWS[law] if isinstance(law, str) else law
        self.metrics: dict[str, Any] = {}
        self.shares = np.ones(1) if shares is None else np.asarray(shares, np.float64)
        self.shares /= self.shares.sum()
        first = None if self.classes == 1 else torch.zeros(2, dtype=torch.long)
        with torch.inference_mode():
            made = self._outputs(torch.zeros(2, latent_dim), first)
        given = snapshot.schema if snapshot is not None else schema
        self.schema = given or _vector_schema(made.shape[1], low, high, self.classes)
        self._label = next((b for b in self.schema.blocks if b.kind == "onehot"), None)
        space = Space.of(_numbers(self.schema), made.shape[1])
        if not space.linear or made.shape[1] + self._label_width != self.schema.d:
            raise ConfigError(
                f"the module makes {made.shape[1]} numbers, but the schema's rows have {self.schema.d} "
                f"coordinates, {self._label_width} of them the label's; give the schema of its outputs, "
                "linear numbers and a label of as many values as there are shares"
            )
        self._center, self._scale = (
            torch.as_tensor(a, dtype=torch.float32) for a in (space.center, space.scale)
        )

    # --- what a latent model has

    @cached_property
    def id(self) -> str:
        """16 hex digits of the module's weights."""
        state = {k: v.detach().cpu().numpy() for k, v in self.module.state_dict().items()}
        return digest("decoder", state, {"latent": self._latent_dim})[:16]

    @property
    def fingerprint(self) -> str:
        """Of the sketch operator whose snapshot was given; else of the schema alone."""
        return self.snapshot.spec.fingerprint if self.snapshot is not None else ""

    @property
    def latent_dim(self) -> int:
        """Dimension p of the latent vectors."""
        return self._latent_dim

    @property
    def classes(self) -> int:
        """Labels that the module takes; 1 for none."""
        return len(self.shares)

    def sample(self, n: int, seed: int = 0, label: Any = None) -> pa.Table:
        """Draw n independent rows; `label`: with this value only."""
        return marked(self.schema.decode(self.sample_encoded(n, seed, label)), self)

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        """Draw n independent encoded rows (n, d)."""
        n = whole(n, "n")
        labels, parts = (
            self.draw_labels(n, seed, label),
            [np.empty((0, self.schema.d), np.float32)],
        )
        rng = torch.Generator().manual_seed(seed)
        for start in range(0, n, CHUNK):
            z = torch.randn((CHUNK, self._latent_dim), generator=rng)[: n - start].numpy()
            codes = None if labels is None else labels[start : start + len(z)]
            parts.append(self.rows_of(z, codes, seed))
        return np.concatenate(parts)

    def decode_latent(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encoded rows (n, d) of standard normal vectors (n, p), differentiable."""
        rows = (self._outputs(z, labels) - self._center) / self._scale
        if self._label is None or labels is None:
            return rows
        hot = nn.functional.one_hot(labels, self._label.width).to(rows.dtype)
        at = self._label.start
        return torch.cat([rows[:, :at], hot, rows[:, at:]], 1)

    def draw_labels(self, n: int, seed: int, label: Any = None) -> NDArray[np.int64] | None:
        """Label codes (n,) with the chances given, or of one label; None without labels."""
        if self.classes == 1:
            return None
        if label is not None:
            return np.full(n, self.schema.label_classes.index(label))
        return np.random.default_rng(seed).choice(self.classes, size=n, p=self.shares)

    def rows_of(
        self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int
    ) -> NDArray[np.float32]:
        """Encoded rows (n, d) within the schema's limits; nothing is left to chance here."""
        codes = None if labels is None else torch.as_tensor(labels)
        with torch.inference_mode():
            rows = self.decode_latent(torch.as_tensor(z, dtype=torch.float32), codes)
        encoded: NDArray[np.float32] = rows.clamp(-1, 1).float().cpu().numpy()
        return encoded

    # --- within

    @property
    def _label_width(self) -> int:
        return 0 if self._label is None else self._label.width

    def _outputs(self, z: Tensor, labels: Tensor | None) -> Tensor:
        latents = self.law(z)
        out: Tensor = self.module(latents) if labels is None else self.module(latents, labels)
        return out.flatten(1)

    def __repr__(self) -> str:
        return f"Decoder({type(self.module).__name__}, p={self._latent_dim}, d={self.schema.d}, id={self.id})"


def _vector_schema(d: int, low: float, high: float, classes: int) -> Schema:
    columns = [Column("x", "vector", f"fixed_size_list<float>[{d}]", low=low, high=high)]
    if classes > 1:
        columns.append(Column("label", "label", "int64", values=tuple(range(classes))))
    return Schema(columns)


def _numbers(schema: Schema) -> Schema:
    """The columns without the label."""
    return Schema([c for c in schema.columns if c.kind != "label"])
