"""`streamsketch spark`: the sketching process of a pipeline whose rows Spark reads."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(spark)


def spark(
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help='Its [source] has type = "spark".')
    ],
) -> None:
    """Read by Spark, sketch in its tasks, release here: for streams that one machine cannot read.

    Runs in the session of spark-submit, or in one of this machine. Run it again to go on where it
    stopped.
    """
    from streamsketch.cli.console import say
    from streamsketch.run.config import load
    from streamsketch.run.signals import stop_on_signals
    from streamsketch.run.spark import run_spark

    loaded = load(pipeline)
    stop = stop_on_signals()
    figures = run_spark(loaded, stop)
    if loaded.privacy.mechanism == "none":
        say(f"{figures['rows']:,} rows sketched, {figures['dead']:,} set apart")
    if stop.is_set():
        raise typer.Exit(143)
