"""Releases through a mechanism: each is one step of a single Gaussian mechanism over an epoch.

A releaser is a value that holds no state: `release` takes the state (noise, ledger and budget in it)
and gives back the next one. A state whose operator, promise, ledger or noise does not fit is refused:
going on would be a second release.
"""

import hmac
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import BudgetError, ConfigError, PrivacyError
from streamsketch.features.kernels import ONE
from streamsketch.privacy.accountant import sigma
from streamsketch.privacy.exact import ExactState, Stream
from streamsketch.privacy.ledger import Ledger
from streamsketch.privacy.mechanisms import Plan
from streamsketch.privacy.memory import Held
from streamsketch.privacy.noise import Entropy, seeded_entropy, system_entropy
from streamsketch.privacy.noisers import Noiser
from streamsketch.privacy.settings import Settings
from streamsketch.snapshot import Release, Snapshot
from streamsketch.storage.files import Arrays, parsing

__all__ = ["PrivateReleaser", "PrivateState"]

#: Released counts below this many standard deviations of their noise are not divided by.
COUNT_FLOOR = 3.0


@dataclass(frozen=True, eq=False)
class PrivateState(ExactState):
    """What a private releaser keeps as well. All of it is secret.

    Attributes:
        noise: What the next noise depends on; see `noisers`.
        ledger: What was spent and released.
        key: Keys the ledger's digests of exact sums.
        epoch: Number of the budget epoch.
        past_variance: Of the noise that earlier epochs left in a landmark sum.
    """

    noise: Arrays = None  # type: ignore[assignment]
    ledger: Ledger = None  # type: ignore[assignment]
    key: bytes = b""
    epoch: int = 0
    past_variance: float = 0.0


@dataclass(frozen=True, eq=False)
class PrivateReleaser:
    """Releases sums with noise; made by `of`.

    Attributes:
        stream: What is released.
        plan: Mechanism, memory and budget.
        sigma: Standard deviation of the independent noise z, in feature units.
        noiser: Adds the noise of one epoch.
        entropy: Where randomness comes from.
        test_mode: Whether the noise is repeatable, so that it protects nobody.
    """

    stream: Stream
    plan: Plan
    sigma: float
    noiser: Noiser
    entropy: Entropy
    test_mode: bool = False

    @classmethod
    def of(
        cls, stream: Stream, plan: Plan, generator: np.random.Generator | None = None
    ) -> "PrivateReleaser":
        """The releaser of a plan; with a generator, in test mode.

        Raises:
            ConfigError: Users are protected but no column names them, or the noise exceeds the arithmetic.
        """
        if plan.settings.unit == "user" and stream.schema.user_column is None:
            raise ConfigError(
                'unit is "user" but the schema declares no user column, so nobody can tell users '
                'apart; declare one with kind = "user_id", or set unit = "row"'
            )
        entropy = system_entropy if generator is None else seeded_entropy(generator)
        return cls(stream, plan, *_armed(stream, plan), entropy, generator is not None)

    @property
    def settings(self) -> Settings:
        """Budget, unit and horizon."""
        return self.plan.settings

    @property
    def epsilon(self) -> float:
        """Epsilon of all releases together, at the settings' delta."""
        if self.settings.epsilon is not None:
            return self.settings.epsilon
        return self.settings.epsilon_of(self.settings.budget)

    def start(self, origins: tuple[str, ...] = ()) -> PrivateState:
        """Nothing was released, and nothing spent."""
        return PrivateState(
            **vars(self.stream.start(origins)),
            noise=self.noiser.start(),
            ledger=Ledger(self.stream.name),
            key=secrets.token_bytes(32),
        )

    def left(self, state: PrivateState) -> int | None:
        """Releases left in the budget; None when there is no end."""
        limit = self.settings.releases
        return (
            None if limit is None else (self.settings.epochs - state.epoch) * limit - state.index
        )

    def release(
        self, state: PrivateState, total: NDArray[np.int64], count: int, span: Mapping[str, Any]
    ) -> tuple[Snapshot, PrivateState]:
        """The noisy snapshot of a sum since the beginning, and the next state.

        Raises:
            BudgetError: If every planned release was made.
            PrivacyError: If the sums are not those of this state's stream.
        """
        self._check_cut(state, total, count)
        state = self._in_budget(state)
        stream = self.stream
        units = self.settings.count_units(stream.features.norm_bound)
        moved = (total - state.seen) * stream.features.units
        pane = np.append(moved, np.int64(round(units * (count - state.seen_count))))
        noisy, noise = self.noiser.next(state.noise, pane, self.entropy)
        # The memory sees noisy windows only: what follows is post-processing.
        held = stream.memory.after(state.held, noisy[:-1], noisy[-1] / units)
        value, weight = stream.memory.value(held)
        std = math.sqrt((self.sigma * self.plan.error(state.index)) ** 2 + state.past_variance)
        count_std = std * ONE / units
        floor = max(1.0, COUNT_FLOOR * count_std)
        public = {key: span[key] for key in ("window",) if key in span}
        described = self._describe(state, std, count_std, floor)
        snapshot = stream.snapshot(value, max(weight, floor), float(weight), described, public)
        return snapshot, replace(
            state.after(total, count, held),
            noise=noise,
            ledger=self._entered(state, snapshot, total, count),
        )

    def _check_cut(self, state: PrivateState, total: NDArray[np.int64], count: int) -> None:
        name = self.stream.name
        if total.shape != state.seen.shape or total.dtype != np.int64:
            raise PrivacyError(
                f"the sum to release is {total.dtype} of shape {total.shape}, expected int64 of "
                f"shape {state.seen.shape}; pass Sketch.total of the same operator"
            )
        if count < state.seen_count:
            raise PrivacyError(
                f"the rows of stream {name!r} are fewer than at the last release: the sums "
                "are older than the ledger; restore sums and ledger from the same state file"
            )
        features = self.stream.features
        most = (count - state.seen_count) * features.norm_bound * ONE
        if np.abs((total - state.seen) * features.units).max(initial=0) > most:
            raise PrivacyError(
                f"the sums of stream {name!r} moved further than its new rows can move "
                "them; sums and ledger are not of the same state: restore both from one file"
            )

    def _in_budget(self, state: PrivateState) -> PrivateState:
        """The state, in the next epoch where this one is spent."""
        s, limit = self.settings, self.settings.releases
        if limit is None or state.index < limit:
            return state
        if state.epoch + 1 >= s.epochs:
            raise BudgetError(
                f"the privacy budget of stream {self.stream.name!r} is spent: all {limit} planned releases "
                f"of {s.epochs} epoch(s) were made; plan more epochs, or start a new "
                "stream for rows not used so far"
            )
        landmark = self.stream.memory.name == "landmark"
        last = self.sigma * self.plan.error(limit - 1) if landmark else 0.0
        return replace(
            state,
            past_variance=state.past_variance + last * last,
            held=state.held if landmark else Held(),
            noise=self.noiser.start(),
            epoch=state.epoch + 1,
            index=0,
        )

    def _describe(
        self, state: PrivateState, std: float, count_std: float, floor: float
    ) -> Release:
        s = self.settings
        notes: dict[str, Any] = {
            **self.stream.notes(state, state.epoch),
            "noise": "discrete" if s.strict else "rounded",
            "count_floor": floor,
            "ledger": state.ledger.head,
            "epochs": s.epochs,
        }
        if s.unit == "user":
            notes |= {k: getattr(s, k) for k in ("windows", "separation", "rows", "users")}
        if self.test_mode:
            notes["TEST MODE"] = "noise from a seeded generator; this release is not private"
        return Release(
            self.stream.mechanism,
            self.stream.memory.text,
            state.index,
            state.epoch,
            self.stream.name,
            adjacency=s.adjacency,
            unit=s.unit,
            rho=s.budget,
            delta=s.delta,
            epsilon=self.epsilon,
            releases=s.releases or 0,
            noise_std=std,
            count_std=count_std,
            notes=notes,
        )

    def _entered(
        self, state: PrivateState, snapshot: Snapshot, total: NDArray[np.int64], count: int
    ) -> Ledger:
        """The ledger with this release."""
        ledger, s = state.ledger.copy(), self.settings
        if state.index == 0:
            # Rows of different epochs are different rows: only the first epoch is charged.
            ledger.append(
                "open",
                at=snapshot.created,
                charge=s.budget if state.epoch == 0 else 0.0,
                epoch=state.epoch,
                mechanism=self.stream.mechanism,
                memory=self.stream.memory.text,
                fingerprint=self.stream.features.spec.fingerprint,
                settings=s.to_dict(),
                epsilon=self.epsilon,
                rho=s.budget,
            )
        key = f"{self.stream.name}\0{state.epoch}\0{state.index}\0{count}\0".encode()
        ledger.append(
            "release",
            at=snapshot.created,
            epoch=state.epoch,
            index=state.index,
            release=snapshot.id,
            prefix=hmac.digest(state.key, key + total.tobytes(), "sha256").hex(),
            noise_std=snapshot.release.noise_std,
        )
        return ledger

    def packed(self, state: PrivateState) -> tuple[Arrays, dict[str, Any]]:
        """A state as arrays and JSON values; secret."""
        arrays, body = self.stream.packed(state)
        return arrays | {f"noise.{k}": v for k, v in state.noise.items()}, {
            **body,
            "epoch": state.epoch,
            "settings": self.settings.to_dict(),
            "past_variance": state.past_variance,
            "buffers": self.plan.buffers,
            "key": state.key.hex(),
            "ledger": state.ledger.to_dict(),
        }

    def resumed(
        self, arrays: Arrays, body: dict[str, Any]
    ) -> "tuple[PrivateReleaser, PrivateState]":
        """The releaser and the state that `packed` gave.

        Raises:
            StoreError: If the state is damaged, or of another operator, stream, mechanism or memory.
            PrivacyError: If its budget, ledger or noise is not what the settings and the chain of
                hashes say.
        """
        self.stream.check(body)
        self._check_settings(dict(body.get("settings") or {}))
        ledger = Ledger.from_dict(body.get("ledger") or {}, self.stream.name)
        ledger.check_position(body.get("epoch"), body.get("index"))
        if "pending" in arrays:  # the finished snapshot, written ahead by `ingest.publish`
            kept = Snapshot.from_bytes(arrays["pending"].tobytes(), "the kept release")
            ledger.check_release(kept.id)
        with parsing("the saved release state"):
            # A series fitted by another version of the optimiser would not continue this noise.
            plan = self.plan.with_buffers(body.get("buffers"))
            past_variance, key = float(body["past_variance"]), bytes.fromhex(body["key"])
            if not (math.isfinite(past_variance) and past_variance >= 0.0 and len(key) == 32):
                raise ValueError(f"past_variance is {past_variance}, the key has {len(key)} bytes")
        mine = self
        if plan is not self.plan:
            scale, noiser = _armed(self.stream, plan)
            mine = replace(self, plan=plan, sigma=scale, noiser=noiser)
        noise = {k.removeprefix("noise."): v for k, v in arrays.items() if k.startswith("noise.")}
        return mine, PrivateState(
            **vars(self.stream.unpacked(arrays, body)),
            noise=mine.noiser.check(noise),
            ledger=ledger,
            key=key,
            epoch=int(body["epoch"]),
            past_variance=past_variance,
        )

    def _check_settings(self, saved: dict[str, Any]) -> None:
        mine = self.settings.to_dict()
        saved, mine = {"w_max": 1.0, **saved}, {"w_max": 1.0, **mine}
        for key, value in mine.items():
            if key != "epochs" and saved.get(key) != value:
                raise PrivacyError(
                    f"stream {self.stream.name!r} was started with {key} = {saved.get(key)!r} and the settings "
                    f"now say {value!r}; a promise already given cannot be changed: set it back, or "
                    "start a new stream for rows not used so far"
                )


def _armed(stream: Stream, plan: Plan) -> tuple[float, Noiser]:
    """Scale of the independent noise, and what adds it."""
    scale = sigma(plan.unit_norm(stream.features), plan.settings.budget, plan.participation)
    width = stream.features.spec.classes * stream.features.width + 1
    return scale, plan.noiser(width, scale * ONE)
