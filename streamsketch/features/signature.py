r"""One-bit signatures: the sign of a dithered cosine instead of the cosine.

A sensor that can afford one bit per frequency sends :math:`q(t) = \operatorname{sign} \cos t`
with :math:`t = \omega \cdot x + \xi` and a fixed random dither :math:`\xi`. The square wave's first
harmonic is :math:`\tfrac{4}{\pi} \cos t`, and the dither makes the other harmonics vanish on
average when the sketch is compared with unquantised atoms (Schellekens and Jacques 2018). So the
mean signature, turned back by the dither and divided by the gain :math:`4/\pi`, is decoded as any
Fourier sketch; the remaining harmonics act as extra noise, independent of the number of rows.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import ConfigError
from streamsketch.features.kernels import ONE
from streamsketch.features.map import Fourierlike

if TYPE_CHECKING:
    from streamsketch.features.spec import Spec
    from streamsketch.schema import Block

__all__ = ["GAIN", "SignatureMap"]

# First Fourier coefficient of the square wave. Demo code elsewhere uses pi/sqrt(2): too large.
GAIN = 4 / np.pi
_DITHER_STREAM = 0x0D17


class SignatureMap(Fourierlike):
    """The one-bit map: ``sign cos(w.x + xi)`` then ``sign sin(w.x + xi)``.

    Args:
        spec: What identifies the operator, with ``map = "signature"``.
        omega: ``(d, m)`` float64 frequencies.
        dither: ``(m,)`` float64 phases in ``[0, 2 pi)``.

    Example:
        >>> from streamsketch.features.spec import Spec
        >>> signatures = SignatureMap.from_spec(Spec("gaussian", 2, 3, map="signature"))
        >>> signatures.sum(np.zeros((4, 2)))
        array([-262144, -262144,  262144,  262144, -262144,  262144])
    """

    def __init__(
        self, spec: "Spec", omega: NDArray[np.float64], dither: NDArray[np.float64]
    ) -> None:
        if omega.shape != (spec.d, spec.m) or dither.shape != (spec.m,):
            raise ConfigError(
                f"frequencies {omega.shape} and dither {dither.shape} do not fit the spec's "
                f"d = {spec.d}, m = {spec.m}"
            )
        self.spec, self.omega, self.dither = spec, omega, dither

    @classmethod
    def from_spec(cls, spec: "Spec", blocks: "Sequence[Block]" = ()) -> "SignatureMap":
        """The map that a spec names: frequencies and dither drawn from its seed."""
        from streamsketch.features.frequencies import draw

        omega = draw(spec.law, spec.d, spec.m, spec.seed, spec.scale, blocks)
        rng = np.random.default_rng([spec.seed, _DITHER_STREAM])
        return cls(spec, omega, rng.uniform(0, 2 * np.pi, spec.m))

    @property
    def width(self) -> int:
        """Length of one row's features: 2m."""
        return 2 * self.spec.m

    @property
    def norm_bound(self) -> float:
        """Every feature is plus or minus one, exactly: ``sqrt(2 m)``."""
        return float(np.sqrt(2 * self.spec.m))

    def features(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The definition: ``(n, 2m)`` of plus or minus one for rows ``(n, d)``."""
        phase = self._phase(x)
        signs = np.concatenate([np.cos(phase) >= 0, np.sin(phase) >= 0], axis=1)
        return np.where(signs, 1.0, -1.0)

    def sum(self, x: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Sum over rows, in units of 2^-16; exact."""
        total = np.zeros(self.width, np.int64)
        for start in range(0, len(x), 8192):
            phase = self._phase(x[start : start + 8192])
            positive = np.concatenate(
                [(np.cos(phase) >= 0).sum(axis=0), (np.sin(phase) >= 0).sum(axis=0)]
            )
            total += (2 * positive - len(phase)) * ONE
        return total

    def unquantised(self, mean: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Estimate ``(m,)`` of the Fourier sketch from mean signatures ``(2m,)``."""
        m = self.spec.m
        turned = (mean[:m] + 1j * mean[m:]) * np.exp(-1j * self.dither)
        return np.asarray(turned / GAIN)

    def _phase(self, x: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.spec.d:
            raise ConfigError(
                f"rows have shape {x.shape}, but the feature map takes (n, {self.spec.d})"
            )
        # column by column, so that the bits do not depend on how rows are split into batches
        phase = np.tile(self.dither, (len(x), 1))
        for j in range(self.spec.d):
            phase += x[:, j : j + 1] * self.omega[j]
        return phase
