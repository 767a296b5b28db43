"""What decoders take and give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streamsketch_consumers.decode.registry import RegistrySettings

__all__ = ["Bad", "Decoder", "Limits", "Options", "Rows", "joined"]


@dataclass(frozen=True)
class Limits:
    """What one message may cost.

    Attributes:
        message_bytes: Largest value of a message.
        rows: Most rows of an Arrow message.
        decoded_bytes: Largest size of an Arrow message after decompression.
    """

    message_bytes: int = 8 << 20
    rows: int = 1 << 20
    decoded_bytes: int = 256 << 20


@dataclass(frozen=True)
class Options:
    """Settings of the formats.

    Attributes:
        limits: What one message may cost.
        missing: json, ndjson, avro, arrow: a field that is not there is `refuse`d, or taken as `null`.
        delimiter: csv: between values.
        avro_schema: avro: the writer's schema as JSON text.
        confluent_header: avro: values begin with the 5 bytes of a schema registry, to be skipped.
        registry: Where the schemas are that messages name, None where they name none.
        extra: json, ndjson, avro, protobuf, arrow: a field that is not declared is `ignore`d, or `refuse`d.
        unwrap: json, ndjson, avro, protobuf: the field that holds the row, such as `after` of a change event.
        event_time: A further column to read, a time that the schema does not declare.
    """

    limits: Limits = field(default_factory=Limits)
    missing: str = "refuse"
    delimiter: str = ","
    avro_schema: str = ""
    confluent_header: bool = False
    registry: "RegistrySettings | None" = None
    event_time: str | None = None
    extra: str = "ignore"
    unwrap: str = ""


@dataclass(frozen=True)
class Rows:
    """Good rows.

    Attributes:
        batch: The rows, in message order.
        origin: (n,) int64 number of the message that each row came from, not decreasing.
    """

    batch: pa.RecordBatch
    origin: NDArray[np.int64]

    def moved(self, index: Sequence[int]) -> "Rows":
        """The rows with message number `i` replaced by `index[i]`."""
        return Rows(self.batch, np.asarray(index, np.int64)[self.origin])


def joined(rows: Sequence[Rows]) -> list[Rows]:
    """Rows of one Arrow schema put together."""
    if len(rows) < 2:
        return list(rows)
    batch = pa.concat_batches([part.batch for part in rows])
    return [Rows(batch, np.concatenate([part.origin for part in rows]))]


class Bad(NamedTuple):
    """A message, or a line of one, that could not be decoded.

    Attributes:
        message: Number of the message.
        reason: What is wrong with it.
        raw: The line, where a message has several; None for the whole message.
        line: Number of that line in the message, from 0.
    """

    message: int
    reason: str
    raw: bytes | None = None
    line: int | None = None

    def moved(self, index: Sequence[int]) -> "Bad":
        """The same with message number `i` replaced by `index[i]`."""
        return Bad(index[self.message], self.reason, self.raw, self.line)


Decoder: TypeAlias = Callable[[list[bytes | None]], tuple[list[Rows], list[Bad]]]
