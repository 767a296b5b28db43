"""Change detection between released snapshots, which sees nothing else.

The rows are gone and may be private: the null is that of a Gaussian mixture decoded from the
snapshots, with the noise of their releases (docs/drift.md).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError, SpecMismatchError
from streamsketch.features.quadratic import tail
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import Arrays

__all__ = ["Comparison", "SnapshotDrift"]


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
        run_length: Snapshots between two false alarms, on average, while nothing changes.
        components: Components of the mixture behind the null.

    Example:
        >>> from streamsketch import Schema, Sketcher
        >>> rng = np.random.default_rng(0)
        >>> s = Sketcher(Schema.vectors(1, -5, 5), frequencies=32)
        >>> detector = SnapshotDrift(run_length=100)
        >>> for scale in (1, 1, 2):
        ...     s.learn_many(rng.normal(size=(2000, 1)) * scale)
        ...     found = detector.update(s.release())
        ...     print(found.drift if found else None)
        None
        False
        True
    """

    def __init__(self, run_length: float = 100, components: int = 4) -> None:
        if not run_length > 1:
            raise ConfigError(f"run_length = {run_length} must be more than 1")
        self.run_length = run_length
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

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values to resume from; as public as the snapshots."""
        last = b"" if self._last is None else self._last.to_bytes()
        return {"last": np.frombuffer(last, np.uint8)}, {"detected": self.drift_detected}

    def restore(self, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]) -> None:
        """Take up a saved state: the next snapshot is compared with the last one before it."""
        last = arrays["last"].tobytes()
        self._last = Snapshot.from_bytes(last, "the detector's last snapshot") if last else None
        self.drift_detected = bool(body["detected"])

    def compare(self, before: Snapshot, after: Snapshot) -> Comparison:
        """Compare two snapshots, the second released later."""
        from streamsketch.decode.mixture import GaussianMixture
        from streamsketch.decode.refine import sketch_covariance
        from streamsketch.decode.target import Target

        old, new = Target.from_snapshot(before), Target.from_snapshot(after)
        z, count = new.z, new.count
        noise = (
            old.noise_std**2 + new.noise_std**2
        )  # variance, of releases with noise of their own
        if after.release.memory == "landmark":
            count = new.count - old.count
            if not count >= 1:
                raise ConfigError("the snapshots cover the same rows; compare after new ones came")
            z = (new.z * new.count - old.z * old.count) / count
            # the earlier noise is in both: with the noise of the later one it only cancels, if at all
            share = old.count / count
            noise = (new.noise_std * new.count / count) ** 2 + (old.noise_std * (1 + share)) ** 2
        statistic = float((np.abs(z - old.z) ** 2).sum())
        model = GaussianMixture(self.components, covariance_type="diag", efficient=False, n_init=1)
        with warnings.catch_warnings():  # few frequencies are enough for a null
            warnings.simplefilter("ignore", UserWarning)
            model.fit(new)
        covariances = model.covariances_[:, :, None] * np.eye(new.d)
        covariance = sketch_covariance(new, model.weights_, model.means_, covariances)
        # the trace is known without the mixture
        covariance *= (new.m - (np.abs(new.z) ** 2).sum()) / np.trace(covariance)
        covariance *= 1 / old.count + 1 / count
        covariance[np.diag_indices_from(covariance)] += noise
        p_value = tail(np.asarray(np.linalg.eigvalsh(covariance)), statistic)
        return Comparison(statistic, p_value, p_value < 1 / self.run_length)
