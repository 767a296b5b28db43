"""What a sampler and an inverse problem need of a generator, whatever stands behind it.

A latent model draws rows by mapping latent vectors of the standard normal law through a decoder.
`Generator` is one; `generator.decoder.Decoder` makes one of any torch module.
"""

import json
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch._version import __version__
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

__all__ = ["LatentModel", "marked"]


class LatentModel(Protocol):
    """Rows drawn through a decoder of standard normal latent vectors (n, p).

    Attributes:
        schema: The columns that encoded rows (n, d) stand for.
        snapshot: The released snapshot it was trained on, if any: the target of its outputs.
        metrics: What training measured, as JSON values.
    """

    schema: Schema
    snapshot: Snapshot | None
    metrics: dict[str, Any]

    @property
    def id(self) -> str:
        """Identifies its weights: another id, another law."""

    @property
    def fingerprint(self) -> str:
        """Of the sketch operator whose data it learned; empty where there is none."""

    @property
    def latent_dim(self) -> int:
        """Dimension p of the latent vectors."""

    @property
    def classes(self) -> int:
        """Labels under which latents are decoded; 1 where a label is drawn like any column."""

    def sample(self, n: int, seed: int = 0, label: Any = None) -> "pa.Table":
        """Draw n rows with the schema's column names and types; `label`: of this value only."""

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        """Draw n encoded rows (n, d); the same seed gives the same rows."""

    def decode_latent(self, z: "Tensor", labels: "Tensor | None" = None) -> "Tensor":
        """Encoded rows (n, d) of latents (n, p), differentiable and without chance.

        Args:
            z: Latent vectors.
            labels: (n,) codes of the label, where there are `classes`.
        """

    def draw_labels(self, n: int, seed: int, label: Any = None) -> NDArray[np.int64] | None:
        """Label codes (n,) in the stream's shares, or of one label; None without `classes`."""

    def rows_of(
        self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int
    ) -> NDArray[np.float32]:
        """Encoded rows (n, d) as issued: what no latent decides is drawn, by the seed."""


def marked(rows: "pa.Table", model: LatentModel) -> "pa.Table":
    """The rows with their origin in the table's metadata, under the key `streamsketch`.

    Parquet and Arrow files keep it. It holds what is published: which generator drew them, from which
    snapshot it learned, and how that was released.
    """
    snapshot, useful = model.snapshot, model.metrics.get("useful")
    origin: dict[str, Any] = {"synthetic": True, "version": __version__, "generator": model.id}
    if useful is not None:
        origin["useful"] = bool(useful)
    if snapshot is not None:
        release = snapshot.release
        origin |= {
            "snapshot": snapshot.id, "released": snapshot.created, "stream": release.stream,
            "operator": snapshot.spec.fingerprint, "mechanism": release.mechanism,
        }  # fmt: skip
        if release.private:
            origin |= {"epsilon": release.epsilon, "delta": release.delta, "unit": release.unit}
    metadata = {**(rows.schema.metadata or {}), b"streamsketch": json.dumps(origin).encode()}
    return rows.replace_schema_metadata(metadata)
