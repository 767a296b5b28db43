"""`streamsketch merge`: add sketches, or released snapshots, of one operator."""

from pathlib import Path
from typing import Annotated, Any

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(merge)


def merge(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...", help="Sketch files, or snapshot files and stores (their newest)."
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="The merged file.")],
    allow_overlap: Annotated[
        bool,
        typer.Option("--allow-overlap", help="Count rows twice that may be in two snapshots."),
    ] = False,
) -> None:
    """Merge sketches of the same spec: the result is that of one pass over all rows.

    Sketch files (Sketch.to_bytes) are added exactly and stay secret. Snapshots are averaged by
    their counts, as what was already released may be.
    """
    from streamsketch.cli.console import say
    from streamsketch.errors import ConfigError
    from streamsketch.privacy.combine import average
    from streamsketch.sketch import Sketch
    from streamsketch.storage.files import write_atomic

    if len(parts) < 2:
        msg = f"Expected two files or more to merge, got {len(parts)}"
        raise ConfigError(msg)
    loaded = [_load(part) for part in parts]
    kinds = {type(value).__name__ for value in loaded}
    if len(kinds) > 1:
        msg = f"Cannot merge {' with '.join(sorted(kinds))}; give sketches only, or snapshots only"
        raise ConfigError(msg)
    merged = loaded[0]
    for other in loaded[1:]:
        merged = (
            merged.merge(other)
            if isinstance(merged, Sketch)
            else average(merged, other, allow_overlap)
        )
    mode = 0o600 if isinstance(merged, Sketch) else 0o644
    write_atomic(Path(output), merged.to_bytes(), mode=mode)
    say(f"{len(parts)} {kinds.pop().lower()}s merged to {output}: {merged!r}")


def _load(part: str) -> Any:
    from streamsketch.errors import DamagedFileError, StoreError
    from streamsketch.sketch import Sketch
    from streamsketch.snapshot import Snapshot
    from streamsketch.storage.files import read_file

    if Path(part).is_dir() or "://" in part or part.endswith(".toml"):
        from streamsketch.run.named import open_store

        newest = open_store(part).snapshots.newest(Snapshot.from_bytes)
        if newest is None:
            msg = f"The store {part} has no snapshot to merge; consume or replay a stream first"
            raise StoreError(msg)
        return newest[1]
    data = read_file(Path(part))
    try:
        return Sketch.from_bytes(data)
    except DamagedFileError:
        return Snapshot.from_bytes(data, part)
