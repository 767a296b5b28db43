"""The evaluation between its anchors, and the report as a reader opens it."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from streamsketch.errors import ConfigError, DataError
from streamsketch.evaluate import METRICS, Evaluation, evaluate
from streamsketch.evaluate.report import verdict, write_report
from streamsketch.evaluate.tables import CEILING, FLOOR, SYNTHETIC


def stream(n: int, seed: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) + shift
    side = np.where(x + 0.3 * rng.normal(size=n) > 0, "<right>", "$left")
    return pa.table({"x": x, "y": x + 0.2 * rng.normal(size=n), "side": side, "one": np.ones(n)})


@pytest.fixture(scope="module")
def good() -> Evaluation:
    return evaluate(stream(700, 0), stream(700, 1), train=stream(700, 2), label="side")


def test_real_rows_stand_at_the_ceiling(good: Evaluation) -> None:
    assert set(good.scores) == {FLOOR, SYNTHETIC, CEILING}
    assert set(good.scores[SYNTHETIC]) == set(METRICS)
    for name in ("pair_tv", "association", "c2st", "tstr", "energy"):
        assert good.skill(name) > 0.8, name
    assert "C2ST" in str(good.table().columns[0]._cells)


def test_shuffled_columns_stand_at_the_floor() -> None:
    real = stream(900, 0)
    rng = np.random.default_rng(1)
    mixed = pa.table({n: real[n].take(pa.array(rng.permutation(900))) for n in real.column_names})
    found = evaluate(mixed, stream(900, 2), train=real, label="side")
    for name in ("pair_tv", "association", "c2st"):
        assert abs(found.skill(name)) < 0.2, name
    assert "no closer" in verdict(found) or "% of the way" in verdict(found)


def test_held_rows_alone_are_split_for_the_ceiling() -> None:
    found = evaluate(stream(400, 0), stream(801, 1))
    assert found.notes["rows"] == {
        "reference": 400, FLOOR: 401, SYNTHETIC: 400, CEILING: 401,
    }  # fmt: skip
    assert "tstr" not in found.scores[SYNTHETIC]
    assert found.scores[CEILING]["energy"] > 0  # not the reference itself


def test_same_seed_same_scores() -> None:
    a, b = (evaluate(stream(200, 0), stream(300, 1), seed=4).to_dict() for _ in range(2))
    assert a == b
    assert json.loads(json.dumps(a, allow_nan=False)) == a


def test_columns_that_only_one_side_has_are_left_out() -> None:
    real = stream(200, 0).append_column("id", pa.array(np.arange(200)))
    found = evaluate(stream(200, 1).select(["y", "x"]), real)
    assert {m.column for m in found.columns} == {"x", "y"}
    with pytest.raises(DataError, match="none in common"):
        evaluate(pa.table({"a": [1.0]}), pa.table({"b": [1.0]}))


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="at least 30 rows"):
        evaluate(stream(10, 0), stream(200, 1))
    with pytest.raises(ConfigError, match="no column 'fate'"):
        evaluate(stream(50, 0), stream(200, 1), label="fate")


def test_arrays_are_evaluated_too() -> None:
    rng = np.random.default_rng(0)
    found = evaluate(rng.normal(size=(200, 1)), rng.normal(size=(300, 1)))
    assert "pair_tv" not in found.scores[SYNTHETIC]  # one column has no pairs
    assert "Single columns" in verdict(found)


class Page(HTMLParser):
    """What a browser would load and show."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.sources += [v for k, v in values.items() if k in ("src", "href") and v]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report_is_one_page_that_loads_nothing(tmp_path: Path, good: Evaluation) -> None:
    about = {"mechanism": "none <script>alert(1)</script>"}
    page = write_report(
        tmp_path / "new", stream(700, 0), stream(700, 1), good, title="A & B", about=about
    )
    read = Page()
    text = page.read_text()
    read.feed(text)
    assert not read.open
    assert len(read.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert "url(" not in text
    assert "<script>" not in text
    assert "none <script>alert(1)</script>" in read.text
    for row in (FLOOR, SYNTHETIC, CEILING):
        assert row in read.text
    scores = json.loads((page.parent / "scores.json").read_text())
    assert scores["scores"][FLOOR]["c2st"] > 0.8
    names = {p.name for p in page.parent.glob("*.png")}
    assert names == {"anchors.png", "columns.png", "pairs.png", "associations.png"}
    for picture in page.parent.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures_of_odd_columns(tmp_path: Path) -> None:
    n = 120
    table = pa.table(
        {
            "empty": pa.array([None] * n, pa.float64()),
            "constant": np.ones(n),
            "few": pa.array(np.where(np.arange(n) % 3 == 0, np.nan, 1.5), from_pandas=True),
            "when": pa.array(np.arange(n) * 10**9, pa.timestamp("ns")),
        }
    )
    write_report(tmp_path, table, table, evaluate(table, table))
    assert (tmp_path / "columns.png").exists()
