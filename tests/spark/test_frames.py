"""Spark: the same bits as one pass, however the rows are cut; refusals, versions, bad input."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from streamsketch import Schema, Sketcher
from streamsketch.errors import ConfigError, DamagedFileError, DataError, SpecMismatchError
from streamsketch.spark import frames, refused, sketch

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")

from pyspark.sql import SparkSession  # noqa: E402

SETTINGS = {"frequencies": 32, "seed": 3}


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """A session on both cores of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.log.level", "OFF")
            .getOrCreate()
        )
        yield session
        session.stop()


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
    alone = Sketcher(schema, **SETTINGS)
    alone.learn_many(table)
    frame = spark.read.parquet(path).repartition(partitions)
    ours = sketch(frame, schema, merge_tasks=2, **SETTINGS)
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
        sketch(frame, schema, merge_tasks=0, **SETTINGS)


def test_a_worker_with_another_operator_is_refused_by_name(
    schema: Schema, table: pa.Table
) -> None:
    mine = frames.Operator.of(Sketcher(schema, **SETTINGS))
    other = frames.Operator.of(Sketcher(Schema.propose(table), **SETTINGS))
    mixed = frames.Operator(other.schema, mine.spec, "9.9")
    with pytest.raises(SpecMismatchError, match=r"9\.9.*install the same version"):
        mixed.features  # noqa: B018
    newer = frames.Operator(mine.schema, mine.spec.replace("{", '{"hue": 1, ', 1))
    with pytest.raises(ConfigError, match="another version"):
        newer.features  # noqa: B018


def test_a_corrupt_partial_is_named(schema: Schema) -> None:
    data = bytearray(Sketcher(schema, **SETTINGS).sketch.to_bytes())
    data[-1] ^= 1
    batch = pa.RecordBatch.from_pydict({"sketch": [bytes(data)] * 2, "reason": ["", ""]})
    with pytest.raises(DamagedFileError, match="checksum"):
        list(frames._merging([batch]))


def test_only_the_spec_travels(schema: Schema) -> None:
    wide = Sketcher(schema, frequencies=100_000)
    sent = frames.Operator.of(wide)
    assert len(sent.schema) + len(sent.spec) < 10_000 < len(wide.sketch.to_bytes())
