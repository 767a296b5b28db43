"""The noise of one epoch: independent draws, correlated by the encoder, added to whole sums.

A noiser is a value that holds no state: what the next noise depends on are named arrays, taken in and
given back, which the releaser keeps and saves.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streamsketch.arrays import F64, I64
from streamsketch.errors import PrivacyError
from streamsketch.privacy import factorization as fx
from streamsketch.privacy.noise import Entropy, discrete_gaussian, gaussian
from streamsketch.storage.files import Arrays

__all__ = ["DYADIC_BITS", "Buffered", "Lattice", "Noiser", "Stored"]


#: Strict mode rounds the encoder to multiples of 2**-12, so that encoded sums are whole numbers.
DYADIC_BITS = 12


class Noiser(Protocol):
    """Adds the noise of one epoch."""

    def start(self) -> Arrays:
        """What the first noise depends on."""

    def next(self, past: Arrays, x: I64, entropy: Entropy) -> tuple[npt.NDArray[Any], Arrays]:
        """The noisy window (int64, or float64 in strict mode, in units of 2**-16), and the new past."""

    def check(self, past: Arrays) -> Arrays:
        """A saved past, if it is one of this noiser.

        Raises:
            PrivacyError: If it is of another series or width.
        """


@dataclass(frozen=True, eq=False)
class Stored:
    """Continuous noise ``(C**-1 z)_t`` from the stored past ``z``; ``(t, width)`` float64."""

    c: F64
    width: int
    sigma: float

    @cached_property
    def _inverse(self) -> F64:
        return fx.inverse(self.c)

    def start(self) -> Arrays:
        """No ``z`` yet."""
        return {"z": np.empty((0, self.width))}

    def next(self, past: Arrays, x: I64, entropy: Entropy) -> tuple[I64, Arrays]:
        """Noise for one more window, rounded to the lattice and added."""
        z, before = gaussian(self.width, self.sigma, entropy), past["z"]
        weights = self._inverse[1 : len(before) + 1][::-1]
        noise = self._inverse[0] * z + weights @ before[-len(weights) :] if len(weights) else z
        if len(self._inverse) > 1:
            before = np.concatenate([before, z[None]])
        return x + np.rint(noise).astype(np.int64), {"z": before}

    def check(self, past: Arrays) -> Arrays:
        """The past ``z``."""
        return {"z": _checked(past, "z", np.float64, self.width)}


@dataclass(frozen=True, eq=False)
class Buffered:
    """Continuous noise ``(C**-1 z)_t`` from a few decaying buffers; constant memory."""

    blt: fx.Blt
    width: int
    sigma: float

    def start(self) -> Arrays:
        """Empty buffers."""
        return {"buffers": np.zeros((len(self.blt.theta), self.width))}

    def next(self, past: Arrays, x: I64, entropy: Entropy) -> tuple[I64, Arrays]:
        """Noise for one more window, rounded to the lattice and added."""
        theta, omega = np.asarray(self.blt.theta)[:, None], np.asarray(self.blt.omega)
        noise = gaussian(self.width, self.sigma, entropy) - omega @ past["buffers"]
        buffers = theta * past["buffers"] + noise
        return x + np.rint(noise).astype(np.int64), {"buffers": buffers}

    def check(self, past: Arrays) -> Arrays:
        """The buffers."""
        buffers = _checked(past, "buffers", np.float64, self.width)
        if len(buffers) != len(self.blt.theta):
            raise PrivacyError(
                f"saved noise has {len(buffers)} buffers but the settings need "
                f"{len(self.blt.theta)}; restore the settings this stream was started with"
            )
        return {"buffers": buffers}


@dataclass(frozen=True, eq=False)
class Lattice:
    """Strict mode: exact discrete Gaussian noise on whole encoded sums.

    ``y_t = sum_k c_int[k] x_{t-k} + discrete noise`` is computed in integers; the noisy windows
    are decoded from ``y`` alone, by ``xhat_t = y_t - sum_{k>0} c[k] xhat_{t-k}`` in floats.
    """

    c: F64
    width: int
    sigma: float

    @property
    def whole_sigma(self) -> int:
        """Scale of the discrete noise, rounded up: never less noise than planned."""
        return math.ceil(self.sigma * 2.0**DYADIC_BITS)

    def start(self) -> Arrays:
        """No windows yet."""
        return {
            "x": np.empty((0, self.width), dtype=np.int64),
            "decoded": np.empty((0, self.width)),
        }

    def next(self, past: Arrays, x: I64, entropy: Entropy) -> tuple[F64, Arrays]:
        """Encode exactly, add exact noise, decode."""
        whole = np.rint(self.c * 2**DYADIC_BITS).astype(np.int64)
        exact = np.concatenate([past["x"], x[None]])[-len(self.c) :]
        largest = np.abs(exact).astype(np.float64).sum(axis=0).max() * 2**DYADIC_BITS
        if largest > 2.0**61:
            raise PrivacyError(
                "the sums have outgrown the 62 bits of strict mode's exact arithmetic; release "
                "more often or start a new stream"
            )
        y = whole[: len(exact)][::-1] @ exact + discrete_gaussian(
            self.width, self.whole_sigma, entropy
        )
        before = past["decoded"]
        weights = self.c[1 : len(before) + 1][::-1]
        decoded: F64 = y * 2.0**-DYADIC_BITS
        if len(weights):
            decoded = decoded - weights @ before[-len(weights) :]
        if len(self.c) > 1:
            before = np.concatenate([before, decoded[None]])[-len(self.c) :]
        return decoded, {"x": exact, "decoded": before}

    def check(self, past: Arrays) -> Arrays:
        """The past windows, exact (secret) and decoded (public)."""
        return {
            "x": _checked(past, "x", np.int64, self.width),
            "decoded": _checked(past, "decoded", np.float64, self.width),
        }


def _checked(arrays: Arrays, name: str, dtype: Any, width: int) -> npt.NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != 2 or array.shape[1] != width:
        found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise PrivacyError(
            f"the saved noise {name!r} is {found}, expected {np.dtype(dtype)} of shape "
            f"(any, {width}); the state is not of this stream: restore the right one"
        )
    if not np.isfinite(array).all():
        raise PrivacyError(
            f"the saved noise {name!r} holds values that are not finite; the state was damaged: restore the "
            "right one"
        )
    return array
