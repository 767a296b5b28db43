"""A pipeline file whose rows Spark reads: micro-batches into the state, releases from here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from annotated_types import Ge, Gt

from streamsketch.errors import ConfigError, SourceError
from streamsketch.ingest.discretion import discreet
from streamsketch.ingest.parts import State
from streamsketch.ingest.schedule import Releases
from streamsketch.plain import first_line
from streamsketch.run.consume import dead_letters_of
from streamsketch.run.status import Status
from streamsketch.schema import Schema
from streamsketch.storage.clock import Clock
from streamsketch.tables import checked, key, takes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from streamsketch.run.config import Pipeline
    from streamsketch.spark import Batches

__all__ = ["SparkSettings", "make", "run_spark"]

WHO = "source 'spark'"
READ_ONCE = "read once"  # the query of a frame that is no stream
TICK_SECONDS = 0.5


@dataclass(frozen=True)
class SparkSettings:
    """[source] of type "spark": what Spark reads, by any of its readers.

    Attributes:
        format: Spark's name of the reader, such as parquet, kafka, delta, rate.
        options: The reader's options.
        columns: Columns and types of files, as Spark writes them: `x double, colour string`.
        select: SQL expressions that make the schema's columns of what is read.
        stream: Read as a stream, batch by batch; false reads the whole once.
        follow: Wait for more; false ends when all that was there is read.
        trigger_seconds: With `follow`, start a batch so often; as soon as the last ends by default.
        checkpoint: Folder or URL of Spark's own checkpoint; in the state folder by default.
        merge_tasks: How many tasks merge the partial sketches before the driver does.
    """

    format: str
    options: dict[str, str] = field(default_factory=dict)
    columns: str | None = None
    select: tuple[str, ...] = ()
    stream: bool = True
    follow: bool = False
    trigger_seconds: Annotated[float, Gt(0)] | None = None
    checkpoint: str | None = key(None, location=True)
    merge_tasks: Annotated[int, Ge(0)] = 8

    @classmethod
    def of(cls, pipeline: "Pipeline") -> "SparkSettings":
        """The settings of a pipeline file.

        Raises:
            ConfigError: The source is another, a setting is wrong, or a table of the file needs one
                process that sees the rows in order.
        """
        if pipeline.source.type != "spark":
            raise ConfigError(
                f"source.type is {pipeline.source.type!r}, and only 'spark' is read by Spark; set it, or use "
                "`streamsketch consume`"
            )
        for table in ("windows", "dedup", "drift"):
            if getattr(pipeline, table) is not None:
                raise ConfigError(
                    f"{table}: needs the rows of a part in their order, which tasks do not see; remove the "
                    "table, or read the stream by `streamsketch consume`"
                )
        if pipeline.privacy.settings.get("unit") == "user":
            raise ConfigError(
                'privacy.unit: users are counted by one process, and tasks cannot; set unit = "row"'
            )
        settings = pipeline.source.settings
        return settings if isinstance(settings, cls) else checked(cls, settings, WHO)


@takes(SparkSettings, WHO)
def make(settings: SparkSettings, schema: Schema) -> NoReturn:
    """The entry point `spark`: its rows never come to this process."""
    raise ConfigError(
        "the rows of source 'spark' are sketched where Spark reads them; use `streamsketch spark`"
    )


def run_spark(
    pipeline: "Pipeline", stop: threading.Event, session: "SparkSession | None" = None
) -> dict[str, Any]:
    """Read the source of a pipeline file by Spark until it ends or `stop` is set; the last status.

    Args:
        pipeline: Its `[source]` has type "spark".
        stop: Set by a signal handler.
        session: That of spark-submit, or a new one, by default.

    Raises:
        ConfigError: See `SparkSettings.of`.
        SourceError: Spark fails, or its checkpoint does not belong to the state.
    """
    settings = SparkSettings.of(pipeline)
    try:
        from pyspark.sql import SparkSession

        from streamsketch.spark import Batches
    except ImportError:
        raise ConfigError("Spark is not installed; pip install 'streamsketch[spark]'") from None
    features, store = pipeline.features(), pipeline.store()
    state = State(store.state_dir, features, store.records)
    letters = dead_letters_of(pipeline, 0)
    releases = Releases(
        state,
        store,
        lambda: pipeline.releaser(features),
        pipeline.snapshots,
        Clock(),
    )
    session = session or SparkSession.builder.appName(pipeline.source.name).getOrCreate()
    fail = pipeline.dead_letters.on_error == "fail"
    status = Status(store.state_dir, "consumer-0")
    with discreet(state.folder) if releases.private else nullcontext():
        batches = Batches(
            state,
            pipeline.schema,
            letters,
            "fail" if fail else "skip",
            settings.merge_tasks,
            f"spark:{pipeline.source.name}",
        )

        def tick() -> None:
            if releases.due({}):
                releases.release()
            status.write(_figures(batches, releases.private))

        try:
            if letters is not None:
                letters.flush()  # what cannot take them says so before a row is read
            if settings.stream:
                checkpoint = settings.checkpoint or str(state.folder / "spark-checkpoint")
                _follow(session, settings, checkpoint, batches, stop, releases, tick)
            elif not batches.knows(READ_ONCE):
                batches.add(_loaded(session.read, settings), 0, READ_ONCE)
            ended = not stop.is_set()
            if ended:
                releases.release(wait=True, last=True)
            tick()
        finally:
            if letters is not None:
                letters.close()
            status.end()
    return status.figures


def _follow(
    session: "SparkSession",
    settings: SparkSettings,
    checkpoint: str,
    batches: "Batches",
    stop: threading.Event,
    releases: Releases,
    tick: Any,
) -> None:
    """Run the query until it ends, and release meanwhile."""
    from pyspark.errors import StreamingQueryException

    writer = _loaded(session.readStream, settings).writeStream.foreachBatch(batches)
    writer = writer.option("checkpointLocation", checkpoint)
    if not settings.follow:
        writer = writer.trigger(availableNow=True)
    elif settings.trigger_seconds is not None:
        writer = writer.trigger(processingTime=f"{settings.trigger_seconds} seconds")
    seen = batches.saved.position
    with _said(batches):
        query = writer.start()
        try:
            while not stop.is_set() and not query.awaitTermination(TICK_SECONDS):  # type: ignore[arg-type]
                if batches.saved.position != seen:
                    seen = batches.saved.position
                    releases.saved(batches.saved.rows)
                tick()
        except StreamingQueryException as e:
            raise SourceError(f"Spark's query failed: {_first(e)}") from None
        finally:
            query.stop()


@contextmanager
def _said(batches: "Batches") -> Iterator[None]:
    """What a batch failed with comes out as it was said, not as Spark wraps it."""
    try:
        yield
    except SourceError:
        if batches.error is not None:
            raise batches.error from None
        raise


def _loaded(reader: Any, settings: SparkSettings) -> "DataFrame":
    """What is read, in the schema's columns."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        reader = reader.format(settings.format).options(**settings.options)
        if settings.columns is not None:
            reader = reader.schema(settings.columns)
        frame: DataFrame = reader.load()
        return frame.selectExpr(*settings.select) if settings.select else frame
    except (PySparkException, Py4JError) as e:
        raise SourceError(f"Spark cannot read {settings.format!r}: {_first(e)}") from None


def _figures(batches: "Batches", private: bool) -> dict[str, Any]:
    """What a status may show: nothing that depends on a row where a mechanism is on."""
    part = batches.saved
    if private:
        return {"parts": 1}
    return {
        "parts": 1,
        "rows": part.sketch.count,
        "dead": part.dead,
        "batch": (part.position or {}).get("batch"),
    }


def _first(error: Exception) -> str:
    """The sentence of an error, without the traces of two languages."""
    if hasattr(error, "java_exception"):
        return str(error.java_exception.getMessage())
    return first_line(error)
