"""Each command on a real store, as a user types it."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, parquet

from streamsketch import Schema, Sketcher, Snapshot, Store
from streamsketch.run.config import load
from streamsketch.sketch import Sketch
from tests.cli.conftest import Call, rows

# --- init


def test_init_proposes_a_pipeline_that_loads(call: Call, pipeline: Path, data: Path) -> None:
    shown = call("init", data / "rows.parquet", "--label", "sort")
    assert shown.code == 0
    assert "NOT PRIVATE" in shown.err
    assert "NOT private" in shown.out  # and in the file itself, where reviewers look
    assert tomllib.loads(shown.out)["source"]["path"] == str(data / "rows.parquet")
    loaded = load(pipeline)
    label = loaded.schema.label
    assert label is not None
    assert label.name == "sort"
    assert (
        loaded.schema.hash
        == Schema.propose(parquet.read_table(data / "rows.parquet"), label="sort").hash
    )


def test_init_reads_rows_spread_over_the_file(call: Call, tmp_path: Path) -> None:
    # A sorted stream: its first rows do not stand for the rest.
    table = pa.table({"t": np.arange(1000.0), "part": np.repeat(["a", "b", "c", "d"], 250)})
    parquet.write_table(table, tmp_path / "sorted.parquet", row_group_size=100)
    shown = call("init", tmp_path / "sorted.parquet", "--rows", 50)
    schema = tomllib.loads(shown.out)["schema"]
    assert schema["part"]["values"] == ["a", "b", "c", "d"]
    assert (schema["t"]["low"], schema["t"]["high"]) == (0.0, 999.0)
    assert "50 rows of 1,000" in shown.err


def test_init_reads_the_files_of_one_kind_in_a_folder(call: Call, tmp_path: Path) -> None:
    for i in range(2):
        csv.write_csv(pa.table({"x": [float(i), 2.5]}), tmp_path / f"{i}.csv")
    (tmp_path / "notes.parquet").write_bytes(b"something else")
    (tmp_path / "sub").mkdir()
    shown = call("init", tmp_path)
    assert shown.code == 0
    assert tomllib.loads(shown.out)["schema"]["x"]["low"] == 0.0


def test_init_quotes_odd_names(call: Call, tmp_path: Path) -> None:
    names = ['a "b"', "c.d", "é", "plain"]
    parquet.write_table(pa.table({n: [1.5, 2.5] for n in names}), tmp_path / "odd one.parquet")
    shown = call("init", tmp_path / "odd one.parquet")
    assert list(tomllib.loads(shown.out)["schema"]) == names


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("missing.parquet", None, 2, "There is no file"),
        ("odd.xyz", b"", 2, "Cannot tell the format"),
        ("broken.parquet", b"not parquet", 1, "Cannot read"),
        ("empty.csv", b"a,b\n", 2, "without rows"),
    ],
)
def test_init_of_what_cannot_be_read(
    call: Call, tmp_path: Path, name: str, content: bytes | None, code: int, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    shown = call("init", tmp_path / name)
    assert (shown.code, shown.out) == (code, "")
    assert words in shown.err


# --- the way from files to a report


def test_replay_train_sample_evaluate(call: Call, pipeline: Path, data: Path) -> None:
    store = pipeline.parent / "store"
    shown = call("replay", data / "rows.parquet", "--pipeline", pipeline)
    assert (shown.code, shown.out) == (0, "")
    assert "3,000 rows learned" in shown.err
    expected = Sketcher(load(pipeline).schema, frequencies=128)
    expected.learn_many(parquet.read_table(data / "rows.parquet"))
    name, snapshot = Store(store).snapshots.newest(Snapshot.from_bytes) or ("", None)
    assert snapshot is not None
    assert np.array_equal(snapshot.mean, expected.release().mean)
    # Again: everything is already there.
    assert "0 rows learned" in call("replay", data / "rows.parquet", "--pipeline", pipeline).err

    assert call("train", pipeline, "--seconds", "0.5").code == 0
    assert "going on with" in call("train", pipeline, "--seconds", "0.5").err
    assert len(Store(store).checkpoints.names()) == 2

    shown = call("evaluate", store, "--against", data / "held.parquet", "-n", 300, "--json")
    assert shown.code == 0
    scores = json.loads(shown.out)
    assert set(scores["scores"]) == {"shuffled columns", "synthetic", "other real rows"}
    assert scores["label"] == "sort"
    assert "checkpoint-00000001" in scores["about"]["checkpoint"]
    assert "not private" in scores["about"]["privacy"]
    assert (store / "reports" / "report.html").exists()


def test_replay_tells_of_refused_rows(call: Call, pipeline: Path, tmp_path: Path) -> None:
    bad = rows(10, 5).set_column(2, "sort", pa.array(["up"] * 9 + ["sideways"]))
    parquet.write_table(bad, tmp_path / "bad.parquet")
    shown = call("replay", tmp_path / "bad.parquet", "--pipeline", pipeline)
    assert shown.code == 0
    assert "9 rows learned" in shown.err
    assert "1 row refused, the first because column 'sort'" in shown.err


def test_run_does_everything(call: Call, pipeline: Path) -> None:
    shown = call("run", pipeline)
    assert shown.code == 0, shown.err
    store = Store(pipeline.parent / "store")
    assert store.snapshots.names()
    assert store.checkpoints.names()
    drawn = parquet.read_table(store.path("samples"))
    assert drawn.num_rows >= 1000
    assert drawn.column_names == ["x", "y", "sort"]
    assert "look at them with" in shown.err
    processes = json.loads(call("inspect", pipeline, "--json").out)["processes"]
    assert {p["name"] for p in processes} == {"consumer-0", "trainer", "sampler"}


@pytest.mark.parametrize("command", ["run", "consume", "train"])
def test_a_wrong_pipeline_tells_every_mistake(call: Call, pipeline: Path, command: str) -> None:
    text = pipeline.read_text().replace("seed = 0 ", "sead = 0 ").replace("keep = 100", "keep = 0")
    pipeline.write_text(text)
    shown = call(command, pipeline)
    assert shown.code == 2
    assert "2 mistakes" in shown.err
    assert "sketch.sead" in shown.err
    assert "snapshots.keep" in shown.err


def test_training_needs_a_snapshot(call: Call, pipeline: Path) -> None:
    shown = call("train", pipeline)
    assert shown.code == 1
    assert "has no snapshot to train on" in shown.err


# --- sample


def test_samples_to_every_format(call: Call, trained: Path, tmp_path: Path) -> None:
    for name, read in (
        ("a.parquet", parquet.read_table),
        ("a.arrow", feather.read_table),
        ("a.csv", csv.read_csv),
    ):
        shown = call("sample", trained, "-n", 7, "-o", tmp_path / name, "--iid")
        assert (shown.code, shown.out) == (0, "")
        table = read(tmp_path / name)
        assert (table.num_rows, table.column_names) == (7, ["x", "y", "sort"])
    call("sample", trained, "-n", 7, "-o", tmp_path / "a.jsonl", "--iid")
    lines = call("sample", trained, "-n", 7, "--iid").out
    assert (tmp_path / "a.jsonl").read_text() == lines
    assert [set(json.loads(line)) for line in lines.splitlines()] == [{"x", "y", "sort"}] * 7
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.arrow", "a.csv", "a.jsonl", "a.parquet",
    ]  # fmt: skip


def test_the_history_goes_on_between_calls(call: Call, trained: Path, tmp_path: Path) -> None:
    history = tmp_path / "history.safetensors"
    first = call("sample", trained, "-n", 20, "--history", history)
    second = call("sample", trained, "-n", 20, "--history", history)
    assert first.code == second.code == 0
    assert not set(first.out.splitlines()) & set(second.out.splitlines())
    iid = [call("sample", trained, "-n", 20, "--iid").out for _ in range(2)]
    assert iid[0] == iid[1]


def test_samples_of_a_label(call: Call, trained: Path) -> None:
    shown = call("sample", trained, "-n", 30, "--label", "up", "--forget")
    assert {json.loads(line)["sort"] for line in shown.out.splitlines()} == {"up"}
    wrong = call("sample", trained, "-n", 3, "--label", "left", "--forget")
    assert wrong.code == 2
    assert "its values are" in wrong.err


def test_a_report_of_the_draws(call: Call, trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "draws.png"
    shown = call("sample", trained, "-n", 40, "--forget", "--report", picture)
    assert shown.code == 0
    assert len(shown.out.splitlines()) == 40
    for score in ("energy gain", "Vendi", "coverage", "duplicates"):
        assert score in shown.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_history_is_shown_forked_merged_reset_and_restored(
    call: Call, trained: Path, tmp_path: Path
) -> None:
    path, fork = tmp_path / "history.safetensors", tmp_path / "fork.safetensors"
    call("sample", trained, "-n", 8, "--history", path)
    assert json.loads(call("history", path).out)["outputs"] == 8
    assert call("history", path, "--fork", fork).code == 0
    assert call("history", path, "--fork", fork).code == 2
    call("sample", trained, "-n", 4, "--history", fork)
    call("sample", trained, "-n", 2, "--history", path)
    assert json.loads(call("history", path, "--merge", fork).out)["outputs"] == 14
    assert json.loads(call("history", path, "--reset").out)["outputs"] == 0
    assert json.loads(call("history", path, "--restore").out)["outputs"] == 14
    wrong = call("history", path, "--reset", "--restore")
    assert (wrong.code, "call once for each" in wrong.err) == (2, True)
    assert call("history", tmp_path / "none.safetensors").code == 1


def test_a_checkpoint_file_is_sampled_too(call: Call, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    path.write_bytes((trained / "checkpoints" / "checkpoint-00000000.safetensors").read_bytes())
    shown = call("sample", path, "-n", 2)
    assert len(shown.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("output", "words"),
    [("rows.xls", "does not say the format"), ("kafka://x", "host:port/topic")],
)
def test_where_samples_cannot_go(call: Call, trained: Path, output: str, words: str) -> None:
    shown = call("sample", trained, "-n", 2, "--iid", "-o", output)
    assert shown.code == 2
    assert words in shown.err


def test_a_store_without_checkpoints(call: Call, tmp_path: Path) -> None:
    shown = call("sample", tmp_path)
    assert shown.code == 1
    assert "has no checkpoint yet; train one" in shown.err


# --- evaluate


def test_evaluate_files(call: Call, data: Path, tmp_path: Path) -> None:
    arguments = (data / "rows.parquet", "--against", data / "held.parquet", "-n", 300)
    shown = call("evaluate", *arguments, "--report", tmp_path / "report", "--label", "sort")
    assert shown.code == 0
    for word in ("shuffled columns", "synthetic", "other real rows", "TSTR"):
        assert word in shown.out
    assert "Pairs of columns are" in shown.err
    assert (tmp_path / "report" / "report.html").exists()
    assert (tmp_path / "report" / "columns.png").exists()


# --- inspect


def test_inspect_shows_what_there_is(call: Call, trained: Path) -> None:
    shown = call("inspect", trained)
    assert shown.code == 0
    assert not shown.err
    for word in ("snapshot-00000001.safetensors", "3,000", "multiscale", "checkpoint-00000000"):
        assert word in shown.out
    facts = json.loads(call("inspect", trained, "--json").out)
    assert [s["rows"] for s in facts["snapshots"]] == [3000, 1000]
    assert 0 < facts["snapshots"][0]["moved"] < 0.01
    assert facts["snapshots_in_all"] == 2


def test_inspect_names_a_damaged_file(call: Call, trained: Path, tmp_path: Path) -> None:
    import shutil

    store = shutil.copytree(trained, tmp_path / "store")
    path = store / "snapshots" / "snapshot-00000001.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    facts = json.loads(call("inspect", store, "--json").out)
    assert "damaged" in facts["snapshots"][0]
    assert facts["snapshots"][1]["rows"] == 1000


def test_inspect_privacy(call: Call, trained: Path) -> None:
    shown = call("inspect", trained, "--privacy")
    assert shown.code == 0
    assert "Mechanism: none" in shown.out


def test_inspect_the_ledger_of_a_private_stream(call: Call, pipeline: Path, data: Path) -> None:
    text = pipeline.read_text().replace(
        'mechanism = "none" ', 'mechanism = "toeplitz"\nrho = 0.5\nreleases = 20 '
    )
    pipeline.write_text(text)
    ran = call("replay", data / "rows.parquet", "--pipeline", pipeline)
    assert ran.code == 0, ran.err
    assert "3,000" not in ran.err  # the exact count is secret here
    shown = call("inspect", pipeline, "--privacy")
    assert shown.code == 0
    assert "chain verified" in shown.out
    assert "toeplitz" in shown.out


# --- merge


def test_merged_sketches_are_one_pass_over_all_rows(call: Call, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, size=(90, 2))
    schema = Schema.vectors(2, -1, 1)
    whole = Sketcher(schema, 32)
    whole.learn_many(x)
    files = []
    for i, part in enumerate(np.array_split(x, 3)):
        sketcher = Sketcher(schema, 32)
        sketcher.learn_many(part)
        files.append(tmp_path / f"{i}.safetensors")
        files[-1].write_bytes(sketcher.sketch.to_bytes())
    out = tmp_path / "all.safetensors"
    assert call("merge", *files, "-o", out).code == 0
    merged = Sketch.from_bytes(out.read_bytes())
    assert np.array_equal(merged.total, whole.sketch.total)
    assert merged.count == 90
    assert out.stat().st_mode & 0o077 == 0  # a sketch is secret

    other = Sketcher(schema, 32, seed=1)
    (tmp_path / "other.safetensors").write_bytes(other.sketch.to_bytes())
    shown = call("merge", files[0], tmp_path / "other.safetensors", "-o", out)
    assert shown.code == 1
    assert whole.spec.fingerprint in shown.err
    assert other.spec.fingerprint in shown.err


def test_merged_snapshots_weigh_by_count(call: Call, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.safetensors"
    names = [trained / "snapshots" / f"snapshot-0000000{i}.safetensors" for i in (0, 1)]
    refused = call("merge", *names, "-o", out)  # the second holds the rows of the first as well
    assert refused.code == 2 and "count twice" in refused.err
    assert call("merge", *names, "-o", out, "--allow-overlap").code == 0
    a, b, both = (Snapshot.load(p) for p in (*names, out))
    assert both.count == 4000
    assert np.allclose(both.mean, (1000 * a.mean + 3000 * b.mean) / 4000)
    assert call("merge", names[0], "-o", out).code == 2
    assert call("merge", trained, trained, "-o", out).code == 2
    assert call("merge", trained, trained, "-o", out, "--allow-overlap").code == 0


# --- serve


def test_serve_tells_what_to_install(
    call: Call, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    shown = call("serve", trained)
    assert shown.code == 2
    assert "pip install 'streamsketch[serve]'" in shown.err
