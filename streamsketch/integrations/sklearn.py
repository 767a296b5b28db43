"""A scikit-learn transformer over the sketcher: random features, and the sketch of all rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from streamsketch.errors import ConfigError, DataError
from streamsketch.schema import Column, Schema
from streamsketch.schema.rows import as_table, refusal
from streamsketch.sketcher import Sketcher
from streamsketch.snapshot import Snapshot

__all__ = ["SketchTransformer"]


class SketchTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Sketch numeric rows; transform rows to their random Fourier features.

    `fit` forgets what was learned before, `partial_fit` adds to it; both read each row once. The
    features approximate a kernel of the chosen law, as `sklearn.kernel_approximation` does, and
    `release` hands out a snapshot to train a generator on.

    Args:
        n_frequencies: m; a row is transformed to 2m features of size 1/sqrt(m).
        law: frequency law, a name in `streamsketch.features.frequencies.LAWS`.
        scale: kernel scale, a length where each column's limits are -1 and 1.
        low: (d,) or one number: the smallest value of each column. None reads it off the first
            rows, which is not private.
        high: (d,) or one number: the largest value. Values outside are clipped.
        mechanism: how releases are protected; a private one needs `low` and `high`.
        privacy: settings of the mechanism, such as epsilon, delta and releases.
        random_state: integer seed of the frequencies; equal seeds make sketches mergeable.
        schema: the columns, declared; rows are then data frames or Arrow tables that may hold texts,
            times and nulls, and `low` and `high` are not used.

    Attributes:
        schema_: the columns and their limits.
        sketcher_: the `Sketcher` that holds the sum.
        n_features_in_: d.

    Example:
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
        >>> model = SketchTransformer(n_frequencies=8, low=0, high=1).fit(x)
        >>> model.transform(x).shape, model.release().count
        ((3, 16), 3.0)
    """

    def __init__(
        self,
        n_frequencies: int = 256,
        *,
        law: str = "multiscale",
        scale: float = 1.0,
        low: Any = None,
        high: Any = None,
        mechanism: str = "none",
        privacy: Mapping[str, Any] | None = None,
        random_state: int = 0,
        schema: Schema | None = None,
    ) -> None:
        self.n_frequencies = n_frequencies
        self.law = law
        self.scale = scale
        self.low = low
        self.high = high
        self.mechanism = mechanism
        self.privacy = privacy
        self.random_state = random_state
        self.schema = schema

    def fit(self, X: Any, y: Any = None) -> "SketchTransformer":
        """Forget everything, then learn rows X (n, d)."""
        X = self._rows(X)
        self._start(X)
        return self._learn(X)

    def partial_fit(self, X: Any, y: Any = None) -> "SketchTransformer":
        """Learn rows X (n, d) in addition; limits not given are those of the first rows."""
        first = not hasattr(self, "sketcher_")
        X = self._rows(X, first)
        if first:
            self._start(X)
        return self._learn(X)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Features of rows X (n, d): (n, 2m) float64, cosines then sines, rows of norm 1."""
        check_is_fitted(self)
        X = self._rows(X, first=False)
        features = self.sketcher_.fourier.features(self._encoded(X))
        return np.asarray(features / np.sqrt(self.n_frequencies))

    def release(self) -> Snapshot:
        """Release what was learned: a snapshot to train a generator on with `streamsketch.fit`.

        Raises:
            BudgetError: the privacy budget is spent.
        """
        check_is_fitted(self)
        return self.sketcher_.release()

    def _rows(self, X: Any, first: bool = True) -> Any:
        """The rows as scikit-learn checks them, or as a table of the declared schema."""
        if self.schema is None:
            return validate_data(self, X, dtype=np.float64, reset=first)
        return as_table(X)

    def _encoded(self, rows: Any) -> NDArray[np.float32]:
        if self.schema is None:
            return self.schema_.encode_array(rows)
        encoded = self.schema_.encode(rows)
        if encoded.rejected:
            raise DataError(refusal(encoded.rejected, rows.num_rows))
        return encoded.x

    def _start(self, rows: Any) -> None:
        if self.schema is None:
            self.schema_ = self._read_off(rows)
        else:
            self.schema_ = self.schema
            self.n_features_in_ = len(self.schema.names)
            self.feature_names_in_ = np.array(self.schema.names, object)
        self.sketcher_ = Sketcher(
            self.schema_,
            self.n_frequencies,
            self.law,
            self.random_state,
            self.scale,
            mechanism=self.mechanism,
            privacy=self.privacy,
        )
        self._n_features_out = 2 * self.n_frequencies

    def _read_off(self, rows: NDArray[np.float64]) -> Schema:
        if self.mechanism != "none" and (self.low is None or self.high is None):
            msg = (
                f"Mechanism {self.mechanism!r} needs declared limits: limits read off the rows "
                "are not private; give low= and high="
            )
            raise ConfigError(msg)
        low = rows.min(axis=0) if self.low is None else np.broadcast_to(self.low, rows.shape[1])
        high = rows.max(axis=0) if self.high is None else np.broadcast_to(self.high, rows.shape[1])
        # A constant column has no width: open it by its own size, so that it maps to the middle.
        margin = np.where(high > low, 0.0, np.maximum(np.abs(low), 1.0))
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(rows.shape[1])])
        return Schema(
            [
                Column(str(name), "numeric", "double", low=float(a - w), high=float(b + w))
                for name, a, b, w in zip(names, low, high, margin, strict=True)
            ]
        )

    def _learn(self, rows: Any) -> "SketchTransformer":
        self.sketcher_.learn_many(rows)
        return self
