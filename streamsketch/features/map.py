r"""The feature map Phi, defined once.

.. math:: \Phi(x) = [\cos(\omega_j \cdot x)]_j, [\sin(\omega_j \cdot x)]_j

of modulus 1 per frequency, so :math:`\|\Phi(x)\|_2 = \sqrt m` whatever x is. The paper's factor
:math:`1/\sqrt m` (Schellekens and Jacques 2020, equation 1) is applied where a norm is taken, not here.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.features.kernels import BACKENDS, ONE, SumRows, choose, prepare
from streamsketch.features.spec import Spec
from streamsketch.schema.columns import Block

if TYPE_CHECKING:
    import torch


__all__ = ["ONE", "FeatureMap", "Map"]


class Map(Protocol):
    """What a sketch needs of a feature map."""

    spec: Spec

    @property
    def width(self) -> int:
        """Length of one row's features."""
        ...

    @property
    def norm_bound(self) -> float:
        """Largest L2 norm of one row's features, in the arithmetic of every backend."""
        ...

    @property
    def replace_bound(self) -> float:
        """Largest L2 norm of the difference of two rows' features."""
        ...

    @property
    def units(self) -> NDArray[np.int64] | int:
        """What a unit of each coordinate of a sum weighs in the norm, in 2^-16."""
        ...

    def sum(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Fixed-point sum over rows."""
        ...

    def split(
        self, value: NDArray[Any], weight: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Mean features, and relative counts of cells if any, of a sum in weighed units."""
        ...


class Fourierlike:
    """What maps without counts share: every coordinate of a sum is in 2^-16."""

    units = 1

    @property
    def norm_bound(self) -> float:
        """See `Map.norm_bound`."""
        raise NotImplementedError

    @property
    def replace_bound(self) -> float:
        """Twice `norm_bound`: one row's features may be the other's negated."""
        return 2.0 * self.norm_bound

    def split(self, value: NDArray[Any], weight: float) -> tuple[NDArray[np.float64], None]:
        """See `Map.split`."""
        return np.asarray(value, np.float64) / (ONE * weight), None


class FeatureMap(Fourierlike):
    """Random Fourier features: the operator that all sketching, training and sampling share.

    Args:
        spec: What identifies the operator.
        omega: (d, m) float64 frequencies, radians per unit of encoded length.

    Guarantees:
        `sum` is exactly additive: any split of the rows, in any order, gives the same bits
        (for one backend). `norm_bound` holds for every finite row and every backend.

    Example:
        >>> fm = FeatureMap.from_frequencies(np.array([[0.0, np.pi]]))
        >>> fm.features(np.array([[1.0]])).round(6).tolist()
        [[1.0, -1.0, 0.0, 0.0]]
        >>> fm.sum(np.array([[1.0], [1.0]], np.float32), backend="reference").tolist()
        [131072, -131072, 0, 0]
    """

    def __init__(self, spec: Spec, omega: NDArray[np.float64]) -> None:
        if omega.shape != (spec.d, spec.m):
            raise ConfigError(
                f"frequencies have shape {omega.shape}, but the spec says {(spec.d, spec.m)}"
            )
        self.spec = spec
        self.omega = np.array(omega, np.float64, order="C")
        self.omega.flags.writeable = False
        self._ready: dict[str, SumRows] = {}

    @classmethod
    def from_frequencies(cls, omega: Any) -> "FeatureMap":
        """The map of given frequencies (d, m).

        Raises:
            ConfigError: Not a finite matrix with at least one row and column.
        """
        omega = np.ascontiguousarray(omega, np.float64)
        if omega.ndim != 2 or 0 in omega.shape or not np.isfinite(omega).all():
            raise ConfigError(
                f"frequencies must be a finite (d, m) matrix, got shape {omega.shape}"
            )
        digest = hashlib.sha256(omega.tobytes()).hexdigest()[:16]
        d, m = omega.shape
        return cls(Spec("explicit", d, m, omega_hash=digest), omega)

    @classmethod
    def from_spec(cls, spec: Spec, blocks: Sequence[Block] = ()) -> "FeatureMap":
        """The map that a spec names, its frequencies drawn again from the seed."""
        from streamsketch.features.frequencies import draw

        if spec.law == "explicit":
            raise ConfigError(
                "explicit frequencies cannot be drawn again; keep them with the sketch"
            )
        return cls(spec, draw(spec.law, spec.d, spec.m, spec.seed, spec.scale, blocks))

    @property
    def width(self) -> int:
        """Length of one row's features: 2m."""
        return 2 * self.spec.m

    @property
    def norm_bound(self) -> float:
        """sqrt(m) (1 + 2^-16): the excess covers the rounding of the float32 backends."""
        return float(np.sqrt(self.spec.m) * (1 + 1 / ONE))

    def features(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The definition: cosines then sines, (n, 2m) float64 for rows (n, d)."""
        from streamsketch.features.kernels import reference

        return reference.features(self._rows(x), self.omega)

    def features32(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """`features` in float32, for choices among rows; never for sums that are kept."""
        from streamsketch.features.kernels import reference

        return reference.features32(self._rows(x), self.omega)

    def sum(self, x: NDArray[np.floating[Any]], backend: str = "auto") -> NDArray[np.int64]:
        """Sum over rows of the features, truncated to multiples of 2^-16.

        Args:
            x: (n, d) finite rows.
            backend: A name in `kernels.BACKENDS`; `auto` takes the fastest here.

        Returns:
            (2m,) int64, cosines then sines, in units of 2^-16.

        Raises:
            ConfigError: The shape does not fit, or the backend is unknown.
            DataError: A value is not finite.
        """
        x = self._rows(x)
        if not len(x):
            return np.zeros(self.width, np.int64)
        return self._backend(backend)(x)

    def mean_torch(self, y: "torch.Tensor") -> "torch.Tensor":
        """Differentiable mean features (2m,) of generated rows y (n, d), on y's device."""
        from streamsketch.features.kernels.loss import sketch_mean

        return sketch_mean(y, self.omega)

    def _backend(self, name: str) -> SumRows:
        if name == "auto":
            name = choose(self.spec.d, self.spec.m, self.spec.law)
        if name not in BACKENDS:
            raise ConfigError(
                f"backend = {name!r} is unknown; choose one of auto, {', '.join(BACKENDS)}"
            )
        if name not in self._ready:
            self._ready[name] = prepare(name, self.omega, self.spec)
        return self._ready[name]

    def _rows(self, x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise ConfigError(f"rows have type {x.dtype}, but the feature map takes real numbers")
        if x.ndim != 2 or x.shape[1] != self.spec.d:
            raise ConfigError(
                f"rows have shape {x.shape}, but the feature map takes (n, {self.spec.d})"
            )
        return x

    def __repr__(self) -> str:
        s = self.spec
        return f"FeatureMap(law={s.law}, d={s.d}, m={s.m}, scale={s.scale:g}, fingerprint={s.fingerprint})"
