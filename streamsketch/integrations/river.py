"""A river estimator over the sketcher: it learns a stream's sketch, its output is features."""

import logging
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, cast

import numpy as np
from river import base

from streamsketch.errors import DataError
from streamsketch.schema import Schema
from streamsketch.sketcher import Sketcher
from streamsketch.snapshot import Snapshot

__all__ = ["RiverSketcher"]

log = logging.getLogger(__name__)


class RiverSketcher(base.Transformer):
    """Learn the sketch of a river stream; transform rows to its random Fourier features.

    `learn_one` adds a row to the sketch and nothing else: it can sit at the head of a river
    pipeline, where the next model learns from `transform_one`, and `release` hands out a snapshot
    to train a generator on. A row that the schema refuses (a missing feature, a category that is
    not declared) never reaches the sum: it is counted in `refused` and transformed to no features.

    Args:
        schema: the columns and their limits.
        frequencies: m; a row is transformed to 2m features of size 1/sqrt(m).
        law: frequency law, a name in `streamsketch.features.frequencies.LAWS`.
        seed: seed of the frequencies; equal seeds make sketches mergeable.
        scale: kernel scale, a length in encoded space.
        mechanism: how releases are protected.
        memory: what a release stands for.
        privacy: settings of the mechanism, such as epsilon, delta and releases.

    Attributes:
        sketcher: the `Sketcher` that does the work.
        refused: rows that the schema refused.

    Example:
        >>> from streamsketch import Schema
        >>> model = RiverSketcher(Schema.vectors(2, -1, 1), frequencies=4)
        >>> for x in [{"x0": 0.5, "x1": 0.0}, {"x0": 0.1, "x1": 0.2}, {"x0": 0.3}]:
        ...     model.learn_one(x)
        >>> model.release().count, model.refused, len(model.transform_one(x)), x
        (2.0, 1, 0, {'x0': 0.3})
    """

    def __init__(
        self,
        schema: Schema,
        frequencies: int = 256,
        law: str = "multiscale",
        seed: int = 0,
        scale: float = 1.0,
        mechanism: str = "none",
        memory: str = "landmark",
        privacy: Mapping[str, Any] | None = None,
    ) -> None:
        self.schema = schema
        self.frequencies = frequencies
        self.law = law
        self.seed = seed
        self.scale = scale
        self.mechanism = mechanism
        self.memory = memory
        self.privacy = privacy
        self.sketcher = Sketcher(
            schema, frequencies, law, seed, scale, mechanism, memory, privacy=privacy
        )
        self.refused = 0

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        """Parameters for river's own checks, which feed the TrumpApproval stream."""
        polls = ("gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
        limits = {name: {"kind": "numeric", "low": 30, "high": 60} for name in polls}
        limits["ordinal_date"] = {"kind": "numeric", "low": 736000, "high": 738000}
        yield {"schema": Schema.from_dict(limits), "frequencies": 16}

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Add one row to the sketch; a refused one is counted instead."""
        try:
            self.sketcher.learn_one(cast("dict[str, Any]", x))
        except DataError as error:
            self.refused += 1
            log.debug("row refused: %s", error)

    def learn_many(self, rows: Any) -> None:
        """Add an Arrow table, a data frame, or anything with `__arrow_c_stream__`.

        Raises:
            DataError: a row is refused; nothing was learned.
            SchemaError: the columns do not fit the schema.
        """
        self.sketcher.learn_many(rows)

    def transform_one(self, x: dict[Hashable, Any]) -> dict[Hashable, Any]:
        """Features of one row, cos0 .. cos(m-1), sin0 .. sin(m-1), of Euclidean norm 1.

        A refused row has none.
        """
        try:
            row = self.schema.encode_row(cast("dict[str, Any]", x))
        except DataError:
            return {}
        values = self.sketcher.fourier.features(row[None])[0] / np.sqrt(self.frequencies)
        m = self.frequencies
        names: list[Hashable] = [f"{part}{j}" for part in ("cos", "sin") for j in range(m)]
        return dict(zip(names, values.tolist(), strict=True))

    def release(self) -> Snapshot:
        """Release what was learned: a snapshot to train a generator on with `streamsketch.fit`.

        Raises:
            BudgetError: the privacy budget is spent.
        """
        return self.sketcher.release()

    def merge(self, other: "RiverSketcher") -> "RiverSketcher":
        """A new estimator that has learned the rows of both.

        Raises:
            SpecMismatchError: the operators differ.
        """
        merged: RiverSketcher = self.clone()
        merged.sketcher = self.sketcher.merge(other.sketcher)
        merged.refused = self.refused + other.refused
        return merged
