"""What the broker keeps on disk: topics, partition logs, group offsets, producer ids."""

import sqlite3
from pathlib import Path

from testing.broker.log import PartitionLog

TABLES = """
pragma journal_mode=wal;
pragma synchronous=normal;
create table if not exists topic(name primary key, partitions);
create table if not exists start(topic, partition, offset, primary key(topic, partition));
create table if not exists committed(grp, topic, partition, offset, metadata,
                                     primary key(grp, topic, partition));
create table if not exists producer(id integer primary key autoincrement);
"""


class Storage:
    """Everything that a restarted broker finds again. Callers hold the broker's lock."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._db = sqlite3.connect(
            folder / "meta.db", check_same_thread=False, isolation_level=None
        )
        self._db.executescript(TABLES)
        self._logs: dict[tuple[str, int], PartitionLog] = {}
        self.topics: dict[str, int] = dict(self._db.execute("select * from topic"))
        self._starts: dict[tuple[str, int], int] = {
            (topic, partition): offset
            for topic, partition, offset in self._db.execute("select * from start")
        }

    def has(self, topic: str, partition: int) -> bool:
        """Whether the partition exists."""
        return 0 <= partition < self.topics.get(topic, 0)

    def set_partitions(self, topic: str, count: int) -> None:
        """Create a topic, or give it more partitions."""
        self._db.execute("insert or replace into topic values(?, ?)", (topic, count))
        self.topics[topic] = count

    def log(self, topic: str, partition: int) -> PartitionLog:
        """The log of an existing partition."""
        key = (topic, partition)
        if key not in self._logs:
            self._logs[key] = PartitionLog(self._folder / f"{topic}-{partition}.log")
        return self._logs[key]

    def start(self, topic: str, partition: int) -> int:
        """The first offset that may still be read."""
        return self._starts.get((topic, partition), 0)

    def set_start(self, topic: str, partition: int, offset: int) -> None:
        """Retention: offsets below ``offset`` are gone."""
        self._db.execute(
            "insert or replace into start values(?, ?, ?)", (topic, partition, offset)
        )
        self._starts[topic, partition] = offset
        self.log(topic, partition).cut(offset)

    def new_producer(self) -> int:
        """An id that no producer was given before."""
        return int(self._db.execute("insert into producer default values").lastrowid or 0)

    def commit(self, group: str, topic: str, partition: int, offset: int, metadata: str) -> None:
        """Store a group's offset."""
        row = (group, topic, partition, offset, metadata)
        self._db.execute("insert or replace into committed values(?, ?, ?, ?, ?)", row)

    def committed(self, group: str, topic: str, partition: int) -> tuple[int, str]:
        """A group's offset and its metadata, (-1, "") when it has none."""
        query = "select offset, metadata from committed where grp=? and topic=? and partition=?"
        row = self._db.execute(query, (group, topic, partition)).fetchone()
        return (row[0], row[1]) if row else (-1, "")

    def committed_partitions(self, group: str) -> dict[str, list[int]]:
        """The partitions for which a group has an offset, by topic."""
        found: dict[str, list[int]] = {}
        query = "select topic, partition from committed where grp=?"
        for topic, partition in self._db.execute(query, (group,)):
            found.setdefault(topic, []).append(partition)
        return found
