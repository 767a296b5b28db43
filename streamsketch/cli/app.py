"""The command's groups, its options for all commands, and the one place where errors end."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from streamsketch._version import __version__
from streamsketch.cli import (
    evaluate,
    history,
    inspect,
    merge,
    propose,
    sample,
    savepoint,
    serve,
    stream,
    train,
)
from streamsketch.errors import StreamSketchError
from streamsketch.plain import PlainFormatter, plain

__all__ = ["app", "main"]

app = typer.Typer(
    name="streamsketch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for group in (
    propose,
    stream,
    train,
    sample,
    history,
    evaluate,
    inspect,
    merge,
    savepoint,
    serve,
):
    group.add_to(app)

_SHELLS = ("bash", "zsh", "fish")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more about what happens.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error (anywhere in the call)."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Sketch a stream in one pass, learn a generator from the sketch, sample new rows.

    A pipeline: `streamsketch init data.parquet > pipeline.toml`, review it, then
    `streamsketch run pipeline.toml`.
    """
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print a completion script: `eval "$(streamsketch completion bash)"`."""
    if shell not in _SHELLS:
        msg = f"No completion for the shell {shell!r}; choose one of {', '.join(_SHELLS)}"
        raise typer.BadParameter(msg)
    from typer._completion_shared import get_completion_script

    typer.echo(
        get_completion_script(
            prog_name="streamsketch", complete_var="_STREAMSKETCH_COMPLETE", shell=shell
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: what the `streamsketch` script calls.

    Args:
        arguments: the call without the program's name; the process's own by default.
    """
    _fill_closed_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("STREAMSKETCH_DEBUG"))
    # Options for all commands are accepted after the command too: that is where one adds them.
    given = [*(["--debug"] if debug else []), *(a for a in given if a != "--debug")]
    try:
        app(args=given, prog_name="streamsketch")
    except StreamSketchError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise SystemExit(0) from None  # as below; the sink has closed the output
        if debug:
            raise
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone: that is its right, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        if debug:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _end(what, 1)
    except Exception as error:
        if debug:
            raise
        _end(f"unexpected {type(error).__name__}: {error}; add --debug for the traceback", 1)


def _fill_closed_streams() -> None:
    """Give closed standard streams (as by `>&-`) nowhere to write to.

    Otherwise the next file that is opened takes their number, and what a library prints goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _end(message: str, code: int) -> None:
    typer.echo(f"error: {plain(message, keep=chr(10))}", err=True)
    raise SystemExit(code)
