"""The tables of pipeline.toml that are no other room's: every key with its type and its meaning.

`PipelineFile` has all of them; those of releases, windows and drift belong to `ingest`, which works with them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator

from streamsketch.errors import ConfigError
from streamsketch.generator.options import NetworkConfig, TrainingConfig
from streamsketch.ingest.publish import Schedule
from streamsketch.ingest.watch import Drift
from streamsketch.ingest.windows import Windows
from streamsketch.tables import Positive, key, rest

__all__ = [
    "DeadLettersTable",
    "DedupTable",
    "PipelineFile",
    "PrivacyTable",
    "SamplerTable",
    "SketchTable",
    "SourceTable",
    "StoreTable",
    "TrainerTable",
]

Count = Annotated[int, Ge(0)]
Length = Annotated[float, Gt(0)]
Seconds = Annotated[float, Gt(0)]


def _known(names: Callable[[], Any], several: bool = False) -> AfterValidator:
    """A value among the names of a registry, which is loaded when a value is looked at."""

    def check(value: str) -> str:
        known = names()
        if any(part not in known for part in (value.split("+") if several else [value])):
            more = ", or several joined by +" if several else ""
            raise ValueError(f"{value!r} is unknown; choose one of {', '.join(known)}{more}")
        return value

    return AfterValidator(check)


def _laws() -> Any:
    from streamsketch.features.frequencies import LAWS

    return LAWS


def _maps() -> Any:
    from streamsketch.features import MAPS

    return MAPS


def _a_memory(memory: str) -> str:
    from streamsketch.privacy.memory import make_memory

    try:
        make_memory(memory)
    except ConfigError as e:
        raise ValueError(str(e)) from None
    return memory


@dataclass(frozen=True)
class SourceTable:
    """[source]: what to read; further keys are the source's own settings.

    Attributes:
        type: Source: files, arrow, flight, kafka, or what another package adds.
        name: Name of the stream, written into every release.
        members: Sketching processes that `run` starts.
    """

    type: str = "files"
    name: str = "stream"
    members: Positive = 1
    settings: Any = rest()


@dataclass(frozen=True)
class SketchTable:
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
    law: Annotated[str, _known(_laws, several=True)] = "multiscale"
    scale: Length | str = 1.0
    seed: int = 0
    map: Annotated[str, _known(_maps)] = "fourier"
    memory: Annotated[str, AfterValidator(_a_memory)] = "landmark"
    conditional: bool = False
    cells: bool = False
    middle: Count = 0
    coarse: Count = 0
    triples: tuple[tuple[str, str, str], ...] = ()
    partners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    max_cells: Annotated[int, Gt(0), Le(1 << 28)] = 1 << 19


@dataclass(frozen=True)
class PrivacyTable:
    """[privacy]: the mechanism; further keys are its settings.

    Attributes:
        mechanism: none, gaussian, toeplitz, blt, decayed, tumbling or sliding.
    """

    mechanism: str = "none"
    settings: Any = rest()


@dataclass(frozen=True)
class TrainerTable:
    """[trainer]: how generators are fitted; `steps`, `network`, `init` and `config` as in `fit`.

    Attributes:
        seconds: Wall-clock budget of one training; tables with cells need less.
        checkpoint_seconds: Save a checkpoint so often while a network trains, in seconds.
        objective: What is minimised, such as sketch.
        device: cpu, cuda, or auto for cuda where there is one.
        seed: Seed of weights and latents.
        keep: Keep the newest so many checkpoints.
        steps: Train a network for so many steps instead of `seconds`.
        network: Name of the network, or a table of its parts.
        init: Begin a network with random weights, or with the mixture decoded from the sketch.
        config: A table of a network's training options.
    """

    seconds: Seconds = 60.0
    checkpoint_seconds: Seconds = 60.0
    objective: str = "sketch"
    device: str = "auto"
    seed: int = 0
    keep: Positive | None = 20
    steps: Positive | None = None
    network: str | NetworkConfig | None = None
    init: Literal["random", "mixture"] = "random"
    config: TrainingConfig | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The further keywords of `fit`, as they were given."""
        names = ("steps", "network", "init", "config")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class SamplerTable:
    """[sampler]: what to draw from each new checkpoint; further keys are the sink's settings.

    Attributes:
        rows: Rows drawn from each new checkpoint; 0 draws none.
        sink: Where they go: file, stdout, kafka, or what another package adds.
        method: history, energy, sobol or iid.
        target: What all rows together match: data, generator or latent.
        seed: Seed of the draws.
    """

    rows: Count = 1000
    sink: str = "file"
    method: str = "history"
    target: Literal["data", "generator", "latent"] = "data"
    seed: int = 0
    settings: Any = rest()


@dataclass(frozen=True)
class DedupTable:
    """[dedup]: leave out rows whose record id came before.

    Attributes:
        ids: Different records that each part remembers.
    """

    ids: Positive = 100_000


@dataclass(frozen=True)
class StoreTable:
    """[store]: where things are kept.

    Attributes:
        path: Folder or fsspec URL of what is published.
        state: Folder of sums, positions and ledger, which are secret; `state` in the store if not set.
        shared: URL of an object store for sums, positions and ledger, where consumers run on several machines.
    """

    path: str = key(location=True)
    state: str | None = key(None, location=True)
    shared: str | None = None


@dataclass(frozen=True)
class DeadLettersTable:
    """[dead_letters]: where unusable rows go; further keys are the sink's settings.

    A run that refused every row, or a larger share of them than `max_share`, has failed.

    Attributes:
        type: file, kafka, or what another package adds.
        on_error: A row that cannot be used: write it down (dlq), skip it, or fail.
        max_share: Share of refused rows above which a run has failed.
    """

    type: str = "file"
    on_error: Literal["dlq", "skip", "fail"] = "dlq"
    max_share: Annotated[float, Ge(0), Le(1)] = 1.0
    settings: Any = rest()


@dataclass(frozen=True)
class PipelineFile:
    """A whole pipeline file, but for its [schema.<column>] tables."""

    source: SourceTable = SourceTable()
    sketch: SketchTable = SketchTable()
    privacy: PrivacyTable = PrivacyTable()
    snapshots: Schedule = Schedule()
    trainer: TrainerTable = TrainerTable()
    sampler: SamplerTable = SamplerTable()
    store: StoreTable = StoreTable("")
    dead_letters: DeadLettersTable = DeadLettersTable()
    drift: Drift | None = None
    windows: Windows | None = None
    dedup: DedupTable | None = None
