"""Pages of the site that are written from the code: the command and the public names."""

from collections.abc import Iterator
from importlib import import_module

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

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
    pages = {"reference/command.md": command(), "reference/python.md": python()}
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
