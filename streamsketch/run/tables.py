"""The tables of pipeline.toml, as pydantic checks them: every key with its type and its meaning."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from streamsketch.errors import ConfigError

if TYPE_CHECKING:
    pass

__all__ = [
    "DeadLettersTable",
    "DedupTable",
    "DriftTable",
    "PipelineFile",
    "PrivacyTable",
    "SamplerTable",
    "SketchTable",
    "SnapshotsTable",
    "SourceTable",
    "StoreTable",
    "TrainerTable",
    "WindowsTable",
]

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
        shared: URL of an object store for sums, positions and ledger, where consumers run on several machines.
    """

    path: str
    state: str | None = None
    shared: str | None = None


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


class PipelineFile(_Table):
    """A whole pipeline file, but for its [schema.<column>] tables."""

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
