"""One connection of the Arrow source: stream after stream until the other side closes."""

import logging
from collections.abc import Callable, Iterator

import pyarrow as pa

from streamsketch.errors import DataError, SchemaError
from streamsketch.schema import Schema
from streamsketch_consumers.arrow.settings import ArrowSettings
from streamsketch_consumers.arrow.wire import Wire
from streamsketch_consumers.columns import check_columns, select, sound, text_types, wanted
from streamsketch_consumers.decode.binary import BodyLimit
from streamsketch_consumers.files.pieces import DAMAGE

__all__ = ["Reading"]

log = logging.getLogger("streamsketch_consumers.arrow.source")


class Reading:
    """One connection: its batches, small ones that come together put into one.

    Args:
        add: Called with rows.
        settings: Of the source.
        schema: The declared columns.
        wire: The connection.
    """

    def __init__(
        self,
        add: Callable[[pa.RecordBatch], None],
        settings: ArrowSettings,
        schema: Schema,
        wire: Wire,
    ) -> None:
        self._add, self._settings, self._schema, self._wire = add, settings, schema, wire
        self._names, self._types = wanted(schema), text_types(schema)
        self._small: list[pa.RecordBatch] = []
        self._small_rows = 0
        self._first: pa.Schema | None = None
        wire.before_wait = self.hand_over

    def to_end(self, again: int) -> None:
        """Read until the other side closes; the first `again` rows were counted before.

        Raises:
            DataError: The stream is cut, damaged, or shorter than what was counted before.
            SchemaError: Its columns do not fit, or change.
        """
        before = again
        for batch in self._batches():
            passed = min(again, batch.num_rows)
            again -= passed
            self._gather(batch.slice(passed))
        self.hand_over()
        if again:
            raise DataError(
                f"the stream has {again} rows fewer than were counted before ({before}), but "
                "replayed = true says that it begins at the beginning; correct the producer or the "
                "setting"
            )

    def _gather(self, batch: pa.RecordBatch) -> None:
        """Put small batches that come together into one; a long one is not copied."""
        if self._small and not self._small[0].schema.equals(batch.schema):
            self.hand_over()
        if self._small_rows + batch.num_rows > self._settings.batch_rows:
            self.hand_over()
        if batch.num_rows:
            self._small.append(batch)
            self._small_rows += batch.num_rows

    def hand_over(self) -> None:
        """Queue what was gathered."""
        if self._small:
            small, self._small, self._small_rows = self._small, [], 0
            self._add(pa.concat_batches(small) if len(small) > 1 else small[0])

    def _batches(self) -> Iterator[pa.RecordBatch]:
        n, wire = 0, self._wire
        try:
            while not wire.at_end():
                for batch in self._declared():
                    n += batch.num_rows
                    yield batch
                if wire.ended:
                    log.warning(
                        "the stream ended without its end mark after %d rows; the producer may "
                        "have died",
                        n,
                    )
                    return
        except (*DAMAGE, DataError) as e:
            self._check_change(n)
            raise DataError(
                f"the Arrow stream {self._settings.path!r} is cut or damaged after {n} rows at "
                f"byte {wire.offset} "
                f"({e}); the rows before are kept; look at the producer"
            ) from e

    def _declared(self) -> Iterator[pa.RecordBatch]:
        """The batches of one stream; columns that are not read are not unpacked either."""
        names, types = self._names, self._types
        begin = self._wire.record()
        schema = pa.ipc.read_schema(self._wire)
        self._wire.again(begin)
        self._check(schema)
        fields = [schema.get_field_index(n) for n in names if n in schema.names]
        self._wire.check_body = BodyLimit(
            [schema.field(i).type for i in range(len(schema))], set(fields), self._wire.limit
        )
        reader = pa.ipc.open_stream(
            self._wire, options=pa.ipc.IpcReadOptions(included_fields=fields)
        )
        for whole in reader:
            yield sound(select(whole, names, types))

    def _check(self, found: pa.Schema) -> None:
        """Compare a stream's columns with the schema: what that admits may also change."""
        settings = self._settings
        check_columns(
            self._schema, found, f"stream {settings.path!r}",
            missing=settings.missing, extra=settings.extra,
        )  # fmt: skip
        if self._first is not None and not found.equals(self._first):
            log.warning(
                "the columns changed from (%s) to (%s); the schema admits both",
                _line(self._first), _line(found),
            )  # fmt: skip
        self._first = found

    def _check_change(self, rows: int) -> None:
        """Say so if the message that was refused is a new schema inside of a stream."""
        last = self._wire.last
        message = b"\xff\xff\xff\xff" + len(last).to_bytes(4, "little") + last
        try:
            found = pa.ipc.read_schema(pa.py_buffer(message))
        except DAMAGE:
            return
        if self._first is not None:
            raise SchemaError(
                f"the columns changed in mid-stream after {rows} rows, from "
                f"({_line(self._first)}) to ({_line(found)}), without the end of the stream; end "
                "it and begin another on the same connection"
            )


def _line(schema: pa.Schema) -> str:
    return ", ".join(
        f"{f.name if f.name.isprintable() else repr(f.name)}: {f.type}" for f in schema
    )
