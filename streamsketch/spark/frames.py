"""A data frame to a sketch: what runs in a task, and how the parts come together."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamsketch._version import __version__
from streamsketch.errors import ConfigError, DataError, SpecMismatchError
from streamsketch.features import Map, Spec, build
from streamsketch.schema import Schema
from streamsketch.schema.rows import refusal
from streamsketch.sketch import Sketch
from streamsketch.sketcher import Sketcher

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Operator", "partials", "refused", "sketch"]

ON_REFUSED = ("fail", "skip")

Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Operator:
    """What a task needs to sketch: plain text, never a matrix of frequencies.

    Attributes:
        schema: The schema's columns as JSON.
        spec: The operator's spec as JSON.
        version: Version of streamsketch on the driver.
    """

    schema: str
    spec: str
    version: str = __version__

    @classmethod
    def of(cls, sketcher: Sketcher) -> "Operator":
        """The operator of a sketcher."""
        schema = json.dumps(list(sketcher.schema.to_dict().items()))
        return cls(schema, json.dumps(sketcher.spec.to_dict()))

    @cached_property
    def columns(self) -> Schema:
        """The schema."""
        return Schema.from_dict(dict(json.loads(self.schema)))

    @cached_property
    def features(self) -> Map:
        """The feature map, its frequencies drawn anew.

        Raises:
            SpecMismatchError: This machine makes another operator of the same text.
        """
        spec = Spec.from_dict(json.loads(self.spec))
        if self.columns.hash != spec.schema_hash:
            raise SpecMismatchError(
                f"the driver's schema has hash {spec.schema_hash} (streamsketch {self.version}), here it has "
                f"{self.columns.hash} (streamsketch {__version__}); install the same version on both"
            )
        made: Map = build(spec, self.columns)
        return made


def sketch(
    df: "DataFrame",
    schema: Schema,
    *,
    on_refused: str = "fail",
    merge_tasks: int = 8,
    **options: Any,
) -> Sketcher:
    """Sketch all rows of a data frame.

    Args:
        df: Any data frame, of a classic session or of Spark Connect; columns beyond the schema's are
            not read.
        schema: The columns and their limits.
        on_refused: `fail` (a row that the schema refuses fails the job) or `skip` (it is left out;
            `refused` lists such rows).
        merge_tasks: How many tasks merge the partial sketches before the driver merges theirs.
        options: Settings of `Sketcher`: frequencies, law, seed, mechanism, privacy ...

    Returns:
        A sketcher that has learned the rows: release it, or merge it with others.

    Raises:
        ConfigError: A wrong argument, or a protected unit of users (their limits need one process).
        DataError: Rows were refused, with `on_refused` = "fail".
        SpecMismatchError: A worker has another version whose operator differs.
    """
    sketcher = Sketcher(schema, **options)
    if sketcher.limits is not None:
        raise ConfigError(
            'unit = "user" counts the rows of each user in one process, and tasks cannot; use unit = "row"'
        )
    for part, reasons in partials(df, Operator.of(sketcher), on_refused, merge_tasks):
        if reasons and on_refused == "fail":
            raise DataError(f"{reasons}; correct the rows, or pass on_refused = 'skip'")
        sketcher.learn_sketch(part)
    return sketcher


def partials(
    df: "DataFrame", operator: Operator, on_refused: str = "fail", merge_tasks: int = 8
) -> list[tuple[Sketch, str]]:
    """The partial sketches of a data frame, each with the first reason for a refusal in it."""
    if on_refused not in ON_REFUSED:
        raise ConfigError(f"on_refused = {on_refused!r} must be one of {', '.join(ON_REFUSED)}")
    if merge_tasks < 1:
        raise ConfigError(f"merge_tasks = {merge_tasks} must be at least 1")
    tasks = _columns(df, operator.columns).mapInArrow(_sketching(operator), PARTIAL)
    merged = tasks.repartition(merge_tasks).mapInArrow(_merging, PARTIAL)
    return [(Sketch.from_bytes(bytes(row.sketch)), row.reason) for row in merged.collect()]


def refused(df: "DataFrame", schema: Schema) -> "DataFrame":
    """The rows of a data frame that the schema refuses: columns `row` (JSON) and `reason`.

    It is computed when an action asks for it: `refused(df, schema).write.json("dead-letters")`.
    """
    columns = json.dumps(list(schema.to_dict().items()))
    return _columns(df, schema).mapInArrow(_refusing(columns), "row string, reason string")


PARTIAL = "sketch binary, reason string"


def _columns(df: "DataFrame", schema: Schema) -> "DataFrame":
    """The schema's columns alone: others are not even sent to the tasks."""
    wanted = [c.name for c in schema.columns if c.read]
    missing = [name for name in wanted if name not in df.columns]
    if missing:
        raise ConfigError(
            f"the data frame has no column {', '.join(map(repr, missing))}, which the schema reads; it has "
            f"{', '.join(map(repr, df.columns))}"
        )
    return df.select(*[f"`{name.replace('`', '``')}`" for name in wanted])


def _partial(sketch: Sketch, reason: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"sketch": [sketch.to_bytes()], "reason": [reason]})


def _sketching(operator: Operator) -> Task:
    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sketch, first = Sketch.zero(operator.features), ""
        for batch in batches:
            rows = operator.columns.encode(batch)
            if rows.rejected and not first:
                first = refusal(rows.rejected, batch.num_rows)
            sketch.update(operator.features, rows.x, rows.labels)
        yield _partial(sketch, first)

    return task


def _merging(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = [row for batch in batches for row in batch.to_pylist()]
    if rows:
        total = reduce(Sketch.merge, (Sketch.from_bytes(row["sketch"]) for row in rows))
        yield _partial(total, next((row["reason"] for row in rows if row["reason"]), ""))


def _refusing(columns: str) -> Task:
    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema = Schema.from_dict(dict(json.loads(columns)))
        for batch in batches:
            rejected = schema.encode(batch).rejected
            rows = batch.take(pa.array([r.row for r in rejected], pa.int64())).to_pylist()
            yield pa.RecordBatch.from_pydict(
                {
                    "row": pa.array([json.dumps(row, default=str) for row in rows], pa.string()),
                    "reason": pa.array(
                        [f"column {r.column!r}: {r.reason}" for r in rejected], pa.string()
                    ),
                }
            )

    return task
