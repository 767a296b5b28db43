"""pipeline.toml: every table and key, validated at once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamsketch.errors import ConfigError, SchemaError
from streamsketch.ingest.windows import Windows
from streamsketch.schema import Schema

if TYPE_CHECKING:
    from streamsketch.features import Map
    from streamsketch.features.spec import Spec
    from streamsketch.privacy.release import Releaser
    from streamsketch.storage.store import Store

__all__ = ["Pipeline", "load"]

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceTable(BaseModel):
    """[source]: what to read; further keys are the source's own settings.

    Attributes:
        type: Source: files, arrow, flight, kafka, or what another package adds.
        name: Name of the stream, written into every release.
        members: Sketching processes that `run` starts.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = "files"
    name: str = "stream"
    members: Positive = 1

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the source."""
        return dict(self.model_extra or {})


class SketchTable(_Table):
    """[sketch]: the operator. Everything here is public and part of the fingerprint.

    Attributes:
        frequencies: m, the number of frequencies.
        law: Frequency law; several joined by + share the frequencies.
        scale: Kernel scale, a length in encoded space; or a released pilot snapshot's file to read it off.
        seed: Seed of the frequencies; equal seeds make sketches mergeable.
        map: Feature map: fourier, quadratic, quartic or signature.
        memory: What a release stands for: landmark, decayed:KEEP, tumbling, sliding:PANES.
        conditional: One block of features for each value of the label column.
        cells: Count cells of the table too (single values, pairs of columns).
        middle: Cells of an ordered column in its pairs; 0 chooses.
        coarse: Cells of an ordered column in triples; 0 counts no triples.
        triples: Names of the columns of each counted triple; none with `coarse` counts all.
        partners: For each column, those that it is paired with; none counts all pairs.
        max_cells: Counts that the sketch may have.
    """

    frequencies: Positive = 4096
    law: str = "multiscale"
    scale: Annotated[float, Field(gt=0)] | str = 1.0
    seed: int = 0
    map: str = "fourier"
    memory: str = "landmark"
    conditional: bool = False
    cells: bool = False
    middle: Annotated[int, Field(ge=0)] = 0
    coarse: Annotated[int, Field(ge=0)] = 0
    triples: tuple[tuple[str, str, str], ...] = ()
    partners: dict[str, tuple[str, ...]] = {}
    max_cells: Annotated[int, Field(gt=0, le=1 << 28)] = 1 << 19

    @field_validator("law")
    @classmethod
    def _known_law(cls, law: str) -> str:
        from streamsketch.features.frequencies import LAWS

        if any(part not in LAWS for part in law.split("+")):
            raise ValueError(
                f"{law!r} is unknown; choose one of {', '.join(LAWS)}, or several joined by +"
            )
        return law

    @field_validator("map")
    @classmethod
    def _known_map(cls, map: str) -> str:
        from streamsketch.features import MAPS

        if map not in MAPS:
            raise ValueError(f"{map!r} is unknown; choose one of {', '.join(MAPS)}")
        return map

    @field_validator("memory")
    @classmethod
    def _known_memory(cls, memory: str) -> str:
        from streamsketch.privacy.memory import make_memory

        try:
            make_memory(memory)
        except ConfigError as e:
            raise ValueError(str(e)) from None
        return memory


class PrivacyTable(BaseModel):
    """[privacy]: the mechanism; further keys are its settings.

    Attributes:
        mechanism: none, gaussian, toeplitz, blt, decayed, tumbling or sliding.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    mechanism: str = "none"

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the mechanism."""
        return dict(self.model_extra or {})


class SnapshotsTable(_Table):
    """[snapshots]: when sums are saved and released, and what is kept.

    Attributes:
        rows: Release after so many rows read.
        seconds: Release after so many seconds.
        save_seconds: Save sums and positions so often, in seconds.
        keep: Keep the newest so many snapshots.
        max_age: Remove snapshots that are older, in seconds.
    """

    rows: Positive | None = None
    seconds: Seconds | None = 10.0
    save_seconds: Seconds = 2.0
    keep: Positive | None = 100
    max_age: Seconds | None = None


class TrainerTable(BaseModel):
    """[trainer]: how generators are fitted; further keys go to `fit`.

    Attributes:
        seconds: Wall-clock budget of one training; tables with cells need less.
        checkpoint_seconds: Save a checkpoint so often while a network trains, in seconds.
        objective: What is minimised, such as sketch.
        device: cpu, cuda, or auto for cuda where there is one.
        seed: Seed of weights and latents.
        keep: Keep the newest so many checkpoints.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    seconds: Seconds = 60.0
    checkpoint_seconds: Seconds = 60.0
    objective: str = "sketch"
    device: str = "auto"
    seed: int = 0
    keep: Positive | None = 20

    @property
    def settings(self) -> dict[str, Any]:
        """Further keywords of `fit`."""
        return dict(self.model_extra or {})


class SamplerTable(BaseModel):
    """[sampler]: what to draw from each new checkpoint; further keys are the sink's settings.

    Attributes:
        rows: Rows drawn from each new checkpoint; 0 draws none.
        sink: Where they go: file, stdout, kafka, or what another package adds.
        method: history, energy, sobol or iid.
        target: What all rows together match: data, generator or latent.
        seed: Seed of the draws.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    rows: Annotated[int, Field(ge=0)] = 1000
    sink: str = "file"
    method: str = "history"
    target: Literal["data", "generator", "latent"] = "data"
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the sink."""
        return dict(self.model_extra or {})


class DriftTable(_Table):
    """[drift]: watch the rows for change; without the table nothing is watched.

    Attributes:
        run_length: Rows between two false alarms, on average.
        window: Rows of a window.
        every: Look at every so many-th row.
        actions: What an alarm does: snapshot, reset.
    """

    run_length: Annotated[float, Field(gt=0)] = 1_000_000.0
    window: Positive = 200
    every: Positive = 1
    actions: tuple[Literal["snapshot", "reset"], ...] = ("snapshot",)


class WindowsTable(_Table):
    """[windows]: cut the stream by event time; without the table releases cut it.

    Attributes:
        width: Length of a window, seconds.
        time: Column of the time, where none is of kind event_time.
        lateness: Wait so long for rows that are out of order, seconds.
        idle_seconds: A part that is silent for so long is not waited for.
        max_open: Most windows that a part keeps unreleased.
        max_jump: Refuse a row whose time is so many seconds past all before it in its part.
        watermark: What closes windows: the times of the rows, or the clock.
        at_end: Open windows of a stream that has ended: release or keep them.
    """

    width: Seconds
    time: str | None = None
    lateness: Annotated[float, Field(ge=0)] = 0.0
    idle_seconds: Seconds | None = 60.0
    max_open: Positive = 100
    max_jump: Seconds | None = None
    watermark: Literal["rows", "clock"] = "rows"
    at_end: Literal["release", "keep"] = "release"


class DedupTable(_Table):
    """[dedup]: leave out rows whose record id came before.

    Attributes:
        ids: Different records that each part remembers.
    """

    ids: Positive = 100_000


class StoreTable(_Table):
    """[store]: where things are kept.

    Attributes:
        path: Folder or fsspec URL of what is published.
        state: Folder of sums, positions and ledger, which are secret; `state` in the store if not set.
    """

    path: str
    state: str | None = None


class DeadLettersTable(BaseModel):
    """[dead_letters]: where unusable rows go; further keys are the sink's settings.

    A run that refused every row, or a larger share of them than `max_share`, has failed.

    Attributes:
        type: file, kafka, or what another package adds.
        on_error: A row that cannot be used: write it down (dlq), skip it, or fail.
        max_share: Share of refused rows above which a run has failed.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = "file"
    on_error: Literal["dlq", "skip", "fail"] = "dlq"
    max_share: Annotated[float, Field(ge=0, le=1)] = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the dead-letter sink."""
        return dict(self.model_extra or {})


class _File(_Table):
    source: SourceTable = SourceTable()
    sketch: SketchTable = SketchTable()
    privacy: PrivacyTable = PrivacyTable()
    snapshots: SnapshotsTable = SnapshotsTable()
    trainer: TrainerTable = TrainerTable()
    sampler: SamplerTable = SamplerTable()
    store: StoreTable
    dead_letters: DeadLettersTable = DeadLettersTable()
    drift: DriftTable | None = None
    windows: WindowsTable | None = None
    dedup: DedupTable | None = None


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

        state = self.store_table.state
        return Store(self.resolve(self.store_table.path), self.resolve(state) if state else None)

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
        file = _File.model_validate(tables)
    except ValidationError as e:
        problems = [_problem(error) for error in e.errors()] + problems
        # what contradicts between the other tables is told as well
        wrong = {error["loc"][0] for error in e.errors()}
        sound = {key: table for key, table in tables.items() if key not in wrong}
        file = _File.model_validate({"store": {"path": ""}, **sound})
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
        problems += _privacy_problems(file)
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


def _privacy_problems(file: _File) -> list[str]:
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


def _windows(file: _File, schema: Schema) -> Windows:
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
        table = _File.model_fields.get(str(error["loc"][0]))
        kind = table.annotation if table is not None and len(error["loc"]) > 1 else _File
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
