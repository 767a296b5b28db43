"""What a decoder works on: frequencies, sketch, count and box, read once from a snapshot."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError
from streamsketch.features.signature import GAIN, SignatureMap

if TYPE_CHECKING:
    from streamsketch.snapshot import Snapshot


@dataclass(frozen=True)
class Target:
    """The sketch of unknown rows, and all a decoder may know about them.

    Attributes:
        omega: Frequencies ``(d, m)``, in encoded space.
        z: Mean features ``(m,)`` complex128.
        count: Number of rows (sets the sampling error of ``z``; may be ``inf``).
        low: Lower corner ``(d,)`` of the box that holds the rows.
        high: Upper corner ``(d,)``.
        noise_std: Standard deviation of the noise that was added to the real and to the imaginary
            part of each entry of ``z`` (privacy); 0 for none.
    """

    omega: F64
    z: NDArray[np.complex128]
    count: float
    low: F64
    high: F64
    noise_std: float = 0.0

    @classmethod
    def of(
        cls,
        omega: F64,
        z: NDArray[np.complex128] | F64,
        *,
        count: float = np.inf,
        low: float | F64 = -1.0,
        high: float | F64 = 1.0,
        noise_std: float = 0.0,
    ) -> "Target":
        """From arrays, checked; ``z`` may be ``(m,)`` complex or cosines then sines ``(2m,)``.

        Raises:
            ConfigError: When shapes do not fit, or a value is not finite.
        """
        omega = np.asarray(omega, dtype=np.float64)
        if omega.ndim != 2:
            raise ConfigError(f"frequencies have shape {omega.shape}; they need (d, m)")
        d, m = omega.shape
        values = np.asarray(z)
        if not np.iscomplexobj(values) and values.shape == (2 * m,):
            values = values[:m] + 1j * values[m:]
        if values.shape != (m,):
            raise ConfigError(
                f"the sketch has shape {values.shape} but there are {m} frequencies; give ({m},) "
                f"complex values or ({2 * m},) cosines then sines"
            )
        if not (np.isfinite(values).all() and np.isfinite(omega).all()):
            raise ConfigError(
                "the sketch holds a value that is not finite; a decoder needs all "
                "of them finite (was it the mean of no rows?)"
            )
        if not count > 0:
            raise ConfigError(f"the sketch counts {count} rows; a decoder needs at least one")
        lower = np.broadcast_to(np.asarray(low, dtype=np.float64), (d,))
        upper = np.broadcast_to(np.asarray(high, dtype=np.float64), (d,))
        if not (lower < upper).all():
            raise ConfigError("the box of the rows is empty: every low must be below its high")
        return cls(
            omega, values.astype(np.complex128), float(count), lower, upper, float(noise_std)
        )

    @classmethod
    def from_snapshot(cls, snapshot: "Snapshot") -> "Target":
        """From a released snapshot of the Fourier map (labels are summed over).

        Raises:
            ConfigError: When the snapshot was made by another feature map.
        """
        spec = snapshot.spec
        if spec.map not in ("fourier", "signature"):
            raise ConfigError(
                f"this snapshot was made by the {spec.map!r} map; this decoder reads the "
                "'fourier' or 'signature' map"
            )
        omega = snapshot.features.omega
        m = omega.shape[1]
        mean = snapshot.mean.reshape(-1, 2 * m).sum(axis=0)
        low = np.full(omega.shape[0], -1.0)
        for block in snapshot.schema.blocks:
            if block.kind in ("onehot", "state"):
                low[block.start : block.start + block.width] = 0.0
        noise = snapshot.release.noise_std * np.sqrt(spec.classes) / snapshot.count
        z = mean[:m] + 1j * mean[m:]
        if isinstance(snapshot.features, SignatureMap):
            z = snapshot.features.unquantised(mean)
            noise = np.hypot(noise / GAIN, _harmonics(omega, z, snapshot.count))
        return cls.of(
            omega,
            z,
            count=snapshot.count,
            low=low,
            high=np.ones(omega.shape[0]),
            noise_std=noise,
        )

    @property
    def d(self) -> int:
        """Dimension of the encoded rows."""
        return int(self.omega.shape[0])

    @property
    def m(self) -> int:
        """Number of frequencies."""
        return int(self.omega.shape[1])

    @property
    def floor(self) -> float:
        """Expected ``|z - truth|^2`` summed over frequencies: sampling error plus noise."""
        sampling = np.maximum(1.0 - np.abs(self.z) ** 2, 0.0).sum() / self.count
        return float(sampling + 2 * self.m * self.noise_std**2)


def as_target(data: "Snapshot | Target") -> Target:
    """The target itself, or that of a snapshot."""
    return data if isinstance(data, Target) else Target.from_snapshot(data)


def _harmonics(omega: F64, z: NDArray[np.complex128], count: float) -> float:
    """Standard deviation of what one-bit features leave in each part of an estimate of ``z``.

    Sampling error beyond that of unquantised features, and the third harmonic, a third of the
    characteristic function at three times the frequency with a random phase: its size is read off
    the rings of the sketch itself.
    """
    radius = np.sqrt((omega**2).sum(axis=0))
    order = np.argsort(radius)
    rings = np.array_split(order, max(len(order) // 20, 1))
    radii = np.array([radius[ring].mean() for ring in rings])
    squares = np.array([(np.abs(z[ring]) ** 2).mean() for ring in rings])
    third = np.interp(3 * radius, radii, squares, right=0.0).mean() / 9
    return float(np.sqrt(0.5 * third + 0.5 * (2 / GAIN**2 - 1) / count))
