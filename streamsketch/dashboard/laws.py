"""Marginals and pairs, read off the newest snapshot, beside those of the newest generator. No row is seen."""

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamsketch.decode import Marginals
from streamsketch.decode.marginals import Density, Shares
from streamsketch.errors import ConfigError, StoreError
from streamsketch.snapshot import Snapshot

if TYPE_CHECKING:
    from streamsketch.dashboard.rows import Newest
    from streamsketch.generator import Generator
    from streamsketch.storage.store import Store

__all__ = ["Laws"]

ROWS = 4000  # of the generator
COLUMNS = 40
VALUES = 12
PAIRS = 12
BINS = 40
PACE = 20.0  # a look takes this much longer to become old than it took
LEVEL = 0.9


class Laws:
    """What the newest snapshot tells of its columns, made again when there is a newer one.

    Decoding takes CPU that the consumers on the same machine need: it takes at most a twentieth.

    Args:
        store: The store.
        newest: Its newest generator.
    """

    def __init__(self, store: "Store", newest: "Newest") -> None:
        self.store, self.newest = store, newest
        self._turn = threading.Lock()
        self._made: dict[str, Any] | None = None
        self._from: tuple[str, ...] = ()
        self._again = 0.0

    def __call__(self) -> dict[str, Any]:
        """Marginals and pairs as JSON types.

        Raises:
            StoreError: There is no snapshot yet.
        """
        with self._turn:
            names = tuple(
                n for family in (self.store.snapshots, self.store.checkpoints)
                for n in family.names()[-1:]
            )  # fmt: skip
            fresh = names == self._from or time.monotonic() < self._again
            if self._made is None or not fresh:
                begun = time.monotonic()
                self._made = self._look()
                self._from = names
                self._again = time.monotonic() + PACE * (time.monotonic() - begun)
            return self._made

    def _look(self) -> dict[str, Any]:
        found = self.store.snapshots.newest(Snapshot.from_bytes)
        if found is None:
            raise StoreError("the store has no snapshot yet; run the pipeline first")
        name, snapshot = found
        drawn, checkpoint = None, None
        try:
            checkpoint, generator = self.newest.load()
            drawn = _draw(generator, snapshot)
        except StoreError:
            pass  # not trained yet: the sketch alone is shown
        return {
            "snapshot": name,
            "checkpoint": checkpoint if drawn is not None else None,
            "level": LEVEL,
            "columns": _columns(snapshot, drawn),
            "pairs": _pairs(snapshot, drawn),
        }


def _draw(generator: "Generator", snapshot: Snapshot) -> pa.Table | None:
    if generator.schema.hash != snapshot.schema.hash:
        return None
    return generator.sample(ROWS, seed=0)


def _columns(snapshot: Snapshot, drawn: pa.Table | None) -> list[dict[str, Any]]:
    if snapshot.count < 1 or snapshot.spec.classes > 1:
        return []
    try:
        marginals = Marginals(bins=BINS).fit(snapshot)
    except ConfigError:
        return []
    found = []
    for name in marginals.columns_[:COLUMNS]:
        law = marginals[name]
        values = _values(name, drawn)
        found.append(
            {"name": name, **(_density(law, values) if isinstance(law, Density) else _shares(law, values))}
        )  # fmt: skip
    return found


def _values(name: str, drawn: pa.Table | None) -> pa.ChunkedArray | None:
    if drawn is None:
        return None
    if name in drawn.column_names:
        return drawn.column(name)
    column, _, place = name.partition("[")  # one number of a vector
    if not place or column not in drawn.column_names:
        return None
    rows = drawn.column(column).to_pylist()
    return pa.chunked_array([pa.array([row[int(place[:-1])] for row in rows])])


def _density(law: Density, values: pa.ChunkedArray | None) -> dict[str, Any]:
    time_like = law.edges.dtype.kind == "M"
    edges = _numbers(law.edges)
    low, high = np.quantile(law.redraws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    made: dict[str, Any] = {
        "kind": "time" if time_like else "number",
        "edges": edges.tolist(),
        "sketch": law.probability.tolist(),
        "low": np.minimum(low, law.probability).tolist(),
        "high": np.maximum(high, law.probability).tolist(),
    }
    if values is not None:
        x = _numbers(values.drop_null().to_numpy())
        counts = np.histogram(np.clip(x, edges[0], edges[-1]), bins=np.maximum.accumulate(edges))[
            0
        ]
        made["generator"] = (counts / max(len(x), 1)).tolist()
    return made


def _numbers(x: NDArray[Any]) -> NDArray[np.float64]:
    if x.dtype.kind == "M":
        return x.astype("datetime64[us]").astype(np.int64) / 1e6
    if x.dtype.kind in "mO":
        return np.arange(len(x), dtype=np.float64) if x.dtype.kind == "O" else x.astype(np.float64)
    return x.astype(np.float64)


def _shares(law: Shares, values: pa.ChunkedArray | None) -> dict[str, Any]:
    order = np.argsort(-law.probability, kind="stable")[:VALUES]
    drawn: dict[Any, float] = {}
    if values is not None:
        listed = values.to_pylist()
        drawn = {v: listed.count(v) / max(len(listed), 1) for v in set(listed)}
    return {
        "kind": "category",
        "values": [
            {
                "value": "null" if law.values[i] is None else str(law.values[i]),
                "sketch": float(law.probability[i]),
                "error": float(1.645 * law.error[i]) if np.isfinite(law.error[i]) else None,
                "generator": drawn.get(law.values[i], 0.0) if values is not None else None,
            }
            for i in order
        ],
        "more": max(0, len(law.values) - VALUES),
    }


def _pairs(snapshot: Snapshot, drawn: pa.Table | None) -> list[dict[str, Any]]:
    """The strongest pairs of a table: how far from independent, in the sketch and in the generator.

    The strength is the total variation between the pair's law and that of independent columns.
    """
    layout, cells = snapshot.layout, snapshot.cells
    if layout is None or cells is None:
        return []
    codes = None
    if drawn is not None:
        codes = np.asarray(layout.codes(snapshot.schema.encode(drawn).x))
    found: list[dict[str, Any]] = []
    for j, k in layout.pairs:
        a, b = layout.variables[j], layout.variables[k]
        table = np.maximum(layout.pair(cells, j, k), 0.0).reshape(a.middle, b.middle)
        other: NDArray[np.float64] | None = None
        if codes is not None:
            u, v = a.middle_of[codes[j]], b.middle_of[codes[k]]
            counts = np.bincount(u * b.middle + v, minlength=a.middle * b.middle)
            other = counts.reshape(a.middle, b.middle).astype(np.float64)
        found.append({
            "pair": [a.name, b.name], "sketch": _strength(table),
            "generator": None if other is None else _strength(other),
        })  # fmt: skip
    return sorted(found, key=lambda one: -one["sketch"])[:PAIRS]


def _strength(table: NDArray[np.float64]) -> float:
    total = table.sum()
    if total <= 0:
        return 0.0
    law = table / total
    return float(np.abs(law - np.outer(law.sum(1), law.sum(0))).sum() / 2)
