"""The sketcher: schema, operator, sketch and releaser behind three verbs."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from streamsketch.decode.scale import scale_of
from streamsketch.errors import ConfigError, DataError
from streamsketch.expect import expect, whole
from streamsketch.features import FeatureMap, Map, build
from streamsketch.features.cells import (
    MAX_CELLS,
    fitting_middle,
    largest_middle,
    layout_of,
    pairs_of,
    suits,
)
from streamsketch.features.spec import Spec
from streamsketch.features.table import TableMap, private_weight
from streamsketch.html import card
from streamsketch.privacy.clipping import user_limits
from streamsketch.privacy.combine import check_same_promise
from streamsketch.privacy.memory import Memory
from streamsketch.privacy.release import Releaser
from streamsketch.privacy.settings import Settings
from streamsketch.schema import Rejected, Schema
from streamsketch.schema.buffer import RowBuffer
from streamsketch.schema.rows import Encoded, as_table
from streamsketch.sketch import Sketch
from streamsketch.snapshot import Snapshot

__all__ = ["Sketcher", "spec_of"]

log = logging.getLogger(__name__)

MIDDLE = 48  # middle cells of an ordered column, where the table is narrow enough
PRIVATE_MIDDLE = 12  # fewer, larger cells stand out of the noise

DeadLetters = Callable[[Sequence[Rejected], Any], None]


#: Numbers of an encoded row, 4 bytes each: a batch of a thousand rows then has at most 512 MiB.
MOST_NUMBERS = 1 << 17


def spec_of(
    schema: Schema,
    frequencies: int = 1024,
    law: str = "multiscale",
    seed: int = 0,
    scale: float = 1.0,
    conditional: bool = False,
    map: str = "fourier",
    *,
    cells: bool | str = False,
    middle: int = 0,
    coarse: int = 0,
    triples: Sequence[Sequence[str]] = (),
    partners: Mapping[str, Sequence[str]] | None = None,
    max_cells: int = MAX_CELLS,
    private: bool = False,
) -> Spec:
    """The spec of an operator over a schema's encoded rows.

    Args:
        schema: The columns.
        frequencies: Number of frequencies.
        law: Frequency law.
        seed: Seed of the frequencies.
        scale: Kernel scale, a length.
        conditional: One block per label value.
        map: Feature map.
        cells: Count cells too; `auto` where the schema is a table's and nothing else was asked for.
        middle: Middle cells of an ordered column; 0 chooses.
        coarse: Coarse cells of an ordered column in triples; 0 counts no triples.
        triples: Names of the variables of each triple; none with `coarse` counts all.
        partners: The variables that each is paired with; None counts all pairs.
        max_cells: Counts that a sketch may have.
        private: Whether noise will be added: the weight of counts is chosen for it.

    Raises:
        ConfigError: Rows too wide, m below 1, conditional without a label column, or cells that do not fit.
    """
    frequencies, seed = whole(frequencies, "frequencies", 1), whole(seed, "seed")
    _check_width(schema)
    if conditional and schema.label is None:
        raise ConfigError(
            'a conditional sketch needs a label column; declare one with kind = "label"'
        )
    classes = len(schema.label_classes) if conditional else 1
    spec = Spec(law, schema.d, frequencies, scale, seed, schema.hash, classes, map)
    plain = not conditional and map == "fourier"
    pairs = pairs_of(partners or {})
    most = PRIVATE_MIDDLE if private else MIDDLE
    if cells == "auto":
        cells = plain and _fits(schema, middle, most, max_cells, pairs)
    if not cells:
        return spec
    if not plain:
        raise ConfigError(
            'cells are counted beside map = "fourier" without conditional, as a label is a column like any; '
            "leave both as they are, or set cells = false"
        )
    middle = middle or fitting_middle(schema, most, max_cells, pairs)
    named = tuple(tuple(names) for names in triples)
    layout = layout_of(schema, middle, coarse, named or None, pairs or None)
    if layout.size > max_cells:
        raise ConfigError(
            f"middle = {middle} and coarse = {coarse} count {layout.size} cells, more than max_cells = {max_cells}; "
            "lower them, or name the triples and partners that matter"
        )
    weight = private_weight(spec.m, layout.tables) if private else 1.0
    return replace(
        spec, middle=middle, coarse=coarse, triples=named, pairs=pairs, cell_weight=weight
    )


def _check_width(schema: Schema) -> None:
    """Refuse rows that are too wide for batches of them to be held in memory."""
    if schema.d > MOST_NUMBERS:
        wide = max(schema.columns, key=lambda column: len(column.values))
        raise ConfigError(
            f"a row of the schema is encoded to {schema.d:,} numbers, more than the {MOST_NUMBERS:,} that "
            f"batches are held in memory for; the most values, {len(wide.values):,}, are those of {wide.name!r}: "
            "declare the frequent ones, and others as one"
        )


def _fits(
    schema: Schema, middle: int, most: int, max_cells: int, pairs: tuple[tuple[str, ...], ...]
) -> bool:
    """Whether cells are counted where nobody said so: for a table whose pairs fit."""
    if not suits(schema):
        return False
    if middle or largest_middle(schema, most, max_cells, pairs):
        return True
    log.warning(
        "counts of all pairs of %d columns do not fit into max_cells = %d: none are made; name the pairs that "
        "matter as partners (`init` proposes them)", len(schema.columns), max_cells,
    )  # fmt: skip
    return False


def _mappings(data: Any) -> bool:
    """Whether it is rows given as mappings."""
    return isinstance(data, list | tuple) and bool(data) and isinstance(data[0], Mapping)


class Sketcher:
    """Learns rows once, keeps their sketch, releases snapshots of it.

    Args:
        schema: The columns and their limits.
        frequencies: m, the number of frequencies.
        law: Frequency law, a name in `frequencies.LAWS`.
        seed: Seed of the frequencies; equal seeds make sketches mergeable.
        scale: Kernel scale, a length in encoded space; or a released pilot snapshot to read it off.
        mechanism: How releases are protected; `none` is written into each snapshot.
        memory: What a release stands for: landmark, decayed:KEEP, tumbling, sliding:PANES, or `Decayed(0.99)` ...
        conditional: One block per label value.
        privacy: Settings of the mechanism.
        dead_letters: Called with the refused rows and their table; without it they raise.
        map: Feature map, a name in `features.MAPS`.
        stream: Name of the stream, written into every release.
        cells: Count cells too (single values, pairs of columns), for the generator of tables:
            `auto` does where the schema is a table's; False counts none.
        middle: Cells of an ordered column in its pairs; 0 chooses.
        coarse: Cells of an ordered column in triples; 0 counts no triples.
        triples: Names of the variables of each triple; none with `coarse` counts all.
        partners: The variables that each is paired with; None counts all pairs. `features.pilot.advise`
            proposes middle, coarse, triples and partners from a sample.
        max_cells: Counts that the sketch may have.

    Example:
        >>> schema = Schema.vectors(2, -1, 1)
        >>> s = Sketcher(schema, frequencies=8, seed=7)
        >>> s.learn_one({"x0": 0.5, "x1": -0.5})
        >>> s.learn_many(np.zeros((9, 2)))
        >>> s.release().count
        10.0
    """

    def __init__(
        self,
        schema: Schema,
        frequencies: int = 1024,
        law: str = "multiscale",
        seed: int = 0,
        scale: float | Snapshot = 1.0,
        mechanism: str = "none",
        memory: str | Memory = "landmark",
        conditional: bool = False,
        privacy: Settings | Mapping[str, Any] | None = None,
        dead_letters: DeadLetters | None = None,
        map: str = "fourier",
        stream: str = "stream",
        cells: bool | str = "auto",
        middle: int = 0,
        coarse: int = 0,
        triples: Sequence[Sequence[str]] = (),
        partners: Mapping[str, Sequence[str]] | None = None,
        max_cells: int = MAX_CELLS,
    ) -> None:
        expect(schema, Schema, "Sketcher takes a Schema", "propose one with Schema.propose(table)")
        self.schema = schema
        scale = scale_of(scale, private=mechanism != "none")
        spec = spec_of(
            schema, frequencies, law, seed, scale, conditional, map,
            cells=cells, middle=middle, coarse=coarse, triples=triples, partners=partners,
            max_cells=max_cells, private=mechanism != "none",
        )  # fmt: skip
        self.features: Map = build(spec, schema)
        self._sketch = Sketch.zero(self.features)
        self._buffer = RowBuffer(schema)
        self.dead_letters = dead_letters
        self.releaser = Releaser(
            self.features,
            schema,
            stream=stream,
            mechanism=mechanism,
            memory=memory,
            settings=privacy,
        )
        self.limits = user_limits(self.releaser.settings)

    @property
    def spec(self) -> Spec:
        """What identifies the operator."""
        return self.features.spec

    @property
    def fourier(self) -> FeatureMap:
        """The random Fourier features, without the counts of cells.

        Raises:
            ConfigError: The map is another.
        """
        found = self.features.fourier if isinstance(self.features, TableMap) else self.features
        expect(found, FeatureMap, 'features of rows need map = "fourier"', "sketch with that map")
        assert isinstance(found, FeatureMap)
        return found

    @property
    def sketch(self) -> Sketch:
        """The sum of all rows learned."""
        if len(self._buffer):
            self._add(self.schema.encode(self._buffer.take()))
        return self._sketch

    @sketch.setter
    def sketch(self, sketch: Sketch) -> None:
        self._sketch = sketch

    def learn_one(self, row: Mapping[str, Any]) -> None:
        """Learn one row given as a mapping; keys beyond the schema are ignored.

        Rows are encoded together, a thousand at a time; whoever asks for the sketch or a release
        has all of them. `learn_many` is still several times faster.

        Raises:
            DataError: The row is refused (and there is no `dead_letters`); nothing was learned.
        """
        if not self._buffer.add(row):
            expect(
                row,
                Mapping,
                "learn_one takes a mapping of column names to values",
                "for many rows there is learn_many",
            )
            self.learn_many(self.schema.batch_of([row]))
        elif self._buffer.full:
            self._add(self.schema.encode(self._buffer.take()))

    def learn_many(self, data: Any) -> None:
        """Learn a table, a data frame, rows as mappings, or points (n, d).

        Args:
            data: An Arrow table or batch; anything with `__arrow_c_stream__`, such as a data frame of
                pandas or polars, or a relation of DuckDB; a list of mappings; an array of points.

        Raises:
            DataError: A row is refused (and there is no `dead_letters`); nothing was learned.
            SchemaError: The columns do not fit the schema.
        """
        if _mappings(data):
            data = self.schema.batch_of(data)
        if isinstance(data, np.ndarray | list):
            if self.limits is not None:
                raise ConfigError(
                    'points have no user ids but unit is "user"; pass a table with the user column'
                )
            self.sketch.update(self.features, self.schema.encode_array(data))
            return
        table = as_table(data)
        encoded = self.schema.encode(table)
        if encoded.rejected:
            if self.dead_letters is None:
                from streamsketch.schema.rows import refusal

                raise DataError(refusal(encoded.rejected, table.num_rows))
            self.dead_letters(encoded.rejected, table)
        self._add(encoded)

    def _add(self, encoded: Encoded) -> None:
        x, labels = encoded.x, encoded.labels
        if self.limits is not None:
            keep = self.limits.admit(encoded.users, self.releaser.released)
            x, labels = x[keep], None if labels is None else labels[keep]
        self._sketch.update(self.features, x, labels)

    def learn_sketch(self, sketch: Sketch) -> None:
        """Learn the rows of a sketch that was summed elsewhere with the same operator.

        Raises:
            SpecMismatchError: The operators differ.
            ConfigError: Users are counted: their limits hold for one sketcher.
        """
        if self.limits is not None:
            raise ConfigError(
                'a sketch does not say whose rows it holds but unit is "user"; learn the rows themselves'
            )
        self.sketch = self.sketch.merge(sketch)

    def merge(self, other: "Sketcher") -> "Sketcher":
        """A new sketcher that has learned the rows of both; neither is changed.

        The result releases anew: it carries neither's releases. With privacy on, the rows have one
        budget: merging after a release is refused, and after merging only the result releases.

        Raises:
            SpecMismatchError: The operators differ.
            ConfigError: The promises differ, rows are in both, a private release was already made or a
                query paid, or users are counted (their limits hold for one sketcher).
        """
        expect(other, Sketcher, "merge takes a Sketcher", "for a Sketch there is learn_sketch")
        sketch = self.sketch.merge(other.sketch)
        check_same_promise(self.releaser, other.releaser)
        if self.releaser.private:
            for releaser in (self.releaser, other.releaser):
                releaser.retire("its rows were merged into another sketcher")
        merged: Sketcher = object.__new__(Sketcher)
        merged.schema, merged.features, merged.sketch = self.schema, self.features, sketch
        merged._buffer = RowBuffer(self.schema)
        merged.dead_letters = self.dead_letters
        origins = (*self.releaser.origins, *other.releaser.origins)
        merged.releaser, merged.limits = self.releaser.fresh(origins), None
        return merged

    def release(self) -> Snapshot:
        """Release what was learned, through the mechanism.

        Raises:
            BudgetError: The privacy budget is spent.
        """
        return self.releaser.release(self.sketch.total, self.sketch.count)

    def _repr_html_(self) -> str:
        private = self.releaser.private
        facts = {
            # how many rows came is no public figure where a mechanism is on
            "rows": None if private else self.sketch.count,
            "mechanism": self.releaser.mechanism, "law": self.spec.law, "frequencies": self.spec.m,
            "numbers kept": len(self._sketch.total), "releases": self.releaser.released,
            "operator": self.spec.fingerprint,
        }  # fmt: skip
        return card("Sketcher", facts, self.schema._repr_html_())

    def __repr__(self) -> str:
        return f"Sketcher({self.schema!r}, {self.features!r}, mechanism={self.releaser.mechanism})"
