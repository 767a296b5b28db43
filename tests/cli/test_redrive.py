"""A run that learned nothing is no success; dead letters go through again, each once."""

import json
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsketch.run.config import load
from tests.cli.conftest import Call


@pytest.fixture
def lines(call: Call, tmp_path):
    """A pipeline over JSON lines of two columns, and a function that writes the lines."""

    def write(rows, edit=lambda text: text):
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        good = [{"x": i / 4, "c": "ab"[i % 2]} for i in range(40)]
        (tmp_path / "good.jsonl").write_text("".join(json.dumps(row) + "\n" for row in good))
        shown = call("init", tmp_path / "good.jsonl", "--store", tmp_path / "store")
        text = re.sub(r"frequencies = \d+", "frequencies = 16", shown.out)
        pipeline = tmp_path / "p.toml"
        pipeline.write_text(edit(text.replace("good.jsonl", "a.jsonl")))
        return pipeline

    return write


def learned(pipeline):
    loaded = load(pipeline)
    newest = loaded.store().snapshots.newest(lambda data, name: data)
    from streamsketch import Snapshot

    return 0 if newest is None else Snapshot.from_bytes(newest[1]).count


@pytest.mark.parametrize("command", ["consume", "run"])
def test_a_run_that_refused_every_row_fails(call: Call, lines, command) -> None:
    pipeline = lines([{"x": "no number", "c": "a"}] * 20)
    shown = call(command, pipeline)
    assert shown.code == 1
    assert "0 rows learned" in shown.err and "20 rows refused" in shown.err
    assert "field 'x' is 'no number', not a number" in shown.err
    assert "error: every row was refused" in shown.err


def test_a_share_of_refused_rows_can_be_too_much(call: Call, lines) -> None:
    rows = [{"x": 1.0, "c": "a"}] * 9 + [{"x": 1.0, "c": "z"}]
    assert call("consume", lines(rows)).code == 0
    strict = lines(
        rows * 2, lambda t: t.replace("/store", "/other") + "\n[dead_letters]\nmax_share = 0.05\n"
    )
    shown = call("consume", strict)
    assert shown.code == 1 and "more than the share 0.05" in shown.err


def test_dead_letters_go_through_again_each_once(call: Call, lines, tmp_path) -> None:
    rows = [{"x": 1.0, "c": "a"}] * 5 + [{"x": 2.0, "c": "new"}] * 3 + [{"x": "?", "c": "a"}]
    pipeline = lines(rows)
    assert call("consume", pipeline).code == 0
    assert learned(pipeline) == 5
    text = pipeline.read_text().replace('values = ["a", "b"]', 'values = ["a", "b"]\nother = "b"')
    pipeline.write_text(text.replace(str(tmp_path / "store"), str(tmp_path / "new")))
    letters = tmp_path / "store" / "state" / "dead" / "member-0.jsonl"
    shown = call("redrive", pipeline, letters)
    assert shown.code == 0 and "sending 4 dead letters through" in shown.err
    assert learned(pipeline) == 3 and "1 row refused" in shown.err
    again = call("redrive", pipeline)
    # the row without a number is refused once more, and the others are not learned twice
    assert "sending 1 dead letters" in again.err and again.code == 1
    assert learned(pipeline) == 3


def test_the_row_of_a_change_event(call: Call, tmp_path) -> None:
    events = [
        {"op": "c", "before": None, "after": {"x": i / 4, "c": "ab"[i % 2]}} for i in range(40)
    ]
    events[7]["after"] = None  # a deletion
    (tmp_path / "e.json").write_text("".join(json.dumps(e) + "\n" for e in events))
    shown = call("init", tmp_path / "e.json", "--unwrap", "after", "--store", tmp_path / "store")
    assert shown.code == 0 and 'unwrap = "after"' in shown.out
    assert "consume will refuse 1: 1 because no object at 'after'" in shown.err
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(re.sub(r"frequencies = \d+", "frequencies = 16", shown.out))
    assert call("consume", pipeline).code == 0
    assert learned(pipeline) == 39


def test_samples_on_condition_and_a_label_that_is_null(call: Call, tmp_path) -> None:
    n = 400
    table = pa.table(
        {"a": [i % 17 / 3 for i in range(n)], "y": [["None", "x", None][i % 3] for i in range(n)]}
    )
    parquet.write_table(table, tmp_path / "d.parquet")
    shown = call("init", tmp_path / "d.parquet", "--label", "y", "--store", tmp_path / "store")
    text = re.sub(r"frequencies = \d+", "frequencies = 64", shown.out)
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(text.replace("conditional = false", "conditional = true"))
    assert call("consume", pipeline).code == call("train", pipeline, "--seconds", "1").code == 0

    def drawn(*arguments):
        shown = call("sample", pipeline, "-n", "30", "--iid", *arguments)
        assert shown.code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    assert {row["y"] for row in drawn("--label", "None")} == {"None"}
    assert {row["y"] for row in drawn("--where", "y is null")} == {None}
    rows = drawn("--where", "y=x", "--where", "a=1..4")
    assert len(rows) == 30 and all(row["y"] == "x" and 1 <= row["a"] <= 4 for row in rows)
    assert call("sample", pipeline, "--where", "y=q").code == 2
