"""Spark Structured Streaming: each micro-batch counts once, whatever is killed.

Spark writes down which rows a batch holds before it runs, and that it ran afterwards; a batch whose end
it did not write down runs again, with the same rows. The number of the last batch is saved in the same
write as the sums, so that such a batch is known again:

| killed | Spark's checkpoint | our state | at the next start |
|---|---|---|---|
| before our write | batch n is open | n - 1 | n runs, and is added |
| between our write and Spark's | batch n is open | n | n runs again, and is left out |
| after Spark's write | batch n is done | n | n + 1 runs |
"""

import logging
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from streamsketch.errors import ConfigError, SourceError
from streamsketch.ingest.part import PartState
from streamsketch.ingest.parts import State
from streamsketch.ingest.streams import Dead, DeadLetters, Dropped
from streamsketch.schema import Schema
from streamsketch.spark.frames import Operator, partials, refused, stop_at

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["Batches"]

log = logging.getLogger(__name__)

AT_ONCE = 1000  # refused rows that are handed on together


class Batches:
    """Adds the micro-batches of one query to the state of a stream: what `foreachBatch` calls.

    Args:
        state: The stream's state; the query is one part of it, which a former driver cannot save.
        schema: The columns.
        letters: Where refused rows go, before their batch is saved; None drops them after counting.
        on_refused: `skip` (rows are set apart), or `fail` (the first refused row ends the query).
        merge_tasks: How many tasks merge the partial sketches before the driver merges theirs.
        part: Name of the query among the parts of the stream.

    Attributes:
        saved: The part as it was saved last.
        error: What a batch failed with; Spark itself keeps no more than its text.

    >>> from streamsketch.spark import Batches  # doctest: +SKIP
    >>> batches = Batches(state, schema)  # doctest: +SKIP
    >>> writer = frame.writeStream.foreachBatch(batches)  # doctest: +SKIP
    >>> query = writer.option("checkpointLocation", "hdfs:///flights").start()  # doctest: +SKIP
    """

    def __init__(
        self,
        state: State,
        schema: Schema,
        letters: DeadLetters | None = None,
        on_refused: str = "skip",
        merge_tasks: int = 8,
        part: str = "spark",
    ) -> None:
        self.state, self.schema = state, schema
        self.letters: DeadLetters = letters or Dropped()
        self.on_refused, self.merge_tasks = on_refused, merge_tasks
        self.operator = Operator.of(schema, state.features.spec)
        self.saved: PartState = state.claim(part)
        self.error: Exception | None = None

    def __call__(self, df: "DataFrame", number: int) -> None:
        """Add a micro-batch, unless it was added before."""
        try:
            self.add(df, number, _query(df))
        except Exception as e:
            self.error = e
            raise

    def add(self, df: "DataFrame", number: int, query: str) -> bool:
        """Add batch `number` of a query; whether its rows were new.

        Raises:
            SourceError: The batch does not follow the last one: the checkpoint is another query's,
                or older or newer than the state.
            DataError: Rows were refused, with `on_refused` = "fail".
            FencedError: Another driver has taken the query over; nothing of this batch counts.
        """
        if self._known(number, query):
            log.info("batch %d of the query was added before; it is left out", number)
            return False
        found = partials(df, self.operator, self.merge_tasks)
        stop_at(found, self.on_refused)
        if found.refused and not isinstance(self.letters, Dropped):
            self._set_apart(df, number)
        part = replace(
            self.saved,
            sketch=self.saved.sketch.merge(found.sketch),
            dead=self.saved.dead + found.refused,
            position={"query": query, "batch": number},
        )
        self.state.save(part)
        self.saved = part
        return True

    def knows(self, query: str) -> bool:
        """Whether the last batch that was added is of this query."""
        return self.saved.position is not None and self.saved.position["query"] == query

    def _known(self, number: int, query: str) -> bool:
        """Whether a batch was added before."""
        at = self.saved.position
        last = -1 if at is None else int(at["batch"])
        if at is not None and at["query"] != query:
            raise SourceError(
                f"the state stands at batch {last} of query {at['query']}, this checkpoint is of query {query}: its "
                "batches may hold other rows; go on with the checkpoint of that query, or use a new store"
            )
        if last < 0 < number:
            raise SourceError(
                f"the checkpoint begins at batch {number}, and nothing is known of those before it; use a new "
                "checkpoint, or put back the state that belongs to this one"
            )
        if number in (last, last + 1):
            return number == last
        newer = "older" if number < last else "newer"
        raise SourceError(
            f"the state stands at batch {last}, the checkpoint at {number}: it is {newer} than the state, so that "
            "rows would count twice or not at all; put back the checkpoint and the state of one moment"
        )

    def _set_apart(self, df: "DataFrame", number: int) -> None:
        """Hand refused rows on, with their batch for a place, before the batch is saved."""
        found = iter(refused(df, self.schema).toLocalIterator())
        while rows := list(islice(found, AT_ONCE)):
            self.letters.put([Dead(row.row, row.reason, {"batch": number}) for row in rows])
        self.letters.flush()


def _query(df: "DataFrame") -> str:
    """The query that a batch is of: its id is written into Spark's checkpoint, and lasts as long."""
    session = df.sparkSession
    if not hasattr(session, "_jsc"):
        raise ConfigError(
            "a stream is added by its driver, which Spark Connect keeps on the server; use a classic session "
            "(spark-submit), or streamsketch.spark.sketch for frames that are read once"
        )
    return str(session.sparkContext.getLocalProperty("sql.streaming.queryId"))
