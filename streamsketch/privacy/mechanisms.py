"""The mechanisms: how exact window sums become publishable ones.

Every mechanism turns the exact sum of each window into a noisy one, ``x + (C**-1 z)_t``, where
``z`` is independent Gaussian noise and ``C`` the encoder chosen for a memory. The released value
(landmark sum, decayed sum, sliding or tumbling window) is computed from noisy windows only: it is
post-processing, and its noise is ``(B z)_t`` with ``B = A C**-1``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from streamsketch.arrays import F64
from streamsketch.errors import ConfigError
from streamsketch.privacy import factorization as fx
from streamsketch.privacy.memory import Decayed, Landmark, Memory, Sliding, Tumbling, make_memory
from streamsketch.privacy.noisers import DYADIC_BITS, Buffered, Lattice, Noiser, Stored
from streamsketch.privacy.settings import MOST_STORED, Settings
from streamsketch.tables import checked

if TYPE_CHECKING:
    from streamsketch.features import Map

__all__ = ["MECHANISMS", "Mechanism", "Plan", "noise_multiplier", "planned"]

Series: TypeAlias = "fx.Blt | F64"

#: Largest noise in units of 2**-16: with 64 times as much every unit still fits a double and int64.
MOST_SIGMA = 2.0**46
NO_PLAN = 'mechanism "none" adds no noise, so it has no plan and no budget'

#: Below this an encoder's coefficient no longer counts.
TAIL = 1e-18


@dataclass(frozen=True)
class Mechanism:
    """One entry of the registry.

    Attributes:
        memory: The memory whose releases it protects best, with the number it takes if none is given;
            one of another kind is refused. None keeps any memory.
        endless: Whether it can go on for ever at a fixed budget.
        summary: One sentence for reports.
        encoder: First coefficients (or buffered form) of ``C``; None adds no noise.
    """

    memory: Memory | None
    endless: bool
    summary: str
    encoder: "Callable[[Settings, Any], Series] | None"


def _one(_: Settings, __: Memory) -> "Series":
    return np.ones(1)


MECHANISMS: dict[str, Mechanism] = {
    "none": Mechanism(None, True, "No noise is added: releases are exact and not private.", None),
    "gaussian": Mechanism(Landmark(), False, "One single release with Gaussian noise.", _one),
    "toeplitz": Mechanism(
        Landmark(),
        False,
        "Releases of the running sum share correlated noise (square root of the sum).",
        lambda s, _: fx.square_root(_stored(s.releases)),
    ),
    "blt": Mechanism(
        Landmark(),
        False,
        "Releases of the running sum share correlated noise from a few buffers.",
        lambda s, _: fx.fit_blt(s.releases, buffers=s.buffers),
    ),
    "unbounded": Mechanism(
        Landmark(),
        True,
        "Releases of the running sum share correlated noise from a few buffers, without end.",
        lambda *_: fx.unbounded(),
    ),
    "decayed": Mechanism(
        Decayed(0.99),
        True,
        "Releases of an exponentially forgetting sum share correlated noise, without end.",
        lambda s, memory: fx.fit_blt(s.releases, decay=memory.keep, buffers=s.buffers),
    ),
    "tumbling": Mechanism(
        Tumbling(), True, "Every window is released once, by itself, with Gaussian noise.", _one
    ),
    "sliding": Mechanism(
        Sliding(24),
        False,
        "Releases of a sum over the last windows share correlated noise.",
        lambda s, memory: fx.square_root_sliding(_stored(s.releases), memory.panes),
    ),
}


@dataclass(frozen=True)
class Plan:
    """What follows from a mechanism, its settings and its memory, before any data: encoder and factors.

    Attributes:
        name: The mechanism.
        settings: Budget, unit and horizon.
        memory: What a release stands for; the mechanism's own by default.
        fitted: A series to use instead of one fitted anew.
    """

    name: str
    settings: Settings
    memory: Memory = None  # type: ignore[assignment]
    fitted: fx.Blt | None = None

    def __post_init__(self) -> None:
        """Refuse mechanisms that do not exist and horizons that they cannot keep."""
        mechanism = lookup(self.name)
        if cast("Memory | None", self.memory) is None:
            object.__setattr__(self, "memory", mechanism.memory)
        if mechanism.encoder is None:
            raise ConfigError(NO_PLAN)
        releases = self.settings.releases
        if releases is None and not mechanism.endless:
            raise ConfigError(
                f'mechanism "{self.name}" needs a planned number of releases; set releases, or '
                'use "unbounded", "decayed" or "tumbling" for an endless stream'
            )
        if self.name == "unbounded" and self.settings.strict:
            raise ConfigError(
                'mechanism "unbounded" has no strict mode, which would keep every window; set '
                'strict = false, or plan the releases and use "toeplitz"'
            )
        if self.name == "gaussian" and releases != 1:
            raise ConfigError(
                f'mechanism "gaussian" makes one release but releases is {releases}; set '
                'releases = 1, or use "toeplitz" for several'
            )

    @cached_property
    def encoder(self) -> "Series":
        """``C``: explicit coefficients, or the buffered form."""
        make = lookup(self.name).encoder
        assert make is not None
        series = self.fitted or make(self.settings, self.memory)
        if not self.settings.strict:
            return series
        return _dyadic(series, self._horizon(series))

    @property
    def buffers(self) -> list[list[float]] | None:
        """The fitted series as JSON values, to be kept with the noise; None if there is none."""
        if not isinstance(self.encoder, fx.Blt):
            return None
        return [list(self.encoder.theta), list(self.encoder.omega)]

    def with_buffers(self, buffers: Sequence[Sequence[float]] | None) -> "Plan":
        """The same plan with the series that `buffers` gave, instead of one fitted anew."""
        if buffers is None:
            return self
        theta, omega = buffers
        return replace(self, fitted=fx.Blt(tuple(theta), tuple(omega)))

    def unit_norm(self, features: "Map") -> float:
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
            return fx.decoder_norm(self.encoder, t + 1, self._decay)
        return float(self._row_norms[min(t, len(self._row_norms) - 1)])

    @property
    def _decay(self) -> float:
        return self.memory.keep if isinstance(self.memory, Decayed) else 1.0

    @cached_property
    def _row_norms(self) -> F64:
        n = self.settings.releases or (1 if self.memory.name == "tumbling" else fx.SETTLED)
        return fx.row_norms(fx.decoder(coefficients(self.encoder, n), self.memory.weights(n)))

    @cached_property
    def factor(self) -> float:
        """Worst standard deviation of any release, in units of ``sensitivity / sqrt(2 rho)``.

        Infinite for an unbounded sum, whose noise grows slowly without end.
        """
        if self.name == "unbounded" and self.settings.releases is None:
            return math.inf
        if isinstance(self.encoder, fx.Blt):
            worst = fx.decoder_norm(self.encoder, self.settings.releases, self._decay)
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
                f"{MOST_SIGMA / 2**16:.3g}; set a larger epsilon or rho, or fewer frequencies"
            )
        if self.settings.strict:
            assert not isinstance(self.encoder, fx.Blt)
            return Lattice(self.encoder, width, sigma)
        if isinstance(self.encoder, fx.Blt):
            return Buffered(self.encoder, width, sigma)
        return Stored(self.encoder, width, sigma)

    def _horizon(self, series: "Series") -> int:
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
    if lookup(mechanism).memory is None:
        raise ConfigError(NO_PLAN)
    plan = planned(mechanism, "landmark", {"rho": 1.0, "releases": releases, **settings})[1]
    return cast("Plan", plan).factor


def planned(
    mechanism: str, memory: str | Memory, settings: Settings | Mapping[str, Any] | None
) -> tuple[Memory, Plan | None]:
    """Memory and plan that agree with the mechanism and with each other, from what a user wrote.

    Args:
        mechanism: A name in `MECHANISMS`.
        memory: What a release stands for; "landmark", or one without its number, gives way to the
            mechanism's own.
        settings: Privacy settings, or their values; `decay` and `panes` among these are the memory's number.

    Returns:
        The memory, and the plan (None without privacy).

    Raises:
        ConfigError: If they contradict each other.

    >>> planned("decayed", "landmark", {"rho": 0.5, "decay": 0.5})[0]
    Decayed(keep=0.5)
    """
    found = lookup(mechanism)
    if found.memory is None:
        if settings:
            raise ConfigError(
                'mechanism is "none" but privacy settings are given, and nothing would keep them; '
                'choose a mechanism, for example "toeplitz", or remove the settings'
            )
        return make_memory(memory), None
    if settings is None:
        raise ConfigError(
            f'mechanism "{mechanism}" needs privacy settings; set epsilon and delta (or rho) and '
            "releases"
        )
    given: dict[str, Any] = {} if isinstance(settings, Settings) else dict(settings)
    own = _own_memory(found.memory, given.pop("decay", None), given.pop("panes", None))
    if memory in ("landmark", Landmark(), own.name):
        kept = own
    else:
        kept = make_memory(memory)
    if kept.name != own.name:
        raise ConfigError(
            f'mechanism "{mechanism}" protects a {own.name} memory but memory is '
            f'{kept.text!r}; set memory = "{own.name}" or choose the mechanism of the memory'
        )
    s = settings if isinstance(settings, Settings) else _settings(given, mechanism)
    return kept, Plan(mechanism, s, kept)


def _own_memory(memory: Memory, decay: Any, panes: Any) -> Memory:
    """The mechanism's memory with the number that its settings give."""
    for key, value, kind in (("decay", decay, float), ("panes", panes, int)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, kind))):
            raise ConfigError(f"{key} is {value!r}; it must be a number")
    if isinstance(memory, Decayed) and decay is not None:
        return Decayed(float(decay))
    if isinstance(memory, Sliding) and panes is not None:
        return Sliding(panes)
    return memory


def _settings(values: Mapping[str, Any], mechanism: str) -> Settings:
    given = dict(values)
    weight = given.pop("w_max", 1.0)  # of the time when rows could carry weights
    if weight != 1.0:
        raise ConfigError(f"w_max is {weight!r} but rows carry no weights; remove it")
    if lookup(mechanism).endless and given.get("releases", "endless") == "endless":
        given["releases"] = None
    if mechanism == "gaussian":
        given.setdefault("releases", 1)
    return checked(Settings, given, "privacy")


def lookup(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        ConfigError: If there is none; the message lists the names.
    """
    if name not in MECHANISMS:
        raise ConfigError(
            f"mechanism {name!r} is not known; choose one of {', '.join(MECHANISMS)}"
        )
    return MECHANISMS[name]


def coefficients(series: "Series", n: int) -> F64:
    """First ``n`` coefficients of an encoder, zero where an explicit one has ended."""
    if isinstance(series, fx.Blt):
        return series.coefficients(n)
    padded = np.zeros(n)
    padded[: len(series)] = series[:n]
    return padded


def _dyadic(series: "Series", n: int) -> F64:
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
            '"blt" without strict mode, which keeps a few buffers, or fewer releases'
        )
    return windows
