"""A synthesizer with the verbs of SDV: `fit(df)`, `sample(n)`, `save`, `load`; its metadata is read.

Unlike SDV's, it can go on with new rows (`partial_fit`), keeps no row, and saves no pickle.
"""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from streamsketch.errors import ConfigError, DataError
from streamsketch.expect import expect
from streamsketch.generator import Generator, fit
from streamsketch.schema import Schema
from streamsketch.schema.rows import as_table
from streamsketch.sketcher import Sketcher

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Synthesizer"]

log = logging.getLogger(__name__)

KEPT = ("numerical", "categorical", "boolean", "datetime")


class Synthesizer:
    """Learns a table from one pass over it, and draws new rows.

    Args:
        metadata: SDV's metadata (the object, or its dictionary) of one table. Columns of another
            sdtype than numerical, categorical, boolean and datetime (ids, names, addresses) are
            left out: what they hold of persons is not to be learned. Without it all columns are
            taken as they are.
        schema: Declared limits, in place of those that are read off the first rows. A mechanism
            needs them: what is read off rows is not private.
        settings: Of `Sketcher`: frequencies, seed, mechanism, privacy, ...

    Example:
        >>> table = pa.table({"age": list(range(20, 70)) * 4, "sex": ["f", "m"] * 100})
        >>> model = Synthesizer().fit(table)
        >>> model.sample(3).shape, model.generator is not None
        ((3, 2), True)
    """

    def __init__(
        self, metadata: Any = None, *, schema: Schema | None = None, **settings: Any
    ) -> None:
        self.kinds = _kinds(metadata)
        self.schema, self.settings = schema, settings
        self.sketcher: Sketcher | None = None
        self.generator: Generator | None = None
        if settings.get("mechanism", "none") != "none" and schema is None:
            raise ConfigError(
                f"mechanism = {settings['mechanism']!r} needs declared limits, as those of the rows are not "
                "private; pass schema="
            )

    def fit(self, data: Any, seconds: float = 30) -> Self:
        """Forget everything, then learn the rows of a data frame and train.

        Raises:
            DataError: A row does not fit the declared schema or metadata.
            SchemaError: A column does not.
        """
        self.sketcher = None
        return self.partial_fit(data, seconds)

    def partial_fit(self, data: Any, seconds: float = 30) -> Self:
        """Learn rows in addition, and train on all of them, from the generator so far on.

        Limits that are not declared are those of the first rows; values beyond them are clipped.
        """
        table = self._typed(as_table(data))
        if self.sketcher is None:
            schema = self.schema or Schema.propose(table)
            self.sketcher, self.generator = Sketcher(schema, **self.settings), None
        self.sketcher.learn_many(table)
        self.generator = fit(self.sketcher.release(), seconds, start=self.generator)
        return self

    def sample(self, num_rows: int, seed: int = 0) -> "pd.DataFrame":
        """A pandas data frame of new rows.

        Raises:
            ConfigError: It was not fitted.
        """
        generator = self._trained()
        if find_spec("pandas") is None:
            raise ConfigError(
                "sample gives a data frame of pandas; install it: pip install pandas"
            )
        return generator.sample(num_rows, seed).to_pandas()

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Write the generator to a file: weights, schema, snapshot; no row, no pickle."""
        self._trained().save(filepath)

    @classmethod
    def load(cls, filepath: str | os.PathLike[str]) -> Self:
        """Read a generator to sample from; to go on learning, keep the rows' `Sketcher`."""
        made = cls()
        made.generator = Generator.load(filepath)
        return made

    def _trained(self) -> Generator:
        if self.generator is None:
            raise ConfigError("the synthesizer has learned nothing yet; call fit(data) first")
        return self.generator

    def _typed(self, table: pa.Table) -> pa.Table:
        """The columns that are learned, of the types that the metadata says."""
        if self.kinds is None:
            return table
        missing = [name for name in self.kinds if name not in table.column_names]
        if missing:
            raise DataError(f"the metadata names the columns {missing}, which the data has not")
        kept = {n: k for n, (k, _) in self.kinds.items() if k in KEPT}
        left = [name for name in table.column_names if name not in kept]
        if left:
            log.warning("columns %s are left out: they are ids, or hold what is personal", left)
        return pa.table({name: self._column(table, name) for name in kept})

    def _column(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        assert self.kinds is not None
        column, (kind, form) = table.column(name), self.kinds[name]
        try:
            if kind == "categorical" and not pa.types.is_dictionary(column.type):
                return column.cast(pa.string())
            if kind == "boolean":
                return column.cast(pa.bool_())
            if kind == "datetime" and not pa.types.is_temporal(column.type):
                text = column.cast(pa.string())
                return pc.strptime(text, form, "us") if form else text.cast(pa.timestamp("us"))
            if kind == "numerical" and not pa.types.is_integer(column.type):
                return column.cast(pa.float64())
        except pa.ArrowException as e:
            raise DataError(f"column {name!r} is not {kind}, as the metadata says ({e})") from None
        return column


def _kinds(metadata: Any) -> dict[str, tuple[str, str]] | None:
    """Columns to sdtypes and formats of times, of SDV's metadata of one table."""
    if metadata is None:
        return None
    found = metadata.to_dict() if hasattr(metadata, "to_dict") else metadata
    expect(found, Mapping, "metadata is SDV's", "pass the object or its dictionary")
    if "tables" in found:
        if len(found["tables"]) != 1:
            raise ConfigError(
                f"the metadata is of {len(found['tables'])} tables; a synthesizer takes one"
            )
        found = next(iter(found["tables"].values()))
    if not isinstance(found.get("columns"), Mapping):
        raise ConfigError('the metadata has no "columns"; pass SDV\'s metadata of one table')
    return {
        name: (str(one.get("sdtype", "unknown")), str(one.get("datetime_format") or ""))
        for name, one in found["columns"].items()
    }
