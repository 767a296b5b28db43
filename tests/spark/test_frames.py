"""Spark: the same bits as one pass, however the rows are cut; refusals, versions, bad input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsketch import Schema, Sketcher
from streamsketch._version import __version__
from streamsketch.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    SpecMismatchError,
    StreamSketchError,
)
from streamsketch.spark import frames, refused, sketch

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")

from pyspark.sql import SparkSession  # noqa: E402

SETTINGS = {"frequencies": 32, "seed": 3, "merge_tasks": 0}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "x": rng.normal(0, 1, 2000),
            "colour": rng.choice(["red", "green", "blue"], 2000),
            "more": rng.integers(0, 9, 2000),
        }
    )


@pytest.fixture(scope="module")
def schema(table: pa.Table) -> Schema:
    return Schema.propose(table.select(["x", "colour"]))


@pytest.fixture(scope="module")
def path(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("spark") / "rows.parquet"
    parquet.write_table(table, file, row_group_size=300)
    return str(file)


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_the_bits_are_those_of_one_pass(
    spark: SparkSession, path: str, table: pa.Table, schema: Schema, partitions: int
) -> None:
    alone = Sketcher(schema, frequencies=32, seed=3)
    alone.learn_many(table)
    frame = spark.read.parquet(path).repartition(partitions)
    ours = sketch(frame, schema, **(SETTINGS | {"merge_tasks": 2 * (partitions // 7)}))
    assert ours.sketch.total.tolist() == alone.sketch.total.tolist()
    assert ours.sketch.count == alone.sketch.count == 2000
    assert ours.release().spec.fingerprint == alone.spec.fingerprint


def test_empty_partitions_and_empty_frames(spark: SparkSession, path: str, schema: Schema) -> None:
    frame = spark.read.parquet(path)
    few = sketch(frame.limit(3).repartition(8), schema, **SETTINGS)
    assert few.sketch.count == 3
    none = sketch(frame.limit(0), schema, **SETTINGS)
    assert none.sketch.count == 0 and not none.sketch.total.any()


def test_refused_rows_fail_the_job_or_are_left_out_and_listed(
    spark: SparkSession, schema: Schema
) -> None:
    frame = spark.createDataFrame(
        [(0.5, "red"), (None, "red"), (0.1, "pink")], "x double, colour string"
    )
    with pytest.raises(DataError, match="on_refused"):
        sketch(frame, schema, **SETTINGS)
    assert sketch(frame, schema, on_refused="skip", **SETTINGS).sketch.count == 1
    rows = {row.reason: row.row for row in refused(frame, schema).collect()}
    assert rows == {
        "column 'x': null, and the schema refuses nulls": '{"x": null, "colour": "red"}',
        "column 'colour': a category that is not declared": '{"x": 0.1, "colour": "pink"}',
    }


def test_a_private_release_is_made_on_the_driver(
    spark: SparkSession, path: str, schema: Schema
) -> None:
    private = {"epsilon": 1.0, "delta": 1e-5, "releases": 1}
    ours = sketch(
        spark.read.parquet(path), schema, mechanism="gaussian", privacy=private, **SETTINGS
    )
    snapshot = ours.release()
    assert snapshot.release.private and snapshot.release.noise_std > 0


def test_wrong_calls(spark: SparkSession, path: str, schema: Schema) -> None:
    frame = spark.read.parquet(path)
    with pytest.raises(ConfigError, match="no column 'colour'"):
        sketch(frame.select("x"), schema, **SETTINGS)
    with pytest.raises(ConfigError, match="on_refused"):
        sketch(frame, schema, on_refused="drop", **SETTINGS)
    with pytest.raises(ConfigError, match="merge_tasks"):
        sketch(frame, schema, **(SETTINGS | {"merge_tasks": -1}))


def operator(schema: Schema) -> frames.Operator:
    return frames.Operator.of(schema, Sketcher(schema, frequencies=32, seed=3).spec)


def test_a_worker_with_another_operator_is_refused_by_both_names(
    spark: SparkSession, path: str, schema: Schema, table: pa.Table
) -> None:
    mine, other = operator(schema), operator(Schema.propose(table))
    mixed = replace(mine, schema=other.schema, version="9.9")
    with pytest.raises(SpecMismatchError, match=r"9\.9.*install the same version") as e:
        mixed.features  # noqa: B018
    assert schema.hash in str(e.value) and Schema.propose(table).hash in str(e.value)
    newer = replace(mine, spec=mine.spec.replace("{", '{"hue": 1, ', 1))
    with pytest.raises(ConfigError, match="another version"):
        newer.features  # noqa: B018
    # a worker's own words reach the driver, not its traceback
    task = frames._sketching(replace(mine, fingerprint="feedbeef", version="9.9"))
    tasks = spark.read.parquet(path).select("x", "colour").mapInArrow(task, frames.PARTIAL)
    with pytest.raises(SpecMismatchError) as e:
        frames._unpacked(tasks.collect()[0].asDict())
    assert str(e.value).splitlines() == [
        "the driver (streamsketch 9.9) has the operator feedbeef, this worker (streamsketch "
        f"{__version__}) makes {mine.fingerprint} of it; install the same version on both"
    ]


def test_a_corrupt_partial_is_named(spark: SparkSession, schema: Schema) -> None:
    data = bytearray(Sketcher(schema, frequencies=32, seed=3).sketch.to_bytes())
    data[-1] ^= 1
    frame = spark.createDataFrame([(bytes(data), 0, "", "")], frames.PARTIAL)
    with pytest.raises(DamagedFileError, match="checksum"):
        frames._unpacked(frame.mapInArrow(frames._merging, frames.PARTIAL).collect()[0].asDict())


def test_one_giant_partition_and_files_whose_columns_drift(
    spark: SparkSession, schema: Schema, table: pa.Table, tmp_path: Path
) -> None:
    """Columns in another order, of another width, more and fewer of them: by name, or refused."""
    alone = Sketcher(schema, frequencies=32, seed=3)
    alone.learn_many(table)
    wide = pa.table({"more": ["?"] * 5, "colour": ["red"] * 5, "x": [0.25] * 5})
    narrow = pa.table({"colour": ["blue"] * 3})
    alone.learn_many(wide)
    for name, one in {"a": table.drop_columns("more"), "b": wide, "c": narrow}.items():
        parquet.write_table(one, tmp_path / f"{name}.parquet")
    drifting = spark.read.option("mergeSchema", True).parquet(str(tmp_path))
    with pytest.raises(DataError, match="column 'x': null"):
        sketch(drifting.coalesce(1), schema, **SETTINGS)
    ours = sketch(drifting.coalesce(1), schema, on_refused="skip", **SETTINGS)
    assert ours.sketch.count == 2005
    assert ours.sketch.total.tolist() == alone.sketch.total.tolist()
    text = spark.createDataFrame([("a", "red")], "x string, colour string")
    with pytest.raises(StreamSketchError, match="column 'x'"):
        sketch(text, schema, **SETTINGS)


def test_only_the_spec_travels(schema: Schema) -> None:
    sent = operator(schema)
    wide = Sketcher(schema, frequencies=100_000)
    assert len(sent.schema) + len(sent.spec) < 10_000 < len(wide.sketch.to_bytes())
