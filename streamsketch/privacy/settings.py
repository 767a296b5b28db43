"""What a user declares about privacy: the budget, the unit it protects and the public limits."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from streamsketch.errors import ConfigError
from streamsketch.privacy.accountant import (
    check_budget,
    check_delta,
    epsilon_from_rho,
    rho_from_epsilon,
)

__all__ = ["Settings"]

#: Above this many releases the exact mechanisms would keep too many past windows.
MOST_STORED = 20_000


@dataclass(frozen=True)
class Settings:
    """The privacy settings of one stream. All of them are public and travel with every release.

    Give `epsilon` (with `delta`) or `rho`, not both.

    Attributes:
        epsilon: Budget of all releases together, for the chosen unit and adjacency.
        rho: The same budget as zero-concentrated differential privacy.
        delta: Failure probability that goes with epsilon.
        releases: T_max, the planned number of releases of an epoch; None for an endless stream
            (mechanisms unbounded, decayed and tumbling only; in a pipeline file "endless", their default).
        epochs: How many times a stream may start again after T_max releases. A row lies in one
            epoch only, so epochs cost no budget, but their variances add. Rows only: with
            unit "user" it must be 1.
        unit: "row" protects one row; "user" everything that one user adds within the limits.
        adjacency: "add_remove": the unit is there or not; "replace_one": it is replaced.
        windows: Unit "user": rows of one user lie in at most this many windows (k).
        separation: Unit "user": those windows are at least this far apart (b).
        rows: Unit "user": at most this many rows of one user per window.
        users: Unit "user": how many different users are remembered; rows of more are left out.
        buffers: Mechanism blt and decayed: buffers of the noise generator (default: as needed).
        strict: Exact discrete Gaussian noise on the integer lattice instead of rounded
            continuous noise; slightly larger epsilon, and past windows are kept.
        count_weight: Norm of the count coordinate relative to the norm of the features.

    >>> Settings(epsilon=1.0, delta=1e-5).budget.__round__(4)
    0.0359
    """

    epsilon: float | None = None
    rho: float | None = None
    delta: float = 1e-6
    releases: int | None = 100
    epochs: int = 1
    unit: Literal["row", "user"] = "row"
    adjacency: Literal["add_remove", "replace_one"] = "add_remove"
    windows: int = 1
    separation: int = 1
    rows: int = 1
    users: int = 1_000_000
    buffers: int | None = None
    strict: bool = False
    count_weight: float = 0.1

    def __post_init__(self) -> None:
        """Refuse every setting that no mechanism could keep."""
        if (self.epsilon is None) == (self.rho is None):
            raise ConfigError(
                f"epsilon is {self.epsilon!r} and rho is {self.rho!r}; exactly one of them "
                'states the budget; set one, or mechanism = "none" for no privacy'
            )
        check_delta(self.delta)
        if self.epsilon is not None:
            check_budget("epsilon", self.epsilon)
        else:
            check_budget("rho", self.rho)
        for name in ("epochs", "windows", "separation", "rows", "users"):
            _whole(name, getattr(self, name))
        for name in ("releases", "buffers"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name))
        weight = self.count_weight
        if not (isinstance(weight, int | float) and math.isfinite(weight) and weight > 0):
            raise ConfigError(f"count_weight is {weight!r}; it must be a finite number above 0")
        _one_of("unit", self.unit, ("row", "user"))
        _one_of("adjacency", self.adjacency, ("add_remove", "replace_one"))
        if self.unit == "user" and self.epochs > 1:
            raise ConfigError(
                f'epochs is {self.epochs} with unit "user", but a user may come back in every '
                "epoch and the budget would add up; set epochs = 1 and releases to the whole run"
            )
        if self.unit == "row" and (self.windows, self.separation, self.rows) != (1, 1, 1):
            raise ConfigError(
                f"windows, separation, rows are {(self.windows, self.separation, self.rows)} with "
                'unit "row", but a row lies in one window; set unit = "user" to use them'
            )

    @property
    def budget(self) -> float:
        """The whole budget as rho (zCDP)."""
        if self.rho is not None:
            return float(self.rho)
        assert self.epsilon is not None
        return rho_from_epsilon(self.epsilon, self.delta, strict=self.strict)

    def epsilon_of(self, rho: float) -> float:
        """The epsilon at `delta` of a part `rho` of the budget (0 for 0)."""
        return epsilon_from_rho(rho, self.delta, strict=self.strict) if rho > 0 else 0.0

    def unit_norm(self, norm_bound: float, replace_bound: float | None = None) -> float:
        """How far one unit can move one window's sum: features and count coordinate together.

        Args:
            norm_bound: The feature map's own bound for one row (`FeatureMap.norm_bound`).
            replace_bound: Its bound for the difference of two rows; twice `norm_bound` if None.

        Returns:
            Norm in feature units.
        """
        one, count = norm_bound, self.count_units(norm_bound) / 2.0**16
        if self.adjacency == "replace_one":
            one, count = 2.0 * one if replace_bound is None else replace_bound, 2.0 * count
        return math.hypot(one, count) * self.rows

    def count_units(self, norm_bound: float) -> int:
        """Units of 2**-16 that one row adds to the count coordinate.

        A multiple of 256, as it always was: streams that go on keep their noise.
        """
        return 256 * max(1, round(self.count_weight * norm_bound * 2**8))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary; `Settings(**d)` gives it back."""
        return asdict(self)


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least 1")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
