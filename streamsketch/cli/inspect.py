"""`streamsketch inspect`: what a store holds, how far its processes are, what was spent."""

from typing import Annotated, Any

import typer

# What is mostly the same for all files of a store is told once.
_SETTINGS = ("law", "m", "d", "memory", "mechanism", "fingerprint", "epsilon", "delta")


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
    from streamsketch.privacy.horizon import pace_in
    from streamsketch.privacy.report import explain
    from streamsketch.run.facts import facts_of, file_facts, privacy_of
    from streamsketch.run.named import is_file, open_store
    from streamsketch.snapshot import Snapshot

    console = out()
    if privacy:
        text = explain(Snapshot.load(store)) if is_file(store) else privacy_of(open_store(store))
        if as_json:
            print_json({"privacy": text})
        else:
            console.print(text, highlight=False, markup=False)
        return
    if is_file(store):
        held = file_facts(store)
        if as_json:
            print_json({"file": held})
            return
        for key, value in held.items():
            console.print(f"{key:<12} {value}", highlight=False, markup=False)
        return
    opened = open_store(store)
    facts = facts_of(opened, newest)
    if budget := pace_in(opened):
        facts["budget"] = budget
    if as_json:
        print_json(facts)
        return
    console.print(f"store {facts['store']}", highlight=False, markup=False)
    if budget:
        console.print(budget, highlight=False, markup=False)
    _print_table(console, "snapshots", facts["snapshots"], facts["snapshots_in_all"])
    _print_table(console, "checkpoints", facts["checkpoints"], facts["checkpoints_in_all"])
    _print_table(console, "processes", [_said(p) for p in facts["processes"]], 0)


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
