"""The verbs of SDV over the sketcher: metadata decides what is learned, ids are not."""

import logging

import numpy as np
import pandas as pd
import pytest

from streamsketch import Schema
from streamsketch.errors import ConfigError, DataError
from streamsketch.integrations.sdv import Synthesizer

RNG = np.random.default_rng(0)
N = 1500
DAY = pd.Timestamp("2026-01-01")
DATA = pd.DataFrame({
    "guest": [f"guest-{i}" for i in range(N)], "email": [f"a{i}@example.org" for i in range(N)],
    "rooms": RNG.integers(1, 5, N), "price": RNG.gamma(3, 40, N).round(2),
    "paid": RNG.random(N) < 0.7, "code": RNG.choice([10, 20], N),
    "arrived": [(DAY + pd.Timedelta(days=int(k))).strftime("%d %b %Y") for k in RNG.integers(0, 300, N)],
})  # fmt: skip
COLUMNS = {
    "guest": {"sdtype": "id"}, "email": {"sdtype": "email", "pii": True},
    "rooms": {"sdtype": "numerical"}, "price": {"sdtype": "numerical"},
    "paid": {"sdtype": "boolean"}, "code": {"sdtype": "categorical"},
    "arrived": {"sdtype": "datetime", "datetime_format": "%d %b %Y"},
}  # fmt: skip


@pytest.mark.parametrize("form", ["one table", "tables", "object"])
def test_metadata_of_sdv_says_what_is_learned(form, caplog):
    class Metadata:
        def to_dict(self):
            return {"tables": {"hotel": {"columns": COLUMNS, "primary_key": "guest"}}}

    metadata = {
        "one table": {"columns": COLUMNS},
        "tables": Metadata().to_dict(),
        "object": Metadata(),
    }[form]
    with caplog.at_level(logging.WARNING):
        model = Synthesizer(metadata, frequencies=64).fit(DATA)
    assert "['guest', 'email'] are left out" in caplog.text
    rows = model.sample(500)
    assert list(rows.columns) == ["rooms", "price", "paid", "code", "arrived"]
    assert set(rows["code"]) == {"10", "20"} and rows["arrived"].dt.year.eq(2026).all()
    assert abs(rows["price"].mean() - DATA["price"].mean()) < 15


def test_it_goes_on_with_new_rows_and_is_saved(tmp_path):
    data = DATA.drop(columns=["guest", "email", "arrived"])
    model = Synthesizer(frequencies=64).fit(data[:700])
    model.partial_fit(data[700:])
    assert model.sketcher.sketch.count == N
    model.save(tmp_path / "model.safetensors")
    again = Synthesizer.load(tmp_path / "model.safetensors")
    assert again.sample(20, seed=3).equals(model.sample(20, seed=3))
    assert model.fit(data[:200]).sketcher.sketch.count == 200


def test_wrong_calls_are_sentences():
    with pytest.raises(ConfigError, match="call fit"):
        Synthesizer().sample(3)
    with pytest.raises(ConfigError, match="needs declared limits"):
        Synthesizer(mechanism="gaussian", privacy={"epsilon": 1.0})
    with pytest.raises(ConfigError, match="takes one"):
        Synthesizer({"tables": {"a": {}, "b": {}}})
    with pytest.raises(ConfigError, match="pass the object"):
        Synthesizer("metadata.json")
    with pytest.raises(DataError, match="which the data has not"):
        Synthesizer({"columns": {"other": {"sdtype": "numerical"}}}).fit(DATA)
    with pytest.raises(DataError, match="'guest' is not numerical"):
        Synthesizer({"columns": {"guest": {"sdtype": "numerical"}}}).fit(DATA)


def test_a_declared_schema_may_be_private():
    schema = Schema.from_dict({"price": {"kind": "numeric", "low": 0, "high": 500}})
    privacy = {"epsilon": 3.0, "delta": 1e-5, "releases": 1}
    model = Synthesizer(schema=schema, mechanism="gaussian", privacy=privacy, frequencies=32)
    assert model.fit(DATA).generator.snapshot.release.private
