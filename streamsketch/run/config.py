"""pipeline.toml: every table and key, validated at once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from streamsketch.errors import ConfigError, SchemaError
from streamsketch.ingest.windows import Windows
from streamsketch.schema import Schema

if TYPE_CHECKING:
    from streamsketch.features import Map
    from streamsketch.features.spec import Spec
    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

from streamsketch.run.tables import (
    DeadLettersTable,
    DedupTable,
    DriftTable,
    PipelineFile,
    PrivacyTable,
    SamplerTable,
    SketchTable,
    SnapshotsTable,
    SourceTable,
    StoreTable,
    TrainerTable,
)

__all__ = ["Pipeline", "load"]


@dataclass(frozen=True)
class Pipeline:
    """A validated pipeline file.

    Attributes:
        source, sketch, privacy, snapshots, trainer, sampler, dead_letters: Its tables.
        schema: The columns.
        folder: Folder of the file; relative paths in it start there.
        drift: Its [drift] table, if there is one.
        windows: How its [windows] table cuts the stream, if there is one.
        dedup: Its [dedup] table, if there is one.
    """

    source: SourceTable
    sketch: SketchTable
    privacy: PrivacyTable
    snapshots: SnapshotsTable
    trainer: TrainerTable
    sampler: SamplerTable
    store_table: StoreTable
    dead_letters: DeadLettersTable
    schema: Schema
    folder: Path
    drift: DriftTable | None = None
    windows: Windows | None = None
    dedup: DedupTable | None = None

    @property
    def spec(self) -> "Spec":
        """The operator's spec."""
        from streamsketch.decode.scale import scale_of
        from streamsketch.sketcher import spec_of

        s = self.sketch
        private = self.privacy.mechanism != "none"
        return spec_of(
            self.schema, s.frequencies, s.law, s.seed, scale_of(s.scale, private, self.folder),
            s.conditional, s.map, cells=s.cells, middle=s.middle, coarse=s.coarse,
            triples=s.triples, partners=s.partners, max_cells=s.max_cells, private=private,
        )  # fmt: skip

    def features(self) -> "Map":
        """The operator."""
        from streamsketch.features import build

        made: Map = build(self.spec, self.schema)
        return made

    def store(self) -> "Store":
        """The store."""
        from streamsketch.storage.store import Store

        table = self.store_table
        state = self.resolve(table.state) if table.state else None
        return Store(self.resolve(table.path), state, table.shared)

    def releaser(self, features: "Map") -> "Releaser":
        """A releaser that has released nothing."""
        from streamsketch.privacy.release import Releaser

        return Releaser(
            features, self.schema, stream=self.source.name, mechanism=self.privacy.mechanism,
            memory=self.sketch.memory, settings=self.privacy.settings,
        )  # fmt: skip

    def resolve(self, path: str) -> str:
        """A path or URL as seen from the pipeline file's folder."""
        if "://" in path or Path(path).is_absolute() or path == "-":
            return path
        return str(self.folder / path)


def load(path: str | Path) -> Pipeline:
    """Read and validate a pipeline file.

    Raises:
        ConfigError: It cannot be read; or all of its mistakes, each with its key.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as e:
        raise ConfigError(f"cannot read the pipeline file {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is no text file in TOML; give the pipeline file, which `streamsketch init` proposes from rows"
        ) from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not valid TOML: {e}") from None
    return parse(tables, path.parent.resolve(), str(path))


def parse(tables: Mapping[str, Any], folder: Path, name: str = "the pipeline") -> Pipeline:
    """Validate the tables of a pipeline file. Raises ConfigError as `load`.

    >>> parse({"source": {"members": 0}, "snapshots": {"second": 3}}, Path("."))
    Traceback (most recent call last):
    streamsketch.errors.ConfigError: the pipeline has 4 mistakes:
      source.members: input should be greater than or equal to 1 (found 0)
      snapshots.second: unknown key; known are rows, seconds, save_seconds, keep, max_age
      store: the table is missing
      schema: no [schema.<column>] tables; propose some with `streamsketch init`
    """
    tables = dict(tables)
    problems: list[str] = []
    schema = None
    declared = tables.pop("schema", None)
    try:
        if declared is not None:
            schema = Schema.from_dict(declared)
    except SchemaError as e:
        problems.append(f"schema: {e}")
    file = None
    try:
        file = PipelineFile.model_validate(tables)
    except ValidationError as e:
        problems = [_problem(error) for error in e.errors()] + problems
        # what contradicts between the other tables is told as well
        wrong = {error["loc"][0] for error in e.errors()}
        sound = {key: table for key, table in tables.items() if key not in wrong}
        file = PipelineFile.model_validate({"store": {"path": ""}, **sound})
    if declared is None:
        problems.append(
            "schema: no [schema.<column>] tables; propose some with `streamsketch init`"
        )
    if (
        file is not None
        and schema is not None
        and file.sketch.conditional
        and schema.label is None
    ):
        problems.append(
            'sketch.conditional: needs a label column; declare one with kind = "label"'
        )
    windows = None
    if file is not None:
        problems += _privacy_problems(file) + _shared_problems(file)
    if file is not None and schema is not None:
        if file.dedup is not None and schema.record_column is None:
            problems.append(
                'dedup: needs the column that identifies a record; declare it with kind = "record_id"'
            )
        try:
            windows = None if file.windows is None else _windows(file, schema)
        except ConfigError as e:
            problems.append(str(e))
    if problems or file is None or schema is None:
        count = f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}"
        raise ConfigError(f"{name} has {count}:\n  " + "\n  ".join(problems))
    return Pipeline(
        file.source, file.sketch, file.privacy, file.snapshots, file.trainer, file.sampler, file.store,
        file.dead_letters, schema, folder, file.drift, windows, file.dedup,
    )  # fmt: skip


def _privacy_problems(file: PipelineFile) -> list[str]:
    """What the mechanism itself refuses, and what none covers: one row would decide about others."""
    from streamsketch.privacy.resolve import resolve

    problems: list[str] = []
    try:
        resolve(file.privacy.mechanism, file.sketch.memory, file.privacy.settings or None)
    except (ConfigError, TypeError) as e:
        problems.append(f"privacy: {e}")
    if file.privacy.mechanism == "none":
        return problems
    if file.dead_letters.on_error == "fail":
        problems.append(
            "dead_letters.on_error: with a mechanism on, one row's value must not end the stream; set "
            'on_error = "dlq" or "skip"'
        )
    if file.privacy.settings.get("unit") == "user" and file.source.members > 1:
        problems.append(
            'source.members: users are counted by one process where unit = "user"; set members = 1'
        )
    if file.drift is not None:
        problems.append(
            "drift: watches raw rows, which no budget pays for; remove the table, and compare "
            "released snapshots with streamsketch.drift.snapshots.SnapshotDrift"
        )
    if file.dedup is not None:
        problems.append(
            "dedup: with a mechanism on, one row would decide whether others of its id count, "
            "which no budget pays for; remove the table, and leave duplicates out before the stream"
        )
    if file.windows is not None and file.windows.watermark == "rows":
        problems.append(
            "windows.watermark: with a mechanism on, one row's time must not decide whether others "
            'are late; set watermark = "clock"'
        )
    if file.windows is not None and file.privacy.settings.get("unit") == "user":
        problems.append(
            'windows: unit = "user" counts a user\'s windows in the order of releases, not of event '
            'time; set unit = "row", or remove the table'
        )
    return problems


def _shared_problems(file: PipelineFile) -> list[str]:
    """What needs the locks of one machine, and cannot be shared by several."""
    if file.store.shared is None:
        return []
    problems: list[str] = []
    if file.windows is not None:
        problems.append(
            "windows: a window is closed under a lock of one machine; remove the table, or shared from [store]"
        )
    if file.privacy.settings.get("unit") == "user":
        problems.append(
            'privacy.unit: users are counted by one process; set unit = "row", or remove shared from [store]'
        )
    if file.source.type != "kafka":
        problems.append(
            f"store.shared: no broker gives parts of {file.source.type!r} to one reader at a time; read it "
            "through Kafka, or remove shared"
        )
    return problems


def _windows(file: PipelineFile, schema: Schema) -> Windows:
    """How a stream is cut.

    Raises:
        ConfigError: No column holds the time, or other tables contradict.
    """
    table = file.windows
    assert table is not None
    name = table.time or schema.time_column
    if name is None:
        raise ConfigError(
            'windows: no column holds the time; declare one with kind = "event_time", or set time'
        )
    column = next((c for c in schema.columns if c.name == name), None)
    if column is None or column.kind not in ("event_time", "timestamp", "numeric"):
        found = "not declared" if column is None else f"of kind {column.kind}"
        raise ConfigError(
            f"windows.time: column {name!r} is {found}; it must be of kind event_time, timestamp or "
            "numeric (seconds since 1970)"
        )
    given = {"rows", "seconds"} & file.snapshots.model_fields_set
    if given and any(getattr(file.snapshots, key) is not None for key in given):
        raise ConfigError(
            f"snapshots.{sorted(given)[0]}: a window is released when it closes; remove the key, or "
            "the [windows] table"
        )
    return Windows(**{**table.model_dump(), "time": name})


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        table = PipelineFile.model_fields.get(str(error["loc"][0]))
        kind = table.annotation if table is not None and len(error["loc"]) > 1 else PipelineFile
        known = (
            ", ".join(kind.model_fields)
            if isinstance(kind, type) and issubclass(kind, BaseModel)
            else ""
        )
        return f"{where}: unknown key; known are {known}"
    if error["type"] == "missing":
        return f"{where}: {'the table' if len(error['loc']) == 1 else 'the key'} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]} (found {error['input']!r})"
