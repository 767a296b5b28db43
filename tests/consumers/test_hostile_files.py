"""Files that are not what they say, or that are there twice: nothing of it stops or doubles a stream."""

import gzip
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamsketch_consumers.dead_letter import FileDeadLetters, KafkaDeadLetters, read_file
from streamsketch_consumers.files.pieces import FileFault, reached
from streamsketch_consumers.files.source import make

from streamsketch.ingest.refusal import TEXT_KEPT, Refusal, as_dead
from streamsketch.ingest.streams import Chunk, Dead
from streamsketch.schema import Schema
from streamsketch.schema.columns import Column

SCHEMA = Schema([Column("x", "numeric", low=0, high=100)])
GOOD = b"x\n" + b"1\n" * 50


class Anywhere:
    def claim(self, part):
        return None


def read(folder, **settings):
    """Rows and dead letters of a folder."""
    source = make({"path": str(folder), **settings}, SCHEMA)
    source.open(Anywhere())
    rows, dead = 0, []
    while not source.finished:
        for chunk in source.poll(0.0):
            rows += chunk.batch.num_rows if chunk.batch is not None else 0
            dead += chunk.dead
    source.close()
    return rows, dead


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst", ".lz4"])
def test_bytes_that_are_not_compressed_as_the_name_says_are_a_dead_letter(tmp_path, ending):
    (tmp_path / f"a.csv{ending}").write_bytes(GOOD)
    (tmp_path / "b.csv").write_bytes(GOOD)
    rows, dead = read(tmp_path, on_error="dlq")
    assert rows == 50 and len(dead) == 1 and f"a.csv{ending}" in dead[0].reason
    with pytest.raises(FileFault, match=f"a.csv{ending}' cannot be read from row 0"):
        read(tmp_path, on_error="fail")


@pytest.mark.parametrize("first", ["a.csv", "a.csv.gz"])
def test_a_file_and_itself_compressed_are_read_once(tmp_path, caplog, first):
    """As `gzip -k` and `gunzip -k` leave them, also where only one was there at first."""
    contents = {"a.csv": GOOD, "a.csv.gz": gzip.compress(GOOD)}
    (tmp_path / first).write_bytes(contents.pop(first))
    source = make({"path": str(tmp_path), "follow": True, "settle_seconds": 0.01}, SCHEMA)
    source.open(Anywhere())
    rows = 0
    for _ in range(200):
        rows += sum(c.batch.num_rows for c in source.poll(0.02) if c.batch is not None)
        if rows == 50 and contents:
            name, content = contents.popitem()
            (tmp_path / name).write_bytes(content)
        if "passing over it" in caplog.text:
            break
    source.close()
    assert rows == 50 and "is the same as" in caplog.text


def test_files_of_one_stem_with_other_rows_are_two_files(tmp_path):
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(GOOD.replace(b"1\n", b"2\n")))
    assert read(tmp_path) == (100, [])


def test_a_name_that_is_no_text_is_passed_over_and_told(tmp_path, caplog):
    (tmp_path / "a.csv").write_bytes(GOOD)
    (tmp_path / os.fsdecode(b"\xff.csv")).write_bytes(GOOD)
    assert read(tmp_path) == (50, [])
    assert r"\udcff.csv' is passed over: its name is not UTF-8" in caplog.text


def test_a_count_of_rows_below_none_is_damage_of_that_file():
    with pytest.raises(FileFault, match="claims to have -64 rows"):
        reached(-64, 0, "a.parquet")


def test_a_header_of_very_many_names_is_read_in_time(tmp_path):
    """Looking for names that come twice took a time of their number squared: an hour here."""
    names = b"x," + b",".join(b"k%d" % i for i in range(100_000))
    (tmp_path / "a.csv").write_bytes(names + b"\n1\n")
    rows, dead = read(tmp_path, on_error="dlq")
    assert rows == 0 and len(dead) == 1


def test_a_text_that_rows_share_is_not_written_down_in_full_for_each(tmp_path):
    """50 rows in 15 KB of Parquet were letters of 50 MB."""
    shared = pa.table({"c": pa.array(["z" * (1 << 20)] * 50), "x": np.zeros(50)})
    pq.write_table(shared, tmp_path / "a.parquet", compression="zstd")
    batch = shared.combine_chunks().to_batches()[0]
    letters = as_dead(Chunk("p", {}, batch), [Refusal(i, "bad") for i in range(50)])
    assert sum(len(letter.raw) for letter in letters) < 50 * (TEXT_KEPT + 100)
    assert json.loads(letters[0].raw)["c"].endswith("... (1048576 characters)")


class Sent:
    def __init__(self):
        self.messages = []

    def send(self, topic, value, key=None, headers=()):
        self.messages.append((value, key, dict(headers)))


def test_letters_of_halves_of_pairs_and_of_any_size_can_be_sent(tmp_path):
    """A broker refuses a message of more than 1 MiB, again and again until the run ends."""
    sent = Sent()
    letters = [
        Dead("\ud800", "reason \udfff", {"file": "\udcff", "key": "\udc00"}),
        Dead(b"x" * (4 << 20), "too long", {"offset": 3}),
    ]
    KafkaDeadLetters(sent, "dead").put(letters)
    (value, key, headers), (long, _, cut) = sent.messages
    assert value == rb"\ud800" and key == rb"\udc00" and headers["reason"] == rb"reason \udfff"
    assert len(long) < 1_000_000 and cut["cut_from_bytes"] == b"4194304"
    file = FileDeadLetters(tmp_path / "dead.jsonl")
    file.put(letters)
    file.close()
    assert [letter.where for letter in read_file(tmp_path / "dead.jsonl")] == [
        {"file": "\udcff", "key": "\udc00"},
        {"offset": 3},
    ]
