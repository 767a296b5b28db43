"""A wrong argument is told in a sentence, whoever it was given to."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamsketch import Sampler, Schema, Sketcher, fit
from streamsketch.errors import ConfigError, StreamSketchError
from streamsketch.run.config import load

TABLE = pa.table({"a": np.linspace(0, 1, 100), "c": ["x", "y"] * 50})
SCHEMA = Schema.propose(TABLE)

WRONG = {
    "fit takes a Snapshot, not a Table": lambda: fit(TABLE),
    "fit takes a Snapshot, not a Sketcher": lambda: fit(Sketcher(SCHEMA)),
    "Sampler takes a generator, not a str": lambda: Sampler("generator.safetensors"),
    "Sampler takes a generator, not a NoneType": lambda: Sampler(None),
    "frequencies = '1024' must be a whole number": lambda: Sketcher(SCHEMA, frequencies="1024"),
    "frequencies = 10.5 must be a whole number": lambda: Sketcher(SCHEMA, frequencies=10.5),
    "seed = 'a' must be a whole number": lambda: Sketcher(SCHEMA, seed="a"),
    "Sketcher takes a Schema, not a Table": lambda: Sketcher(TABLE),
    "learn_one takes a mapping": lambda: Sketcher(SCHEMA).learn_one([0.5, "x"]),
    "merge takes a Sketcher": lambda: Sketcher(SCHEMA).merge(None),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_wrong_argument_is_a_sentence(said):
    with pytest.raises(ConfigError, match=said):
        WRONG[said]()


@pytest.mark.parametrize("read", [Schema.from_toml, load])
def test_rows_given_as_a_pipeline_file(tmp_path, read):
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    with pytest.raises(StreamSketchError, match=r"TOML.*streamsketch init"):
        read(tmp_path / "rows.parquet")


def test_numbers_of_numpy_will_do():
    assert Sketcher(SCHEMA, frequencies=np.int64(16)).spec.m == 16
    s = Sketcher(SCHEMA, frequencies=16)
    s.learn_many(TABLE)
    assert fit(s.release()).sample(np.int32(3)).num_rows == 3
