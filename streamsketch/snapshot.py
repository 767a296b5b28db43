"""The snapshot: what was released, the only thing that trainers and samplers see."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.features import FeatureMap, build
from streamsketch.features.spec import Spec
from streamsketch.html import bars, card, merged, table
from streamsketch.schema import Schema
from streamsketch.storage.files import (
    digest,
    pack,
    parsing,
    read_file,
    unpack,
    vector,
    write_atomic,
)

if TYPE_CHECKING:
    import os

    from streamsketch.features.cells import CellLayout

__all__ = ["Release", "Snapshot"]

MOST_PICTURES = 16
ADJACENCIES, UNITS = ("add_remove", "replace_one"), ("row", "user")

#: A mean feature is at most 1; noise on few rows may add orders of magnitude, not this many.
MOST_MEAN = 1e15


@dataclass(frozen=True)
class Release:
    """How a snapshot was released.

    Attributes:
        mechanism: Name of the privacy mechanism; `none` is one.
        memory: What the released sum stands for.
        index: Number of the release within its epoch, from 0.
        epoch: Number of the budget epoch.
        stream: Name of the stream.
        adjacency: `add_remove` or `replace_one`; empty without privacy.
        unit: Protected unit, `row` or `user`; empty without privacy.
        rho: zCDP of the whole epoch; 0 without privacy.
        delta: Delta at which epsilon is stated.
        epsilon: Epsilon of the whole epoch at `delta`; 0 without privacy.
        releases: Releases planned in the epoch (T_max); 0 without privacy.
        noise_std: Standard deviation of the noise on each coordinate of the sum, feature units.
        count_std: Standard deviation of the noise on the count, rows.
        notes: Anything else that a reader must know.
    """

    mechanism: str = "none"
    memory: str = "landmark"
    index: int = 0
    epoch: int = 0
    stream: str = ""
    adjacency: str = ""
    unit: str = ""
    rho: float = 0.0
    delta: float = 0.0
    epsilon: float = 0.0
    releases: int = 0
    noise_std: float = 0.0
    count_std: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        """Whether noise protects it."""
        return self.mechanism != "none"


@dataclass(frozen=True)
class Snapshot:
    """A released mean of features, with all that is needed to use it. Immutable, publishable.

    Attributes:
        mean: (classes * width,) float64 mean features: cosines then sines per class block, over
            the total released count; no factor 1/sqrt(m).
        count: Released number of rows (of weight, where the past decays).
        spec: The operator.
        schema: The columns, to decode with.
        release: How it was released.
        span: Positions and times that it covers.
        omega: Frequencies (d, m) where they were given rather than drawn, else None.
        created: ISO time of the release.
        cells: (size of `layout`,) float64 relative counts of cells over the released count; None
            where the operator counts none. With a mechanism they carry noise and may be negative.
    """

    mean: NDArray[np.float64]
    count: float
    spec: Spec
    schema: Schema
    release: Release = Release()
    span: Mapping[str, Any] = field(default_factory=dict)
    omega: NDArray[np.float64] | None = None
    created: str = ""
    cells: NDArray[np.float64] | None = None

    @cached_property
    def id(self) -> str:
        """16 hex digits of the content."""
        return digest("snapshot", *self._content())[:16]

    @cached_property
    def features(self) -> Any:
        """The feature map that made `mean`."""
        if self.omega is not None:
            return FeatureMap(self.spec, self.omega)
        if self.spec.middle:
            return FeatureMap.from_spec(self.spec, self.schema.blocks)
        return build(self.spec, self.schema)

    @cached_property
    def layout(self) -> "CellLayout | None":
        """What `cells` count; None where the operator counts none."""
        if not self.spec.middle:
            return None
        from streamsketch.features.cells import layout_named

        layout = layout_named(self.spec, self.schema)
        found = 0 if self.cells is None else len(self.cells)
        if found != layout.size:
            raise ConfigError(
                f"a snapshot holds {found} counts of cells, but its spec and schema make {layout.size}; "
                "it was written for other cells: read it with the version that wrote it"
            )
        return layout

    @property
    def cell_noise(self) -> float:
        """Standard deviation of the noise on a relative count; 0 without a mechanism."""
        return self.release.noise_std / (self.spec.cell_weight * max(self.count, 1.0))

    @property
    def z(self) -> NDArray[np.complex128]:
        """The mean as complex numbers (classes * m,): E exp(i omega . x) per class block."""
        blocks = self.mean.reshape(self.spec.classes, 2, self.spec.m)
        return np.asarray((blocks[:, 0] + 1j * blocks[:, 1]).ravel())

    def to_bytes(self) -> bytes:
        """The snapshot as a file's bytes."""
        return pack("snapshot", *self._content())

    def _content(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays: dict[str, NDArray[Any]] = {"mean": self.mean}
        if self.omega is not None:
            arrays["omega"] = self.omega
        if self.cells is not None:
            arrays["cells"] = self.cells
        body = {
            "count": self.count,
            "spec": self.spec.to_dict(),
            "schema": list(self.schema.to_dict().items()),
            "release": asdict(self.release),
            "span": dict(self.span),
            "created": self.created,
        }
        return arrays, body

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the data") -> "Snapshot":
        """The snapshot that `to_bytes` wrote.

        Raises:
            DamagedFileError: The bytes are not a snapshot's.
        """
        arrays, body = unpack(data, "snapshot", name)
        with parsing(name):
            spec, release = Spec.from_dict(body["spec"]), _release(body["release"])
            count = body["count"]
            if isinstance(count, bool) or not isinstance(count, int | float):
                raise TypeError(f"count is {str(count)[:40]}, not a number")
            # noise may take a released count below zero; nothing else does
            if not math.isfinite(count) or (count < 0 and not release.private):
                raise ValueError(f"count is {count}")
            length = spec.classes * 2 * spec.m if spec.map == "fourier" else None
            mean = vector(arrays, "mean", np.float64, length)
            if len(mean) and np.abs(mean).max() > MOST_MEAN:
                raise ValueError(f"mean holds values beyond {MOST_MEAN:g}")
            omega = arrays.get("omega")
            if omega is not None:
                if omega.shape != (spec.d, spec.m) or not np.isfinite(omega).all():
                    raise ValueError(f"omega has shape {omega.shape}, or is not finite")
            cells = vector(arrays, "cells", np.float64) if "cells" in arrays else None
            if not isinstance(body["span"], dict) or not isinstance(body["created"], str):
                raise TypeError("span or created is of a wrong type")
            schema = Schema.from_dict(dict(body["schema"]))
            if spec.schema_hash not in ("", schema.hash):
                raise ValueError("the spec is of another schema")
            return cls(
                mean, count, spec, schema, release, body["span"], omega, body["created"], cells
            )

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write it to a file, atomically."""
        write_atomic(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> "Snapshot":
        """Read it from a file.

        Raises:
            StoreError: The file cannot be read.
            DamagedFileError: The file is damaged or of another kind.
        """
        return cls.from_bytes(read_file(Path(path)), str(path))

    def _repr_html_(self) -> str:
        r = self.release
        facts: dict[str, Any] = {
            "rows": round(self.count), "mechanism": r.mechanism, "memory": r.memory,
            "release": r.index, "law": self.spec.law, "frequencies": self.spec.m,
            "operator": self.spec.fingerprint, "id": self.id,
        }  # fmt: skip
        if r.private:
            facts |= {
                "epsilon": r.epsilon,
                "delta": r.delta,
                "unit": r.unit,
                "of releases": r.releases,
            }
        parts = (
            [table(["variable", "shares of its cells"], self._singles())]
            if self.layout is not None
            else []
        )
        return card("Snapshot", facts, *parts)

    def _singles(self) -> list[tuple[str, str]]:
        """A picture of the counts of each variable, as released."""
        layout, cells = self.layout, self.cells
        assert layout is not None and cells is not None
        shown = list(enumerate(layout.variables))[:MOST_PICTURES]
        return [
            (v.name, bars(merged(layout.single(cells, k).tolist()), label=f"shares of {v.name}"))
            for k, v in shown
        ]

    def __repr__(self) -> str:
        r = self.release
        shown = f"count={self.count:.0f}, " if self.count else ""
        return (
            f"Snapshot({shown}law={self.spec.law}, m={self.spec.m}, d={self.spec.d}, "
            f"mechanism={r.mechanism}, index={r.index}, id={self.id})"
        )


def _release(values: dict[str, Any]) -> Release:
    """How a snapshot of a file was released. Raises TypeError or ValueError where it is no such."""
    made = Release(**values)
    for f in fields(Release):
        value, kind = getattr(made, f.name), type(f.default)
        allowed = {float: (int, float), int: (int,), str: (str,)}.get(kind, (dict,))
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise TypeError(f"release.{f.name} is of type {type(value).__name__}")
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"release.{f.name} is {value}")
    if lost := {f.name for f in fields(Release)} - set(values):
        raise ValueError(f"release.{min(lost)} is missing")
    promise = (made.adjacency in ADJACENCIES, made.unit in UNITS)
    if promise != (made.private, made.private) or made.private != (made.rho > 0):
        raise ValueError(
            f"release says mechanism {made.mechanism!r:.40}, adjacency {made.adjacency!r:.40}, unit "
            f"{made.unit!r:.40}, rho {made.rho:g}, which contradict each other"
        )
    origins = made.notes.get("origins", [])
    if not isinstance(origins, list) or not all(isinstance(one, str) for one in origins):
        raise TypeError("release.notes.origins is not a list of texts")
    if not isinstance(made.notes.get("noise", ""), str):
        raise TypeError("release.notes.noise is not a text")
    return made
