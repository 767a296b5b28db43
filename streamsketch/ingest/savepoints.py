"""Named copies of a stream's state: every part's sums and position, and what was released.

A savepoint is one consistent cut: while it is copied no part is saved and nothing is released. The
stream may go on meanwhile. Going back needs the stream to stand still.
"""

import re
import shutil
from pathlib import Path

from streamsketch.errors import ConfigError, PrivacyError, StoreError
from streamsketch.ingest.parts import State
from streamsketch.storage.files import secret_folder

__all__ = ["BEFORE", "named", "refuse_private", "rewind", "save_as"]

BEFORE = "before-rewind"  # what a rewind has put aside
RELEASES = ("release.safetensors", "windows.json", "users.safetensors")


def named(state: State) -> list[str]:
    """Names of the savepoints, sorted."""
    folder = state.folder / "savepoints"
    return (
        sorted(p.name for p in folder.iterdir() if p.suffix != ".tmp") if folder.exists() else []
    )


def save_as(state: State, name: str) -> Path:
    """Copy the state as last saved; returns the copy's folder.

    Raises:
        ConfigError: The name is taken, or is none.
        PrivacyError: The stream's releases are private.
        StoreError: Nothing was saved yet, or the disk refuses.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or name.endswith(".tmp"):
        raise ConfigError(
            f"{name!r} is no name for a savepoint; use letters, digits, dots and dashes"
        )
    if name in named(state):
        raise ConfigError(f"there is a savepoint {name!r} already; choose another name")
    _public(state)
    return _copy(state, name)


def rewind(state: State, name: str) -> list[str]:
    """Put the sums, positions and releases of a savepoint back; returns the names of its parts.

    What there was is put aside as the savepoint `before-rewind`. Snapshots that were released since stay in the
    store; the next ones are numbered above them.

    Raises:
        ConfigError: There is no such savepoint.
        PrivacyError: The stream's releases are private.
    """
    if name not in named(state):
        there = ", ".join(named(state)) or "none"
        raise ConfigError(f"there is no savepoint {name!r}; there are: {there}")
    _public(state)
    copy = State(state.folder / "savepoints" / name, state.features)
    kept = copy.parts()  # all are sound, before anything is touched
    current = {p.part: p for p in state.parts()}
    before = state.folder / "savepoints" / BEFORE
    if name != BEFORE:
        shutil.rmtree(before, ignore_errors=True)
        _copy(state, BEFORE)
    with state.releasing(wait=True), state.closing():
        for part in kept:
            if part.part in current:  # whoever still held the part can no longer save it
                part.epoch = max(part.epoch, current.pop(part.part).epoch) + 1
            state.put_back(part)
        for part in current.values():  # not known then: it is read from its beginning again
            state.forget(part.part)
        for file in RELEASES:
            (state.folder / file).unlink(missing_ok=True)
            if (copy.folder / file).exists():
                shutil.copy2(copy.folder / file, state.folder / file)
    return [part.part for part in kept]


def _copy(state: State, name: str) -> Path:
    folder = secret_folder(state.folder / "savepoints")
    made = folder / f"{name}.tmp"
    shutil.rmtree(made, ignore_errors=True)
    secret_folder(made / "parts")
    with state.releasing(wait=True), state.closing():
        parts = sorted((state.folder / "parts").glob("*.safetensors"))
        if not parts:
            raise StoreError(f"nothing was saved in {state.folder} yet; run the pipeline first")
        try:
            for path in parts:
                shutil.copy2(path, made / "parts")
            for file in RELEASES:
                if (state.folder / file).exists():
                    shutil.copy2(state.folder / file, made)
        except OSError as e:
            raise StoreError(f"the savepoint {name!r} cannot be written: {e.strerror}") from None
    made.rename(folder / name)
    return folder / name


def _public(state: State) -> None:
    state.records.alone("a savepoint")
    saved = state.load_release()
    refuse_private("none" if saved is None else saved[1]["releaser"]["mechanism"])


def refuse_private(mechanism: str) -> None:
    """Refuse to go back where a budget has paid. Raises PrivacyError."""
    if mechanism != "none":
        raise PrivacyError(
            f"the stream releases with mechanism {mechanism!r}: going back would release rows a second time that "
            "the budget has paid for once; keep the state as it is, or start a new stream for rows not used so far"
        )
