"""The generator of tables: rows drawn variable by variable from a law fitted to counts of cells."""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.expect import whole
from streamsketch.features.cells import CellLayout
from streamsketch.generator.autoregressive.columns import order_of
from streamsketch.generator.autoregressive.conditions import allowed_cells, draw_where
from streamsketch.generator.autoregressive.law import Law, best_law
from streamsketch.generator.autoregressive.targets import targets_of
from streamsketch.generator.autoregressive.tilt import Psi, drawn, resampled
from streamsketch.generator.generator import Generator
from streamsketch.latent import marked
from streamsketch.schema import Schema
from streamsketch.schema.conditions import Where, check
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import digest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Autoregressive"]

log = logging.getLogger(__name__)

CHUNK = 65536  # rows drawn at a time; fixed, because draws depend on it
FEW = (
    500  # effective rows under a condition below which the law is fitted again, its columns first
)


class Autoregressive(Generator):
    """Draws each variable's cell from a softmax of the cells before it (see `Law`).

    Latents are normal quantiles of the values of the distribution functions, one a variable.

    Args:
        law: The law of cells.
        snapshot: The released snapshot that it was fitted to.
        metrics: What the fit measured.
        theta: (cells of pairs and triples,) tilt of the law (see `tilt`); None for none. Latents are
            decoded by the law alone.
    """

    def __init__(
        self,
        law: Law,
        snapshot: Snapshot,
        metrics: Mapping[str, Any] | None = None,
        theta: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(snapshot.schema, snapshot, metrics)
        self.law, self.theta = law, theta
        self._fitted_again: dict[tuple[str, ...], Law] = {}

    @property
    def layout(self) -> CellLayout:
        """The cells."""
        return self.law.layout

    # --- sampling

    def sample(
        self, n: int, seed: int = 0, label: Any = None, where: Where | None = None
    ) -> pa.Table:
        """Draw n rows with the stream's column names and types; see `Generator.sample`."""
        conditions = dict(where or {})
        if label is not None:
            conditions[self._label_name(label)] = label
        if not conditions:
            return marked(self.schema.decode(self.sample_encoded(n, seed)), self)
        return marked(self._conditioned(n, seed, conditions)[1], self)

    def sample_encoded(self, n: int, seed: int = 0, label: Any = None) -> NDArray[np.float32]:
        """Draw n encoded rows (n, d) float32; see `Generator.sample`."""
        if label is not None:
            return self._conditioned(n, seed, {self._label_name(label): label})[0]
        n = whole(n, "n")
        rng = np.random.default_rng(seed)
        rows = [np.empty((0, self.schema.d), np.float32)]
        for start in range(0, n, CHUNK):
            rows.append(self.layout.rows(*drawn(self.law, self.theta, min(CHUNK, n - start), rng)))
        return np.concatenate(rows)

    def _label_name(self, label: Any) -> str:
        self._code(label)
        assert self.schema.label is not None
        return self.schema.label.name

    def _conditioned(
        self, n: int, seed: int, where: dict[str, Any]
    ) -> tuple[NDArray[np.float32], pa.Table]:
        n = whole(n, "n")
        check(where, self.schema)
        allowed = allowed_cells(self.layout, where)
        x, table, weight, size = draw_where(self.law, n, where, allowed, seed, self.theta)
        first = tuple(sorted({self.layout.variables[k].column for k in allowed}))
        if size < FEW and any(k not in allowed for k in self.law.order[: len(allowed)]):
            log.info("%s: %.0f effective rows; fitting with %s first", where, size, first)
            law = self._law_with(first)
            x, table, weight, size = draw_where(law, n, where, allowed, seed, self.theta)
        if not size:
            raise ConfigError(
                f"none of {len(weight)} rows drawn meets {where}; the stream never had it, or too rarely to tell"
            )
        log.info("%s: %.0f effective rows of %d", where, size, len(weight))
        chosen = resampled(weight, n, np.random.default_rng(seed + 1))
        return x[chosen], table.take(pa.array(chosen))

    def _law_with(self, first: tuple[str, ...]) -> Law:
        """The law fitted again with these columns first, where they are conditioned exactly."""
        if first not in self._fitted_again:
            assert self.snapshot is not None
            order = order_of(self.layout, first)
            self._fitted_again[first] = best_law(targets_of(self.snapshot), order, 0)[0]
        return self._fitted_again[first]

    # --- latents

    @property
    def latent_dim(self) -> int:
        """One latent a variable."""
        return len(self.law.order)

    @property
    def classes(self) -> int:
        """1: the label is a column like any."""
        return 1

    def draw_labels(self, n: int, seed: int, label: Any = None) -> None:
        """None: there are no classes."""

    def rows_of(
        self, z: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int
    ) -> NDArray[np.float32]:
        """Encoded rows (n, d) of latents (n, p), which decide everything."""
        from scipy.special import ndtr

        u = np.clip(ndtr(np.asarray(z, np.float64).T), 0.0, 1 - 1e-9)
        return self.layout.rows(*self.law.draw(u))

    def decode_latent(self, z: "Tensor", labels: "Tensor | None" = None) -> "Tensor":
        """Encoded rows (n, d) of latents (n, p), with a slope; see `autoregressive.latents`."""
        from streamsketch.generator.autoregressive.latents import decode

        return decode(self.law, z)

    # --- identity and files

    @cached_property
    def id(self) -> str:
        """16 hex digits of the law."""
        arrays, body = self._parts()
        return digest("generator", arrays, body | {"fingerprint": self.fingerprint})[:16]

    def _parts(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for name, k, (single, pair) in zip(
            self._names, self.law.order, self.law.weights, strict=True
        ):
            arrays[f"single.{name}"], arrays[f"pair.{name}"] = single, pair
            arrays[f"shares.{name}"] = self.law.shares[k]
        if self.theta is not None:
            arrays["theta"] = self.theta
        return arrays, {"model": "autoregressive", "order": self._names}

    @property
    def _names(self) -> list[str]:
        return [self.layout.variables[k].name for k in self.law.order]

    @classmethod
    def _from_parts(
        cls,
        schema: Schema,
        snapshot: Snapshot | None,
        arrays: dict[str, NDArray[Any]],
        body: Mapping[str, Any],
    ) -> "Autoregressive":
        if snapshot is None or snapshot.layout is None or snapshot.schema.hash != schema.hash:
            raise ValueError("its snapshot counts no cells of its schema")
        layout, order = snapshot.layout, body["order"]
        number = {v.name: k for k, v in enumerate(layout.variables)}
        if sorted(order) != sorted(number):
            raise ValueError("its variables are not those of its snapshot")
        shares = tuple(arrays[f"shares.{v.name}"] for v in layout.variables)
        weights = tuple((arrays[f"single.{name}"], arrays[f"pair.{name}"]) for name in order)
        law = Law(layout, tuple(number[name] for name in order), weights, shares)
        law.check()
        theta = arrays.get("theta")
        if theta is not None and (
            theta.shape != (Psi(layout).size,) or not np.isfinite(theta).all()
        ):
            raise ValueError(
                "its tilt is not one finite number for each cell of pairs and triples"
            )
        return cls(law, snapshot, theta=theta)

    def __repr__(self) -> str:
        return (
            f"Generator(autoregressive, variables={len(self.law.order)}, cells={self.layout.size}, "
            f"d={self.schema.d}, trained={bool(self.metrics)}, id={self.id})"
        )
