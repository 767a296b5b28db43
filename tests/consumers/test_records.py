"""Records of text files: cut a buffer at a time as they would be line by line."""

import io

import numpy as np
import pyarrow as pa
import pytest
from streamsketch_consumers.columns import Reading
from streamsketch_consumers.decode.csv_values import Dialect, array_of
from streamsketch_consumers.files.records import odd_quotes, records


def line_by_line(stream, limit, quoted):
    while line := stream.readline(limit):
        if quoted:
            while (
                line.count(b'"') % 2
                and len(line) < limit
                and (more := stream.readline(limit - len(line)))
            ):
                line += more
        whole = len(line) < limit or line.endswith(b"\n")
        yield line, whole
        rest = line
        while not whole and rest and not rest.endswith(b"\n"):
            rest = stream.readline(limit)


@pytest.mark.parametrize("quoted", [False, True])
def test_as_line_by_line(quoted):
    rng = np.random.default_rng(5)
    for _ in range(3000):
        data = bytes(rng.choice(list(b'ab"\n\n\r'), rng.integers(0, 60)).tolist())
        limit, buffer = int(rng.integers(1, 14)), int(rng.integers(1, 40))
        stream = io.BufferedReader(io.BytesIO(data), buffer)
        found = [(line, ok) for lines, ok in records(stream, limit, quoted) for line in lines]
        assert found == list(line_by_line(io.BytesIO(data), limit, quoted)), (data, limit, buffer)


def test_odd_quotes_over_more_than_a_byte_counts():
    lines = [b'"' * 256, b'"' * 257, b'x"\n', b"\n"]
    assert odd_quotes(lines).tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("texts", "values"),
    [(["1", "-999"], [1.0, None]), (["+2", " 3"], [2.0, 3.0]), (["4", "5"], [4.0, 5.0])],
)
def test_numbers_are_read_alike_at_once_and_one_by_one(texts, values):
    kind, dialect = Reading(pa.float64(), pa.float64()), Dialect(null_numbers=("-999",))
    for given in (dialect, Dialect()) if None not in values else (dialect,):
        found, bad = array_of(pa.array(texts), kind, given)
        assert found.to_pylist() == values and not bad
