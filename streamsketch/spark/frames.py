"""A data frame to a sketch: what runs in a task, and how the parts come together."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from streamsketch import errors
from streamsketch._version import __version__
from streamsketch.errors import (
    ConfigError,
    DataError,
    SourceError,
    SpecMismatchError,
    StreamSketchError,
)
from streamsketch.features import Map, Spec, build
from streamsketch.schema import Schema
from streamsketch.schema.rows import refusal
from streamsketch.sketch import Sketch
from streamsketch.sketcher import Sketcher

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Operator", "Partial", "partials", "refused", "sketch"]

ON_REFUSED = ("fail", "skip")

Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Operator:
    """What a task needs to sketch: plain text, never a matrix of frequencies.

    Attributes:
        schema: The schema's columns as JSON.
        spec: The operator's spec as JSON.
        fingerprint: The operator's fingerprint on the driver.
        version: Version of streamsketch on the driver.
    """

    schema: str
    spec: str
    fingerprint: str
    version: str = __version__

    @classmethod
    def of(cls, schema: Schema, spec: Spec) -> "Operator":
        """The operator of a spec for a schema."""
        columns = json.dumps(list(schema.to_dict().items()))
        return cls(columns, json.dumps(spec.to_dict()), spec.fingerprint)

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
        theirs = f"the driver (streamsketch {self.version})"
        if self.columns.hash != spec.schema_hash:
            raise SpecMismatchError(
                f"{theirs} has the schema {spec.schema_hash}, this worker (streamsketch {__version__}) makes "
                f"{self.columns.hash} of it; install the same version on both"
            )
        if spec.fingerprint != self.fingerprint:
            raise SpecMismatchError(
                f"{theirs} has the operator {self.fingerprint}, this worker (streamsketch {__version__}) makes "
                f"{spec.fingerprint} of it; install the same version on both"
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
        merge_tasks: How many tasks merge the partial sketches before the driver merges theirs; 0
            where they are so few that the driver merges all.
        options: Settings of `Sketcher`: frequencies, law, seed, mechanism, privacy ...

    Returns:
        A sketcher that has learned the rows: release it, or merge it with others.

    Raises:
        ConfigError: A wrong argument, or a protected unit of users (their limits need one process).
        DataError: Rows were refused, with `on_refused` = "fail".
        SpecMismatchError: A worker has another version whose operator differs.
    """
    if on_refused not in ON_REFUSED:
        raise ConfigError(f"on_refused = {on_refused!r} must be one of {', '.join(ON_REFUSED)}")
    sketcher = Sketcher(schema, **options)
    if sketcher.limits is not None:
        raise ConfigError(
            'unit = "user" counts the rows of each user in one process, and tasks cannot; use unit = "row"'
        )
    found = partials(df, Operator.of(schema, sketcher.spec), merge_tasks)
    stop_at(found, on_refused)
    sketcher.learn_sketch(found.sketch)
    return sketcher


@dataclass(frozen=True)
class Partial:
    """What came of a data frame, or of a part of it.

    Attributes:
        sketch: The sum of its rows.
        refused: How many rows the schema refused.
        reason: Why, of the first of them; empty where none was.
    """

    sketch: Sketch
    refused: int = 0
    reason: str = ""

    def merge(self, other: "Partial") -> "Partial":
        """Both together."""
        return Partial(
            self.sketch.merge(other.sketch),
            self.refused + other.refused,
            self.reason or other.reason,
        )


def stop_at(found: Partial, on_refused: str) -> None:
    """Raise DataError where rows were refused that must not be."""
    if found.refused and on_refused == "fail":
        raise DataError(f"{found.reason}; correct the rows, or pass on_refused = 'skip'")


def partials(df: "DataFrame", operator: Operator, merge_tasks: int = 8) -> Partial:
    """The rows of a data frame, summed by its tasks, then by `merge_tasks`, then here.

    Raises:
        StreamSketchError: What a task met, as it said it.
    """
    if merge_tasks < 0:
        raise ConfigError(f"merge_tasks = {merge_tasks} must be at least 0")
    tasks = _columns(df, operator.columns).mapInArrow(_sketching(operator), PARTIAL)
    if merge_tasks:
        tasks = tasks.repartition(merge_tasks).mapInArrow(_merging, PARTIAL)
    total = Partial(Sketch.zero(operator.features))
    for row in tasks.collect():
        total = total.merge(_unpacked(row.asDict()))
    return total


def refused(df: "DataFrame", schema: Schema) -> "DataFrame":
    """The rows of a data frame that the schema refuses: columns `row` (JSON) and `reason`.

    It is computed when an action asks for it: `refused(df, schema).write.json("dead-letters")`.
    """
    columns = json.dumps(list(schema.to_dict().items()))
    return _columns(df, schema).mapInArrow(_refusing(columns), "row string, reason string")


PARTIAL = "sketch binary, refused long, reason string, failure string"


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


def _packed(made: Partial) -> pa.RecordBatch:
    return _row(made.sketch.to_bytes(), made.refused, made.reason, "")


def _row(sketch: bytes, refused: int, reason: str, failure: str) -> pa.RecordBatch:
    row = {"sketch": sketch, "refused": refused, "reason": reason, "failure": failure}
    return pa.RecordBatch.from_pylist([row])


def _unpacked(row: dict[str, Any]) -> Partial:
    """A partial of a task; what the task failed with is raised here, as it said it."""
    if row["failure"]:
        kind, _, message = row["failure"].partition(": ")
        raise getattr(errors, kind, SourceError)(message)
    return Partial(Sketch.from_bytes(bytes(row["sketch"])), row["refused"], row["reason"])


def _telling(work: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]) -> Task:
    """A task that hands its error to the driver, instead of a traceback of another machine."""

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from work(batches)
        except StreamSketchError as e:
            yield _row(b"", 0, "", f"{type(e).__name__}: {e}")

    return task


def _sketching(operator: Operator) -> Task:
    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sketch, refused, reason = Sketch.zero(operator.features), 0, ""
        for batch in batches:
            rows = operator.columns.encode(batch)
            if rows.rejected:
                reason = reason or refusal(rows.rejected, batch.num_rows)
                refused += len({r.row for r in rows.rejected})
            sketch.update(operator.features, rows.x, rows.labels)
        yield _packed(Partial(sketch, refused, reason))

    return _telling(task)


@_telling
def _merging(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    total: Partial | None = None
    for row in (row for batch in batches for row in batch.to_pylist()):
        found = _unpacked(row)
        total = found if total is None else total.merge(found)
    if total is not None:
        yield _packed(total)


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
