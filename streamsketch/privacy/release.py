"""The releaser: the one place where a raw sum becomes a snapshot.

The caller saves `Releaser.packed` with the finished snapshot before anyone sees it, then publishes
(`ingest.publish` is the one place that does). After a crash a saved release is published again, bit
for bit; a release that was not saved was not seen either. No release is computed twice.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamsketch.errors import PrivacyError
from streamsketch.features import Map
from streamsketch.privacy.exact import ExactReleaser, ExactState, Stream, _now
from streamsketch.privacy.ledger import Ledger
from streamsketch.privacy.mechanisms import Plan, planned
from streamsketch.privacy.memory import Held, Memory
from streamsketch.privacy.private import PrivateReleaser, PrivateState
from streamsketch.privacy.settings import Settings
from streamsketch.schema import Schema
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import Arrays

if TYPE_CHECKING:
    from streamsketch.privacy.queries import Budget

__all__ = ["Releaser"]


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
        memory: What a release stands for, such as `Decayed(0.99)` or "decayed:0.99". A mechanism made
            for another memory than landmark brings its own when this is left alone.
        settings: Privacy settings; needed unless the mechanism is "none".
        test_generator: Draws the noise from this generator instead of the operating system.
            For tests only: logged as a warning and written into every release.

    Attributes:
        method: The exact or the private releaser, which holds no state.
        state: What the next release depends on, a frozen value; secret.

    Raises:
        ConfigError: If mechanism, memory and settings do not fit each other.

    >>> from streamsketch.features import FeatureMap
    >>> fm = FeatureMap.from_frequencies(np.ones((2, 50)))
    >>> r = Releaser(fm, Schema.vectors(2, -1, 1), mechanism="toeplitz", settings={"rho": 0.5})
    >>> snapshot = r.release(fm.sum(np.zeros((5000, 2), np.float32)), 5000)
    >>> snapshot.release.index, abs(snapshot.count - 5000) < 200
    (0, True)
    """

    method: ExactReleaser | PrivateReleaser
    state: ExactState

    def __init__(
        self,
        features: Map,
        schema: Schema,
        *,
        stream: str = "stream",
        mechanism: str = "none",
        memory: str | Memory = "landmark",
        settings: Settings | Mapping[str, Any] | None = None,
        test_generator: np.random.Generator | None = None,
    ) -> None:
        kept, plan = planned(mechanism, memory, settings)
        named = Stream(features, schema, stream, mechanism, kept)
        self.method = (
            ExactReleaser(named)
            if plan is None
            else PrivateReleaser.of(named, plan, test_generator)
        )
        self.state = self.method.start()
        self._retired = ""

    def release(
        self, total: NDArray[np.int64], count: int, span: Mapping[str, Any] | None = None
    ) -> Snapshot:
        """Release the stream's sum at a consistent cut.

        The caller saves `packed` before it publishes what this returns.

        Args:
            total: (classes * width,) int64, the sum of all rows since the beginning.
            count: Their number.
            span: Positions and times covered. Of a private snapshot only the `window` is told,
                as positions tell the exact count.

        Raises:
            BudgetError: If every planned release was made. Consuming may go on.
            PrivacyError: If the sums went backwards: they are not of this releaser's stream.
        """
        if self._retired and self.private:
            raise PrivacyError(
                f"stream {self.stream!r} no longer releases because {self._retired}; release from "
                "there: the rows have one budget"
            )
        snapshot, self.state = self.method.release(self.state, total, count, span or {})  # type: ignore[arg-type]
        return snapshot

    def forget(self) -> None:
        """Start the memory anew: later releases hold later rows only.

        With a mechanism on, refused: what was released decides on the noise of what follows.
        """
        if self.private:
            raise PrivacyError(
                "the memory of a private stream cannot be reset between releases; use a mechanism "
                "with windows (decayed, tumbling, sliding), or begin a new stream"
            )
        self.state = replace(self.state, held=Held())

    def retire(self, reason: str) -> None:
        """Refuse every further private release, for a reason that the error states."""
        self._retired = reason

    def fresh(self, origins: tuple[str, ...] = ()) -> "Releaser":
        """A releaser of the same settings that has released nothing, of rows of these origins."""
        made: Releaser = object.__new__(Releaser)
        made.method, made._retired = self.method, ""
        made.state = made.method.start(origins)
        return made

    def charge(self, budget: "Budget") -> None:
        """Enter the paid queries of the stream's budget into the ledger, before the first release.

        Args:
            budget: The divided budget; its `releases` are this releaser's settings.

        Raises:
            PrivacyError: If something was released already.
        """
        if not isinstance(self.state, PrivateState) or self.released:
            raise PrivacyError(
                f"paid queries of stream {self.stream!r} belong before its first private release; "
                "enter them when the releaser is made"
            )
        ledger = self.state.ledger.copy()
        for entry in budget.entries():
            ledger.append("query", at=_now(), **entry)
        self.state = replace(self.state, ledger=ledger)

    def packed(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON values to resume from; secret."""
        return self.method.packed(self.state)  # type: ignore[arg-type]

    def restore(self, arrays: Arrays, body: dict[str, Any]) -> None:
        """Take up what `packed` gave.

        Raises:
            StoreError: If the state is damaged, or of another operator, stream, mechanism or memory.
            PrivacyError: If its budget, ledger or noise is not what the settings and the chain of
                hashes say.
        """
        self.method, self.state = self.method.resumed(arrays, body)

    # --- what others ask of it

    @property
    def features(self) -> Map:
        """The operator."""
        return self.method.stream.features

    @property
    def stream(self) -> str:
        """Name of the stream."""
        return self.method.stream.name

    @property
    def mechanism(self) -> str:
        """How sums are protected."""
        return self.method.stream.mechanism

    @property
    def memory(self) -> Memory:
        """What a release stands for."""
        return self.method.stream.memory

    @property
    def private(self) -> bool:
        """Whether a mechanism is on."""
        return isinstance(self.method, PrivateReleaser)

    @property
    def plan(self) -> Plan | None:
        """Mechanism, memory and budget; None without privacy."""
        return self.method.plan if isinstance(self.method, PrivateReleaser) else None

    @property
    def settings(self) -> Settings | None:
        """Privacy settings; None without privacy."""
        return self.plan.settings if self.plan else None

    @property
    def test_mode(self) -> bool:
        """Whether the noise is repeatable, so that it protects nobody."""
        return isinstance(self.method, PrivateReleaser) and self.method.test_mode

    @property
    def ledger(self) -> Ledger | None:
        """What was spent and released; None without privacy."""
        return self.state.ledger if isinstance(self.state, PrivateState) else None

    @property
    def paid(self) -> float:
        """What was spent before the first release, rho: paid queries."""
        return self.ledger.spent if self.ledger else 0.0

    @property
    def left(self) -> int | None:
        """Releases left in the budget; None when there is no end."""
        if isinstance(self.method, PrivateReleaser) and isinstance(self.state, PrivateState):
            return self.method.left(self.state)
        return None

    @property
    def origins(self) -> tuple[str, ...]:
        """Random names of the streams whose rows it releases."""
        return self.state.origins

    @property
    def seen(self) -> NDArray[np.int64]:
        """The stream's sum at the last release; secret."""
        return self.state.seen

    @property
    def seen_count(self) -> int:
        """Its rows; secret."""
        return self.state.seen_count

    @property
    def released(self) -> int:
        """Releases made."""
        return self.state.released

    def __repr__(self) -> str:
        return f"Releaser(stream={self.stream!r}, mechanism={self.mechanism}, index={self.state.index})"
