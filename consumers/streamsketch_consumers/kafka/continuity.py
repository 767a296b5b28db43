"""Whether the logs of a source's partitions are those that were read, and what to do where they are not."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from streamsketch.errors import SourceError
from streamsketch.ingest.streams import Position
from streamsketch_consumers.kafka.chunks import part_name
from streamsketch_consumers.kafka.client import (
    BEGINNING,
    Client,
    Diverged,
    OutOfRange,
    Partition,
    Records,
)
from streamsketch_consumers.kafka.witness import Witness, witnesses

__all__ = ["Continuity", "Held"]

log = logging.getLogger("streamsketch_consumers.kafka.source")

ANSWER_SECONDS = 3.0
GAPS = 100  # gaps remembered one by one


@dataclass
class Held:
    """What is known of a partition while it is ours.

    Attributes:
        topic_id: The broker's id of its topic, if that is known.
        next: Offset after what was handed out.
        end: The end, as the first answer to a fetch says it.
        position: The position after what was handed out.
        added: It came to its topic after the stream began to be read.
        check: Records that were read, by which the log is to be known again before reading goes
            on, the newest first; empty once it is known.
        cut: A record that was read is not there any more.
        other_topic: Its position is of another topic of the same name.
    """

    topic_id: str | None = None
    next: int | None = None
    end: int | None = None
    position: Position = field(default_factory=dict)
    added: bool = False
    check: list[Witness] = field(default_factory=list)
    cut: bool = False
    other_topic: bool = False

    def __post_init__(self) -> None:
        self.position = {} if self.topic_id is None else {"topic": self.topic_id}

    def take_up(self, position: Position) -> int:
        """Go on from a saved position; where to read from, to know the log again."""
        self.other_topic = None not in (self.topic_id, position.get("topic")) and (
            self.topic_id != position["topic"]
        )
        self.position = {**position, **self.position}
        self.next = int(position["offset"])
        if self.other_topic:
            return BEGINNING
        self.check = witnesses(position)
        return self.start

    @property
    def start(self) -> int:
        """Where to read from: the record by which the log is to be known, or what is next."""
        assert self.next is not None
        return self.check[0].offset if self.check else self.next


class Continuity:
    """Knows logs again by the records that were read, and goes on as `on_gap` says.

    All methods may raise `Unavailable`; then nothing has changed.

    Args:
        client: The client.
        parts: The partitions that are held.
        on_gap: `stop` raises SourceError, `continue` goes on where something was not read.
        go_on: Called with a partition and the offset that it is read on from.
    """

    def __init__(
        self,
        client: Client,
        parts: Mapping[Partition, Held],
        on_gap: str,
        go_on: Callable[[Partition, int], None],
    ) -> None:
        self._client, self._parts = client, parts
        self._on_gap, self._go_on = on_gap, go_on

    def doubt(self, partitions: Collection[Partition]) -> list[Partition]:
        """Look again whether the newest records that were read are still there; of which."""
        doubted = [
            at for at in partitions if at in self._parts and self._parts[at].next is not None
        ]
        for at in doubted:
            part = self._parts[at]
            part.check = witnesses(part.position)
            self._client.seek(at, part.start)
        return doubted

    def back(self, at: Partition, records: Records | None) -> None:
        """Read again what could not be judged."""
        part = self._parts[at]
        if part.next is not None:
            self._client.seek(at, part.start)
        elif records is not None:
            self._client.seek(at, records[0].offset)

    def known_again(self, at: Partition, part: Held, records: Records) -> Records | None:
        """The records that were not read yet; None while the log is not known again."""
        if not part.check:
            return None if self._new_leader(at, part, records) else records.since(part.next)
        wanted = part.check[0]
        rest = records.since(wanted.offset)
        if rest is None:
            return None
        found = Witness.of(rest, 0)
        if found.offset == wanted.offset and not wanted.matches(found):
            self._another(at, part, f"the record at offset {wanted.offset} is another")
            return None
        if found.offset > wanted.offset:
            log.warning("%s: the record before the position was compacted away", part_name(at))
        part.check = []
        if part.cut:
            part.cut = False
            self._tell_cut(at, f"is the same up to offset {wanted.offset} only")
            part.position = {**part.position, "read": [list(wanted)]}
            self._go_on(at, wanted.offset + 1)
        return rest.since(part.next)

    def still_there(self, at: Partition, part: Held, end: int | None) -> None:
        """Nothing came: see to it that the record to be checked is not past the end."""
        if end is not None and end <= part.check[0].offset:
            first = self._client.beginnings([at], ANSWER_SECONDS)[at]
            self._shorter(at, part, first, end)

    def _new_leader(self, at: Partition, part: Held, records: Records) -> bool:
        """Whether another leader answers, whose log is to be looked at first."""
        newest, epoch = witnesses(part.position)[:1], records[0].epoch
        if not newest or not epoch > newest[0].epoch >= 0:
            return False
        rest = part.position["read"][1:]
        part.position = {**part.position, "read": [[*newest[0][:3], epoch], *rest]}
        self.doubt([at])
        return True

    def another_topic(self, at: Partition) -> None:
        """A partition belongs to another topic than its position does."""
        self._stop_at(at, "the topic's id is another")
        self._anew(at)

    def lost(self, error: OutOfRange | Diverged) -> None:
        """The broker does not have what is next, or what was read."""
        if isinstance(error, Diverged):
            self.doubt(error.partitions)
            return
        first = self._client.beginnings(error.offsets, ANSWER_SECONDS)
        ends = self._client.ends(error.offsets, ANSWER_SECONDS)
        for at, wanted in error.offsets.items():
            part = self._parts.get(at)
            if part is None:
                continue
            if wanted > ends[at]:
                self._shorter(at, part, first[at], ends[at])
            elif wanted < first[at]:
                self._deleted(at, part, first[at])
            else:
                self._client.seek(at, wanted)

    def _shorter(self, at: Partition, part: Held, first: int, end: int) -> None:
        """The log ends before what was read of it."""
        self._stop_at(at, f"it is saved up to offset {part.next}, but ends at {end}")
        known = [w for w in part.check or witnesses(part.position) if first <= w.offset < end]
        if not known:
            self._anew(at)
            return
        part.check, part.cut = known, True
        self._client.seek(at, part.start)

    def _deleted(self, at: Partition, part: Held, first: int) -> None:
        """The beginning of the log was deleted, the next offset or the record before it included."""
        if part.cut:
            self._anew(at)
        elif part.next is None or part.next >= first:
            part.check = []
            self._client.seek(at, first if part.next is None else part.next)
        else:
            part.check = []
            self._gap(at, part, part.next, first)

    def _gap(self, at: Partition, part: Held, wanted: int, first: int) -> None:
        missing = (
            f"{part_name(at)}: offsets {wanted} to {first - 1} were deleted before they were read"
        )
        if self._on_gap == "stop":
            raise SourceError(
                f'{missing}; lengthen the topic\'s retention, and set on_gap = "continue" to go on '
                "without them"
            )
        log.error("%s; going on at %d, the gap is kept in the position", missing, first)
        gaps = _joined([*map(list, part.position.get("gaps", [])), [wanted, first]])
        part.position = {**part.position, "gaps": gaps}
        self._client.seek(at, first)
        self._go_on(at, first)

    def _another(self, at: Partition, part: Held, why: str) -> None:
        """The newest record to be checked is not the one that was read: look at an older one."""
        self._stop_at(at, why)
        if len(part.check) == 1:
            self._anew(at)
            return
        part.check, part.cut = part.check[1:], True
        self._client.seek(at, part.start)

    def _anew(self, at: Partition) -> None:
        """Nothing of the log is known: read it from its beginning."""
        part = self._parts[at]
        first = self._client.beginnings([at], ANSWER_SECONDS)[at]
        self._tell_cut(at, "has nothing of what was read")
        part.check, part.cut, part.other_topic = [], False, False
        part.position = {} if part.topic_id is None else {"topic": part.topic_id}
        self._client.seek(at, first)
        self._go_on(at, first)

    def _stop_at(self, at: Partition, why: str) -> None:
        if self._on_gap == "stop":
            raise SourceError(
                f"{part_name(at)} is not the log that was read ({why}): the topic was made anew or "
                "cut; start from an empty store, name the topic that was read, or set on_gap = "
                '"continue" to read what is new in it'
            )

    def _tell_cut(self, at: Partition, what: str) -> None:
        log.error(
            "%s %s: the topic was made anew or cut; reading what is new in it", part_name(at), what
        )


def _joined(gaps: list[list[int]]) -> list[list[int]]:
    """The gaps with neighbours joined; the oldest are joined when there are too many."""
    out: list[list[int]] = []
    for low, high in gaps:
        if out and (low <= out[-1][1]):
            out[-1][1] = max(out[-1][1], high)
        else:
            out.append([low, high])
    while len(out) > GAPS:
        out[0:2] = [[out[0][0], out[1][1]]]
    return out
