"""What every generator is: a law of rows with its schema, and the checkpoint file it lives in."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, DamagedFileError
from streamsketch.html import bars, card, table, text
from streamsketch.plain import first_line
from streamsketch.schema import Schema
from streamsketch.schema.conditions import Where
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import pack, read_file, unpack, write_atomic
from streamsketch.verdict import verdict

if TYPE_CHECKING:
    from torch import Tensor

    from streamsketch.generator.neural import NetworkGenerator
    from streamsketch.generator.options import NetworkConfig

__all__ = ["Generator"]

MOST_DRAWN, ROWS_DRAWN, MOST_PICTURES = 512, 500, 16  # for a picture in a notebook


class Generator(ABC):
    """Draws rows that follow what a snapshot's sketch summarises (a `LatentModel`).

    `fit` makes one: `Autoregressive` where the sketch counts cells of a table, else a
    `NetworkGenerator`.

    Args:
        schema: The columns that rows are decoded to.
        snapshot: The released snapshot it was trained on; it travels with the checkpoint.
        metrics: What training measured.

    Example:
        >>> schema = Schema.vectors(2, -1, 1)
        >>> g = Generator.create(schema, seed=0)
        >>> g.sample(3, seed=1).column_names
        ['x0', 'x1']
        >>> g.sample_encoded(3, seed=1).shape
        (3, 2)
    """

    def __init__(
        self,
        schema: Schema,
        snapshot: Snapshot | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.schema, self.snapshot, self.metrics = schema, snapshot, dict(metrics or {})

    @classmethod
    def create(
        cls,
        schema: Schema,
        snapshot: Snapshot | None = None,
        config: "NetworkConfig | str | None" = None,
        seed: int = 0,
    ) -> "NetworkGenerator":
        """An untrained network with random weights; see `NetworkGenerator.create`."""
        network: NetworkGenerator = _model("network").create(schema, snapshot, config, seed)
        return network

    def _repr_html_(self) -> str:
        said = verdict(self.metrics)[1] if self.metrics else "not trained"
        known = ("steps", "seconds", "heldout", "floor", "objective")
        facts = {k: self.metrics.get(k) for k in known} | {"id": self.id}
        parts = [f"<p>{text(said)}</p>"]
        if self.metrics and self.schema.d <= MOST_DRAWN:
            rows = self.sample(ROWS_DRAWN, seed=0)
            names = rows.column_names[:MOST_PICTURES]
            drawn = [(n, bars(shares(rows.column(n)), label=f"shares of {n}")) for n in names]
            parts.append(table(["column", f"{ROWS_DRAWN} rows drawn"], drawn))
        return card("Generator", facts, *parts)

    # --- sampling

    @abstractmethod
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

    @abstractmethod
    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        """Draw n encoded rows (n, d) float32; see `sample`."""

    @property
    @abstractmethod
    def latent_dim(self) -> int:
        """Dimension p of the latent vectors."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Label values that latents are decoded under; 1 where the label is drawn like any column."""

    @abstractmethod
    def draw_labels(self, n: int, seed: int, label: Any = None) -> NDArray[np.int64] | None:
        """Label codes (n,) in the stream's shares, or of one label; None without `classes`."""

    @abstractmethod
    def rows_of(
        self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int
    ) -> NDArray[np.float32]:
        """Encoded rows (n, d) of latents (n, p) as issued; the seed draws what latents leave open."""

    @abstractmethod
    def decode_latent(self, z: "Tensor", labels: "Tensor | None" = None) -> "Tensor":
        """Encoded rows (n, d) of latent vectors (n, p), differentiable and without chance."""

    def _code(self, label: Any) -> int:
        """The code of a value of the label column."""
        classes = self.schema.label_classes
        if not classes:
            raise ConfigError(
                f"label = {label!r} was asked for, but the schema has no label column; declare one with "
                'kind = "label"'
            )
        if label not in classes:
            shown = ", ".join(repr(c) for c in classes[:20])
            raise ConfigError(f"label = {label!r} is not one of the declared values: {shown}")
        return classes.index(label)

    # --- identity and files

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the operator it was trained with; empty where there is none."""
        return self.snapshot.spec.fingerprint if self.snapshot is not None else ""

    @cached_property
    @abstractmethod
    def id(self) -> str:
        """16 hex digits of what decides its rows."""

    def to(self, device: str) -> "Generator":
        """The same generator with its weights on a device, where it can use one."""
        return self

    @abstractmethod
    def _parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values of the checkpoint, beside the schema, the snapshot and metrics."""

    @classmethod
    @abstractmethod
    def _from_parts(
        cls,
        schema: Schema,
        snapshot: Snapshot | None,
        arrays: dict[str, NDArray[Any]],
        body: Mapping[str, Any],
    ) -> "Generator":
        """The generator that `_parts` wrote; any `ValueError` and the like is a damaged file."""

    def to_bytes(self) -> bytes:
        """The checkpoint as a file's bytes: weights, configuration, metrics and the snapshot."""
        arrays, body = self._parts()
        body["metrics"] = self.metrics
        body["schema"] = list(self.schema.to_dict().items())
        if self.snapshot is not None:
            arrays["snapshot"] = np.frombuffer(self.snapshot.to_bytes(), np.uint8)
        return pack("checkpoint", arrays, body)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the data") -> "Generator":
        """The generator that `to_bytes` wrote.

        Raises:
            DamagedFileError: The bytes are not a checkpoint's.
        """
        arrays, body = unpack(data, "checkpoint", name)
        inner = arrays.pop("snapshot", None)
        snapshot = (
            None
            if inner is None
            else Snapshot.from_bytes(inner.tobytes(), f"the snapshot in {name}")
        )
        try:
            schema = Schema.from_dict(dict(body["schema"]))
            kind = _model(body.get("model", "network"))
            generator: Generator = kind._from_parts(schema, snapshot, arrays, body)
        except (
            LookupError,
            TypeError,
            ValueError,
            ArithmeticError,
            AttributeError,
            RuntimeError,
            ConfigError,
        ) as e:
            raise DamagedFileError(
                f"{name} holds a checkpoint whose parts do not fit together ({first_line(e)})"
            ) from None
        metrics = body.get("metrics", {})
        generator.metrics = dict(metrics) if isinstance(metrics, dict) else {}
        return generator

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write the checkpoint to a file, atomically."""
        write_atomic(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> "Generator":
        """Read a checkpoint.

        Raises:
            StoreError: The file cannot be read.
            DamagedFileError: The file is damaged or of another kind.
        """
        return cls.from_bytes(read_file(Path(path)), str(path))


def shares(column: pa.ChunkedArray) -> list[float]:
    """Shares of the values of a column: of a number's bins, or of the most frequent values."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int64()) if pa.types.is_timestamp(kind) else column
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.drop_null().to_numpy().astype(np.float64)
        return np.histogram(values, bins=24)[0].tolist() if len(values) else []
    counted = pa.compute.value_counts(column.cast(pa.string())).field("counts").to_pylist()
    return [float(count) for count in sorted(counted, reverse=True)[:24]]


# what checkpoints may hold, by the name in their header
MODELS = {
    "autoregressive": "streamsketch.generator.autoregressive:Autoregressive",
    "network": "streamsketch.generator.neural:NetworkGenerator",
}


def _model(name: str) -> Any:
    """The class of a checkpoint's model."""
    if name not in MODELS:
        raise ValueError(f"model {name!r} is unknown; a newer version wrote it")
    return resolve_name(MODELS[name])
