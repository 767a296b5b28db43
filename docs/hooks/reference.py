"""Pages of the site that are written from the code: the command and the public names."""

import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from streamsketch_consumers.decode.registry import RegistrySettings

from streamsketch.privacy.settings import Settings
from streamsketch.schema.columns import Column

PUBLIC = [
    "streamsketch",
    "streamsketch.features",
    "streamsketch.schema",
    "streamsketch.privacy",
    "streamsketch.generator",
    "streamsketch.sampler",
    "streamsketch.decode",
    "streamsketch.inverse",
    "streamsketch.drift",
    "streamsketch.evaluate",
    "streamsketch.spark",
    "streamsketch.federated",
    "streamsketch.integrations.river",
    "streamsketch.integrations.sklearn",
    "streamsketch.errors",
]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/command.md": command(),
        "reference/pipeline.md": pipeline(),
        "reference/python.md": python(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def command() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    from streamsketch.cli.app import app

    group = typer.main.get_command(app)
    lines = [
        "# Command",
        "",
        "Written from the code. `streamsketch COMMAND --help` says the same.",
        "",
    ]
    context = click.Context(group, info_name="streamsketch")
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        lines += _command(name, group.get_command(context, name), context)  # type: ignore[attr-defined]
    return "\n".join(lines)


def _command(name: str, one: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(one, info_name=name, parent=parent)
    yield from (f"## {name}", "", "```", one.get_usage(context), "```", "", one.help or "", "")
    rows = [p.get_help_record(context) for p in one.params]
    options = [row for row in rows if row is not None and row[0] != "--help"]
    if options:
        yield from ("| option | meaning |", "|---|---|")
        for left, right in options:
            yield f"| `{left}` | {_cell(right)} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


PLUGINS = [  # groups of entry points: the table that names one, and its key
    ("sources", "source", "type"),
    ("sinks", "sampler", "sink"),
    ("dead_letters", "dead_letters", "type"),
]


def parts() -> Iterator[tuple[str, str, type]]:
    """Tables of pipeline.toml whose further keys belong to what one of their keys names."""
    for group, table, key in PLUGINS:
        for entry in sorted(entry_points(group=f"streamsketch.{group}"), key=lambda e: e.name):
            yield table, f'With `{key} = "{entry.name}"`', entry.load().settings
    yield "source", 'With `type = "kafka"`, in the table `registry`', RegistrySettings
    yield "privacy", "With any mechanism but none", Settings


def pipeline() -> str:
    """Every table and key of pipeline.toml with its default and meaning."""
    from streamsketch.run.tables import PipelineFile
    from streamsketch.tables import tables_of

    lines = [
        "# pipeline.toml",
        "",
        "Written from the code. `streamsketch init` writes a file with comments. Unknown keys and wrong values are all",
        "reported at once. Paths are relative to the file.",
        "",
    ]
    for name, table in tables_of(PipelineFile).items():
        summary, _ = described(table)
        lines += [f"## {name}", "", summary, "", *_keys(_rows(table))]
        for part, when, kind in parts():
            if part == name:
                lines += [when, "", *_keys(_rows(kind))]
    columns = ["## schema.<column>", "", "The columns: one table for each column.", ""]
    return "\n".join([*lines, *columns, *_keys(_rows(Column))])


def _rows(kind: type) -> list[tuple[str, str, str]]:
    """Key, default and meaning; the default is that of a pipeline file where it has its own."""
    _, meanings = described(kind)
    rows = []
    for f in dataclasses.fields(kind):
        factory = f.default_factory
        value = f.default if factory is dataclasses.MISSING else factory()
        instead = f.metadata.get("pipeline")
        value = value if instead is None else instead
        hidden = (
            f.name.startswith("_")
            or f.metadata.get("rest")
            or (kind is Column and f.name == "name")
        )
        if not hidden:
            rows.append((f.name, default(value, value is dataclasses.MISSING), meanings[f.name]))
    return rows


def _keys(rows: list[tuple[str, str, str]]) -> list[str]:
    return [
        "| key | default | meaning |",
        "|---|---|---|",
        *(f"| `{key}` | {value} | {_cell(meaning)} |" for key, value, meaning in rows),
        "",
    ]


def default(value: Any, required: bool) -> str:
    """A default as TOML has it."""
    if required:
        return "required"
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple | list):
        return f"`[{', '.join(default(v, False).strip('`') for v in value)}]`"
    return f"`{value}`"


def described(kind: type) -> tuple[str, dict[str, str]]:
    """First line of a class's docstring, and what it and its bases say of each attribute."""
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found = re.search(
            r"^ *Attributes:\n(.*?)(?:\n\n|\Z)", base.__doc__ or "", re.DOTALL | re.MULTILINE
        )
        if found is None:
            continue
        for item in re.split(r"\n {8}(?=\w)", "\n" + found.group(1)):
            names, _, text = item.strip().partition(": ")
            for name in names.split(", "):
                meanings[name] = " ".join(text.split())
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    return summary, meanings


def python() -> str:
    """The public names of each public module, from their docstrings."""
    lines = [
        "# Python",
        "",
        "Written from the docstrings; `__all__` of each module says what is public.",
        "",
    ]
    for name in PUBLIC:
        module = import_module(name)
        lines += [f"## {name}", ""]
        for public in sorted(getattr(module, "__all__", ())):
            home = getattr(getattr(module, public), "__module__", name)
            target = (
                f"{home}.{public}"
                if isinstance(home, str) and home.startswith("streamsketch")
                else None
            )
            if target is not None and hasattr(import_module(home), public):
                lines += [f"::: {target}", ""]
    return "\n".join(lines)
