"""Generators that are networks: trained for points and images, and for tables where asked for."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamsketch.errors import ConfigError
from streamsketch.expect import whole
from streamsketch.generator.components import Components
from streamsketch.generator.conditioned import label_of, rows_where
from streamsketch.generator.generator import Generator
from streamsketch.generator.heads import Head
from streamsketch.generator.networks import network_of, normal_latents, preset
from streamsketch.generator.options import NetworkConfig
from streamsketch.latent import marked
from streamsketch.schema import Schema
from streamsketch.schema.columns import Block
from streamsketch.schema.conditions import Where
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import digest

__all__ = ["Model", "NetworkGenerator"]

# Fields of configurations that mean nothing any more, with the value that ids still count.
RETIRED = {"mixture": 0}
FORGOTTEN = {"tau"}  # a temperature, of training only
CHUNK = 8192  # rows per forward pass; fixed, because draws depend on it
MAX_TRIES = 200  # chunks drawn before a label is given up


class Model(nn.Module):
    """Latents, network and head: what training changes.

    Args:
        config: The network.
        blocks: The schema's layout.
        classes: Label values given to the network; 1 for none.
        label: The label's block, for a conditional model.
    """

    shares: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        blocks: tuple[Block, ...],
        classes: int = 1,
        label: Block | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.conditional = classes > 1
        self.head = Head(blocks, config.bounded, label if self.conditional else None)
        inputs = config.latent + (classes if self.conditional else 0)
        self.components: Components | None = None
        if config.components:
            if config.latent <= self.head.d or config.name == "conv":
                raise ConfigError(
                    f"a generator of {config.components} components needs more latents than coordinates "
                    f"(latent = {config.latent}, d = {self.head.d}) and a network other than conv"
                )
            self.components = Components(config.components, self.head.d, classes)
            inputs += self.head.d - 1
        self.network = network_of(config, inputs, self.head.d)
        if self.components is not None:
            _silence(self.network)
        self.register_buffer("shares", torch.full((classes,), 1.0 / classes))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.shares.device

    def latents(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n latent vectors (n, p)."""
        return normal_latents(n, self.config.latent, rng, self.device)

    def draw(self, n: int, rng: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Draw n encoded rows (n, d), differentiable in the weights."""
        z = self.latents(n, rng)
        y: Tensor = self.head(self.raw(z, labels), self.head.noise(n, rng, self.device), labels)
        return y

    def raw(self, z: Tensor, labels: Tensor | None = None, fast: bool = False) -> Tensor:
        """The network's outputs (n, d) for latents (n, p); `fast`: hidden layers in bfloat16."""
        if self.conditional and labels is None:
            raise ConfigError(
                "a conditional generator needs labels with its latents; pass their codes"
            )
        if self.components is not None:
            return self.of_component(self.components.choose(z, labels), z, labels, fast)
        return self._through(z, labels, fast)

    def of_component(
        self, which: Tensor, z: Tensor, labels: Tensor | None, fast: bool = False
    ) -> Tensor:
        """Outputs (n, d) for latents z (n, p) in given components (n,), whatever z[:, 0] chooses."""
        assert self.components is not None
        mean, scale = self.components(which)
        correction = self._through(torch.cat([z[:, 1:], mean], 1), labels, fast)
        out: Tensor = mean + scale * (z[:, 1 : self.head.d + 1] + correction)
        return out

    def _through(self, x: Tensor, labels: Tensor | None, fast: bool) -> Tensor:
        if labels is not None and self.conditional:
            x = torch.cat([x, nn.functional.one_hot(labels, self.classes).to(x.dtype)], 1)
        if not fast or not isinstance(self.network, nn.Sequential):
            out: Tensor = self.network(x)
            return out
        with torch.autocast(x.device.type, torch.bfloat16):
            h = self.network[:-1](x)
        last: Tensor = self.network[-1](h.float())  # outputs keep their precision
        return last


class NetworkGenerator(Generator):
    """Latents through a network and a head (see `Generator`).

    Args:
        config: The network's configuration.
        network: The model.
        schema: The columns that rows are decoded to.
        snapshot: The released snapshot it was trained on; it travels with the checkpoint.
        metrics: What training measured.
    """

    def __init__(
        self,
        config: NetworkConfig,
        network: Model,
        schema: Schema,
        snapshot: Snapshot | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(schema, snapshot, metrics)
        self.config, self.network = config, network

    @classmethod
    def create(
        cls,
        schema: Schema,
        snapshot: Snapshot | None = None,
        config: NetworkConfig | str | None = None,
        seed: int = 0,
    ) -> "NetworkGenerator":
        """An untrained generator with random weights.

        Args:
            schema: The columns.
            snapshot: The snapshot to be trained on; its classes make the generator conditional.
            config: A configuration, or the name of a network in `NETWORKS`.
            seed: Seed of the weights.

        Raises:
            ConfigError: An unknown network, or one that does not fit the rows.
        """
        if not isinstance(config, NetworkConfig):
            config = preset(config or "residual", schema.d)
        classes = snapshot.spec.classes if snapshot is not None else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Model(config, schema.blocks, classes, _label_block(schema))
        return cls(config, network, schema, snapshot)

    # --- sampling

    def sample(
        self, n: int, seed: int = 0, label: Any = None, where: Where | None = None
    ) -> pa.Table:
        """Draw n rows with the stream's column names and types, within the schema's limits.

        Args:
            n: Rows.
            seed: Seed; the same seed gives the same rows.
            label: Only rows with this value of the label column.
            where: Only rows that meet these conditions of columns (see `schema.conditions`).

        Raises:
            ConfigError: n is negative, there is no label column, or `label` is not one of its
                values or is never generated; or too few rows meet the conditions.
        """
        if not where:
            return marked(self.schema.decode(self.sample_encoded(n, seed, label)), self)
        one, value = label_of(where, self.schema)
        code = self._code(value) if one else None if label is None else self._code(label)
        rows = rows_where(
            lambda k, drawn: self.schema.decode(self._drawn(k, drawn, code)),
            n, seed, where, self.schema,
        )  # fmt: skip
        return marked(rows, self)

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        """Draw n encoded rows (n, d) float32; see `sample`."""
        return self._drawn(n, seed, None if label is None else self._code(label))

    def _drawn(self, n: int, seed: int, code: int | None) -> NDArray[np.float32]:
        n = whole(n, "n")
        rng = torch.Generator().manual_seed(seed)
        kept: list[NDArray[np.float32]] = [np.empty((0, self.schema.d), np.float32)]
        have = tries = 0
        with torch.inference_mode():
            while have < n:
                rows = self._chunk(rng, code)
                kept.append(rows[: n - have])
                have += len(kept[-1])
                tries += 1
                if have < n and tries - have >= MAX_TRIES:
                    label = self.schema.label_classes[code or 0]
                    raise ConfigError(
                        f"label {label!r} was generated {have} times in {tries * CHUNK} rows, fewer than the {n} "
                        "asked for; sketch with conditional = true to draw rare labels"
                    )
        return np.concatenate(kept)

    def _chunk(self, rng: torch.Generator, code: int | None) -> NDArray[np.float32]:
        model = self.network
        labels = None
        if model.conditional:
            labels = self._labels(CHUNK, rng) if code is None else torch.full((CHUNK,), code)
            labels = labels.to(model.device)
        rows: NDArray[np.float32] = model.draw(CHUNK, rng, labels).float().cpu().numpy()
        if code is not None and not model.conditional:
            block = _label_block(self.schema)
            assert block is not None
            rows = rows[rows[:, block.slice].argmax(1) == code]
        return rows

    def _labels(self, n: int, rng: torch.Generator) -> Tensor:
        """Label codes (n,) in the shares that training found."""
        shares = self.network.shares.cpu().clamp_min(0)
        return torch.multinomial(shares, n, replacement=True, generator=rng)

    @property
    def latent_dim(self) -> int:
        """Dimension p of the latent vectors."""
        return self.config.latent

    @property
    def classes(self) -> int:
        """Label values that latents are decoded under; 1 where the label is drawn like any column."""
        return self.network.classes

    def draw_labels(self, n: int, seed: int, label: Any = None) -> NDArray[np.int64] | None:
        """Label codes (n,) in the stream's shares, or of one label; None without `classes`."""
        if not self.network.conditional:
            return None
        if label is not None:
            return np.full(n, self._code(label))
        codes: NDArray[np.int64] = self._labels(n, torch.Generator().manual_seed(seed)).numpy()
        return codes

    def rows_of(
        self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int
    ) -> NDArray[np.float32]:
        """Encoded rows (n, d) of latents (n, p), categories drawn as `sample` draws them.

        Args:
            z: Latent vectors.
            labels: (n,) codes of the label, for a conditional generator.
            seed: Seed of what is drawn beyond the latents.
        """
        model, rng = self.network, torch.Generator().manual_seed(seed)
        codes = None if labels is None else torch.as_tensor(labels).to(model.device)
        with torch.inference_mode():
            raw = model.raw(torch.as_tensor(z, dtype=torch.float32).to(model.device), codes)
            rows = model.head(raw, model.head.noise(len(z), rng, model.device), codes)
        encoded: NDArray[np.float32] = rows.float().cpu().numpy()
        return encoded

    def decode_latent(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encoded rows (n, d) of latent vectors (n, p), differentiable and without chance.

        Categories are their probabilities here; `Schema.decode` takes the likeliest.

        Args:
            z: Latent vectors.
            labels: (n,) codes of the label, for a conditional generator.
        """
        z = z.to(self.network.device)
        labels = None if labels is None else labels.to(z.device)
        y: Tensor = self.network.head(self.network.raw(z, labels), None, labels)
        return y

    # --- identity and files

    @cached_property
    def id(self) -> str:
        """16 hex digits of the weights and the configuration."""
        return digest("generator", self._weights(), RETIRED | asdict(self.config))[:16]

    def to(self, device: str) -> "NetworkGenerator":
        """The same generator with its weights on a device (`cpu`, `cuda`)."""
        self.network.to(torch.device(device))
        return self

    def _weights(self) -> dict[str, NDArray[Any]]:
        state = self.network.state_dict()
        return {f"weight.{k}": v.detach().cpu().numpy() for k, v in state.items()}

    def _parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        return self._weights(), {"config": asdict(self.config), "classes": self.network.classes}

    @classmethod
    def _from_parts(
        cls,
        schema: Schema,
        snapshot: Snapshot | None,
        arrays: dict[str, NDArray[Any]],
        body: Mapping[str, Any],
    ) -> "NetworkGenerator":
        generator = cls.create(schema, snapshot, _config_from(body["config"]))
        state = {k.removeprefix("weight."): torch.from_numpy(v.copy()) for k, v in arrays.items()}
        generator.network.load_state_dict(state)
        return generator

    def __repr__(self) -> str:
        c = self.config
        return f"Generator({c.name}, p={c.latent}, d={self.schema.d}, trained={bool(self.metrics)}, id={self.id})"


def _config_from(body: Mapping[str, Any]) -> NetworkConfig:
    """The configuration in a checkpoint; fields that no longer mean anything are passed over.

    Raises:
        ConfigError: It has a learned latent mixture, which is no longer drawn from.
    """
    if body.get("mixture"):
        raise ConfigError(
            'its latents are a learned mixture; train it again with init = "mixture"'
        )
    return NetworkConfig(**{k: v for k, v in body.items() if k not in RETIRED.keys() | FORGOTTEN})


def _silence(network: nn.Module) -> None:
    """Zero the last layer: the network's correction of its components is nothing at first."""
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def _label_block(schema: Schema) -> Block | None:
    label = schema.label
    return None if label is None else next(b for b in schema.blocks if b.column == label.name)
