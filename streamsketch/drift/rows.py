r"""Change detection on the features that are sketched anyway, with a calibrated threshold.

Two exponentially weighted sketches of one stream, a fast one and a slow one, differ when the
stream's law has changed within the fast one's memory (NEWMA: Keriven, Garreau, Poli 2020). Their difference is
whitened, as far as the features' covariance is known (Hagrass, Sriperumbudur, Li 2024), so that a change
counts by how rare it is and not by how large. The null law of the squared distance is known: a
weighted sum of chi-squares. So the user states the mean time between false alarms, and the threshold
follows (docs/drift.md derives it); nothing is tuned.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river.base import DriftDetector

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError, DataError, StoreError
from streamsketch.features.quadratic import (
    beyond_gaussian,
    level,
    null_filter,
    shape_terms,
    whitening,
)

if TYPE_CHECKING:
    from streamsketch.features import FeatureMap
    from streamsketch.schema import Schema


__all__ = ["SketchDrift"]

# Rows whose features all enter the covariance; later one in THIN does.
DENSE = 2000
THIN = 8
# The threshold is computed anew when the rows behind it have grown by this factor.
GROWTH = 1.5
# Features are rounded to multiples of 1 / UNIT: their sums and products then add up exactly in
# float64, so that the state, and every alarm, is the same in whatever batches the rows come.
UNIT = 4096.0
# Regularisation of the whitening, in mean eigenvalues of the covariance (docs/drift.md).
RIDGE = 3.0


class SketchDrift(DriftDetector):
    """Detects any change of a multivariate stream's law, means or not; river's interface.

    Rows are assumed independent while the law stays. After an alarm the detector starts afresh on
    the new law, and is silent for `warmup` rows.

    Args:
        schema: The columns; rows are then mappings, or points in the data's units for a schema of
            plain numbers. One of `schema` and `features` must be given.
        features: A feature map; rows are then encoded vectors.
        run_length: Rows between two false alarms, on average, while nothing changes.
        window: Rows that the fast sketch spans (its forgetting factor is ``2 / (window + 1)``).
        memory: Rows that the slow sketch spans; ten windows by default.
        warmup: Rows that are only learned, at the start and after an alarm; `memory` by default.
        detector_frequencies: m, when a schema is given.
        law: Frequency law, when a schema is given.
        scale: Kernel scale, when a schema is given.
        seed: Seed of the frequencies, when a schema is given.

    Attributes:
        statistic: Squared distance between the two sketches, whitened; 0 during warm-up.
        threshold: What raises the alarm; inf during warm-up.
        rows: Rows since the last start.
        n_detections: Alarms so far.

    Example:
        >>> from streamsketch import Schema
        >>> rng = np.random.default_rng(1)
        >>> detector = SketchDrift(Schema.vectors(2, -5, 5), run_length=20_000)
        >>> detector.update({"x0": 0.1, "x1": 0.2}); detector.drift_detected
        False
        >>> detector.update_many(rng.normal(size=(2000, 2)))
        []
        >>> detector.update_many(rng.normal(size=(500, 2)) * 1.5)[0] < 200
        True
    """

    def __init__(
        self,
        schema: "Schema | None" = None,
        *,
        features: "FeatureMap | None" = None,
        run_length: float = 10_000,
        window: int = 50,
        memory: int | None = None,
        warmup: int | None = None,
        detector_frequencies: int = 128,
        law: str = "multiscale+axis",
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.schema, self.features = schema, features
        self.run_length, self.window, self.memory, self.warmup = run_length, window, memory, warmup
        self.detector_frequencies, self.law, self.scale, self.seed = (
            detector_frequencies,
            law,
            scale,
            seed,
        )
        self._slow_rows = 10 * window if memory is None else memory
        self._silent = max(self._slow_rows, 50) if warmup is None else warmup
        self._check()
        self._fast, self._slow = 2 / (window + 1), 2 / (self._slow_rows + 1)
        self._variance, self._step, self._share, self._cubes = null_filter(self._fast, self._slow)
        self.n_detections = 0
        self._prior: tuple[float, F64, F64] | None = None
        self._reset()

    def _check(self) -> None:
        if (self.schema is None) == (self.features is None):
            raise ConfigError("give either schema= or features= to SketchDrift, and not both")
        if self.window < 2:
            raise ConfigError(f"window = {self.window} must be at least 2 rows")
        if self._slow_rows <= self.window:
            raise ConfigError(
                f"memory = {self._slow_rows} rows must be longer than window = {self.window}"
            )
        if self._silent < 4:
            raise ConfigError(f"warmup = {self._silent} must be at least 4 rows")
        least = 2 * (self._silent + self.window)
        if not self.run_length >= least:
            raise ConfigError(
                f"run_length = {self.run_length:g} rows is too short for a warm-up of "
                f"{self._silent} rows and a window of {self.window}: ask for at least {least}, "
                "or take a smaller window"
            )

    @cached_property
    def _map(self) -> "FeatureMap":
        if self.features is not None:
            return self.features
        from streamsketch.features import build
        from streamsketch.sketcher import spec_of

        assert self.schema is not None
        spec = spec_of(self.schema, self.detector_frequencies, self.law, self.seed, self.scale)
        found: FeatureMap = build(spec, self.schema)
        return found

    def _reset(self) -> None:
        """Forget the law; keep its covariance as a first guess of the next one's."""
        super()._reset()
        width = 2 * (self.detector_frequencies if self.features is None else self.features.spec.m)
        self.rows = 0
        self.statistic, self.threshold = 0.0, float("inf")
        self._sum = np.zeros(width)
        self._z_fast, self._z_slow = np.zeros(width), np.zeros(width)
        weight, first, second = self._prior or (0.0, np.zeros(width), np.zeros((width, width)))
        self._weight, self._first, self._second = weight, first.copy(), second.copy()
        self._mean, self._spectrum = np.zeros(width), np.zeros(width)
        self._whitening = np.eye(width)
        self._last, self._shape = np.zeros(width), np.zeros(5)
        self._next = 3 * self._silent // 4

    def update(self, x: Any) -> None:
        """Learn one row: a mapping of columns, or a vector.

        Raises:
            DataError: The row is refused by the schema, or not finite; it is not learned.
        """
        self._learn(self._map.features(self._encode_one(x)))

    def update_many(self, rows: Any) -> list[int]:
        """Learn many rows; the numbers of those that raised an alarm. As one `update` each.

        Args:
            rows: ``(n, d)`` points, or an Arrow table with a schema.

        Raises:
            DataError: A row is refused by the schema, or not finite; none is learned.
        """
        x = self._encode_many(rows)
        alarms: list[int] = []
        for start in range(0, len(x), 4096):
            values = self._map.features(x[start : start + 4096])
            at = 0
            while at < len(values):
                used = self._learn(values[at:])
                at += used
                if self._drift_detected:
                    alarms.append(start + at - 1)
        return alarms

    def _encode_one(self, x: Any) -> NDArray[Any]:
        if isinstance(x, Mapping):
            if self.schema is None:
                raise ConfigError("rows are mappings, which needs schema=; or pass vectors")
            return self.schema.encode_row(x)[None]
        return self._encode_many(np.asarray(x, dtype=np.float64)[None])

    def _encode_many(self, rows: Any) -> NDArray[Any]:
        if self.schema is None:
            x = np.asarray(rows, dtype=np.float64)
            if not np.isfinite(x).all():
                raise DataError("a row holds a value that is not finite; remove it")
            return x
        if isinstance(rows, np.ndarray | list):
            return self.schema.encode_array(rows)
        encoded = self.schema.encode(rows)
        if encoded.rejected:
            raise DataError(f"{encoded.rejected[0]}; remove such rows first")
        return encoded.x

    def _learn(self, values: F64) -> int:
        """Take rows of features up to the next event; how many were taken."""
        if self._drift_detected:
            self._reset()
        values = np.rint(values[: self._next - self.rows] * UNIT) / UNIT
        if self.rows < self._silent:
            self._gather(values)
            self._sum += values.sum(axis=0)
            self.rows += len(values)
            if self.rows == self._silent:
                self._z_fast[:] = self._z_slow[:] = self._sum / self.rows
            if self.rows == self._next:
                self._calibrate()
            return len(values)
        fast, slow = self._filtered(values)
        distance = (((fast - slow) @ self._whitening) ** 2).sum(axis=1)
        above = np.flatnonzero(distance > self.threshold)
        used = int(above[0]) + 1 if len(above) else len(values)
        self._gather(values[:used])
        self._z_fast, self._z_slow = fast[used - 1], slow[used - 1]
        self.statistic = float(distance[used - 1])
        self.rows += used
        if len(above):
            self._alarm()
        elif self.rows == self._next:
            self._calibrate()
        return used

    def _filtered(self, values: F64) -> tuple[F64, F64]:
        if len(values) == 1:  # what lfilter does, without its preparations
            return (
                self._fast * values + (1 - self._fast) * self._z_fast,
                self._slow * values + (1 - self._slow) * self._z_slow,
            )
        from scipy.signal import lfilter

        out = []
        for rate, state in ((self._fast, self._z_fast), (self._slow, self._z_slow)):
            keep = 1 - rate
            out.append(lfilter([rate], [1, -keep], values, axis=0, zi=keep * state[None])[0])
        return out[0], out[1]

    def _gather(self, values: F64) -> None:
        """Add rows to the moments of the features."""
        number = self.rows + np.arange(len(values))
        kept = values[(number < DENSE) | (number % THIN == 0)]
        self._weight += len(kept)
        self._first += kept.sum(axis=0)
        self._second += kept.T @ kept
        if len(kept) and self._spectrum.any():
            before = np.concatenate([self._last[None], kept[:-1]])
            y, other = ((a - self._mean) @ self._whitening for a in (kept, before))
            self._shape += np.rint(shape_terms(y, other, self._spectrum) * UNIT).sum(axis=0) / UNIT
        if len(kept):
            self._last = kept[-1]

    def _calibrate(self) -> None:
        """The threshold, from the covariance of the features gathered so far."""
        warm = self.rows >= self._silent
        self._next = int(np.ceil(self.rows * GROWTH)) if warm else self._silent
        self._whitening, self._spectrum = whitening(self._weight, self._first, self._second, RIDGE)
        self._mean = self._first / self._weight
        if not warm:  # the rest of the warm-up tells what whitened rows look like
            return
        if self._spectrum.max() == 0.0:  # all rows were equal: any difference is a change
            self.threshold = 1e-9
            return
        time = self.run_length - self._silent - self.window
        gaussian = level(self._variance * self._spectrum, self._step, time)
        mean = self._variance * float(self._spectrum.sum())
        spread, skew = beyond_gaussian(
            self._spectrum, self._weight, self._shape, self._share, self._cubes
        )
        # eigenvalues of few rows err by sqrt(2 / rows); the mean rate of alarms over such errors
        # is that of a scale this much too small (tail exponent squared, halved)
        spread *= 1 + 2 * np.log(max(time * self._step, 2.0)) / self._weight
        self._shape = np.zeros(5)  # the next ones are of rows whitened better
        sd = self._variance * float(np.sqrt(2 * (self._spectrum**2).sum()))
        far = (gaussian - mean) / sd
        self.threshold = mean + sd * spread * (far + skew / 6 * (far**2 - 1))

    def _alarm(self) -> None:
        self._drift_detected = True
        self.n_detections += 1
        share, square = self._silent / self._weight, UNIT * UNIT
        first, second = (np.rint(a * share * square) / square for a in (self._first, self._second))
        self._prior = (float(self._silent), first, second)

    def state(self) -> tuple[dict[str, F64], dict[str, Any]]:
        """Arrays and JSON values to resume from: the detector then raises the same alarms.

        The arrays hold sums of raw rows' features, and are secret as the rows are.
        """
        arrays = {
            "fast": self._z_fast,
            "slow": self._z_slow,
            "sum": self._sum,
            "first": self._first,
            "second": self._second,
            "mean": self._mean,
            "whitening": self._whitening,
            "spectrum": self._spectrum,
            "last": self._last,
            "shape": self._shape,
            "numbers": np.array([self.statistic, self.threshold, self._weight]),
        }
        if self._prior is not None:
            arrays |= {"prior.first": self._prior[1], "prior.second": self._prior[2]}
        body = {
            "settings": self._identity(),
            "rows": self.rows,
            "next": self._next,
            "alarms": self.n_detections,
            "detected": self.drift_detected,
        }
        return arrays, body

    def restore(self, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            StoreError: The state is of a detector with other settings or frequencies.
        """
        mine, saved = self._identity(), body.get("settings")
        if saved != mine:
            raise StoreError(
                f"the saved detector has the settings {saved}, and this one {mine}: "
                "use the settings that it was saved with, or start a new detector"
            )
        self._prior = None
        if "prior.first" in arrays:
            first, second = (np.array(arrays[f"prior.{k}"]) for k in ("first", "second"))
            self._prior = (float(self._silent), first, second)
        self._reset()
        self._z_fast, self._z_slow = np.array(arrays["fast"]), np.array(arrays["slow"])
        self._sum = np.array(arrays["sum"])
        self._first, self._second = np.array(arrays["first"]), np.array(arrays["second"])
        self._mean, self._whitening = np.array(arrays["mean"]), np.array(arrays["whitening"])
        self._spectrum, self._last = np.array(arrays["spectrum"]), np.array(arrays["last"])
        self._shape = np.array(arrays["shape"])
        self.statistic, self.threshold, self._weight = map(float, arrays["numbers"])
        self.rows, self._next = int(body["rows"]), int(body["next"])
        self.n_detections = int(body["alarms"])
        self._drift_detected = bool(body["detected"])

    def _identity(self) -> dict[str, Any]:
        """What a saved state must agree with."""
        return {
            "features": self._map.spec.fingerprint,
            "mean_time": float(self.run_length),
            "window": self.window,
            "memory": self._slow_rows,
            "warmup": self._silent,
            "statistic": f"ridge {RIDGE:g}",
        }
