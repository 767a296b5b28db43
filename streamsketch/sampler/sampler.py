"""The sampler: draws rows that differ from all it drew before."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from streamsketch.arrays import F32
from streamsketch.errors import ConfigError
from streamsketch.expect import expect, whole
from streamsketch.latent import LatentModel, marked
from streamsketch.sampler.history import History, locked
from streamsketch.sampler.matching import TARGETS, matching
from streamsketch.sampler.methods import METHODS, check_method
from streamsketch.sampler.request import Request
from streamsketch.sampler.unique import RowFilter

if TYPE_CHECKING:
    import pyarrow as pa

AT_A_TIME = 256  # rows that an iteration draws


class Sampler:
    """Draws from a generator so that all outputs together match the target.

    The history is one more sketch: O(m) memory and constant time per output, however many were
    drawn. Only released objects are used: the generator and the snapshot inside it.

    Args:
        generator: A trained `Generator`.
        target: What all outputs together should match: "data", the released sketch of the
            stream (it also repairs a generator that gets shares wrong); "generator", its own law;
            "latent", the Gaussian law of its latents.
        history: Path of a history file, made at first use and saved before rows are returned; a
            `History` to go on from; or None to remember in this object only.
        seed: Seed of all draws; with the same history it gives the same rows.
        method: "history" (default), "energy" (HAW-C on latents), "sobol" or "iid".
        candidates: Fresh draws of one round, one output for every 25 (at most 16 a round).
        history_frequencies: Features of the residual where the target is not the data's sketch.
        forget: Factor on the residual per output in (0, 1]; below 1 old outputs fade.
        guard: Near-duplicates closer than this share of the candidates' typical nearest
            distance to one of the last ``recent`` outputs are passed over.
        recent: Recent outputs kept exactly.
        solver: "greedy", or "optimize" to move latents by gradients from the greedy choice.
        unique: Never issue a row twice, by a filter of fixed size over decoded rows.
        unique_capacity: Rows for which a new row is refused with probability 1e-4 at most; more
            rows only raise that rate.
        label: Only rows with this value of the label column. Target "data" then needs a sketch
            with a block per label; without one the generator's law of that label is the target.

    Raises:
        ConfigError: An unknown method, target or solver, or a number out of range.
        DamagedFileError: The history file is damaged; the message offers the earlier one.
        SpecMismatchError: The history belongs to another sketch operator.

    Attributes:
        history: What was issued so far.
        label: Value of the label column that all rows have, or None.
        ids: Ids of the rows of the last call, in order.
    """

    def __init__(
        self,
        generator: LatentModel,
        target: Literal["data", "generator", "latent"] = "data",
        history: str | os.PathLike[str] | History | None = None,
        seed: int = 0,
        *,
        method: str = "history",
        candidates: int = 200,
        history_frequencies: int = 2048,
        forget: float = 1.0,
        guard: float = 0.5,
        recent: int = 256,
        solver: Literal["greedy", "optimize"] = "greedy",
        unique: bool = False,
        unique_capacity: int = 100_000,
        label: Any = None,
    ) -> None:
        if not hasattr(generator, "decode_latent"):
            expect(generator, (), "Sampler takes a generator", "fit one, or Generator.load(path)")
        check_method(method)
        if target not in TARGETS:
            raise ConfigError(f"target={target!r} is unknown; choose one of {', '.join(TARGETS)}")
        if solver not in ("greedy", "optimize"):
            raise ConfigError(f"solver={solver!r} is unknown; choose greedy or optimize")
        for name, value, least in (
            ("seed", seed, 0),
            ("candidates", candidates, 1),
            ("history_frequencies", history_frequencies, 1),
            ("recent", recent, 0),
            ("unique_capacity", unique_capacity, 1),
        ):
            if value < least:
                raise ConfigError(f"Sampler: {name}={value} must be at least {least}")
        if label is not None and label not in generator.schema.label_classes:
            known = ", ".join(repr(c) for c in generator.schema.label_classes) or "none declared"
            raise ConfigError(f"label={label!r} is not a value of the label column ({known})")
        self.generator, self.seed, self.method, self.label = generator, seed, method, label
        self._settings: dict[str, Any] = {
            "target": target,
            "label": label,
            "candidates": candidates,
            "history_frequencies": history_frequencies,
            "forget": forget,
            "guard": guard,
            "recent": recent,
            "solver": solver,
            "unique": unique,
        }
        self._capacity = unique_capacity
        self.path: Path | None = None
        self.ids: list[str] = []
        if isinstance(history, History):
            self.history = history.copy()
        else:
            self.path = None if history is None else Path(history)
            self.history = self._newest()
        self.history.attach(generator.fingerprint)

    def sample(self, n: int, progress: Callable[[int], None] | None = None) -> "pa.Table":
        """Draw ``n`` rows with the stream's own column names and types.

        The history is saved before the rows are returned: a crash can lose rows that nobody
        saw, but never issue them as new again.

        Args:
            n: Rows.
            progress: Called now and then with the rows that are drawn.

        Raises:
            ConfigError: ``n`` is negative, or the settings do not fit the generator.
            DataError: The generator draws NaN, or has no unique rows left.
            StoreError: The history cannot be saved; nothing was issued.
        """
        rows = self.generator.schema.decode(self.sample_encoded(n, progress))
        return marked(rows, self.generator)

    def sample_encoded(self, n: int, progress: Callable[[int], None] | None = None) -> F32:
        """Draw ``n`` encoded rows ``(n, d)`` float32; see `sample`."""
        n = whole(n, "n")
        if n == 0:
            self.ids = []
            return np.empty((0, self.generator.schema.d), np.float32)
        with self._turn() as history:
            start = history.parts[history.writer].count if history.parts.get(history.writer) else 0
            request = self._request(history)
            request.progress = progress
            x = METHODS[self.method](request, n)
            self.ids = [f"{history.writer}-{start + i}" for i in range(n)]
        return x

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as mappings, without end.

        They are drawn a few hundred at a time; all of these count as issued.
        """
        while True:
            yield from self.sample(AT_A_TIME).to_pylist()

    def update(self, generator: LatentModel) -> None:
        """Go on with another generator of the same operator, usually a newer checkpoint.

        Raises:
            SpecMismatchError: It was trained on another operator.
        """
        self.history.copy().attach(generator.fingerprint)
        self.generator = generator

    def gain(self) -> float:
        """How many times closer to the target all outputs are than as many independent ones.

        From the herding residual alone (see `Herding.gain`, which says why it is optimistic);
        NaN before the first output.
        """
        history = self.history.copy()
        if self.method != "history" or not history.count:
            return float("nan")
        goal = matching(self._request(history))
        residual = history.residual(goal.key, goal.mean.size)
        return goal.gain(residual, history.issued(goal.key))

    def _request(self, history: History) -> Request:
        return Request(self.generator, history, self.seed, **self._settings)

    def _newest(self) -> History:
        """The history on file, or a new one."""
        if self.path is None or not self.path.exists():
            return History()
        return History.load(self.path)

    @contextmanager
    def _turn(self) -> Iterator[History]:
        """A history to change; it becomes the sampler's, on file too, if nothing fails."""
        with nullcontext() if self.path is None else locked(self.path):
            history = self.history.copy()
            if self.path is not None and self.path.exists():
                history = History.load(self.path)
                history.attach(self.generator.fingerprint)
            if self._settings["unique"] and history.rows is None:
                history.rows = RowFilter(self._capacity)
            yield history
            if self.path is not None:
                history.save(self.path)
            self.history = history

    def __repr__(self) -> str:
        target = self._settings["target"]
        return f"Sampler(method={self.method}, target={target}, outputs={self.history.count})"
