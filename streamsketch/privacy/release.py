"""The releaser: the one place where a raw sum becomes a snapshot.

With a mechanism on, a release is one step of a single Gaussian mechanism over all releases of
an epoch. The caller saves `Releaser.state` with the finished snapshot before anyone sees it, then
publishes (`ingest.publish` is the one place that does). After a crash a saved release is published
again, bit for bit; a release that was not saved was not seen either. No release is computed twice.
"""

from __future__ import annotations

import datetime as dt
import hmac
import logging
import math
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import BudgetError, ConfigError, PrivacyError
from streamsketch.features import FeatureMap, Map
from streamsketch.features.kernels import ONE
from streamsketch.privacy.accountant import sigma
from streamsketch.privacy.combine import provenance
from streamsketch.privacy.ledger import Ledger
from streamsketch.privacy.mechanisms import Plan, lookup
from streamsketch.privacy.memory import make_memory
from streamsketch.privacy.noise import Entropy, seeded_entropy, system_entropy
from streamsketch.privacy.resolve import resolve
from streamsketch.privacy.resume import restore_state, saved_state
from streamsketch.privacy.settings import Settings
from streamsketch.schema import Schema
from streamsketch.snapshot import Release, Snapshot

if TYPE_CHECKING:
    from streamsketch.privacy.queries import Budget

__all__ = ["Releaser"]

logger = logging.getLogger(__name__)

#: Released counts below this many standard deviations of their noise are not divided by.
COUNT_FLOOR = 3.0


class Releaser:
    """Turns the cumulative sum of a stream into a series of snapshots.

    It is fed the exact sum since the beginning, at consistent cuts; the mechanism and the
    memory work on the exact differences. One releaser per stream holds the memory, the noise and
    the ledger, however many processes sum.

    Args:
        features: The operator; its `norm_bound` is where the sensitivity comes from.
        schema: The columns.
        stream: Name of the stream, written into every snapshot and ledger entry.
        mechanism: How sums are protected, a name in `privacy.MECHANISMS`.
        memory: What a release stands for, as `memory.make_memory` reads it. A mechanism made for
            another memory than landmark brings its own when this is left alone.
        settings: Privacy settings; needed unless the mechanism is "none".
        test_generator: Draws the noise from this generator instead of the operating system.
            For tests only: logged as a warning and written into every release.

    Raises:
        ConfigError: If mechanism, memory and settings do not fit each other.

    >>> from streamsketch.features import FeatureMap
    >>> fm = FeatureMap.from_frequencies(np.ones((2, 50)))
    >>> r = Releaser(fm, Schema.vectors(2, -1, 1), mechanism="toeplitz", settings={"rho": 0.5})
    >>> snapshot = r.release(fm.sum(np.zeros((5000, 2), np.float32)), 5000)
    >>> snapshot.release.index, abs(snapshot.count - 5000) < 200
    (0, True)
    """

    def __init__(
        self,
        features: Map,
        schema: Schema,
        *,
        stream: str = "stream",
        mechanism: str = "none",
        memory: str = "landmark",
        settings: Settings | Mapping[str, Any] | None = None,
        test_generator: np.random.Generator | None = None,
    ) -> None:
        self.features, self.schema, self.stream = features, schema, stream
        self.mechanism = mechanism
        self.private = lookup(mechanism).encoder is not None
        self.settings, self.memory_text = resolve(mechanism, memory, settings)
        self.memory = make_memory(self.memory_text)
        self.index = self.epoch = self.released = 0
        self.seen = np.zeros(features.spec.classes * features.width, np.int64)
        self.seen_count: float = 0
        self._retired = ""
        self._test_generator = test_generator
        #: Random names of the streams whose rows it releases: two releases that share one may share rows.
        self.origins: tuple[str, ...] = (secrets.token_hex(8),)
        if self.private:
            self._start(test_generator)

    def _start(self, test_generator: np.random.Generator | None) -> None:
        assert self.settings is not None
        if self.settings.unit == "user" and self.schema.user_column is None:
            raise ConfigError(
                'unit is "user" but the schema declares no user column, so nobody can tell users '
                'apart; declare one with kind = "user_id", or set unit = "row".'
            )
        self._entropy: Entropy = (
            system_entropy if test_generator is None else seeded_entropy(test_generator)
        )
        self._count_units = self.settings.count_units(self.features.norm_bound)
        self.rho = self.settings.budget
        self._arm(Plan(self.mechanism, self.settings))
        self._past_variance = 0.0
        self._key = secrets.token_bytes(32)
        self.ledger = Ledger(self.stream)

    def _arm(self, plan: Plan) -> None:
        assert self.settings is not None
        unit = plan.unit_norm(self.features)
        self.plan = plan
        #: Standard deviation of the independent noise z, in feature units.
        self.sigma = sigma(unit, self.rho, plan.participation)
        self._noiser = plan.noiser(len(self.seen) + 1, self.sigma * ONE)

    @property
    def test_mode(self) -> bool:
        """Whether the noise is repeatable, so that it protects nobody."""
        return self._test_generator is not None

    @property
    def paid(self) -> float:
        """What was spent before the first release, rho: paid queries."""
        return self.ledger.spent if self.private else 0.0

    def fresh(self) -> Releaser:
        """A releaser of the same settings that has released nothing."""
        return Releaser(
            self.features,
            self.schema,
            stream=self.stream,
            mechanism=self.mechanism,
            memory=self.memory_text,
            settings=self.settings,
            test_generator=self._test_generator,
        )

    @property
    def left(self) -> int | None:
        """Releases left in the budget; None when there is no end."""
        if not self.private or self.settings is None or self.settings.releases is None:
            return None
        epochs = self.settings.epochs - self.epoch
        return epochs * self.settings.releases - self.index

    def forget(self) -> None:
        """Start the memory anew: later releases hold later rows only.

        With a mechanism on, refused: what was released decides on the noise of what follows.
        """
        if self.private:
            raise PrivacyError(
                "the memory of a private stream cannot be reset between releases; use a mechanism "
                "with windows (decayed, tumbling, sliding), or begin a new stream"
            )
        self.memory = make_memory(self.memory_text)

    def release(
        self, total: NDArray[np.int64], count: int, span: Mapping[str, Any] | None = None
    ) -> Snapshot:
        """Release the stream's sum at a consistent cut.

        The caller saves `state` before it publishes what this returns.

        Args:
            total: (classes * width,) int64, the sum of all rows since the beginning.
            count: Their number.
            span: Positions and times covered. Of a private snapshot only the `window` is told,
                as positions tell the exact count.

        Raises:
            BudgetError: If every planned release was made. Consuming may go on.
            PrivacyError: If the sums went backwards: they are not of this releaser's stream.
        """
        if self.private:
            return self._release_private(total, count, span or {})
        pane = (total - self.seen) * self.features.units
        value, weight = self.memory.update(pane, cast("int", count - self.seen_count))
        mean, cells = self.features.split(value, weight or 1)
        self.seen, self.seen_count = total.copy(), count
        notes = {"origins": provenance(self.origins, self.memory_text, self.epoch, self.index)}
        release = Release("none", self.memory_text, self.index, 0, self.stream, notes=notes)
        snapshot = self._snapshot(mean, cells, float(weight), release, dict(span or {}))
        self.index += 1
        self.released += 1
        return snapshot

    def _release_private(
        self, total: NDArray[np.int64], count: float, span: Mapping[str, Any]
    ) -> Snapshot:
        assert self.settings is not None
        self._check_cut(total, count)
        self._check_budget()
        rows = count - self.seen_count
        moved = (total - self.seen) * self.features.units
        pane = np.append(moved, np.int64(round(self._count_units * rows)))
        noisy: NDArray[Any] = self._noiser.next(pane, self._entropy)
        # The memory sees noisy windows only: what follows is post-processing.
        value, weight = self.memory.update(noisy[:-1], cast("int", noisy[-1] / self._count_units))
        std = math.sqrt((self.sigma * self.plan.error(self.index)) ** 2 + self._past_variance)
        count_std = std * ONE / self._count_units
        floor = max(1.0, COUNT_FLOOR * count_std)
        mean, cells = self.features.split(value, max(weight, floor))
        public = {key: span[key] for key in ("window",) if key in span}
        described = self._describe(std, count_std, floor)
        snapshot = self._snapshot(mean, cells, float(weight), described, public)
        self._enter(snapshot, total, count)
        self.seen, self.seen_count = total.copy(), count
        self.index += 1
        self.released += 1
        return snapshot

    def retire(self, reason: str) -> None:
        """Refuse every further private release, for a reason that the error states."""
        self._retired = reason

    def _check_cut(self, total: NDArray[np.int64], count: float) -> None:
        if self._retired:
            raise PrivacyError(
                f"stream {self.stream!r} no longer releases because {self._retired}; release from "
                "there: the rows have one budget."
            )
        if total.shape != self.seen.shape or total.dtype != np.int64:
            raise PrivacyError(
                f"the sum to release is {total.dtype} of shape {total.shape}, expected int64 of "
                f"shape {self.seen.shape}; pass Sketch.total of the same operator."
            )
        if count < self.seen_count:
            raise PrivacyError(
                f"the rows of stream {self.stream!r} are fewer than at the last release: the sums "
                "are older than the ledger; restore sums and ledger from the same state file."
            )
        most = (count - self.seen_count) * self.features.norm_bound * ONE
        if np.abs((total - self.seen) * self.features.units).max(initial=0) > most:
            raise PrivacyError(
                f"the sums of stream {self.stream!r} moved further than its new rows can move "
                "them; sums and ledger are not of the same state: restore both from one file."
            )

    def _check_budget(self) -> None:
        assert self.settings is not None
        limit = self.settings.releases
        if limit is None or self.index < limit:
            return
        if self.epoch + 1 >= self.settings.epochs:
            raise BudgetError(
                f"the privacy budget of stream {self.stream!r} is spent: all {limit} planned releases "
                f"of {self.settings.epochs} epoch(s) were made; plan more epochs, or start a new "
                "stream for rows not used so far"
            )
        last = self.sigma * self.plan.error(limit - 1)
        self._past_variance += last * last if self.plan.memory == "landmark" else 0.0
        if self.plan.memory != "landmark":
            self.memory = make_memory(self.memory_text)
        self._noiser = self.plan.noiser(len(self.seen) + 1, self.sigma * ONE)
        self.epoch, self.index = self.epoch + 1, 0

    def _describe(self, std: float, count_std: float, floor: float) -> Release:
        s = self.settings
        assert s is not None
        notes: dict[str, Any] = {
            "origins": provenance(self.origins, self.memory_text, self.epoch, self.index),
            "noise": "discrete" if s.strict else "rounded",
            "count_floor": floor,
            "ledger": self.ledger.head,
            "epochs": s.epochs,
        }
        if s.unit == "user":
            notes |= {k: getattr(s, k) for k in ("windows", "separation", "rows", "users")}
        if self._test_generator is not None:
            notes["TEST MODE"] = "noise from a seeded generator; this release is not private"
        return Release(
            self.mechanism,
            self.memory_text,
            self.index,
            self.epoch,
            self.stream,
            adjacency=s.adjacency,
            unit=s.unit,
            rho=self.rho,
            delta=s.delta,
            epsilon=self.epsilon,
            releases=s.releases or 0,
            noise_std=std,
            count_std=count_std,
            notes=notes,
        )

    @property
    def epsilon(self) -> float:
        """Epsilon of all releases together, at the settings' delta."""
        assert self.settings is not None
        if self.settings.epsilon is not None:
            return self.settings.epsilon
        return self.settings.epsilon_of(self.rho)

    def _snapshot(
        self,
        mean: NDArray[np.float64],
        cells: NDArray[np.float64] | None,
        count: float,
        release: Release,
        span: dict[str, Any],
    ) -> Snapshot:
        explicit = isinstance(self.features, FeatureMap) and self.features.spec.law == "explicit"
        return Snapshot(
            mean,
            count,
            self.features.spec,
            self.schema,
            release,
            span,
            self.features.omega if explicit and isinstance(self.features, FeatureMap) else None,
            _now(),
            cells,
        )

    def _enter(self, snapshot: Snapshot, total: NDArray[np.int64], count: float) -> None:
        assert self.settings is not None
        if self.index == 0:
            # Rows of different epochs are different rows: only the first epoch is charged.
            self.ledger.append(
                "open",
                at=snapshot.created,
                charge=self.rho if self.epoch == 0 else 0.0,
                epoch=self.epoch,
                mechanism=self.mechanism,
                memory=self.memory_text,
                fingerprint=self.features.spec.fingerprint,
                settings=self.settings.to_dict(),
                epsilon=self.epsilon,
                rho=self.rho,
            )
        key = f"{self.stream}\0{self.epoch}\0{self.index}\0{count}\0".encode()
        self.ledger.append(
            "release",
            at=snapshot.created,
            epoch=self.epoch,
            index=self.index,
            release=snapshot.id,
            prefix=hmac.digest(self._key, key + total.tobytes(), "sha256").hex(),
            noise_std=snapshot.release.noise_std,
        )

    def charge(self, budget: Budget) -> None:
        """Enter the paid queries of the stream's budget into the ledger, before the first release.

        Args:
            budget: The divided budget; its `releases` are this releaser's settings.

        Raises:
            PrivacyError: If something was released already.
        """
        if not self.private or self.released:
            raise PrivacyError(
                f"paid queries of stream {self.stream!r} belong before its first private release; "
                "enter them when the releaser is made."
            )
        for entry in budget.entries():
            self.ledger.append("query", at=_now(), **entry)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and JSON values to resume from; secret. See `privacy.resume`."""
        return saved_state(self)

    def restore(self, arrays: Mapping[str, NDArray[Any]], body: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Raises:
            StoreError: If the state is of another operator, stream, mechanism or memory.
            PrivacyError: If its budget, ledger or noise is not what the settings and the chain of
                hashes say.
        """
        restore_state(self, arrays, body)

    def __repr__(self) -> str:
        return f"Releaser(stream={self.stream!r}, mechanism={self.mechanism}, index={self.index})"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
