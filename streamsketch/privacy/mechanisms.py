"""The mechanisms: how exact window sums become publishable ones.

Every mechanism turns the exact sum of each window into a noisy one, ``x + (C**-1 z)_t``, where
``z`` is independent Gaussian noise and ``C`` the encoder chosen for a memory. The released value
(landmark sum, decayed sum, sliding or tumbling window) is computed from noisy windows only: it is
post-processing, and its noise is ``(B z)_t`` with ``B = A C**-1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from streamsketch.errors import ConfigError, PrivacyError
from streamsketch.privacy import factorization as fx
from streamsketch.privacy.noise import Entropy, discrete_gaussian, gaussian
from streamsketch.privacy.settings import MOST_STORED, Settings

if TYPE_CHECKING:
    from streamsketch.features import Map

__all__ = ["MECHANISMS", "Mechanism", "Noiser", "Plan", "noise_multiplier"]

Array: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Series: TypeAlias = "fx.Blt | Array"

#: Strict mode rounds the encoder to multiples of 2**-12, so that encoded sums are whole numbers.
DYADIC_BITS = 12
#: Largest noise in units of 2**-16: with 64 times as much every unit still fits a double and int64.
MOST_SIGMA = 2.0**46
#: Below this an encoder's coefficient no longer counts.
TAIL = 1e-18


@dataclass(frozen=True)
class Mechanism:
    """One entry of the registry.

    Attributes:
        memory: The memory whose releases it protects best; any other is refused.
        endless: Whether it can go on for ever at a fixed budget.
        summary: One sentence for reports.
        encoder: First coefficients (or buffered form) of ``C``; None adds no noise.
    """

    memory: str | None
    endless: bool
    summary: str
    encoder: Callable[[Settings], Series] | None


def _one(_: Settings) -> Series:
    return np.ones(1)


MECHANISMS: dict[str, Mechanism] = {
    "none": Mechanism(None, True, "No noise is added: releases are exact and not private.", None),
    "gaussian": Mechanism("landmark", False, "One single release with Gaussian noise.", _one),
    "toeplitz": Mechanism(
        "landmark",
        False,
        "Releases of the running sum share correlated noise (square root of the sum).",
        lambda s: fx.square_root(_stored(s.releases)),
    ),
    "blt": Mechanism(
        "landmark",
        False,
        "Releases of the running sum share correlated noise from a few buffers.",
        lambda s: fx.fit_blt(s.releases, buffers=s.buffers),
    ),
    "unbounded": Mechanism(
        "landmark",
        True,
        "Releases of the running sum share correlated noise from a few buffers, without end.",
        lambda _: fx.unbounded(),
    ),
    "decayed": Mechanism(
        "decayed",
        True,
        "Releases of an exponentially forgetting sum share correlated noise, without end.",
        lambda s: fx.fit_blt(s.releases, decay=s.decay, buffers=s.buffers),
    ),
    "tumbling": Mechanism(
        "tumbling", True, "Every window is released once, by itself, with Gaussian noise.", _one
    ),
    "sliding": Mechanism(
        "sliding",
        False,
        "Releases of a sum over the last windows share correlated noise.",
        lambda s: fx.square_root_sliding(_stored(s.releases), s.panes),
    ),
}


@dataclass(frozen=True)
class Plan:
    """What follows from a mechanism and its settings, before any data: encoder and factors."""

    name: str
    settings: Settings
    fitted: fx.Blt | None = None

    def __post_init__(self) -> None:
        """Refuse mechanisms that do not exist and horizons that they cannot keep."""
        mechanism = lookup(self.name)
        if mechanism.encoder is None:
            raise ConfigError('mechanism "none" adds no noise, so it has no plan and no budget.')
        releases = self.settings.releases
        if releases is None and not mechanism.endless:
            raise ConfigError(
                f'mechanism "{self.name}" needs a planned number of releases; set releases, or '
                'use "unbounded", "decayed" or "tumbling" for an endless stream.'
            )
        if self.name == "unbounded" and self.settings.strict:
            raise ConfigError(
                'mechanism "unbounded" has no strict mode, which would keep every window; set '
                'strict = false, or plan the releases and use "toeplitz".'
            )
        if self.name == "gaussian" and releases != 1:
            raise ConfigError(
                f'mechanism "gaussian" makes one release but releases is {releases}; set '
                'releases = 1, or use "toeplitz" for several.'
            )

    @property
    def memory(self) -> str:
        """The memory this plan is made for."""
        return lookup(self.name).memory or "landmark"

    @cached_property
    def encoder(self) -> Series:
        """``C``: explicit coefficients, or the buffered form."""
        make = lookup(self.name).encoder
        assert make is not None
        series = self.fitted or make(self.settings)
        if not self.settings.strict:
            return series
        return _dyadic(series, self._horizon(series))

    @property
    def buffers(self) -> list[list[float]] | None:
        """The fitted series as JSON values, to be kept with the noise; None if there is none."""
        if not isinstance(self.encoder, fx.Blt):
            return None
        return [list(self.encoder.theta), list(self.encoder.omega)]

    def with_buffers(self, buffers: Sequence[Sequence[float]] | None) -> Plan:
        """The same plan with the series that `buffers` gave, instead of one fitted anew."""
        if buffers is None:
            return self
        theta, omega = buffers
        return replace(self, fitted=fx.Blt(tuple(theta), tuple(omega)))

    def unit_norm(self, features: Map) -> float:
        """How far one unit can move one window's sum of these features (see `Settings.unit_norm`).

        Two rows in different windows come together where C does not change signs; only there does the
        difference of two rows bound that of their encoded windows.
        """
        # the coefficients of the buffered form are never negative
        apart = not isinstance(self.encoder, fx.Blt) and bool((self.encoder < 0).any())
        bound = None if apart else features.replace_bound
        return self.settings.unit_norm(features.norm_bound, bound)

    @cached_property
    def participation(self) -> float:
        """Norm of what a unit of norm 1 per window adds to ``C x``."""
        s = self.settings
        if isinstance(self.encoder, fx.Blt) and s.windows == 1:
            return self.encoder.column_norm(s.releases)
        if isinstance(self.encoder, fx.Blt) and s.releases is None:
            return self.encoder.participation_norm(s.windows, s.separation)
        span = (s.windows - 1) * s.separation
        n = s.releases or self._horizon(self.encoder) + span
        return fx.participation_norm(
            coefficients(self.encoder, n), windows=s.windows, separation=s.separation
        )

    def error(self, t: int) -> float:
        """Standard deviation of release ``t`` (from 0) in units of that of ``z``."""
        if isinstance(self.encoder, fx.Blt):
            decay = self.settings.decay if self.memory == "decayed" else 1.0
            return fx.decoder_norm(self.encoder, t + 1, decay)
        return float(self._row_norms[min(t, len(self._row_norms) - 1)])

    @cached_property
    def _row_norms(self) -> Array:
        s = self.settings
        n = s.releases or (1 if self.memory == "tumbling" else fx.SETTLED)
        a = fx.memory_series(self.memory, n, decay=s.decay, panes=s.panes)
        return fx.row_norms(fx.decoder(coefficients(self.encoder, n), a))

    @cached_property
    def factor(self) -> float:
        """Worst standard deviation of any release, in units of ``sensitivity / sqrt(2 rho)``.

        Infinite for an unbounded sum, whose noise grows slowly without end.
        """
        if self.name == "unbounded" and self.settings.releases is None:
            return math.inf
        if isinstance(self.encoder, fx.Blt):
            decay = self.settings.decay if self.memory == "decayed" else 1.0
            worst = fx.decoder_norm(self.encoder, self.settings.releases, decay)
        else:
            worst = float(self._row_norms.max())
        return self.participation * worst

    def noiser(self, width: int, sigma: float) -> Noiser:
        """The noise generator of one epoch for vectors of ``width`` units of 2**-16.

        Args:
            width: Length of a window's vector, count coordinate included.
            sigma: Standard deviation of ``z`` in units of 2**-16.

        Raises:
            ConfigError: If so much noise exceeds the arithmetic: its low digits would be missing.
        """
        if not sigma <= MOST_SIGMA:
            raise ConfigError(
                f"the budget asks for noise of {sigma / 2**16:.3g} on each coordinate and exact arithmetic ends at "
                f"{MOST_SIGMA / 2**16:.3g}; set a larger epsilon or rho, or fewer frequencies."
            )
        if self.settings.strict:
            assert not isinstance(self.encoder, fx.Blt)
            return Lattice(self.encoder, width, sigma)
        if isinstance(self.encoder, fx.Blt):
            return Buffered(self.encoder, width, sigma)
        return Stored(self.encoder, width, sigma)

    def _horizon(self, series: Series) -> int:
        if self.settings.releases is not None:
            return self.settings.releases
        if isinstance(series, fx.Blt):
            return 2 + math.ceil(math.log(TAIL) / math.log(max(series.theta)))
        return len(series)


def noise_multiplier(mechanism: str, releases: int | None = None, **settings: Any) -> float:
    """Worst standard deviation of any release, in units of ``sensitivity / sqrt(2 rho)``.

    Args:
        mechanism: A name of `MECHANISMS` other than "none".
        releases: T_max; None for endless mechanisms.
        **settings: Any other field of `Settings` that shapes the noise: decay, panes, buffers,
            windows, separation, strict.

    Raises:
        ConfigError: If the mechanism is not known or cannot keep the horizon.

    >>> round(noise_multiplier("toeplitz", releases=100), 3)
    2.531
    >>> round(noise_multiplier("decayed", decay=0.9), 2)
    1.45
    """
    if mechanism == "gaussian" and releases is None:
        releases = 1
    if settings.get("windows", 1) > 1:
        settings.setdefault("unit", "user")
    return Plan(mechanism, Settings(rho=1.0, releases=releases, **settings)).factor


class Noiser(Protocol):
    """State of the noise of one epoch."""

    def next(self, x: Integers, entropy: Entropy) -> npt.NDArray[np.generic]:
        """The noisy window: int64, or float64 in strict mode, in units of 2**-16."""

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that the next call depends on."""

    def restore(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over what `arrays` gave."""


class Stored:
    """Continuous noise ``(C**-1 z)_t`` from the stored past ``z``; ``(t, width)`` float64."""

    def __init__(self, c: Array, width: int, sigma: float) -> None:
        self._inverse, self._width, self._sigma = fx.inverse(c), width, sigma
        self._z = np.empty((0, width))

    def next(self, x: Integers, entropy: Entropy) -> Integers:
        """Noise for one more window, rounded to the lattice and added."""
        z = gaussian(self._width, self._sigma, entropy)
        weights = self._inverse[1 : len(self._z) + 1][::-1]
        noise = self._inverse[0] * z + weights @ self._z[-len(weights) :] if len(weights) else z
        if len(self._inverse) > 1:
            self._z = np.concatenate([self._z, z[None]])
        return x + np.rint(noise).astype(np.int64)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The past ``z``."""
        return {"z": self._z}

    def restore(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over the past ``z``."""
        self._z = _checked(arrays, "z", np.float64, self._width)


class Buffered:
    """Continuous noise ``(C**-1 z)_t`` from a few decaying buffers; constant memory."""

    def __init__(self, blt: fx.Blt, width: int, sigma: float) -> None:
        self._theta, self._omega = np.asarray(blt.theta)[:, None], np.asarray(blt.omega)
        self._width, self._sigma = width, sigma
        self._buffers = np.zeros((len(blt.theta), width))

    def next(self, x: Integers, entropy: Entropy) -> Integers:
        """Noise for one more window, rounded to the lattice and added."""
        noise = gaussian(self._width, self._sigma, entropy) - self._omega @ self._buffers
        self._buffers = self._theta * self._buffers + noise
        return x + np.rint(noise).astype(np.int64)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The buffers."""
        return {"buffers": self._buffers}

    def restore(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over the buffers."""
        buffers = _checked(arrays, "buffers", np.float64, self._width)
        if buffers.shape != self._buffers.shape:
            raise PrivacyError(
                f"saved noise has {len(buffers)} buffers but the settings need "
                f"{len(self._buffers)}; restore the settings this stream was started with."
            )
        self._buffers = buffers


class Lattice:
    """Strict mode: exact discrete Gaussian noise on whole encoded sums.

    ``y_t = sum_k c_int[k] x_{t-k} + discrete noise`` is computed in integers; the noisy windows
    are decoded from ``y`` alone, by ``xhat_t = y_t - sum_{k>0} c[k] xhat_{t-k}`` in floats.
    """

    def __init__(self, c: Array, width: int, sigma: float) -> None:
        self._c = c
        self._whole = np.rint(c * 2**DYADIC_BITS).astype(np.int64)
        self._width = width
        # Rounded up: never less noise than planned.
        self._sigma = math.ceil(sigma * 2**DYADIC_BITS)
        self._x = np.empty((0, width), dtype=np.int64)
        self._decoded = np.empty((0, width))

    def next(self, x: Integers, entropy: Entropy) -> Array:
        """Encode exactly, add exact noise, decode."""
        self._x = np.concatenate([self._x, x[None]])[-len(self._c) :]
        largest = np.abs(self._x).astype(np.float64).sum(axis=0).max() * 2**DYADIC_BITS
        if largest > 2.0**61:
            raise PrivacyError(
                "the sums have outgrown the 62 bits of strict mode's exact arithmetic; release "
                "more often or start a new stream."
            )
        weights = self._whole[: len(self._x)][::-1]
        y = weights @ self._x + discrete_gaussian(self._width, self._sigma, entropy)
        past = self._c[1 : len(self._decoded) + 1][::-1]
        decoded: Array = y * 2.0**-DYADIC_BITS
        if len(past):
            decoded = decoded - past @ self._decoded[-len(past) :]
        if len(self._c) > 1:
            self._decoded = np.concatenate([self._decoded, decoded[None]])[-len(self._c) :]
        return decoded

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The past windows, exact (secret) and decoded (public)."""
        return {"x": self._x, "decoded": self._decoded}

    def restore(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over the past windows."""
        self._x = _checked(arrays, "x", np.int64, self._width)
        self._decoded = _checked(arrays, "decoded", np.float64, self._width)


def lookup(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        ConfigError: If there is none; the message lists the names.
    """
    if name not in MECHANISMS:
        raise ConfigError(
            f"mechanism {name!r} is not known; choose one of {', '.join(MECHANISMS)}."
        )
    return MECHANISMS[name]


def coefficients(series: Series, n: int) -> Array:
    """First ``n`` coefficients of an encoder, zero where an explicit one has ended."""
    if isinstance(series, fx.Blt):
        return series.coefficients(n)
    padded = np.zeros(n)
    padded[: len(series)] = series[:n]
    return padded


def _dyadic(series: Series, n: int) -> Array:
    """Coefficients rounded to multiples of 2**-12, without trailing zeros."""
    if isinstance(series, fx.Blt):
        # |c_k| <= sum(omega) theta**(k-1): past this index every coefficient rounds to 0.
        n = min(n, 2 + math.ceil(-(DYADIC_BITS + 1) * math.log(2) / math.log(max(series.theta))))
    c = np.rint(coefficients(series, n) * 2**DYADIC_BITS) / 2**DYADIC_BITS
    c = np.asarray(c[: int(np.flatnonzero(c)[-1]) + 1], dtype=np.float64)
    _stored(len(c))
    return c


def _stored(windows: int | None) -> int:
    if windows is None or windows > MOST_STORED:
        raise ConfigError(
            f"this mechanism would keep {windows} past windows and the limit is {MOST_STORED}; use "
            '"blt" without strict mode, which keeps a few buffers, or fewer releases.'
        )
    return windows


def _checked(
    arrays: Mapping[str, npt.NDArray[np.generic]], name: str, dtype: Any, width: int
) -> npt.NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.dtype != dtype or array.ndim != 2 or array.shape[1] != width:
        found = "missing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise PrivacyError(
            f"the saved noise {name!r} is {found}, expected {np.dtype(dtype)} of shape "
            f"(any, {width}); the state is not of this stream: restore the right one."
        )
    copy: npt.NDArray[Any] = np.array(array)
    return copy
