"""Where unusable rows go, with their reason and position: a file, or a Kafka topic.

Dead letters are flushed before the positions after them are saved: each is kept at least once,
and twice only where the process died in between.
"""

import base64
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from streamsketch.errors import StoreError
from streamsketch.ingest.streams import Dead
from streamsketch.tables import Positive, key, takes
from streamsketch_consumers.kafka.settings import TopicSettings

if TYPE_CHECKING:
    from streamsketch_consumers.kafka.sink import Outbox

__all__ = ["FileDeadLetters", "KafkaDeadLetters", "make_file", "make_kafka", "read_file"]

WAITING_BYTES = 1 << 20  # held back at most before they are written
MESSAGE_BYTES = 900_000  # of a row that a message keeps; brokers take 1 MiB in all by default


@dataclass(frozen=True)
class FileSettings:
    """The file's keys in pipeline.toml.

    Attributes:
        path: The file, JSON lines; it holds raw data, and is readable by its owner only.
        max_bytes: A fuller file is put aside as `path.1`, `path.2`, ...
        keep: How many of these to keep, the newest; 0 keeps all.
    """

    path: str = key(location=True, pipeline="{dead}/member-{member}.jsonl")
    max_bytes: Positive = 64 << 20
    keep: Annotated[int, Ge(0)] = 0


class FileDeadLetters:
    """Appends dead letters to a file of JSON lines, durable after `flush`.

    Args:
        path: The file.
        max_bytes: Size at which it is put aside.
        keep: Files put aside that are kept; 0 for all.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "dead.jsonl"
    >>> letters = FileDeadLetters(path)
    >>> letters.put([Dead(b"{x", "not valid JSON", {"offset": 7})]); letters.close()
    >>> [(d.raw, d.reason, d.where) for d in read_file(path)]
    [(b'{x', 'not valid JSON', {'offset': 7})]
    """

    def __init__(self, path: Path, max_bytes: int = 64 << 20, keep: int = 0) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._waiting = bytearray()
        self._file = self._open()

    def put(self, dead: Sequence[Dead]) -> None:
        """Add rows."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        for letter in dead:
            self._waiting += _line(letter, now)
        if len(self._waiting) > WAITING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make what was put durable; what the disk refuses is kept for the next call.

        Raises:
            StoreError: The disk refuses.
        """
        try:
            while self._waiting:
                written = self._file.write(self._waiting)
                del self._waiting[:written]
            os.fsync(self._file.fileno())
            if self._file.tell() >= self._max_bytes:
                self._rotate()
        except OSError as e:
            raise self._refused(e) from e

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _open(self) -> io.FileIO:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as e:
            raise self._refused(e) from e
        file = io.FileIO(handle, "ab+")
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the writer died inside of a line
                file.write(b"\n")
        return file

    def _rotate(self) -> None:
        numbers = sorted(self._numbers())
        self._file.close()
        self._path.rename(self._aside((numbers or [0])[-1] + 1))
        for number in numbers[: max(0, len(numbers) + 1 - self._keep)] if self._keep else []:
            self._aside(number).unlink(missing_ok=True)
        self._file = self._open()

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _numbers(self) -> list[int]:
        endings = (
            p.name[len(self._path.name) + 1 :]
            for p in self._path.parent.glob(f"{self._path.name}.*")
        )
        return [int(ending) for ending in endings if ending.isdigit()]

    def _refused(self, error: OSError) -> StoreError:
        return StoreError(
            f"dead letters cannot be written to {self._path}: {error.strerror or error}; make room, or "
            "name another path"
        )


def read_file(path: Path) -> list[Dead]:
    """The dead letters of a file; a line that a crash cut short is left out."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "raw_base64" in entry:
            raw: bytes | str = base64.b64decode(entry["raw_base64"])
        else:
            raw = _bytes(entry["raw"])
        found.append(Dead(raw, entry["reason"], entry["where"]))
    return found


def _line(letter: Dead, now: str) -> bytes:
    entry: dict[str, Any] = {"time": now, "reason": letter.reason, "where": dict(letter.where)}
    if isinstance(letter.raw, str):
        entry["raw"] = letter.raw
    else:
        try:
            entry["raw"] = letter.raw.decode()
        except UnicodeDecodeError:
            entry["raw_base64"] = base64.b64encode(letter.raw).decode()
    return json.dumps(entry, default=str).encode() + b"\n"


class KafkaDeadLetters:
    """Sends dead letters to a topic: the raw bytes as value, reason and position as headers.

    Args:
        outbox: Where to send.
        topic: Name of the topic.
    """

    def __init__(self, outbox: "Outbox", topic: str) -> None:
        self._outbox = outbox
        self._topic = topic
        self._checked = False

    def put(self, dead: Sequence[Dead]) -> None:
        """Add rows."""
        for letter in dead:
            raw = _bytes(letter.raw) if isinstance(letter.raw, str) else letter.raw
            key = letter.where.get("key")
            headers = [("reason", _bytes(letter.reason))]
            if len(raw) > MESSAGE_BYTES:  # the brokers would refuse it again and again
                headers.append(("cut_from_bytes", str(len(raw)).encode()))
                raw = raw[:MESSAGE_BYTES]
            headers += [
                (name, _header(value)) for name, value in letter.where.items() if name != "key"
            ]
            self._outbox.send(
                self._topic, raw, _bytes(str(key)) if key is not None else None, headers
            )

    def flush(self) -> None:
        """Return when the brokers have all of them.

        Raises:
            ConfigError: At the first call: there is no such topic.
            StoreError: The brokers do not take them; they are kept.
        """
        if not self._checked:
            self._outbox.check(self._topic)
            self._checked = True
        self._outbox.flush()

    def close(self) -> None:
        """Flush and disconnect."""
        self._outbox.close()


def _header(value: Any) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return _bytes(text)


def _bytes(text: str) -> bytes:
    """As UTF-8, whatever a hostile row holds: halves of pairs as escapes."""
    return text.encode(errors="backslashreplace")


@takes(FileSettings, 'dead_letters "file"')
def make_file(settings: FileSettings) -> FileDeadLetters:
    """The entry point `file`."""
    return FileDeadLetters(Path(settings.path), settings.max_bytes, settings.keep)


@takes(TopicSettings, 'dead_letters "kafka"')
def make_kafka(settings: TopicSettings) -> KafkaDeadLetters:
    """The entry point `kafka`."""
    from streamsketch_consumers.kafka.sink import Outbox

    return KafkaDeadLetters(Outbox(settings), settings.topic)
