"""The sampler on the library's own generator: mixed columns, labels, conditional sketches."""

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from streamsketch import Generator, Schema, Sketcher
from streamsketch.errors import ConfigError
from streamsketch.sampler import METHODS, Sampler
from streamsketch.sampler.matching import matching

SCHEMA = Schema.from_dict(
    {
        "x": {"kind": "numeric", "type": "double", "low": -1.0, "high": 1.0},
        "colour": {"kind": "categorical", "type": "string", "values": ["red", "green", "blue"]},
        "kind": {"kind": "label", "type": "string", "values": ["a", "b"]},
    }
)


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.random(n) < 0.25
    return pa.table(
        {
            "x": np.clip(rng.normal(np.where(kind, 0.5, -0.5), 0.1), -1, 1),
            "colour": rng.choice(["red", "green", "blue"], size=n, p=[0.6, 0.3, 0.1]),
            "kind": np.where(kind, "b", "a"),
        }
    )


def generator(conditional):
    sketcher = Sketcher(SCHEMA, frequencies=256, conditional=conditional)
    sketcher.learn_many(table(4000))
    return Generator.create(SCHEMA, sketcher.release(), seed=0)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_rows_are_of_the_schema_and_categories_one_hot(method, conditional):
    sampler = Sampler(generator(conditional), method=method)
    x = sampler.sample_encoded(40)
    block = next(b for b in SCHEMA.blocks if b.column == "colour")
    hot = x[:, block.start : block.start + block.width]
    assert ((hot == 0) | (hot == 1)).all()
    assert (hot.sum(axis=1) == 1).all()
    assert sampler.sample(3).column_names == ["x", "colour", "kind"]


def test_shares_of_categories_follow_the_data_and_not_the_untrained_generator():
    """An untrained generator draws colours and kinds about equally; the sketch knows better."""
    rows = Sampler(generator(False)).sample(400).to_pandas()
    iid = generator(False).sample(400).to_pandas()
    red, green, blue = (float((rows.colour == c).mean()) for c in ("red", "green", "blue"))
    assert abs(red - 0.6) < 0.1
    assert abs(green - 0.3) < 0.1
    assert abs(blue - 0.1) < 0.1
    assert abs(float((iid.colour == "red").mean()) - 0.6) > 0.1


@pytest.mark.parametrize("target", ["data", "generator", "latent"])
def test_label_of_a_conditional_generator(target):
    sampler = Sampler(generator(True), target=target, label="b", history_frequencies=128)
    rows = sampler.sample(60).to_pandas()
    assert (rows.kind == "b").all()
    again = sampler.sample(10).to_pandas()
    assert (again.kind == "b").all()
    assert sampler.history.issued(f"{target}/label=b") == 70


def test_rows_of_one_label_match_that_label_s_block():
    """The untrained generator knows nothing of x given the label; the block of b does."""
    rows = Sampler(generator(True), label="b").sample(200).to_pandas()
    other = Sampler(generator(True), label="a").sample(200).to_pandas()
    assert rows.x.mean() > other.x.mean() + 0.2


def test_without_a_block_per_label_the_generator_s_law_is_the_target(caplog):
    sampler = Sampler(generator(False), label="b", history_frequencies=64)
    assert set(sampler.sample(10).to_pandas().kind) == {"b"}
    assert "no block per label" in caplog.text
    assert sampler.history.issued("generator/label=b") == 10


def test_labels_are_refused_where_nothing_serves_them():
    with pytest.raises(ConfigError, match="label"):
        Sampler(generator(False), method="sobol", label="b").sample(4)
    with pytest.raises(ConfigError, match="label='nobody'"):
        Sampler(generator(True), label="nobody")


def test_the_target_of_a_label_has_its_block_divided_by_its_share():
    """Label b has a quarter of the rows, so that its block is a quarter of its mean features."""
    found = Sampler(generator(True), label="b")
    target = matching(found._request(found.history))
    rows = table(4000).filter(pa.compute.equal(table(4000)["kind"], "b"))
    mean = target.selector.features.features(SCHEMA.encode(rows).x).mean(axis=0)
    assert 0.7 < np.linalg.norm(target.mean) / np.linalg.norm(mean) < 1.3
