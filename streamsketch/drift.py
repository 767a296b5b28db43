r"""Change detection on the features that are sketched anyway, with a calibrated threshold.

Two exponentially weighted sketches of one stream, a fast one and a slow one, differ when the
stream's law has changed within the fast one's memory (NEWMA: Keriven, Garreau, Poli 2020). The
null law of their squared distance is known: a weighted sum of chi-squares whose weights are the
eigenvalues of the features' covariance. So the user states the mean time between false alarms,
and the threshold follows (docs/drift.md derives it); nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from river.base import DriftDetector

from streamsketch.errors import ConfigError, DataError, SpecMismatchError, StoreError
from streamsketch.quadratic import covariance_spectrum, level, null_filter, spread_ratio, tail

if TYPE_CHECKING:
    from streamsketch.features import FeatureMap
    from streamsketch.schema import Schema
    from streamsketch.snapshot import Snapshot

Array = NDArray[np.float64]

__all__ = ["Comparison", "SketchDrift", "SnapshotDrift"]

# Rows whose features all enter the covariance; later one in THIN does.
DENSE = 2000
THIN = 8
# The threshold is computed anew when the rows behind it have grown by this factor.
GROWTH = 1.5
# Features are rounded to multiples of 1 / UNIT: their sums and products then add up exactly in
# float64, so that the state, and every alarm, is the same in whatever batches the rows come.
UNIT = 4096.0


class SketchDrift(DriftDetector):
    """Detects any change of a multivariate stream's law, means or not; river's interface.

    Rows are assumed independent while the law stays. After an alarm the detector starts afresh on
    the new law, and is silent for `warmup` rows.

    Args:
        schema: The columns; rows are then mappings, or points in the data's units for a schema of
            plain numbers. One of `schema` and `features` must be given.
        features: A feature map; rows are then encoded vectors.
        mean_time: Rows between two false alarms, on average, while nothing changes.
        window: Rows that the fast sketch spans (its forgetting factor is ``2 / (window + 1)``).
        memory: Rows that the slow sketch spans; ten windows by default.
        warmup: Rows that are only learned, at the start and after an alarm; `memory` by default.
        frequencies: m, when a schema is given.
        law: Frequency law, when a schema is given.
        scale: Kernel scale, when a schema is given.
        seed: Seed of the frequencies, when a schema is given.

    Attributes:
        statistic: Squared distance between the two sketches; 0 during warm-up.
        threshold: What raises the alarm; inf during warm-up.
        rows: Rows since the last start.
        n_detections: Alarms so far.

    Example:
        >>> from streamsketch import Schema
        >>> rng = np.random.default_rng(1)
        >>> detector = SketchDrift(Schema.vectors(2, -5, 5), mean_time=20_000)
        >>> detector.update({"x0": 0.1, "x1": 0.2}); detector.drift_detected
        False
        >>> detector.update_many(rng.normal(size=(2000, 2)))
        []
        >>> detector.update_many(rng.normal(size=(500, 2)) * 1.5)[0] < 200
        True
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        features: FeatureMap | None = None,
        mean_time: float = 10_000,
        window: int = 50,
        memory: int | None = None,
        warmup: int | None = None,
        frequencies: int = 128,
        law: str = "multiscale",
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.schema, self.features = schema, features
        self.mean_time, self.window, self.memory, self.warmup = mean_time, window, memory, warmup
        self.frequencies, self.law, self.scale, self.seed = frequencies, law, scale, seed
        self._slow_rows = 10 * window if memory is None else memory
        self._silent = max(self._slow_rows, 50) if warmup is None else warmup
        self._check()
        self._fast, self._slow = 2 / (window + 1), 2 / (self._slow_rows + 1)
        self._variance, self._step, self._share = null_filter(self._fast, self._slow)
        self.n_detections = 0
        self._prior: tuple[float, Array, Array] | None = None
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
        if self._silent < 2:
            raise ConfigError(f"warmup = {self._silent} must be at least 2 rows")
        least = 2 * (self._silent + self.window)
        if not self.mean_time >= least:
            raise ConfigError(
                f"mean_time = {self.mean_time:g} rows is too short for a warm-up of "
                f"{self._silent} rows and a window of {self.window}: ask for at least {least}, "
                "or take a smaller window"
            )

    @cached_property
    def _map(self) -> FeatureMap:
        if self.features is not None:
            return self.features
        from streamsketch.features import build
        from streamsketch.sketcher import spec_of

        assert self.schema is not None
        spec = spec_of(self.schema, self.frequencies, self.law, self.seed, self.scale)
        found: FeatureMap = build(spec, self.schema.blocks)
        return found

    def _reset(self) -> None:
        """Forget the law; keep its covariance as a first guess of the next one's."""
        super()._reset()
        width = 2 * (self.frequencies if self.features is None else self.features.spec.m)
        self.rows = 0
        self.statistic, self.threshold = 0.0, float("inf")
        self._sum = np.zeros(width)
        self._z_fast, self._z_slow = np.zeros(width), np.zeros(width)
        weight, first, second = self._prior or (0.0, np.zeros(width), np.zeros((width, width)))
        self._weight, self._first, self._second = weight, first.copy(), second.copy()
        self._next = self._silent

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

    def _learn(self, values: Array) -> int:
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
                self._calibrate()
            return len(values)
        fast, slow = self._filtered(values)
        distance = (np.ascontiguousarray(fast - slow) ** 2).sum(axis=1)
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

    def _filtered(self, values: Array) -> tuple[Array, Array]:
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

    def _gather(self, values: Array) -> None:
        """Add rows to the moments of the features."""
        number = self.rows + np.arange(len(values))
        kept = values[(number < DENSE) | (number % THIN == 0)]
        self._weight += len(kept)
        self._first += kept.sum(axis=0)
        self._second += kept.T @ kept

    def _calibrate(self) -> None:
        """The threshold, from the covariance of the features gathered so far."""
        self._next = int(np.ceil(self.rows * GROWTH))
        eigenvalues = covariance_spectrum(self._weight, self._first, self._second)
        if eigenvalues.max(initial=0.0) < 1e-9:  # all rows were equal: any difference is a change
            self.threshold = 1e-9
            return
        time = self.mean_time - self._silent - self.window
        gaussian = level(self._variance * eigenvalues, self._step, time)
        mean = self._variance * float(eigenvalues.sum())
        ratio = spread_ratio(self._weight, self._first, self._second, self._share)
        # eigenvalues of few rows err by sqrt(2 / rows); the mean rate of alarms over such errors
        # is that of a scale this much too small (tail exponent squared, halved)
        ratio *= 1 + 2 * np.log(max(time * self._step, 2.0)) / self._weight
        self.threshold = mean + ratio * (gaussian - mean)

    def _alarm(self) -> None:
        self._drift_detected = True
        self.n_detections += 1
        share, square = self._silent / self._weight, UNIT * UNIT
        first, second = (np.rint(a * share * square) / square for a in (self._first, self._second))
        self._prior = (float(self._silent), first, second)

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays and JSON values to resume from: the detector then raises the same alarms.

        The arrays hold sums of raw rows' features, and are secret as the rows are.
        """
        arrays = {
            "fast": self._z_fast,
            "slow": self._z_slow,
            "sum": self._sum,
            "first": self._first,
            "second": self._second,
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
        self.statistic, self.threshold, self._weight = map(float, arrays["numbers"])
        self.rows, self._next = int(body["rows"]), int(body["next"])
        self.n_detections = int(body["alarms"])
        self._drift_detected = bool(body["detected"])

    def _identity(self) -> dict[str, Any]:
        """What a saved state must agree with."""
        return {
            "features": self._map.spec.fingerprint,
            "mean_time": float(self.mean_time),
            "window": self.window,
            "memory": self._slow_rows,
            "warmup": self._silent,
        }


@dataclass(frozen=True)
class Comparison:
    """Two released sketches compared.

    Attributes:
        statistic: Squared distance between the mean features.
        p_value: Probability of as large a distance when the law is one.
        drift: Whether the p-value is below the detector's rate of false alarms.
    """

    statistic: float
    p_value: float
    drift: bool


class SnapshotDrift:
    """Detects changes between successive released snapshots; sees nothing else.

    Each snapshot is compared with the one before. Of a stream that is remembered as a whole, the
    rows since the last snapshot are compared with those before it. The covariance of the features
    is that of a Gaussian mixture decoded from the snapshots; the noise of private releases is part
    of the null, so that noise does not raise alarms.

    Args:
        mean_releases: Snapshots between two false alarms, on average, while nothing changes.
        components: Components of the mixture behind the null.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> rng = np.random.default_rng(0)
        >>> s = Sketcher(Schema.vectors(1, -5, 5), frequencies=32)
        >>> detector = SnapshotDrift(mean_releases=100)
        >>> for scale in (1, 1, 2):
        ...     s.learn_many(rng.normal(size=(2000, 1)) * scale)
        ...     found = detector.update(s.release())
        ...     print(found.drift if found else None)
        None
        False
        True
    """

    def __init__(self, mean_releases: float = 100, components: int = 4) -> None:
        if not mean_releases > 1:
            raise ConfigError(f"mean_releases = {mean_releases} must be more than 1")
        self.mean_releases = mean_releases
        self.components = components
        self.drift_detected = False
        self._last: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> Comparison | None:
        """Compare a snapshot with the one before; None for the first.

        Raises:
            SpecMismatchError: The snapshots were made by different operators.
            ConfigError: The snapshot is of another map than the Fourier map, or covers no new row.
        """
        last, self._last = self._last, snapshot
        self.drift_detected = False
        if last is None:
            return None
        if last.spec.fingerprint != snapshot.spec.fingerprint:
            self._last = last
            raise SpecMismatchError.of(
                "compare snapshots", last.spec.fingerprint, snapshot.spec.fingerprint
            )
        found = self.compare(last, snapshot)
        self.drift_detected = found.drift
        return found

    def compare(self, before: Snapshot, after: Snapshot) -> Comparison:
        """Compare two snapshots, the second released later."""
        from streamsketch.decode.mixture import GaussianMixture
        from streamsketch.decode.refine import sketch_covariance
        from streamsketch.decode.target import Target

        old, new = Target.from_snapshot(before), Target.from_snapshot(after)
        z, count, noise = new.z, new.count, new.noise_std
        if after.release.memory == "landmark":
            count = new.count - old.count
            if not count >= 1:
                raise ConfigError("the snapshots cover the same rows; compare after new ones came")
            z = (new.z * new.count - old.z * old.count) / count
            noise = np.hypot(new.noise_std * new.count, old.noise_std * old.count) / count
        statistic = float((np.abs(z - old.z) ** 2).sum())
        model = GaussianMixture(self.components, covariance_type="diag", efficient=False, n_init=1)
        import warnings

        with warnings.catch_warnings():  # few frequencies are enough for a null
            warnings.simplefilter("ignore", UserWarning)
            model.fit(new)
        covariances = model.covariances_[:, :, None] * np.eye(new.d)
        covariance = sketch_covariance(new, model.weights_, model.means_, covariances)
        # the trace is known without the mixture
        covariance *= (new.m - (np.abs(new.z) ** 2).sum()) / np.trace(covariance)
        covariance *= 1 / old.count + 1 / count
        covariance[np.diag_indices_from(covariance)] += old.noise_std**2 + noise**2
        p_value = tail(np.asarray(np.linalg.eigvalsh(covariance)), statistic)
        return Comparison(statistic, p_value, p_value < 1 / self.mean_releases)
