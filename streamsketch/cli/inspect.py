"""`streamsketch inspect`: what a store holds, how far its processes are, what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# What is mostly the same for all files of a store is told once.
_SETTINGS = ("law", "m", "d", "memory", "mechanism", "fingerprint", "epsilon", "delta")

if TYPE_CHECKING:
    from streamsketch.snapshot import Snapshot
    from streamsketch.storage.store import Store


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(inspect)


def inspect(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Store, pipeline file, or one snapshot or checkpoint file."
        ),
    ],
    privacy: Annotated[
        bool, typer.Option("--privacy", help="What was spent, on what, and what it promises.")
    ] = False,
    newest: Annotated[int, typer.Option("-n", min=1, help="Show this many of each kind.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
) -> None:
    """Snapshots, checkpoints, running processes with their lag, drift and privacy ledger."""
    from streamsketch.cli.console import out, print_json

    facts = facts_of(store, newest)
    if privacy:
        text = _privacy(store)
        if as_json:
            print_json({"privacy": text})
        else:
            out().print(text, highlight=False, markup=False)
        return
    if as_json:
        print_json(facts)
        return
    console = out()
    if "file" in facts:
        for key, value in facts["file"].items():
            console.print(f"{key:<12} {value}", highlight=False, markup=False)
        return
    console.print(f"store {facts['store']}", highlight=False, markup=False)
    _print_table(console, "snapshots", facts["snapshots"], facts["snapshots_in_all"])
    _print_table(console, "checkpoints", facts["checkpoints"], facts["checkpoints_in_all"])
    _print_table(console, "processes", [_said(p) for p in facts["processes"]], 0)


def facts_of(store: str, newest: int = 10) -> dict[str, Any]:
    """What the command shows, as JSON types; newest first."""
    if store.endswith(".safetensors"):
        return {"file": _file_facts(store)}
    from streamsketch.cli.console import open_store

    opened = open_store(store)
    return {
        "store": opened.url,
        "snapshots": _snapshots(opened, newest),
        "snapshots_in_all": len(opened.snapshots.names()),
        "checkpoints": _checkpoints(opened, newest),
        "checkpoints_in_all": len(opened.checkpoints.names()),
        "processes": _processes(opened),
    }


def _snapshots(store: Store, newest: int) -> list[dict[str, Any]]:
    import numpy as np

    from streamsketch.errors import DamagedFileError
    from streamsketch.snapshot import Snapshot

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
    from streamsketch.errors import DamagedFileError
    from streamsketch.storage.files import unpack

    try:
        body = unpack(data, "checkpoint", name)[1]
    except DamagedFileError as error:
        return {"damaged": str(error)}
    metrics = body.get("metrics", {})
    return {k: v for k, v in metrics.items() if isinstance(v, int | float | str)}


def _processes(store: Store) -> list[dict[str, Any]]:
    import time

    from streamsketch.run.status import read_all

    folder = store.state_path  # not state_dir: looking must not make the folder
    if folder is None:
        return []
    said = read_all(folder)
    return [
        {"name": name, "seconds_ago": max(0.0, round(time.time() - figures.get("time", 0.0), 1))}
        | {k: v for k, v in figures.items() if k not in ("time", "pid")}
        for name, figures in said.items()
    ]


def _file_facts(path: str) -> dict[str, Any]:
    from streamsketch.errors import DamagedFileError
    from streamsketch.snapshot import Snapshot
    from streamsketch.storage.files import read_file

    data = read_file(Path(path))
    try:
        return {"kind": "snapshot", **_snapshot_facts(Snapshot.from_bytes(data, path))}
    except DamagedFileError:
        found = _metrics(data, path)
    if "damaged" in found:
        raise DamagedFileError(found["damaged"])
    return {"kind": "checkpoint", "bytes": len(data), **found}


def _privacy(store: str) -> str:
    """The ledger where this machine has it, else what the newest snapshot states."""
    from streamsketch.errors import StoreError
    from streamsketch.privacy.ledger import Ledger
    from streamsketch.privacy.report import explain
    from streamsketch.snapshot import Snapshot
    from streamsketch.storage.files import read_file, unpack

    if store.endswith(".safetensors"):
        return explain(Snapshot.load(store))
    from streamsketch.cli.console import open_store

    opened = open_store(store)
    newest = opened.snapshots.newest(Snapshot.from_bytes)
    if newest is None:
        msg = f"The store {opened.url} has released nothing yet, so nothing was spent."
        raise StoreError(msg)
    texts = [f"{newest[0]}\n{explain(newest[1])}"]
    folder = opened.state_path
    state = None if folder is None else folder / "release.safetensors"
    if state is not None and state.exists():
        body = unpack(read_file(state), "release", str(state))[1]["releaser"]
        if "ledger" in body:
            ledger = Ledger.from_dict(body["ledger"], body["stream"])
            texts.append(f"ledger ({ledger.length} entries, chain verified)\n{explain(ledger)}")
    return "\n\n".join(texts)


def _print_table(console: Any, title: str, rows: list[dict[str, Any]], in_all: int) -> None:
    from rich.table import Table

    if not rows:
        console.print(f"{title}: none", highlight=False)
        return
    more = f", the newest {len(rows)} of {in_all}" if in_all > len(rows) else ""
    names = list(dict.fromkeys(key for row in rows for key in row))
    shared = [n for n in names if n in _SETTINGS and len({str(row.get(n)) for row in rows}) == 1]
    names = [n for n in names if n not in shared]
    table = Table(title=f"{title}{more}", title_justify="left", title_style="bold", box=None)
    for name in names:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    console.print(table)
    if shared:
        every = ", ".join(f"{n} {_cell(rows[0][n])}" for n in shared)
        console.print(f" all: {every}", highlight=False, markup=False)


def _said(process: dict[str, Any]) -> dict[str, Any]:
    """Processes say different things: each gets one line, not a column for every figure."""
    from streamsketch.cli.figures import figures

    known = ("name", "phase", "seconds_ago")
    rest = {k: v for k, v in process.items() if k not in known}
    return {**{k: process.get(k) for k in known}, "said": figures(rest)}


def _cell(value: Any) -> str:
    from rich.markup import escape

    from streamsketch.plain import plain

    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(plain(str(value)))
