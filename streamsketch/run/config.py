"""pipeline.toml: every table and key, validated at once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamsketch.errors import ConfigError, SchemaError
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.streams import plugin
from streamsketch.ingest.watch import Drift
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
    PipelineFile,
    PrivacyTable,
    SamplerTable,
    SketchTable,
    SourceTable,
    StoreTable,
    TrainerTable,
)
from streamsketch.tables import read, tables_of, unknown_key

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
    snapshots: Schedule
    trainer: TrainerTable
    sampler: SamplerTable
    store_table: StoreTable
    dead_letters: DeadLettersTable
    schema: Schema
    folder: Path
    drift: Drift | None = None
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
        return Store(table.path, table.state, table.shared)

    def places(self, member: int = 0) -> dict[str, str]:
        """What stands for {store}, {dead} and {member} in the defaults of a pipeline file."""
        store = self.store()
        return {"store": store.root, "dead": str(store.dead), "member": str(member)}

    def reading(self, source: str, fresh: bool = False, **settings: Any) -> "Pipeline":
        """The pipeline with another source.

        Args:
            source: Name of the source.
            fresh: Whether nothing holds on of what the pipeline says of such a source.
            settings: Its settings.

        Raises:
            ConfigError: All that is wrong with the settings.
        """
        mistakes: list[str] = []
        before = self.source.settings
        given = vars(before) if is_dataclass(before) else before
        kept = given if source == self.source.type and not fresh else {}
        made = _settings("sources", source, {**kept, **settings}, "source.", mistakes, self.folder)
        if mistakes:
            raise ConfigError("; ".join(mistakes))
        return replace(self, source=replace(self.source, type=source, settings=made))

    def releaser(self, features: "Map") -> "Releaser":
        """A releaser that has released nothing."""
        from streamsketch.privacy.release import Releaser

        return Releaser(
            features, self.schema, stream=self.source.name, mechanism=self.privacy.mechanism,
            memory=self.sketch.memory, settings=self.privacy.settings,
        )  # fmt: skip


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
      snapshots.second: unknown key; did you mean seconds?
      store: the table is missing
      schema: no [schema.<column>] tables; propose some with `streamsketch init`
    """
    mistakes: list[str] = []
    file = _file(tables, folder, mistakes)
    schema = _schema(tables, mistakes)
    mistakes += _privacy_problems(file) + _shared_problems(file)
    windows = None
    if schema is not None:
        mistakes += _schema_problems(file, schema)
        try:
            windows = None if file.windows is None else _windows(file, tables, schema)
        except ConfigError as e:
            mistakes.append(str(e))
    if mistakes or schema is None:
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise ConfigError(f"{name} has {count}:\n  " + "\n  ".join(mistakes))
    return Pipeline(
        file.source, file.sketch, file.privacy, file.snapshots, file.trainer, file.sampler, file.store,
        file.dead_letters, schema, folder, file.drift, windows, file.dedup,
    )  # fmt: skip


def _file(tables: Mapping[str, Any], folder: Path, mistakes: list[str]) -> PipelineFile:
    """The tables that are right; defaults stand for the others, so that all contradictions are told."""
    kinds = tables_of(PipelineFile)
    sound: dict[str, Any] = {}
    for name, table in tables.items():
        if name in kinds:
            value = read(kinds[name], table, f"{name}.", mistakes, folder)
            sound.update({} if value is None else {name: value})
        elif name != "schema":
            mistakes.append(f"{name}: {unknown_key(name, [*kinds, 'schema'])}")
    if "store" not in tables:
        mistakes.append("store: the table is missing")
    return _with_settings(PipelineFile(**sound), folder, mistakes)


def _with_settings(file: PipelineFile, folder: Path, mistakes: list[str]) -> PipelineFile:
    """The file with the settings of its source, its sink and its dead letters checked by these."""
    source, sampler, dead = file.source, file.sampler, file.dead_letters
    made = _settings("sources", source.type, source.settings, "source.", mistakes, folder)
    file = replace(file, source=replace(source, settings=made))
    if sampler.rows > 0:
        made = _settings("sinks", sampler.sink, sampler.settings, "sampler.", mistakes, folder)
        file = replace(file, sampler=replace(sampler, settings=made))
    if dead.on_error == "dlq":
        made = _settings(
            "dead_letters", dead.type, dead.settings, "dead_letters.", mistakes, folder
        )
        file = replace(file, dead_letters=replace(dead, settings=made))
    return file


def _settings(
    group: str, name: str, table: Any, where: str, mistakes: list[str], folder: Path
) -> Any:
    """Settings as the source or sink of that name declares them.

    They stay a table where it declares none, cannot be loaded on this machine, or lacks a key that only
    those need who make it: `replay` brings its own path.
    """
    try:
        factory = plugin(group, name)
    except ConfigError as e:
        mistakes.append(f"{where}{'sink' if group == 'sinks' else 'type'}: {e}")
        return table
    except ImportError:
        return table
    kind = getattr(factory, "settings", None)
    value = None if kind is None else read(kind, table, where, mistakes, folder, whole=False)
    return table if value is None else value


def _schema(tables: Mapping[str, Any], mistakes: list[str]) -> Schema | None:
    if "schema" not in tables:
        mistakes.append(
            "schema: no [schema.<column>] tables; propose some with `streamsketch init`"
        )
        return None
    try:
        return Schema.from_dict(tables["schema"])
    except SchemaError as e:
        mistakes.append(f"schema: {e}")
        return None


def _schema_problems(file: PipelineFile, schema: Schema) -> list[str]:
    """What other tables ask of the columns."""
    problems = []
    if file.sketch.conditional and schema.label is None:
        problems.append(
            'sketch.conditional: needs a label column; declare one with kind = "label"'
        )
    if file.dedup is not None and schema.record_column is None:
        problems.append(
            'dedup: needs the column that identifies a record; declare it with kind = "record_id"'
        )
    return problems


def _privacy_problems(file: PipelineFile) -> list[str]:
    """What the mechanism itself refuses, and what none covers: one row would decide about others."""
    from streamsketch.privacy.mechanisms import planned

    problems: list[str] = []
    try:
        planned(file.privacy.mechanism, file.sketch.memory, file.privacy.settings or None)
    except (ConfigError, TypeError) as e:
        problems.append(f"privacy: {str(e).removeprefix('privacy: ')}")
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
    if file.source.type not in ("kafka", "spark"):
        problems.append(
            f"store.shared: no broker gives parts of {file.source.type!r} to one reader at a time; read it "
            "through Kafka, or remove shared"
        )
    return problems


def _windows(file: PipelineFile, tables: Mapping[str, Any], schema: Schema) -> Windows:
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
    given = {"rows", "seconds"} & set(tables.get("snapshots", {}))
    if given:
        raise ConfigError(
            f"snapshots.{sorted(given)[0]}: a window is released when it closes; remove the key, or "
            "the [windows] table"
        )
    return replace(table, time=name)
