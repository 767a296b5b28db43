"""What notebooks show: well-formed, with pictures, with nothing raw, names escaped."""

import xml.etree.ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

from streamsketch import Schema, Sketcher, fit
from streamsketch.decode import Marginals
from streamsketch.evaluate import evaluate

RNG = np.random.default_rng(0)
TABLE = pa.table({
    "<script>": RNG.normal(0, 1, 2000), "c": RNG.choice(["<b>", "a\x1b[2J"], 2000),
    "t": pa.array(np.datetime64("2026-01-01") + RNG.integers(0, 10**6, 2000).astype("m8[s]")),
})  # fmt: skip
SCHEMA = Schema.propose(TABLE)


def sketcher(**settings):
    s = Sketcher(SCHEMA, frequencies=64, seed=1, **settings)
    s.learn_many(TABLE)
    return s


@pytest.fixture(scope="module")
def shown():
    s = sketcher()
    generator = fit(s.release())
    axis = sketcher(law="axis", cells=False).release()
    return {
        "schema": SCHEMA, "sketcher": s, "snapshot": s.release(), "generator": generator,
        "untrained": type(fit(axis, steps=1)).create(SCHEMA, seed=0),
        "marginals": Marginals().fit(axis), "new marginals": Marginals(),
        "evaluation": evaluate(generator.sample(500), TABLE),
    }  # fmt: skip


KINDS = [
    "schema",
    "sketcher",
    "snapshot",
    "generator",
    "untrained",
    "marginals",
    "new marginals",
    "evaluation",
]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_html_and_names_are_escaped(shown, kind):
    text = shown[kind]._repr_html_()
    ET.fromstring(text)  # every tag is closed, every name escaped
    assert "<script>" not in text and "\x1b" not in text
    pictures = kind in ("snapshot", "generator", "marginals")
    assert text.count("<svg") >= 3 if pictures else "<svg" not in text


def test_a_generator_says_whether_it_is_any_good(shown):
    assert "times its floor" in shown["generator"]._repr_html_()
    assert "not trained" in shown["untrained"]._repr_html_()


def test_with_a_mechanism_no_count_is_shown():
    private = sketcher(
        mechanism="gaussian", privacy={"epsilon": 1.0, "delta": 1e-5, "releases": 1}
    )
    text = private._repr_html_()
    assert "2,000" not in text and "gaussian" in text
    assert "rows <b>2,000</b>" in sketcher()._repr_html_()
    assert "epsilon <b>1</b>" in private.release()._repr_html_()
