"""pipeline.toml: what is right loads, all that is wrong is shown at once."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from streamsketch import Schema, Sketcher, tables
from streamsketch.errors import ConfigError
from streamsketch.run.config import load, parse

GOOD = """
[source]
type = "files"
path = "in/*.csv"
rate = 100
[schema.x]
kind = "numeric"
low = 0
high = 1
[sketch]
frequencies = 64
[snapshots]
rows = 500
[store]
path = "run"
"""


def test_a_good_file_loads_with_paths_seen_from_its_folder(tmp_path):
    path = tmp_path / "pipeline.toml"
    path.write_text(GOOD)
    p = load(path)
    assert (p.source.settings.path, p.source.settings.rate) == (f"{tmp_path}/in/*.csv", 100)
    assert p.spec.m == 64 and p.spec.schema_hash == p.schema.hash and p.snapshots.rows == 500
    assert (
        p.store().root == str(tmp_path / "run")
        and tables.resolve("s3://b/x", tmp_path) == "s3://b/x"
    )
    assert p.features().spec == p.spec and p.releaser(p.features()).mechanism == "none"


def test_every_mistake_is_shown_with_its_key(tmp_path):
    text = GOOD.replace("high = 1", "high = -1").replace(
        "frequencies = 64", 'frequencies = 0\nfreq = 3\nlaw = "cubic"'
    )
    path = tmp_path / "p.toml"
    path.write_text(text.replace("[store]\npath", "[store]\npaht"))
    with pytest.raises(ConfigError) as e:
        load(path)
    for part in ("6 mistakes", "sketch.frequencies", "sketch.freq: unknown key", "sketch.law", "gaussian",
                 "store.path: the key is missing", "store.paht: unknown key; did you mean path?",
                 "'x': bounds are reversed"):  # fmt: skip
        assert part in str(e.value), part
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"sketch": {"memory": "decayed:7"}}, "between 0 and 1"),
        ({"snapshots": {"seconds": 0}}, "greater than 0"),
        ({"dead_letters": {"on_error": "ignore"}}, "'dlq', 'skip' or 'fail'"),
        ({"sketch": {"conditional": True}}, "label column"),
        ({"windows": {"width": 60}}, 'declare one with kind = "event_time"'),
        ({"windows": {"width": 60, "time": "y"}}, "windows.time: column 'y' is not declared"),
        ({"windows": {"width": 1, "lateness": 500, "time": "x"}}, "max_open = 100, but 502"),
        ({"windows": {"width": 60, "time": "x"}, "snapshots": {"rows": 5}}, "snapshots.rows"),
        (
            {
                "windows": {"width": 60, "time": "x"},
                "privacy": {"mechanism": "tumbling", "rho": 1.0},
            },
            'set watermark = "clock"',
        ),
        (
            {
                "windows": {"width": 60, "time": "x", "watermark": "clock"},
                "privacy": {"mechanism": "tumbling", "rho": 1.0, "unit": "user"},
            },
            'unit = "user"',
        ),
        ({"dedup": {}}, 'kind = "record_id"'),
        ({"skecth": {}}, "skecth: unknown key; did you mean sketch?"),
    ],
)
def test_single_mistakes(tmp_path, table, says):
    base = {"schema": {"x": {"kind": "numeric", "low": 0, "high": 1}}, "store": {"path": "r"}}
    with pytest.raises(ConfigError, match="1 mistake") as e:
        parse({**base, **table}, tmp_path)
    assert says in str(e.value)


def test_windows_and_deduplication(tmp_path):
    base = {
        "schema": {
            "x": {"kind": "numeric", "low": 0, "high": 1},
            "at": {"kind": "event_time", "type": "timestamp[ms]"},
            "id": {"kind": "record_id", "type": "string"},
        },
        "store": {"path": "r"},
    }
    p = parse({**base, "windows": {"width": 60, "lateness": 5}, "dedup": {"ids": 7}}, tmp_path)
    assert p.windows.time == "at" and p.windows.lateness == 5 and p.dedup.ids == 7
    assert p.schema.names == ("x",) and p.schema.d == 1
    private = {**base, "privacy": {"mechanism": "tumbling", "rho": 1.0}}
    assert (
        parse(
            {**private, "windows": {"width": 60, "watermark": "clock"}}, tmp_path
        ).windows.watermark
        == "clock"
    )
    with pytest.raises(ConfigError, match="dedup: with a mechanism on"):
        parse({**private, "dedup": {}}, tmp_path)
    twice = {**base["schema"], "at2": {"kind": "event_time", "type": "timestamp[ms]"}}
    with pytest.raises(ConfigError, match="are all of kind event_time"):
        parse({**base, "schema": twice}, tmp_path)


def test_files_that_cannot_be_read_or_parsed(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the pipeline file"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[store")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path / "bad.toml")


def test_the_map_and_a_pilot_s_scale_are_settings_of_the_sketch(tmp_path):
    rng = np.random.default_rng(0)
    pilot = Sketcher(Schema.vectors(1, 0, 1), frequencies=400)
    pilot.learn_many(rng.choice([0.3, 0.7], (5000, 1)) + 0.05 * rng.normal(size=(5000, 1)))
    pilot.release().save(tmp_path / "pilot.safetensors")
    text = GOOD.replace(
        "frequencies = 64", 'frequencies = 64\nscale = "pilot.safetensors"\nmap = "signature"'
    )
    p = parse(tomllib.loads(text), tmp_path)
    assert p.spec.map == "signature" and p.features().sum(np.zeros((2, 1))).shape == (128,)
    assert p.spec.scale == pytest.approx(0.1, rel=0.2)  # limits of 0 to 1 are encoded to -1 to 1
    wrong = GOOD.replace("frequencies = 64", 'map = "moments"')
    with pytest.raises(ConfigError, match="fourier, signature, quadratic, quartic"):
        parse(tomllib.loads(wrong), tmp_path)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"privacy": {"mechanism": "tooplitz", "epsilon": 1.0}}, "privacy: .*tooplitz"),
        ({"privacy": {"mechanism": "toeplitz", "epsilonn": 1.0}}, "privacy: .*epsilonn"),
        ({"privacy": {"mechanism": "toeplitz", "epsilon": "x"}}, "privacy: "),
        ({"privacy": {"mechanism": "toeplitz"}}, "privacy: "),
        ({"privacy": {"epsilon": 1.0}}, "privacy: "),
        ({"dead_letters": {"on_error": "fail"}}, "dead_letters.on_error: "),
        ({"source": {"members": 4}, "privacy": {"unit": "user"}}, "source.members: "),
    ],
)
def test_what_the_mechanism_refuses_is_told_with_every_other_mistake(tables, told):
    whole = {"mechanism": "toeplitz", "epsilon": 1.0} if tables.keys() != {"privacy"} else {}
    tables = {**tables, "privacy": {**whole, **tables.get("privacy", {})}}
    column = {"kind": "numeric", "low": 0, "high": 1}
    given = {"store": {"path": "s"}, "schema": {"x": column}, "drifts": {}, **tables}
    with pytest.raises(ConfigError, match=f"(?s)drifts: unknown key.*{told}"):
        parse(given, Path())


def test_wrong_settings_of_source_sink_dead_letters_trainer_and_mechanism_are_told_together(
    tmp_path,
):
    tables = {
        "schema": {"x": {"kind": "numeric", "low": 0, "hihg": 1}, "y": {"kind": "numbr"}},
        "store": {"path": "r"},
        "source": {"type": "kafka", "topic": "t", "grop": "g", "max_rows": "many"},
        "sampler": {"sink": "file", "mod": "parts"},
        "dead_letters": {"max_bytes": -1},
        "trainer": {"config": {"batsh": 3}, "network": {"width": "wide"}, "second": 4},
        "privacy": {"mechanism": "toeplitz", "epsilonn": 1.0, "delta": "small"},
    }
    with pytest.raises(ConfigError, match="9 mistakes") as e:
        parse(tables, tmp_path)
    for part in (
        "source.grop: unknown key; did you mean group?", "source.max_rows: input should be a valid integer",
        "sampler.mod: unknown key; did you mean mode?", "dead_letters.max_bytes: input should",
        "trainer.config.batsh: unknown key; did you mean batch?", "trainer.network.width: input should",
        "trainer.second: unknown key; did you mean seconds?", "privacy: epsilonn: unknown key",
        "delta: input should", "column 'x': hihg: unknown key", "column 'y': kind 'numbr'",
    ):  # fmt: skip
        assert part in str(e.value), part


def test_a_source_that_is_not_known_is_told_with_the_known_ones(tmp_path):
    base = {"schema": {"x": {"kind": "numeric", "low": 0, "high": 1}}, "store": {"path": "r"}}
    with pytest.raises(ConfigError, match=r"source.type: there is no 'kafak' among .*kafka"):
        parse({**base, "source": {"type": "kafak"}}, tmp_path)
    with pytest.raises(ConfigError, match=r"sampler.sink: there is no 'fiel'"):
        parse({**base, "sampler": {"sink": "fiel"}}, tmp_path)


def test_a_file_without_a_source_reads_what_replay_names(tmp_path):
    base = {"schema": {"x": {"kind": "numeric", "low": 0, "high": 1}}, "store": {"path": "r"}}
    p = parse({**base, "source": {"delimiter": ";"}}, tmp_path)
    made = p.reading("files", path=["/a.csv", "b.csv"], rate=3.0)
    assert made.source.settings.path == ("/a.csv", f"{tmp_path}/b.csv")
    assert (made.source.settings.delimiter, made.source.settings.rate) == (";", 3.0)
    assert p.reading("files", fresh=True, path="x").source.settings.delimiter == ","
    with pytest.raises(ConfigError, match="rate and speed contradict"):
        p.reading("files", path="x", rate=1.0, speed=2.0, event_time="x")


def test_samples_and_dead_letters_lie_in_the_store_where_nothing_else_is_said(tmp_path):
    base = {"schema": {"x": {"kind": "numeric", "low": 0, "high": 1}}, "store": {"path": "r"}}
    p = parse(base, tmp_path)
    assert p.sampler.settings.mode == "parts"
    sink = tables.placed(p.sampler.settings, **p.places())
    dead = tables.placed(p.dead_letters.settings, **p.places(2))
    assert sink.path == f"{tmp_path}/r/samples/samples.parquet"
    assert dead.path == f"{tmp_path}/r/state/dead/member-2.jsonl"
    own = parse(
        {**base, "sampler": {"path": "{x}.csv"}, "dead_letters": {"path": "d.jsonl"}}, tmp_path
    )
    assert tables.placed(own.sampler.settings, **own.places()).path == f"{tmp_path}/{{x}}.csv"
    assert tables.placed(own.dead_letters.settings, **own.places()).path == f"{tmp_path}/d.jsonl"
