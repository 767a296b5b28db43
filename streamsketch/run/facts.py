"""What a store holds, how far its processes are, what was spent: as JSON types, read without torch."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streamsketch.errors import DamagedFileError, StoreError
from streamsketch.privacy.ledger import Ledger
from streamsketch.privacy.report import explain
from streamsketch.run.status import read_all
from streamsketch.snapshot import Snapshot
from streamsketch.storage.files import read_file, unpack
from streamsketch.storage.store import Store

__all__ = ["facts_of", "file_facts", "privacy_of"]


def facts_of(store: Store, newest: int = 10) -> dict[str, Any]:
    """Snapshots, checkpoints and processes of a store.

    Args:
        store: The store.
        newest: How many of each kind, newest first.
    """
    return {
        "store": store.url,
        "snapshots": _snapshots(store, newest),
        "snapshots_in_all": len(store.snapshots.names()),
        "checkpoints": _checkpoints(store, newest),
        "checkpoints_in_all": len(store.checkpoints.names()),
        "processes": _processes(store),
    }


def file_facts(path: str) -> dict[str, Any]:
    """What one snapshot or checkpoint file holds.

    Raises:
        DamagedFileError: It is neither.
    """
    data = read_file(Path(path))
    try:
        return {"kind": "snapshot", **_snapshot_facts(Snapshot.from_bytes(data, path))}
    except DamagedFileError:
        found = _metrics(data, path)
    if "damaged" in found:
        raise DamagedFileError(found["damaged"])
    return {"kind": "checkpoint", "bytes": len(data), **found}


def privacy_of(store: Store) -> str:
    """What was spent: the ledger where this machine has it, else what the newest snapshot states.

    Raises:
        StoreError: Nothing was released.
    """
    newest = store.snapshots.newest(Snapshot.from_bytes)
    if newest is None:
        raise StoreError(f"The store {store.url} has released nothing yet, so nothing was spent")
    texts = [f"{newest[0]}\n{explain(newest[1])}"]
    folder = store.state_path
    state = None if folder is None else folder / "release.safetensors"
    if state is not None and state.exists():
        body = unpack(read_file(state), "release", str(state))[1]["releaser"]
        if "ledger" in body:
            ledger = Ledger.from_dict(body["ledger"], body["stream"])
            texts.append(f"ledger ({ledger.length} entries, chain verified)\n{explain(ledger)}")
    return "\n\n".join(texts)


def _snapshots(store: Store, newest: int) -> list[dict[str, Any]]:
    names = store.snapshots.names()
    found: list[dict[str, Any]] = []
    later: Snapshot | None = None
    # One more than is shown: each is compared with the one before it.
    for name in reversed(names[-newest - 1 :]):
        try:
            snapshot = Snapshot.from_bytes(store.snapshots.read(name), name)
        except DamagedFileError as error:
            found.append({"name": name, "damaged": str(error)})
            continue
        if later is not None and later.spec.fingerprint == snapshot.spec.fingerprint:
            gap = later.mean - snapshot.mean
            found[-1]["moved"] = float(np.square(gap).sum() / later.spec.m)
        found.append({"name": name, **_snapshot_facts(snapshot)})
        later = snapshot
    return found[:newest]


def _snapshot_facts(snapshot: Snapshot) -> dict[str, Any]:
    release = snapshot.release
    facts: dict[str, Any] = {
        "created": snapshot.created[:19],
        "rows": round(snapshot.count),
        "law": snapshot.spec.law,
        "m": snapshot.spec.m,
        "d": snapshot.spec.d,
        "memory": release.memory,
        "mechanism": release.mechanism,
        "fingerprint": snapshot.spec.fingerprint,
    }
    window = snapshot.span.get("window")
    if isinstance(window, Mapping):
        facts |= {"window": f"{_short(window.get('start'))} .. {_short(window.get('end'))}"}
    if release.private:
        facts |= {"epsilon": release.epsilon, "delta": release.delta, "index": release.index}
    return facts


def _short(time: Any) -> str:
    """A time in UTC, without what is the same in all of them."""
    return str(time).removesuffix("+00:00").removesuffix(":00")


def _checkpoints(store: Store, newest: int) -> list[dict[str, Any]]:
    found = []
    for name in reversed(store.checkpoints.names()[-newest:]):
        data = store.checkpoints.read(name)
        found.append({"name": name, "bytes": len(data), **_metrics(data, name)})
    return found


def _metrics(data: bytes, name: str) -> dict[str, Any]:
    """Figures of a checkpoint, read without torch."""
    try:
        body = unpack(data, "checkpoint", name)[1]
    except DamagedFileError as error:
        return {"damaged": str(error)}
    metrics = body.get("metrics", {})
    return {k: v for k, v in metrics.items() if isinstance(v, int | float | str)}


def _processes(store: Store) -> list[dict[str, Any]]:
    folder = store.state_path  # not state_dir: looking must not make the folder
    if folder is None:
        return []
    said = read_all(folder)
    return [
        {"name": name, "seconds_ago": max(0.0, round(time.time() - figures.get("time", 0.0), 1))}
        | {k: v for k, v in figures.items() if k not in ("time", "pid")}
        for name, figures in said.items()
    ]
